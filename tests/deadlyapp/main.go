// Deadlyapp is an app for tests. Its functions end the process when they are told to, as code that runs out of memory or of stack
// does.
package main

import (
	"context"
	"io"
	"os"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/durable"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.App{
		Name: "deadlyapp",
		New:  func(string) (*handler.App, io.Closer, error) { return functions(), io.NopCloser(nil), nil },
	}))
}

// counter is an entity.
type counter struct{ Value int }

const counterName = durable.EntityName[counter]("Counter")

var (
	add    = durable.NewOperation(counterName, "add", func(c *counter, _ context.Context, n int) (int, error) { c.Value += n; return c.Value, nil })
	deadly = durable.NewOperation(counterName, "deadly", func(*counter, context.Context, int) (int, error) { return die(), nil })
)

func functions() *handler.App {
	app := handler.New()
	app.Orchestrator("Turns", durable.Orchestrator(turns))
	app.Entity("Counter", durable.Entity(add, deadly))
	return app
}

func turns(ctx *task.OrchestrationContext, what string) (int, error) {
	switch what {
	case "die":
		return die(), nil
	case "call": // the process dies in an entity
		add.Signal(ctx, "a", 1)
		deadly.Signal(ctx, "a", 0)
		return add.Call(ctx, "a", 2).Await()
	}
	return 0, nil
}

func die() int {
	os.Exit(7)
	return 0
}
