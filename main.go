// A Functions app in Go that does its work in a durable orchestration: a queue message starts it, it processes each
// record in an activity of its own, and mails the failures.
//
// Under the Functions host this binary is the custom handler. Without one it is a command that runs the same functions
// on this machine: see go run . --help.
package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	myclientfunction "example.com/durablefunctions/MyClientFunction"
	myorchestration "example.com/durablefunctions/MyOrchestration"
	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/commands"
	"example.com/durablefunctions/internal/crm"
)

func main() {
	if cli.Wanted(os.Args, os.Getenv) {
		os.Exit(cli.Main(os.Args[1:], cli.App{
			Name: "app",
			Description: "Durable Functions in Go: a message in, every record processed in an activity of its own, failures mailed. " +
				"Started by the Functions host, this binary is its custom handler; these commands run the same functions on this machine.",
			New:      functions,
			Commands: &commands.Commands{},
			Result:   commands.Result,

			MaxMessageBytes: func() int {
				settings, _ := myclientfunction.ReadSettings(os.Getenv) // functions has reported the error
				return settings.MaxMessageBytes
			},
		}))
	}
	os.Exit(serve())
}

// serve is the custom handler. It returns only when it cannot serve.
func serve() int {
	dataDir, err := cli.DataDir(os.Getenv("FUNCTIONS_APP_ROOT_PATH"), os.Stderr)
	if err == nil {
		var app *handler.App
		if app, _, err = functions(dataDir); err == nil {
			if names := unresolved(os.Environ()); len(names) > 0 { // of settings that the host reads
				fmt.Fprintln(os.Stderr, unresolvedError(names))
			}
			return app.Serve()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// functions is the app: which functions there are, and the records that they work on. Unless the settings say
// otherwise, these lie in dataDir.
func functions(dataDir string) (*handler.App, io.Closer, error) {
	env := &environment{}
	settings, err := myclientfunction.ReadSettings(env.get)
	records, storeErr := crm.Open(env.get, filepath.Join(dataDir, "crm.db"))
	if err := cmp.Or(env.err(), err, storeErr); err != nil {
		return nil, nil, err
	}
	app := handler.New()
	app.Trigger("MyClientFunction", myclientfunction.New(records, settings))
	app.Orchestrator("MyOrchestration", durable.Orchestrator(myorchestration.Run))
	app.Activity("ProcessActivity", durable.Activity(processactivity.New(records)))
	return app, records, nil
}
