package durabletest_test

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

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

// nondeterministic are orchestrators that do something else in a replay.
func nondeterministic() map[string]task.Orchestrator {
	count, first, second := 0, 0, 0
	pause := func(ctx *task.OrchestrationContext) { _, _ = durable.Timer(ctx, time.Minute).Await() }
	echo := durable.ActivityName[any, any]("Echo")
	return map[string]task.Orchestrator{
		"input": func(ctx *task.OrchestrationContext) (any, error) {
			count++
			echo.Call(ctx, count)
			pause(ctx)
			return nil, nil
		},
		"input in a later turn only": func(ctx *task.OrchestrationContext) (any, error) {
			input := 1
			if ctx.IsReplaying {
				input = 2
			}
			echo.Call(ctx, input)
			pause(ctx)
			return nil, nil
		},
		"input in a later turn's first run": func(ctx *task.OrchestrationContext) (any, error) {
			first++
			echo.Call(ctx, first == 3)
			pause(ctx)
			return nil, nil
		},
		"input in a later turn's second run": func(ctx *task.OrchestrationContext) (any, error) {
			second++
			echo.Call(ctx, second == 4)
			pause(ctx)
			return nil, nil
		},
		"name": func(ctx *task.OrchestrationContext) (any, error) {
			count++
			ctx.CallActivity(fmt.Sprint("A", count))
			pause(ctx)
			return nil, nil
		},
		"kind": func(ctx *task.OrchestrationContext) (any, error) {
			if count++; count%2 == 0 {
				ctx.CallActivity("A")
			} else {
				ctx.CallSubOrchestrator("A")
			}
			pause(ctx)
			return nil, nil
		},
		"time": func(ctx *task.OrchestrationContext) (any, error) {
			_, _ = durable.Timer(ctx, time.Duration(time.Now().UnixNano()%int64(time.Hour))).Await()
			return nil, nil
		},
		"scheduled by a replay only": func(ctx *task.OrchestrationContext) (any, error) {
			only := durable.Timer(ctx, time.Minute)
			if ctx.IsReplaying {
				durable.Timer(ctx, time.Hour)
			}
			_, _ = only.Await()
			return nil, nil
		},
		"result": func(*task.OrchestrationContext) (any, error) { count++; return count, nil },
		"count": func(ctx *task.OrchestrationContext) (any, error) {
			count++
			for range count {
				ctx.CreateTimer(time.Hour)
			}
			pause(ctx)
			return nil, nil
		},
	}
}

// What a replay does differently fails the test: the host would see names and kinds at most, and only in a later turn.
func TestNondeterminismIsFound(t *testing.T) {
	t.Parallel()
	for name, o := range nondeterministic() {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			func() {
				defer func() {
					if p := recover(); p != nil && p != any(r) {
						panic(p)
					}
				}()
				durabletest.New(r).Run(o, nil)
			}()
			if !strings.Contains(r.failure, "not deterministic") {
				t.Errorf("found %q", r.failure)
			}
		})
	}
}

// A panic in a later turn fails the orchestration. It is not taken for a turn that schedules nothing.
func TestPanicInALaterTurn(t *testing.T) {
	t.Parallel()
	r := durabletest.New(t).Run(func(ctx *task.OrchestrationContext) (any, error) {
		_, _ = durable.Timer(ctx, time.Minute).Await()
		panic("boom")
	}, nil)
	if r.Status != api.RUNTIME_STATUS_FAILED || r.Failure != "panic: boom" || r.Turns != 2 {
		t.Errorf("%+v", r)
	}
}

// Calls are lost first, then expire, then run. All of them count, and take their time.
func TestLoseAndExpire(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	runs := 0
	env.Activity("Work", durable.Activity(func(context.Context, int) (string, error) { runs++; return "done", nil }))
	env.Lose("Work", 1)
	env.Expire("Work", 2)
	env.Takes("Work", func(call int) time.Duration { return time.Duration(call+1) * time.Minute })
	r := env.Run(func(ctx *task.OrchestrationContext) (any, error) {
		var kinds []durable.FailureKind
		for n := range 3 {
			_, err := durable.ActivityName[int, string]("Work").Call(ctx, n).Await()
			var e *durable.TaskError
			if errors.As(err, &e) {
				kinds = append(kinds, e.Kind)
			}
		}
		if !slices.Equal(kinds, []durable.FailureKind{durable.Lost, durable.DeadlineExceeded, durable.DeadlineExceeded}) {
			t.Errorf("kinds %v", kinds)
		}
		return durable.ActivityName[int, string]("Work").Call(ctx, 3).Await()
	}, nil)
	if r.Output != `"done"` || runs != 1 || len(env.Calls("Work")) != 4 || r.Elapsed != 10*time.Minute {
		t.Errorf("%+v after %d runs and %d calls", r, runs, len(env.Calls("Work")))
	}
}

// A child may have the id of one that has ended, and replaces it. It may not have that of one that runs.
func TestReplacedChild(t *testing.T) {
	t.Parallel()
	sleeper := durable.OrchestratorName[time.Duration, string]("Sleeper")
	for _, await := range []bool{true, false} {
		env := durabletest.New(t)
		env.Orchestrator("Sleeper", durable.Orchestrator(func(ctx *task.OrchestrationContext, d time.Duration) (string, error) {
			_, err := durable.Timer(ctx, d).Await()
			return d.String(), err
		}))
		r := env.Run(func(ctx *task.OrchestrationContext) (any, error) {
			first := sleeper.Call(ctx, 2*time.Hour, durable.WithInstanceID("child"))
			if await {
				if _, err := first.Await(); err != nil {
					return nil, err
				}
			}
			return sleeper.Call(ctx, 3*time.Hour, durable.WithInstanceID("child")).Await()
		}, nil)
		if await && (r.Output != `"3h0m0s"` || r.Elapsed != 5*time.Hour) {
			t.Errorf("after it has ended: %+v", r)
		}
		if !await && !strings.Contains(r.Failure, `cannot have the id "child"`) {
			t.Errorf("while it runs: %+v", r)
		}
	}
}

func TestEndlessOrchestrationIsFound(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	defer func() {
		if recover() == nil || !strings.Contains(r.failure, "has not ended") {
			t.Errorf("found %q", r.failure)
		}
	}()
	durabletest.New(r).Run(func(ctx *task.OrchestrationContext) (any, error) { ctx.ContinueAsNew(1); return nil, nil }, nil)
}
