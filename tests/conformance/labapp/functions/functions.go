// Package functions holds the four functions of the lab app. The table in testdata/recordings/README.md says what they do. Their
// messages and names are compared with the recorded ones.
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

// echo returns its input, the same JSON text.
func echo(_ context.Context, input json.RawMessage) (json.RawMessage, error) { return input, nil }

func fail(_ context.Context, text string) (any, error) { return nil, errors.New(text) }
