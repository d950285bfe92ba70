// An app with one function of each kind. In the root of the repository
//
//	go run ./examples/everything start
//
// runs it without Azure; it prints how each function is called, for example
//
//	curl -d '{"item":"tea"}' http://localhost:7071/api/orders/7
//
// and, in the Durable HTTP API, what is left in stock:
//
//	curl http://localhost:7071/runtime/webhooks/durabletask/entities/Stock/tea
package main

import (
	"io"
	"os"
	"path/filepath"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/durable"
)

func main() {
	if !cli.Wanted(os.Args, os.Getenv) {
		os.Exit(functions().Serve())
	}
	if _, err := os.Stat("FulfilOrder"); err != nil { // not in the app root
		_ = os.Chdir(filepath.Join("examples", "everything"))
	}
	os.Exit(cli.Main(os.Args[1:], cli.App{
		Name:        "everything",
		Description: "One function of each kind.",
		New:         func(string) (*handler.App, io.Closer, error) { return functions(), io.NopCloser(nil), nil },
	}))
}

func functions() *handler.App {
	app := handler.New()
	app.HTTP("StartOrder", router())
	app.Queue("OnOrderMessage", handler.JSON(onOrderMessage))
	app.Queue("OnPayment", onPayment)
	app.Timer("Nightly", nightly)
	app.Blob("OnUpload", onUpload)
	app.Trigger("OnEvent", onEvent)
	app.Trigger("OnTelemetry", onTelemetry)
	app.Trigger("OnDocument", onDocument)
	app.Orchestrator("FulfilOrder", durable.Orchestrator(fulfilOrder))
	app.Activity("Ship", durable.Activity(ship))
	app.Entity("Stock", durable.Entity(reserve, restock))
	return app
}
