package durabletest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// What a replay does differently fails the test: the host would see names and kinds at most, and only in a later turn.
func TestNondeterminismIsFound(t *testing.T) {
	t.Parallel()
	count := 0
	pause := func(ctx *task.OrchestrationContext) { _, _ = durable.Timer(ctx, time.Minute).Await() }
	echo := durable.ActivityName[int, int]("Echo")
	for name, o := range map[string]task.Orchestrator{
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
		"result": func(*task.OrchestrationContext) (any, error) { count++; return count, nil },
		"count": func(ctx *task.OrchestrationContext) (any, error) {
			count++
			for range count {
				ctx.CreateTimer(time.Hour)
			}
			pause(ctx)
			return nil, nil
		},
	} {
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
