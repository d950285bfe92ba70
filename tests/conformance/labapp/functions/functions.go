// Package functions holds the lab app's four functions. They do what the table in testdata/recordings/README.md says,
// and every message and every name in them is part of what is compared.
package functions

import (
	"context"
	"encoding/json"
	"errors"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// App returns the lab app.
func App() *handler.App {
	app := handler.New()
	app.Trigger("QueueStart", queueStart)
	app.Activity("Echo", durable.Activity(echo))
	app.Activity("Fail", durable.Activity(fail))
	app.Orchestrator("Orch", durable.Orchestrator(orch))
	return app
}

// echo returns its input, as the JSON text that it is.
func echo(_ context.Context, input json.RawMessage) (json.RawMessage, error) { return input, nil }

func fail(_ context.Context, text string) (any, error) { return nil, errors.New(text) }
