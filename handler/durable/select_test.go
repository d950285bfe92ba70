package durable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

func durabletestNew(t *testing.T) *durabletest.Env { return durabletest.New(t) }

// ignore is nil if err is the target.
func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// Select gives the first task to its function, with its own type, and waits for no other.
func TestSelect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes, event time.Duration
		activity     task.Activity
		want         string
		elapsed      time.Duration
	}{
		"activity":        {time.Minute, time.Hour, double, `"work 4"`, time.Minute},
		"failed activity": {time.Minute, time.Hour, fails("no"), `"no"`, time.Minute},
		"event":           {time.Hour, time.Minute, double, `"go true"`, time.Minute},
		"timer":           {3 * time.Hour, 3 * time.Hour, double, `"late"`, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Work", c.activity)
			env.Takes("Work", func(int) time.Duration { return c.takes })
			env.RaiseAt(c.event, "Go", true)
			r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
				return durable.Select(
					durable.On(work.Call(ctx, 2), func(n int, err error) (string, error) {
						if err != nil {
							return err.Error(), nil
						}
						return fmt.Sprint("work ", n), nil
					}),
					durable.On(durable.WaitForEvent[bool](ctx, "Go", 0), func(v bool, err error) (string, error) { return fmt.Sprint("go ", v), err }),
					durable.On(durable.Timer(ctx, 2*time.Hour), func(struct{}, error) (string, error) { return "late", nil }),
				)
			})
			if want(t, r, c.want); r.Elapsed != c.elapsed {
				t.Errorf("after %s, want %s", r.Elapsed, c.elapsed)
			}
		})
	}
}

// A task's time limit ends it, its retries and its wait for an event, whatever becomes of it later.
func TestWithTimeout(t *testing.T) {
	t.Parallel()
	retries := []durable.CallOption{durable.WithRetry(durable.RetryPolicy{Attempts: 9, FirstInterval: 40 * time.Minute})}
	for name, c := range map[string]struct {
		activity task.Activity
		takes    time.Duration
		options  []durable.CallOption
		limit    time.Duration
		want     string
		calls    int
	}{
		"in time":        {double, time.Minute, nil, time.Hour, "4 <nil>", 1},
		"fails in time":  {fails("no"), time.Minute, nil, time.Hour, "0 no", 1},
		"too late":       {double, 2 * time.Hour, nil, time.Hour, "0 timed out: the task was canceled", 1},
		"fails too late": {fails("no"), 2 * time.Hour, retries, time.Hour, "0 timed out: the task was canceled", 1},
		"while it waits": {fails("no"), time.Minute, retries, time.Hour, "0 timed out: the task was canceled", 2},
		"for weeks":      {double, 20 * day, nil, 10 * day, "0 timed out: the task was canceled", 1},
		"no limit":       {double, 20 * day, nil, 0, "4 <nil>", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Work", c.activity)
			env.Takes("Work", func(int) time.Duration { return c.takes })
			r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
				limited := durable.WithTimeout(work.Call(ctx, 2, c.options...), c.limit)
				n, err := limited.Await()
				said := fmt.Sprint(n, " ", err)
				if _, err := durable.Timer(ctx, 30*day).Await(); err != nil {
					return "", err
				}
				if n, err = limited.Await(); fmt.Sprint(n, " ", err) != said {
					t.Errorf("first %s, later %d %v", said, n, err)
				}
				return said, nil
			})
			if r.Status != api.RUNTIME_STATUS_COMPLETED || strings.Trim(r.Output, `"`) != strings.NewReplacer("<", `\u003c`, ">", `\u003e`).Replace(c.want) || len(env.Calls("Work")) != c.calls {
				t.Errorf("%s %s %s after %d calls", r.Status, r.Output, r.Failure, len(env.Calls("Work")))
			}
		})
	}
}

// A fan-out with a limit has no more under way, calls the inputs in their order, and returns what one without returns.
func TestFanOutWithLimit(t *testing.T) {
	t.Parallel()
	inputs := make([]int, 20)
	for i := range inputs {
		inputs[i] = i
	}
	for _, limit := range []int{-1, 0, 1, 3, 20, 100} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			failures := map[int]int{}
			env.Activity("Work", durable.Activity(func(_ context.Context, n int) (int, error) {
				if failures[n]++; n%4 == 1 && failures[n] < 3 || n == 7 {
					return 0, fmt.Errorf("no %d", n)
				}
				return 2 * n, nil
			}))
			env.Takes("Work", func(call int) time.Duration { return time.Duration(call%5+1) * time.Minute })
			ended := 0
			r := run(t, env, func(ctx *task.OrchestrationContext) ([]string, error) {
				var results []string
				for i, o := range durable.FanOut(ctx, work, inputs, func(n int) bool { return n == 8 }, durable.WithLimit(limit),
					durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute})) {
					ended = i
					results = append(results, fmt.Sprint(o.Value, o.Err))
				}
				return results, nil
			})
			if r.Status != api.RUNTIME_STATUS_COMPLETED || ended != 19 || !strings.HasPrefix(r.Output, `["0 \u003cnil\u003e","2 \u003cnil\u003e"`) || !strings.Contains(r.Output, `"0 no 7"`) {
				t.Errorf("%s %s %s", r.Status, r.Output, r.Failure)
			}
			if last := r.CustomStatus[len(r.CustomStatus)-1]; last != `{"Total":20,"Completed":20,"Failed":2}` {
				t.Errorf("status %s", last)
			}
			if n := limit; n == 1 {
				var order []string
				for _, c := range env.Calls("Work") {
					if !slices.Contains(order, c) {
						order = append(order, c)
					}
				}
				if want := strings.Fields(strings.Trim(fmt.Sprint(inputs), "[]")); !slices.Equal(order, want) {
					t.Errorf("called in the order %v", order)
				}
			}
		})
	}
}

// So many items of a fan-out run at once, and the next begins when any of them has ended.
func TestFanOutKeepsItsLimit(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Takes("Work", func(call int) time.Duration { return []time.Duration{time.Hour, time.Minute}[min(call, 1)] })
	r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
		return len(durable.FanOut(ctx, work, make([]int, 10), nil, durable.WithLimit(2))), nil
	})
	// The first takes an hour, the nine others one minute each, one after the other, beside it.
	if want(t, r, "10"); r.Elapsed != time.Hour || r.Turns != 11 {
		t.Errorf("%s in %d turns", r.Elapsed, r.Turns)
	}
	bad := run(t, durabletest.New(t), func(ctx *task.OrchestrationContext) (int, error) {
		inputs := make([]any, 10_000)
		for i := range inputs {
			inputs[i] = make(chan int) // which ends at once
		}
		outcomes := durable.FanOut(ctx, durable.ActivityName[any, int]("Work"), inputs, nil, durable.WithLimit(1))
		return len(outcomes), outcomes[9_999].Err
	})
	if !strings.Contains(bad.Failure, "cannot be JSON") {
		t.Errorf("%+v", bad)
	}
}

// Options that mean nothing where they stand are refused, and not ignored.
func TestMisplacedOptions(t *testing.T) {
	t.Parallel()
	child := durable.OrchestratorName[int, int]("Child")
	for name, c := range map[string]struct {
		call func(*task.OrchestrationContext)
		want string
	}{
		"id of an activity":      {func(ctx *task.OrchestrationContext) { work.Call(ctx, 1, durable.WithInstanceID("x")) }, `are for sub-orchestrations; "Work" is an activity`},
		"version of an activity": {func(ctx *task.OrchestrationContext) { work.Call(ctx, 1, durable.WithVersion("2")) }, "are for sub-orchestrations"},
		"tags of an activity":    {func(ctx *task.OrchestrationContext) { work.Call(ctx, 1, durable.WithTags(map[string]string{"a": "b"})) }, "are for sub-orchestrations"},
		"limit of an activity":   {func(ctx *task.OrchestrationContext) { work.Call(ctx, 1, durable.WithLimit(2)) }, "WithLimit is for a fan-out"},
		"limit of a child":       {func(ctx *task.OrchestrationContext) { child.Call(ctx, 1, durable.WithLimit(2)) }, "WithLimit is for a fan-out"},
		"one id of many": {func(ctx *task.OrchestrationContext) {
			durable.FanOut(ctx, child, []int{1, 2}, nil, durable.WithInstanceID("x"))
		}, `in a fan-out, leave WithInstanceID out`},
		"id in activities' fan": {func(ctx *task.OrchestrationContext) {
			durable.FanOut(ctx, work, []int{1, 2}, nil, durable.WithInstanceID("x"))
		}, "are for sub-orchestrations"},
		"nothing to select from": {func(*task.OrchestrationContext) { _, _ = durable.Select[int]() }, "no tasks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Work", double)
			env.Orchestrator("Child", durable.Orchestrator(func(*task.OrchestrationContext, int) (int, error) { return 1, nil }))
			r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
				c.call(ctx)
				return durable.WaitForEvent[int](ctx, "Never", 0).Await()
			})
			if r.Status != api.RUNTIME_STATUS_FAILED || !strings.Contains(r.Failure, c.want) {
				t.Errorf("%s %q, want %q", r.Status, r.Failure, c.want)
			}
		})
	}
}

func ExampleSelect() {
	approval := func(ctx *task.OrchestrationContext, _ any) (string, error) {
		return durable.Select(
			durable.On(durable.WaitForEvent[string](ctx, "Approved", 0), func(by string, err error) (string, error) {
				return "approved by " + by, err
			}),
			durable.On(durable.Timer(ctx, 72*time.Hour), func(struct{}, error) (string, error) {
				return "nobody answered", nil
			}),
		)
	}
	env := newEnv()
	env.RaiseAt(2*time.Hour, "Approved", "Ada")
	r := env.Run(durable.Orchestrator(approval), nil)
	fmt.Println(r.Output, r.Elapsed)
	// Output: "approved by Ada" 2h0m0s
}

func ExampleWithTimeout() {
	greet := func(ctx *task.OrchestrationContext, city string) (string, error) {
		greeting, err := durable.WithTimeout(sayHello.Call(ctx, city), time.Minute).Await()
		if errors.Is(err, durable.ErrTimeout) {
			return "no answer from " + city, nil
		}
		return greeting, err
	}
	env := newEnv()
	env.Takes("SayHello", func(int) time.Duration { return time.Hour })
	fmt.Println(env.Run(durable.Orchestrator(greet), "Tokyo").Output)
	// Output: "no answer from Tokyo"
}

func ExampleWithLimit() {
	greetAll := func(ctx *task.OrchestrationContext, cities []string) (greetings []string, err error) {
		for _, o := range durable.FanOut(ctx, sayHello, cities, nil, durable.WithLimit(2)) {
			greetings, err = append(greetings, o.Value), errors.Join(err, o.Err)
		}
		return greetings, err
	}
	env := newEnv()
	env.Takes("SayHello", func(int) time.Duration { return time.Minute })
	r := env.Run(durable.Orchestrator(greetAll), []string{"Tokyo", "Seattle", "London"})
	fmt.Println(r.Output, r.Elapsed) // two at once: the third one waits a minute
	// Output: ["Hello, Tokyo!","Hello, Seattle!","Hello, London!"] 2m0s
}
