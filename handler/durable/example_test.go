package durable_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// exampleT lets the examples use the test kit.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                   {}
func (exampleT) Context() context.Context  { return context.Background() }
func (exampleT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

const sayHello = durable.ActivityName[string, string]("SayHello")

var hello = durable.Activity(func(_ context.Context, city string) (string, error) {
	if city == "Atlantis" {
		return "", errors.New("there is no Atlantis")
	}
	return "Hello, " + city + "!", nil
})

func newEnv() *durabletest.Env {
	env := durabletest.New(exampleT{})
	env.Activity("SayHello", hello)
	return env
}

func ExampleActivityName_Call() {
	greet := func(ctx *task.OrchestrationContext, city string) (string, error) {
		return sayHello.Call(ctx, city).Await()
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(greet), "Tokyo").Output)
	// Output: "Hello, Tokyo!"
}

func ExampleTaskError() {
	greet := func(ctx *task.OrchestrationContext, city string) (string, error) {
		greeting, err := sayHello.Call(ctx, city).Await()
		var failed *durable.TaskError
		if errors.As(err, &failed) && !failed.Infrastructure() {
			return "sorry: " + err.Error(), nil // the activity's own words
		}
		return greeting, err
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(greet), "Atlantis").Output)
	// Output: "sorry: there is no Atlantis"
}

func ExampleWhenAll() {
	greetAll := func(ctx *task.OrchestrationContext, cities []string) ([]string, error) {
		tasks := make([]*durable.Task[string], len(cities))
		for i, city := range cities {
			tasks[i] = sayHello.Call(ctx, city)
		}
		return durable.WhenAll(tasks...)
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(greetAll), []string{"Tokyo", "Seattle"}).Output)
	// Output: ["Hello, Tokyo!","Hello, Seattle!"]
}

func ExampleWhenAny() {
	approval := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		approved := durable.WaitForEvent[bool](ctx, "Approved", 0)
		late := durable.Timer(ctx, 3*24*time.Hour)
		if durable.WhenAny(approved, late) == 1 {
			return "nobody answered", nil
		}
		return "answered", nil
	}
	env := newEnv()
	env.RaiseAt(2*time.Hour, "Approved", true)
	r := env.Run(durable.Orchestrator(approval), nil)
	fmt.Println(r.Output, r.Elapsed)
	// Output: "answered" 2h0m0s
}

func ExampleFanOut() {
	greetAll := func(ctx *task.OrchestrationContext, cities []string) (failed int, err error) {
		for _, o := range durable.FanOut(ctx, sayHello, cities, nil) {
			if o.Err != nil {
				failed++
			}
		}
		return failed, nil
	}
	r := newEnv().Run(durable.Orchestrator(greetAll), []string{"Tokyo", "Atlantis"})
	fmt.Println(r.Output, r.CustomStatus[len(r.CustomStatus)-1])
	// Output: 1 {"Total":2,"Completed":2,"Failed":1}
}

func ExampleWithRetry() {
	greet := func(ctx *task.OrchestrationContext, city string) (string, error) {
		return sayHello.Call(ctx, city, durable.WithRetry(durable.RetryPolicy{
			Attempts: 4, FirstInterval: 10 * time.Second, Backoff: 2,
		})).Await()
	}
	env := newEnv()
	env.Lose("SayHello", 2) // as when the process dies
	r := env.Run(durable.Orchestrator(greet), "Tokyo")
	fmt.Println(r.Output, r.Elapsed)
	// Output: "Hello, Tokyo!" 30s
}

func ExampleTimer() {
	remind := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		if _, err := durable.Timer(ctx, 30*24*time.Hour).Await(); err != nil {
			return "", err
		}
		return ctx.CurrentTimeUtc.Format(time.DateOnly), nil
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(remind), nil).Output)
	// Output: "2026-02-01"
}

func ExampleWaitForEvent() {
	approval := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		by, err := durable.WaitForEvent[string](ctx, "Approved", time.Hour).Await()
		if errors.Is(err, durable.ErrTimeout) {
			return "nobody answered", nil
		}
		return "approved by " + by, err
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(approval), nil).Output)
	// Output: "nobody answered"
}

func ExampleOrchestratorName_Call() {
	greeter := durable.OrchestratorName[string, string]("Greeter")
	env := newEnv()
	env.Orchestrator("Greeter", durable.Orchestrator(func(ctx *task.OrchestrationContext, city string) (string, error) {
		return sayHello.Call(ctx, city).Await()
	}))
	parent := func(ctx *task.OrchestrationContext, city string) (string, error) {
		return greeter.Call(ctx, city).Await()
	}
	fmt.Println(env.Run(durable.Orchestrator(parent), "Tokyo").Output)
	// Output: "Hello, Tokyo!"
}

func ExampleOrchestratorName_ContinueAsNew() {
	counter := durable.OrchestratorName[int, int]("Counter")
	count := func(ctx *task.OrchestrationContext, n int) (int, error) {
		if n == 1000 {
			return n, nil
		}
		if _, err := durable.Timer(ctx, time.Minute).Await(); err != nil {
			return 0, err
		}
		counter.ContinueAsNew(ctx, n+1)
		return 0, nil
	}
	r := newEnv().Run(durable.Orchestrator(count), 0)
	fmt.Println(r.Output, r.Elapsed)
	// Output: 1000 16h40m0s
}

func ExampleSetCustomStatus() {
	work := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		durable.SetCustomStatus(ctx, map[string]string{"phase": "greeting"})
		return sayHello.Call(ctx, "Tokyo").Await()
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(work), nil).CustomStatus)
	// Output: [{"phase":"greeting"}]
}

func ExampleReplayLog() {
	work := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		durable.ReplayLog(ctx).Info("greeting") // once, though this line runs in every turn
		return sayHello.Call(ctx, "Tokyo").Await()
	}
	fmt.Print(newEnv().Run(durable.Orchestrator(work), nil).Logs)
	// Output: level=INFO msg=greeting
}

func ExampleNewGUID() {
	work := func(ctx *task.OrchestrationContext, _ any) (bool, error) {
		id := durable.NewGUID(ctx) // the same in every replay
		_, err := sayHello.Call(ctx, id.String()).Await()
		return id.Version() == 5, err
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(work), nil).Output)
	// Output: true
}

func ExampleSetOutput() {
	notify := func(ctx *task.OrchestrationContext, text string) (any, error) {
		durable.SetOutput(ctx, "message", map[string]string{"text": text})
		return nil, nil
	}
	fmt.Println(newEnv().Run(durable.Orchestrator(notify), "done").Outputs["message"])
	// Output: [{"text":"done"}]
}
