// A Functions app in Go that does its work in a durable orchestration: a queue message starts it, it processes each
// record in an activity of its own, and mails the failures.
//
// Under the Functions host this binary is the custom handler. Without one it is a command that runs the same functions
// on this machine: see go run . --help.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"example.com/durablefunctions/MyClientFunction"
	"example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/cli"
	"example.com/durablefunctions/internal/crm"
)

func main() {
	if os.Getenv(handler.PortVariable) == "" {
		os.Exit(cli.Main(os.Args[1:], functions))
	}
	app, _, err := functions(filepath.Join(os.Getenv("FUNCTIONS_APP_ROOT_PATH"), ".local"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(app.Serve())
}

// functions is the app: which functions there are, and the records that they work on. Unless the settings say
// otherwise, these lie in dataDir.
func functions(dataDir string) (*handler.App, io.Closer, error) {
	settings, err := myclientfunction.ReadSettings(os.Getenv)
	if err != nil {
		return nil, nil, err
	}
	records, err := crm.Open(os.Getenv, filepath.Join(dataDir, "crm.db"))
	if err != nil {
		return nil, nil, err
	}
	app := handler.New()
	app.Trigger("MyClientFunction", myclientfunction.New(records, settings))
	app.Orchestrator("MyOrchestration", durable.Orchestrator(myorchestration.Run))
	app.Activity("ProcessActivity", durable.Activity(processactivity.New(records)))
	return app, records, nil
}
