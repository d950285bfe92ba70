package durable_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// TestRandomOrchestrators runs orchestrators that do anything in any order. durabletest finds a turn that a session and a replay
// answer differently.
func TestRandomOrchestrators(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { random(t, seed) })
	}
}

func random(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	minutes := func() time.Duration { return time.Duration(r.IntN(600)) * time.Minute }
	env := durabletest.New(t)
	env.Activity("Work", durable.Activity(func(_ context.Context, n int) (int, error) {
		if r.IntN(4) == 0 {
			return 0, errors.New("no")
		}
		return n, nil
	}))
	env.Takes("Work", func(int) time.Duration { return time.Duration(r.IntN(5)) * time.Minute })
	env.Lose("Work", r.IntN(3))
	env.Expire("Work", r.IntN(3))
	env.HTTP(func(durable.HTTPRequest) (durable.HTTPResponse, error) {
		return durable.HTTPResponse{StatusCode: 200 + 2*r.IntN(2), Header: durable.HTTPHeader{"Location": {"/x"}}}, nil
	})
	env.Entity("Box", durable.Entity(put))
	env.Orchestrator("Child", randomOrchestrator(seed+1000, 6))
	for range 30 {
		env.RaiseAt(minutes(), fmt.Sprint("e", r.IntN(3)), r.IntN(100))
	}
	if r.IntN(4) == 0 {
		at := minutes()
		env.SuspendAt(at)
		env.ResumeAt(at + minutes())
	}
	if r.IntN(8) == 0 {
		env.TerminateAt(minutes(), "stop")
	}
	env.Run(randomOrchestrator(seed, 40), 1+r.IntN(3))
}

// randomOrchestrator does the same in each replay. Below another one it calls no children.
func randomOrchestrator(seed uint64, steps int) task.Orchestrator {
	return durable.Orchestrator(func(ctx *task.OrchestrationContext, runs int) ([]string, error) {
		s := &script{ctx: ctx, Rand: rand.New(rand.NewPCG(seed, uint64(runs))), parent: steps > 6}
		s.steps(s.IntN(steps))
		if runs > 1 {
			durable.OrchestratorName[int, string]("").ContinueAsNew(ctx, runs-1)
		}
		return s.said, nil
	})
}

type script struct {
	*rand.Rand
	ctx    *task.OrchestrationContext
	parent bool
	tasks  []*durable.Task[int]
	raw    []task.Task
	lock   *durable.EntityLock
	said   []string
	nested int
}

func (s *script) say(v ...any) {
	s.said = append(s.said, fmt.Sprint(append(v, s.ctx.CurrentTimeUtc)...))
}
func (s *script) keep(t *durable.Task[int]) { s.tasks = append(s.tasks, t) }
func (s *script) keepRaw(t task.Task)       { s.raw = append(s.raw, t) }
func (s *script) name() string              { return fmt.Sprint("e", s.IntN(3)) }
func (s *script) minutes() time.Duration    { return time.Duration(1+s.IntN(90)) * time.Minute }

func (s *script) retry() durable.CallOption {
	return durable.WithRetry(durable.RetryPolicy{Attempts: s.IntN(5), FirstInterval: s.minutes(), Backoff: 2, Spread: 1, Timeout: 2 * s.minutes()})
}

func (s *script) steps(n int) {
	for range n {
		all := s.anything()
		all[s.IntN(len(all))]()
	}
}

// anything is what a random orchestrator may do in a step.
func (s *script) anything() []func() {
	const work = durable.ActivityName[int, int]("Work")
	ctx := s.ctx
	return []func(){
		func() { s.keep(work.Call(ctx, 1)) },
		func() { s.keep(work.Call(ctx, 2, s.retry())) },
		func() { s.keep(durable.WithTimeout(work.Call(ctx, 3, s.retry()), s.minutes())) },
		func() { s.keep(durable.WaitForEvent[int](ctx, s.name(), s.minutes())) },
		s.await, s.await, s.awaitRaw, s.awaitRaw, s.child, s.locking, s.deferring,
		func() {
			s.say(durable.FanOut(ctx, work, make([]int, s.IntN(8)), nil, s.retry(), durable.WithLimit(s.IntN(4))))
		},
		func() {
			durable.FanOutFunc(ctx, work, make([]int, s.IntN(8)), func(i int, o durable.Outcome[int]) { s.say(i, o); s.await() })
		},
		func() { s.say(durable.Timer(ctx, s.minutes()*time.Duration(s.IntN(300))).Await()) },
		func() { s.say(put.Call(ctx, s.name(), "x").Await()) },
		func() { put.Signal(ctx, s.name(), "y", durable.At(ctx.CurrentTimeUtc.Add(s.minutes()))) },
		func() {
			s.say(durable.WithTimeout(durable.CallHTTP(ctx, durable.HTTPRequest{URL: "http://x"}), s.minutes()).Await())
		},
		func() { durable.SetCustomStatus(ctx, len(s.said)) },
		func() { durable.SetOutput(ctx, "mail", s.said) },
		func() { s.say(durable.NewGUID(ctx), durable.Version(ctx)) },
		func() {
			s.keepRaw(ctx.CallActivity("Work", task.WithActivityInput(4), task.WithActivityRetryPolicy(
				&task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Minute, BackoffCoefficient: 2})))
		},
		func() { s.keepRaw(ctx.WaitForSingleEvent(s.name(), s.minutes())) },
		func() { s.keepRaw(ctx.CreateTimer(s.minutes())) },
		func() { s.keepRaw(ctx.CallSubOrchestrator("None")) },
	}
}

// await waits for one task, or for one of two.
func (s *script) await() {
	if n := len(s.tasks); n > 0 {
		i := s.IntN(n)
		durable.WhenAny(s.tasks[n-1], s.tasks[i])
		s.say(s.tasks[i].Await())
	}
}

func (s *script) awaitRaw() {
	if n := len(s.raw); n > 0 {
		var v any
		s.say(s.raw[s.IntN(n)].Await(&v), v)
	}
}

func (s *script) child() {
	const child = durable.OrchestratorName[int, any]("Child")
	if s.parent {
		child.Call(s.ctx, 2, durable.WithInstanceID(durable.NewGUID(s.ctx).String()), durable.WithVersion("3"))
		s.say(child.Call(s.ctx, 1, s.retry()).Await())
	}
}

func (s *script) locking() {
	if s.lock == nil {
		s.lock = durable.LockEntities(s.ctx, boxes.ID("e0"), boxes.ID(s.name()))
	} else {
		s.lock.Release()
		s.lock = nil
	}
}

// deferring has a deferred function do something, which may recover the signal by which an orchestrator is left.
func (s *script) deferring() {
	if s.nested++; s.nested > 3 {
		return
	}
	defer func() {
		if s.IntN(2) == 0 {
			_ = recover()
		}
		s.steps(s.IntN(2))
	}()
	s.steps(s.IntN(4))
}
