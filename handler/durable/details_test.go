package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

type declined struct {
	Limit  int
	Reason string
}

// What an activity's error carries arrives as it was, and what does not fit is left out and said to be.
func TestErrorDetails(t *testing.T) {
	t.Parallel()
	odd := declined{7, "tab\t \\d\"{} ü \u007f 支払い <&>"}
	for name, c := range map[string]struct {
		err     error
		code    string
		details any
		message string
	}{
		"none":           {errors.New(`plain \d{"code":"x"}`), "", nil, `plain \d{"code":"x"}`},
		"both":           {durable.WithDetails(errors.New("card declined\n"), "card-declined", odd), "card-declined", odd, "card declined\n"},
		"code":           {durable.WithDetails(errors.New("no"), "c", nil), "c", nil, "no"},
		"details":        {durable.WithDetails(errors.New(""), "", odd), "", odd, "the activity failed and gave no reason"},
		"wrapped":        {fmt.Errorf("order 7: %w", durable.WithDetails(errors.New("no"), "c", odd)), "c", odd, "order 7: no"},
		"most":           {durable.WithDetails(errors.New(strings.Repeat("m", 40_000)), "c", declined{1, strings.Repeat("x", 16_000)}), "c", declined{1, strings.Repeat("x", 16_000)}, "mmm"},
		"too much":       {durable.WithDetails(errors.New("no"), "c", strings.Repeat("x", 17_000)), "c", nil, "no (its details are left out: 17002 bytes"},
		"no JSON":        {durable.WithDetails(errors.New("no"), "c", make(chan int)), "c", nil, "no (its details are left out: json"},
		"a long code":    {durable.WithDetails(errors.New("no"), strings.Repeat("ü", 100), nil), strings.Repeat("ü", 64), nil, "no"},
		"a broken error": {durable.WithDetails((*broken)(nil), "c", nil), "", nil, "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Work", durable.Activity(func(context.Context, int) (int, error) { return 0, c.err }))
			r := run(t, env, func(ctx *task.OrchestrationContext) (bool, error) {
				_, err := work.Call(ctx, 1).Await()
				var e *durable.TaskError
				if !errors.As(err, &e) || e.Code != c.code || !strings.HasPrefix(err.Error(), c.message) {
					t.Errorf("%.200v, code %s", err, e.Code)
				}
				var got declined
				if failed := e.Details(&got); (failed == nil) != (c.details != nil) || c.details != nil && got != c.details {
					t.Errorf("details %+v: %v", got, failed)
				}
				return true, nil
			})
			want(t, r, "true")
		})
	}
	if durable.WithDetails(nil, "c", 1) != nil {
		t.Error("no error became one")
	}
}

// broken is an error that cannot be asked.
type broken struct{ text string }

func (b *broken) Error() string { return b.text }

// A child has the version that it is given, else the default one, and so has the orchestration itself.
func TestVersions(t *testing.T) {
	t.Parallel()
	child := durable.OrchestratorName[bool, string]("Child")
	for fallback, output := range map[string]string{"": `["","1.5",""]`, "2.0": `["2.0","1.5","2.0"]`} {
		env := durabletest.New(t)
		env.Version(fallback)
		env.Orchestrator("Child", durable.Orchestrator(func(ctx *task.OrchestrationContext, again bool) (string, error) {
			if again {
				child.ContinueAsNew(ctx, false)
			}
			return durable.Version(ctx), nil
		}))
		r := run(t, env, func(ctx *task.OrchestrationContext) ([]string, error) {
			a, err := child.Call(ctx, true, durable.WithVersion("1.5"), durable.WithTags(map[string]string{"a": "b"})).Await()
			if err != nil {
				return nil, err
			}
			b, err := child.Call(ctx, false).Await()
			return []string{durable.Version(ctx), a, b}, err
		})
		want(t, r, output)
	}
}

func ExampleWithDetails() {
	pay := durable.ActivityName[int, string]("Pay")
	env := durabletest.New(exampleT{})
	env.Activity("Pay", durable.Activity(func(context.Context, int) (string, error) {
		return "", durable.WithDetails(errors.New("the card was declined"), "declined", declined{Limit: 100})
	}))
	order := func(ctx *task.OrchestrationContext, amount int) (string, error) {
		receipt, err := pay.Call(ctx, amount).Await()
		var failed *durable.TaskError
		var d declined
		if errors.As(err, &failed) && failed.Code == "declined" && failed.Details(&d) == nil {
			return fmt.Sprint(err, ": at most ", d.Limit), nil
		}
		return receipt, err
	}
	fmt.Println(env.Run(durable.Orchestrator(order), 250).Output)
	// Output: "the card was declined: at most 100"
}

func ExampleVersion() {
	greet := func(ctx *task.OrchestrationContext, city string) (string, error) {
		if durable.Version(ctx) < "2" { // what was started before goes its way to the end
			return sayHello.Call(ctx, city).Await()
		}
		return "Welcome to " + city, nil
	}
	env := newEnv()
	env.Version("2")
	fmt.Println(env.Run(durable.Orchestrator(greet), "Tokyo").Output)
	// Output: "Welcome to Tokyo"
}
