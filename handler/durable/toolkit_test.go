package durable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

const work = durable.ActivityName[int, int]("Work")

// double is an activity.
var double = durable.Activity(func(_ context.Context, n int) (int, error) { return 2 * n, nil })

// run runs an orchestrator without input in an environment with the activity Work.
func run[Out any](t *testing.T, env *durabletest.Env, f func(*task.OrchestrationContext) (Out, error)) *durabletest.Result {
	t.Helper()
	return env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (Out, error) { return f(ctx) }), nil)
}

func want(t *testing.T, r *durabletest.Result, output string) {
	t.Helper()
	if r.Status != api.RUNTIME_STATUS_COMPLETED || r.Output != output {
		t.Errorf("%s %s %s, want %s", r.Status, r.Output, r.Failure, output)
	}
}

func TestCallAndWhenAll(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", double)
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]int, error) {
		return durable.WhenAll(work.Call(ctx, 1), work.Call(ctx, 2), work.Call(ctx, 3))
	})
	want(t, r, "[2,4,6]")
	if got := env.Calls("Work"); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("calls %v", got)
	}
}

func TestErrorsSayWhatTheActivitySaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(*durabletest.Env)
		kind    durable.FailureKind
		message string
	}{
		"error": {func(e *durabletest.Env) { e.Activity("Work", fails("card\ndeclined: ü 支払い")) }, durable.Failed, "card\ndeclined: ü 支払い"},
		"panic": {func(e *durabletest.Env) {
			e.Activity("Work", func(task.ActivityContext) (any, error) { panic("boom") })
		}, durable.Panicked, "panic: boom"},
		"lost":    {func(e *durabletest.Env) { e.Activity("Work", double); e.Lose("Work", 1) }, durable.Lost, "ended prematurely"},
		"expired": {func(e *durabletest.Env) { e.Activity("Work", double); e.Expire("Work", 2) }, durable.DeadlineExceeded, "deadline"},
		"unknown": {func(*durabletest.Env) {}, durable.NotFound, `"Work"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			c.prepare(env)
			r := run(t, env, func(ctx *task.OrchestrationContext) (bool, error) {
				_, err := work.Call(ctx, 1).Await()
				var e *durable.TaskError
				if !errors.As(err, &e) || e.Kind != c.kind || e.Name != "Work" || !strings.Contains(err.Error(), c.message) {
					t.Errorf("error %v (%+v), want kind %d and %q", err, e, c.kind, c.message)
				}
				if infrastructure := c.kind != durable.Failed && c.kind != durable.Panicked; e.Infrastructure() != infrastructure {
					t.Errorf("Infrastructure() = %v", e.Infrastructure())
				}
				// The SDK's own Await says it, too.
				if raw := ctx.CallActivity("Work", task.WithActivityInput(1)).Await(nil); name != "lost" && !strings.Contains(raw.Error(), c.message) {
					t.Errorf("raw error %v", raw)
				}
				return true, nil
			})
			want(t, r, "true")
		})
	}
}

func fails(message string) task.Activity {
	return func(task.ActivityContext) (any, error) { return nil, errors.New(message) }
}

func TestWhenAllJoinsErrors(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", durable.Activity(func(_ context.Context, n int) (int, error) {
		if n%2 == 0 {
			return 0, fmt.Errorf("even %d", n)
		}
		return n, nil
	}))
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		results, err := durable.WhenAll(work.Call(ctx, 1), work.Call(ctx, 2), work.Call(ctx, 3), work.Call(ctx, 4))
		return fmt.Sprint(results, err), nil
	})
	want(t, r, `"[1 0 3 0] even 2\neven 4"`)
}

// The winner is the first in the history, also of tasks that ended long before anybody asked.
func TestWhenAny(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Takes("Work", func(call int) time.Duration { return []time.Duration{3, 1, 2}[call] * time.Minute })
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]int, error) {
		a, b, c := work.Call(ctx, 1), work.Call(ctx, 2), work.Call(ctx, 3)
		first := durable.WhenAny(a, b, c)
		if _, err := durable.Timer(ctx, time.Hour).Await(); err != nil {
			return nil, err
		}
		return []int{first, durable.WhenAny(a, c), durable.WhenAny(c, a), durable.WhenAny(a)}, nil
	})
	want(t, r, "[1,1,0,0]")
}

func TestFanOutShowsProgress(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", durable.Activity(func(_ context.Context, n int) (int, error) {
		if n == 2 {
			return 0, errors.New("two")
		}
		return n, nil
	}))
	env.Takes("Work", func(call int) time.Duration { return time.Duration(call+1) * time.Second })
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		return fmt.Sprint(durable.FanOut(ctx, work, []int{1, 2, 3}, func(n int) bool { return n == 3 })), nil
	})
	want(t, r, `"[{1 \u003cnil\u003e} {0 two} {3 \u003cnil\u003e}]"`)
	if got := strings.Join(r.CustomStatus, " "); got != `{"Total":3,"Completed":0,"Failed":0} {"Total":3,"Completed":1,"Failed":0} {"Total":3,"Completed":2,"Failed":1} {"Total":3,"Completed":3,"Failed":2}` {
		t.Errorf("custom status %s", got)
	}
}

// 100 activities, of which 20 fail twice: each waits on its own schedule, and a slow one delays no other.
func TestRetriesInAFanOut(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	attempts := map[int]int{}
	env.Activity("Work", durable.Activity(func(_ context.Context, n int) (int, error) {
		attempts[n]++
		if n%5 == 0 && attempts[n] <= 2 {
			return 0, errors.New("not yet")
		}
		return n, nil
	}))
	// The first one takes an hour. All others take no time.
	env.Takes("Work", func(call int) time.Duration { return []time.Duration{time.Hour, 0}[min(call, 1)] })
	ends := map[int]time.Duration{}
	r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
		begin, tasks := ctx.CurrentTimeUtc, []durable.Awaitable{}
		for n := range 100 {
			tasks = append(tasks, work.Call(ctx, n, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: 10 * time.Second, Backoff: 3})))
		}
		sum := 0
		for len(tasks) > 0 {
			i := durable.WhenAny(tasks...)
			n, err := tasks[i].(*durable.Task[int]).Await()
			if err != nil {
				return 0, err
			}
			ends[n] = ctx.CurrentTimeUtc.Sub(begin)
			sum += n
			tasks = slices.Delete(tasks, i, i+1)
		}
		return sum, nil
	})
	want(t, r, "4950")
	for n, end := range ends {
		expected := time.Duration(0)
		switch {
		case n == 0:
			expected = time.Hour + 40*time.Second
		case n%5 == 0:
			expected = 40 * time.Second // 10 s and 30 s
		}
		if end != expected || n%5 == 0 && attempts[n] != 3 {
			t.Errorf("item %d ended after %s with %d attempts, want %s", n, end, attempts[n], expected)
		}
	}
}

func TestRetryPolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy  durable.RetryPolicy
		calls   int
		elapsed time.Duration
	}{
		"no attempts":    {durable.RetryPolicy{}, 1, 0},
		"attempts":       {durable.RetryPolicy{Attempts: 4, FirstInterval: time.Minute}, 4, 3 * time.Minute},
		"backoff":        {durable.RetryPolicy{Attempts: 4, FirstInterval: time.Minute, Backoff: 2}, 4, 7 * time.Minute},
		"maximum":        {durable.RetryPolicy{Attempts: 4, FirstInterval: time.Minute, Backoff: 2, MaxInterval: 90 * time.Second}, 4, 4 * time.Minute},
		"timeout":        {durable.RetryPolicy{Attempts: 9, FirstInterval: time.Minute, Timeout: 150 * time.Second}, 3, 2 * time.Minute},
		"not this error": {durable.RetryPolicy{Attempts: 9, FirstInterval: time.Minute, Retry: func(err error) bool { return err.Error() != "no" }}, 1, 0},
		"this error":     {durable.RetryPolicy{Attempts: 2, FirstInterval: time.Minute, Retry: func(err error) bool { return err.Error() == "no" }}, 2, time.Minute},
		"long interval":  {durable.RetryPolicy{Attempts: 2, FirstInterval: 10 * 24 * time.Hour}, 2, 10 * 24 * time.Hour},
		"huge backoff":   {durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute, Backoff: 1e300}, 3, time.Minute + 365*24*time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Work", fails("no"))
			r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
				return work.Call(ctx, 1, durable.WithRetry(c.policy)).Await()
			})
			if r.Failure != "no" || len(env.Calls("Work")) != c.calls || r.Elapsed != c.elapsed {
				t.Errorf("%q after %d calls and %s, want %d and %s", r.Failure, len(env.Calls("Work")), r.Elapsed, c.calls, c.elapsed)
			}
		})
	}
}

// Awaiting a task that was retried a second time gives the same, and runs nothing again.
func TestAwaitTwice(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", fails("no"))
	r := run(t, env, func(ctx *task.OrchestrationContext) (bool, error) {
		w := work.Call(ctx, 1, durable.WithRetry(durable.RetryPolicy{Attempts: 2, FirstInterval: time.Minute}))
		_, first := w.Await()
		_, second := w.Await()
		return errors.Is(second, first), nil
	})
	want(t, r, "true")
	if n := len(env.Calls("Work")); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestTimers(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, -time.Hour, time.Second, 3*24*time.Hour + time.Millisecond, 6 * 24 * time.Hour, 6*24*time.Hour + time.Millisecond, 30 * 24 * time.Hour} {
		env := durabletest.New(t)
		r := run(t, env, func(ctx *task.OrchestrationContext) (bool, error) {
			_, err := durable.Timer(ctx, d).Await()
			return true, err
		})
		want(t, r, "true")
		turns := 1 + max(1, int((d+144*time.Hour-1)/(144*time.Hour)))
		if r.Elapsed != max(d, 0) || r.Turns != turns {
			t.Errorf("a timer of %s took %s in %d turns, want %d: none may be longer than six days", d, r.Elapsed, r.Turns, turns)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.RaiseAt(0, "early", "before the wait")
	env.RaiseAt(time.Minute, "GO", map[string]int{"n": 1})
	env.RaiseAt(2*time.Minute, "go", map[string]int{"n": 2})
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		a := durable.WaitForEvent[map[string]int](ctx, "Go", 0)
		b := durable.WaitForEvent[map[string]int](ctx, "gO", time.Hour)
		second, err := b.Await()
		if err != nil {
			return "", err
		}
		first, err := a.Await()
		if err != nil {
			return "", err
		}
		early, err := durable.WaitForEvent[string](ctx, "Early", time.Hour).Await()
		return fmt.Sprintf("%v %v %v", first, second, early), err
	})
	want(t, r, `"map[n:1] map[n:2] before the wait"`)
}

// Two waits for one name in a loop; the first one's timer fires during the second one. No event is lost or taken by a
// wait that has given up.
func TestEventTimeout(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.RaiseAt(15*time.Minute, "Go", "A") // during the second wait
	env.RaiseAt(16*time.Minute, "Go", "B")
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]string, error) {
		first := durable.WaitForEvent[string](ctx, "Go", 10*time.Minute)
		second := durable.WaitForEvent[string](ctx, "Go", 20*time.Minute)
		got, err := second.Await()
		_, timeout := first.Await()
		if !errors.Is(timeout, durable.ErrTimeout) || !errors.Is(timeout, task.ErrTaskCanceled) {
			return nil, fmt.Errorf("the first wait: %w", timeout)
		}
		third, err2 := durable.WaitForEvent[string](ctx, "Go", time.Minute).Await()
		_, err3 := durable.WaitForEvent[string](ctx, "Go", time.Minute).Await()
		return []string{got, third, fmt.Sprint(errors.Is(err3, durable.ErrTimeout))}, errors.Join(err, err2)
	})
	want(t, r, `["A","B","true"]`)
}

// The same in a loop: the first wait gets its event, and its timer fires during the second wait.
func TestEventTimeoutInALoop(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.RaiseAt(time.Minute, "Go", "A")
	env.RaiseAt(15*time.Minute, "Go", "B")
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]string, error) {
		var got []string
		for range 2 {
			s, err := durable.WaitForEvent[string](ctx, "Go", time.Duration(len(got)+1)*10*time.Minute).Await()
			if err != nil {
				return nil, err
			}
			got = append(got, s)
		}
		return got, nil
	})
	want(t, r, `["A","B"]`)
}

// An event that came before its timeout counts, though it is awaited after it.
func TestEventBeforeItsTimeoutIsAwaitedLater(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.RaiseAt(time.Minute, "Go", "in time")
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		wait := durable.WaitForEvent[string](ctx, "Go", 2*time.Minute)
		if _, err := durable.Timer(ctx, time.Hour).Await(); err != nil {
			return "", err
		}
		return wait.Await()
	})
	want(t, r, `"in time"`)
}

func TestSubOrchestrations(t *testing.T) {
	t.Parallel()
	child := durable.OrchestratorName[int, int]("Child")
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Orchestrator("Child", durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (int, error) {
		if n < 0 {
			return 0, errors.New("child says no")
		}
		return work.Call(ctx, n).Await()
	}))
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		results, err := durable.WhenAll(child.Call(ctx, 1), child.Call(ctx, 2, durable.WithInstanceID("named")), child.Call(ctx, -1),
			durable.OrchestratorName[int, int]("Nobody").Call(ctx, 1))
		return fmt.Sprintf("%v %v", results, err), nil
	})
	if r.Status != api.RUNTIME_STATUS_COMPLETED || !strings.Contains(r.Output, `[2 4 0 0] child says no\n`) || !strings.Contains(r.Output, `\"Nobody\"`) {
		t.Errorf("%s %s %s", r.Status, r.Output, r.Failure)
	}
}

func TestSubOrchestrationFailures(t *testing.T) {
	t.Parallel()
	newEnv := func() *durabletest.Env {
		env, calls := durabletest.New(t), 0
		env.Orchestrator("Child", durable.Orchestrator(func(ctx *task.OrchestrationContext, fails int) (string, error) {
			if calls++; calls <= 2*fails { // each turn is run twice
				return "", errors.New("child says no")
			}
			return string(ctx.ID), nil
		}))
		return env
	}
	child := durable.OrchestratorName[int, string]("Child")
	r := run(t, newEnv(), func(ctx *task.OrchestrationContext) (string, error) {
		_, err := child.Call(ctx, 1).Await()
		var e *durable.TaskError
		if !errors.As(err, &e) || e.Name != "Child" || e.Kind != durable.Failed || err.Error() != "child says no" {
			t.Errorf("error %v (%+v)", err, e)
		}
		_, err = durable.OrchestratorName[int, int]("Nobody").Call(ctx, 1).Await()
		if !errors.As(err, &e) || !e.Infrastructure() {
			t.Errorf("error %v (%+v)", err, e)
		}
		return child.Call(ctx, 0, durable.WithInstanceID("named")).Await()
	})
	want(t, r, `"named"`)

	r = run(t, newEnv(), func(ctx *task.OrchestrationContext) (bool, error) {
		id, err := child.Call(ctx, 2, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute})).Await()
		return strings.HasSuffix(id, ":4"), err // each attempt is another child
	})
	want(t, r, "true")
}

func TestFanOutRetries(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Lose("Work", 3)
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		return fmt.Sprint(durable.FanOut(ctx, work, []int{1, 2}, nil, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute}))), nil
	})
	want(t, r, `"[{2 \u003cnil\u003e} {4 \u003cnil\u003e}]"`)
	if r.Elapsed != 2*time.Minute || r.CustomStatus[len(r.CustomStatus)-1] != `{"Total":2,"Completed":2,"Failed":0}` {
		t.Errorf("after %s: %v", r.Elapsed, r.CustomStatus)
	}
	bad := run(t, durabletest.New(t), func(ctx *task.OrchestrationContext) (string, error) {
		outcomes := durable.FanOut(ctx, durable.ActivityName[any, int]("Work"), []any{make(chan int)}, nil)
		return outcomes[0].Err.Error(), nil
	})
	if !strings.Contains(bad.Output, "cannot be JSON") {
		t.Errorf("%+v", bad)
	}
}

// What an earlier run of the orchestrator has left open, an activity, a timer or a child, does not reach the next one.
func TestNothingReachesTheNextRun(t *testing.T) {
	t.Parallel()
	sleeper := durable.OrchestratorName[time.Duration, string]("Sleeper")
	loop := durable.OrchestratorName[int, string]("Loop")
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Takes("Work", func(call int) time.Duration { return []time.Duration{time.Hour, 4 * time.Hour}[call] })
	env.Orchestrator("Sleeper", durable.Orchestrator(func(ctx *task.OrchestrationContext, d time.Duration) (string, error) {
		_, err := durable.Timer(ctx, d).Await()
		return d.String(), err
	}))
	env.RaiseAt(time.Minute, "Go", nil)
	r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (string, error) {
		child := sleeper.Call(ctx, time.Duration(n*4+1)*time.Hour) // the same ids in both runs
		timer := durable.Timer(ctx, time.Duration(n+1)*2*time.Hour)
		activity := work.Call(ctx, n)
		if n == 0 {
			if _, err := durable.WaitForEvent[any](ctx, "Go", 0).Await(); err != nil {
				return "", err
			}
			loop.ContinueAsNew(ctx, 1)
			return "", nil
		}
		first := durable.WhenAny(child, timer, activity)
		result, err := activity.Await()
		if err != nil {
			return "", err
		}
		slept, err := child.Await()
		return fmt.Sprint(first, " ", result, " ", slept), err
	}), 0)
	want(t, r, `"1 2 5h0m0s"`)
	if r.Elapsed != 5*time.Hour+time.Minute {
		t.Errorf("after %s", r.Elapsed)
	}
}

// Events that nobody has waited for go along into the next run, in their order; what was scheduled does not.
func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	type state struct{ N, Sum int }
	loop := durable.OrchestratorName[state, int]("Loop")
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Takes("Work", func(int) time.Duration { return time.Hour })
	for n := range 5 {
		env.RaiseAt(0, []string{"odd", "even"}[n%2], n)
	}
	r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, s state) (int, error) {
		if s.N == 5 {
			return s.Sum, nil
		}
		work.Call(ctx, s.N) // left open
		n, err := durable.WaitForEvent[int](ctx, []string{"odd", "even"}[s.N%2], 0).Await()
		if err != nil || n != s.N {
			return 0, fmt.Errorf("event %d in run %d: %w", n, s.N, err)
		}
		loop.ContinueAsNew(ctx, state{s.N + 1, s.Sum*10 + n})
		return 0, nil
	}), state{})
	want(t, r, "1234")
}

// An event that was taken before a continue-as-new does not come again after it, whether it came before its wait or not.
// One that is raised later comes; and each run has GUIDs of its own.
func TestContinueAsNewTakesNothingTwice(t *testing.T) {
	t.Parallel()
	type state struct {
		Seen []string
		ID   uuid.UUID
	}
	loop := durable.OrchestratorName[state, []string]("Loop")
	env := durabletest.New(t)
	env.RaiseAt(time.Minute, "Go", "early")
	env.RaiseAt(2*time.Hour, "Go", "late")
	r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, s state) ([]string, error) {
		id := durable.NewGUID(ctx)
		if id == s.ID {
			t.Error("two runs have the same GUID")
		}
		if _, err := durable.Timer(ctx, time.Hour).Await(); err != nil {
			return nil, err
		}
		got, err := durable.WaitForEvent[string](ctx, "Go", 0).Await()
		if err != nil {
			return nil, err
		}
		if s.Seen = append(s.Seen, got); len(s.Seen) == 2 {
			return s.Seen, nil
		}
		loop.ContinueAsNew(ctx, state{s.Seen, id})
		return nil, nil
	}), state{})
	want(t, r, `["early","late"]`)
}

// A wait whose event is there already sets no timer.
func TestEventThatIsThereNeedsNoTimeout(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.RaiseAt(0, "Go", "there")
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		if _, err := durable.Timer(ctx, time.Minute).Await(); err != nil {
			return "", err
		}
		got, err := durable.WaitForEvent[string](ctx, "Go", time.Hour).Await()
		if err != nil {
			return "", err
		}
		_, err = durable.Timer(ctx, 2*time.Hour).Await()
		return got, err
	})
	want(t, r, `"there"`)
	if r.Turns != 3 {
		t.Errorf("%d turns: a timer fired that nobody needs", r.Turns)
	}
}

func TestGUIDs(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]uuid.UUID, error) {
		ids := []uuid.UUID{durable.NewGUID(ctx)}
		for range 3 { // each turn is a replay that must find the same
			if _, err := durable.Timer(ctx, time.Minute).Await(); err != nil {
				return nil, err
			}
			ids = append(ids, durable.NewGUID(ctx))
		}
		durable.SetCustomStatus(ctx, ids)
		for i, id := range ids {
			if id.Version() != 5 || id.Variant() != uuid.RFC4122 || slices.Contains(ids[:i], id) {
				t.Errorf("GUID %s of %v", id, ids)
			}
		}
		return ids, nil
	})
	if r.Status != api.RUNTIME_STATUS_COMPLETED || r.Output != r.CustomStatus[len(r.CustomStatus)-1] {
		t.Errorf("%+v", r)
	}
}

func TestReplayLog(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
		log := durable.ReplayLog(ctx).With("k", "v").WithGroup("g")
		for n := range 3 {
			log.Info("round", "n", n)
			if _, err := durable.Timer(ctx, time.Minute).Await(); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	if want := "level=INFO msg=round k=v g.n=0\nlevel=INFO msg=round k=v g.n=1\nlevel=INFO msg=round k=v g.n=2\n"; r.Logs != want {
		t.Errorf("logs %q", r.Logs)
	}
}

// Tasks of the SDK and of the toolkit side by side.
func TestMixedWithTheSDK(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Work", double)
	env.Takes("Work", func(call int) time.Duration { return time.Duration(5-call) * time.Minute })
	r := run(t, env, func(ctx *task.OrchestrationContext) ([]int, error) {
		raw1 := ctx.CallActivity("Work", task.WithActivityInput(1))
		ours := work.Call(ctx, 2, durable.WithRetry(durable.RetryPolicy{Attempts: 2, FirstInterval: time.Second}))
		raw2 := ctx.CallActivity("Work", task.WithActivityInput(3))
		pause := ctx.CreateTimer(2 * time.Minute)
		var results [3]int
		var err error
		if results[1], err = ours.Await(); err != nil {
			return nil, err
		}
		return results[:], errors.Join(raw2.Await(&results[2]), pause.Await(nil), raw1.Await(&results[0]))
	})
	want(t, r, "[2,4,6]")
}

func TestTerminateAndSuspend(t *testing.T) {
	t.Parallel()
	waits := func(ctx *task.OrchestrationContext) (string, error) {
		return durable.WaitForEvent[string](ctx, "Go", 0).Await()
	}

	env := durabletest.New(t)
	env.TerminateAt(time.Minute, "why")
	if r := run(t, env, waits); r.Status != api.RUNTIME_STATUS_TERMINATED || r.Output != `"why"` {
		t.Errorf("terminated: %+v", r)
	}
	env = durabletest.New(t)
	env.SuspendAt(time.Minute)
	env.RaiseAt(2*time.Minute, "Go", "while suspended")
	env.ResumeAt(time.Hour)
	r := run(t, env, waits)
	want(t, r, `"while suspended"`)
	if r.Elapsed != time.Hour {
		t.Errorf("went on after %s", r.Elapsed)
	}
	env = durabletest.New(t)
	env.SuspendAt(time.Minute)
	env.TerminateAt(2*time.Minute, "why")
	if r := run(t, env, waits); r.Status != api.RUNTIME_STATUS_TERMINATED {
		t.Errorf("terminated while suspended: %+v", r)
	}
	env = durabletest.New(t)
	if r := run(t, env, waits); r.Status != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("waiting for ever: %+v", r)
	}
}

// What the host would alter arrives as it was sent.
func TestValuesArriveAsSent(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	env.Activity("Echo", durable.Activity(func(_ context.Context, s any) (any, error) { return s, nil }))
	echo := durable.ActivityName[any, any]("Echo")
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		for _, v := range []any{"2026-11-22T10:11:12+02:00", map[string]any{"$ref": "1", "a": 2.0}, "durable-json:1", nil, "", []any{1e300}} {
			got, err := echo.Call(ctx, v).Await()
			if err != nil || fmt.Sprint(got) != fmt.Sprint(v) {
				return "", fmt.Errorf("%v came back as %v: %w", v, got, err)
			}
		}
		return "same", nil
	})
	want(t, r, `"same"`)
}

// An input that cannot be JSON fails the call, and not the program.
func TestBadInput(t *testing.T) {
	t.Parallel()
	env := durabletest.New(t)
	r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
		_, err := durable.ActivityName[any, int]("Work").Call(ctx, make(chan int)).Await()
		return err.Error(), nil
	})
	if !strings.Contains(r.Output, "cannot be JSON") {
		t.Errorf("%+v", r)
	}
}

func TestWithoutHost(t *testing.T) {
	t.Parallel()
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "durabletest") {
			t.Errorf("panic %s", p)
		}
	}()
	durable.ReplayLog(&task.OrchestrationContext{})
}
