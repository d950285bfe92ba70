package durabletest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// exampleT stands in for the *testing.T of a test function, which an example does not get.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                   {}
func (exampleT) Context() context.Context  { return context.Background() }
func (exampleT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

var t = exampleT{}

const charge = durable.ActivityName[int, string]("Charge")

// order asks for an approval, waits three days for it, and charges.
func order(ctx *task.OrchestrationContext, amount int) (string, error) {
	approved, err := durable.WaitForEvent[bool](ctx, "Approved", 3*24*time.Hour).Await()
	if err != nil || !approved {
		return "not approved", nil
	}
	return charge.Call(ctx, amount, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute})).Await()
}

func Example() {
	env := durabletest.New(t)
	env.Activity("Charge", durable.Activity(func(_ context.Context, amount int) (string, error) {
		return fmt.Sprintf("charged %d", amount), nil
	}))
	env.RaiseAt(2*time.Hour, "Approved", true)
	r := env.Run(durable.Orchestrator(order), 42)
	fmt.Println(r.Status, r.Output, r.Elapsed)
	fmt.Println(env.Calls("Charge"))
	// Output:
	// ORCHESTRATION_STATUS_COMPLETED "charged 42" 2h0m0s
	// [42]
}

// The first call dies with its process, the second one runs too long, and each takes ten minutes.
func ExampleEnv_Expire() {
	env := durabletest.New(t)
	env.Activity("Charge", durable.Activity(func(context.Context, int) (string, error) { return "charged", nil }))
	env.Lose("Charge", 1)
	env.Expire("Charge", 1)
	env.Takes("Charge", func(int) time.Duration { return 10 * time.Minute })
	env.RaiseAt(0, "Approved", true)
	r := env.Run(durable.Orchestrator(order), 42)
	fmt.Println(r.Output, r.Elapsed, len(env.Calls("Charge")))
	// Output: "charged" 32m0s 3
}

func ExampleEnv_TerminateAt() {
	env := durabletest.New(t)
	env.SuspendAt(time.Hour)
	env.TerminateAt(2*time.Hour, "cancelled by the customer")
	r := env.Run(durable.Orchestrator(order), 42)
	fmt.Println(r.Status, r.Output, r.Elapsed)
	// Output: ORCHESTRATION_STATUS_TERMINATED "cancelled by the customer" 2h0m0s
}
