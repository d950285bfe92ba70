package durable_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// TestOtherGoroutines: whatever an orchestrator does in several goroutines at once with this package, and an Await of the SDK's
// in one of them, fails the orchestration in words that say why. It never ends the process, as concurrent writes to the SDK's
// maps would.
func TestOtherGoroutines(t *testing.T) {
	t.Parallel()
	const echo = durable.ActivityName[int, int]("Echo")
	const child = durable.OrchestratorName[int, int]("Child")
	type made struct {
		call *durable.Task[int]
		wait *durable.Task[int]
		raw  task.Task
		lock *durable.EntityLock
	}
	for name, do := range map[string]func(*task.OrchestrationContext, made){
		"activity":     func(ctx *task.OrchestrationContext, _ made) { echo.Call(ctx, 1) },
		"child":        func(ctx *task.OrchestrationContext, _ made) { child.Call(ctx, 1) },
		"with options": func(ctx *task.OrchestrationContext, _ made) { child.Call(ctx, 1, durable.WithVersion("2")) },
		"timer":        func(ctx *task.OrchestrationContext, _ made) { durable.Timer(ctx, time.Hour) },
		"event":        func(ctx *task.OrchestrationContext, _ made) { durable.WaitForEvent[int](ctx, "e", time.Hour) },
		"HTTP": func(ctx *task.OrchestrationContext, _ made) {
			durable.CallHTTP(ctx, durable.HTTPRequest{URL: "http://127.0.0.1"})
		},
		"fan-out":        func(ctx *task.OrchestrationContext, _ made) { durable.FanOut(ctx, echo, []int{1, 2}, nil) },
		"timeout":        func(_ *task.OrchestrationContext, m made) { durable.WithTimeout(m.wait, time.Hour) },
		"await":          func(_ *task.OrchestrationContext, m made) { _, _ = m.call.Await() },
		"await of many":  func(_ *task.OrchestrationContext, m made) { _, _ = durable.WhenAll(m.call, m.call) },
		"await of any":   func(_ *task.OrchestrationContext, m made) { durable.WhenAny(m.call) },
		"GUID":           func(ctx *task.OrchestrationContext, _ made) { durable.NewGUID(ctx) },
		"output":         func(ctx *task.OrchestrationContext, _ made) { durable.SetOutput(ctx, "mail", 1) },
		"status":         func(ctx *task.OrchestrationContext, _ made) { durable.SetCustomStatus(ctx, 1) },
		"another run":    func(ctx *task.OrchestrationContext, _ made) { child.ContinueAsNew(ctx, 1) },
		"entity":         func(ctx *task.OrchestrationContext, _ made) { put.Signal(ctx, "k", "x") },
		"release":        func(_ *task.OrchestrationContext, m made) { m.lock.Release() },
		"await of SDK's": func(_ *task.OrchestrationContext, m made) { _ = m.raw.Await(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Activity("Echo", durable.Activity(func(_ context.Context, n int) (int, error) { return n, nil }))
			env.Entity("Box", durable.Entity(put))
			r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ int) (int, error) {
				m := made{echo.Call(ctx, 1), durable.WaitForEvent[int](ctx, "w", 0), ctx.WaitForSingleEvent("never", -1), durable.LockEntities(ctx, boxes.ID("k"))}
				goroutines := 8
				if name == "await of SDK's" {
					goroutines = 1 // two at once are nothing that could be guarded
				}
				var all sync.WaitGroup
				for range goroutines {
					all.Go(func() { do(ctx, m) })
				}
				all.Wait()
				return m.call.Await()
			}), 1)
			if r.Status != api.RUNTIME_STATUS_FAILED || !strings.Contains(r.Failure, "another goroutine") {
				t.Errorf("%v %s %s", r.Status, r.Output, r.Failure)
			}
		})
	}
}

// TestGoroutineThatOutlivesItsTurn ends at its next call, and costs the orchestration nothing.
func TestGoroutineThatOutlivesItsTurn(t *testing.T) {
	t.Parallel()
	const echo = durable.ActivityName[int, int]("Echo")
	env := durabletest.New(t)
	env.Activity("Echo", durable.Activity(func(_ context.Context, n int) (int, error) { return n, nil }))
	var left sync.WaitGroup
	ended := make(chan struct{})
	r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (int, error) {
		left.Go(func() {
			<-ended
			echo.Call(ctx, 2)
			t.Error("the goroutine went on")
		})
		return echo.Call(ctx, n).Await()
	}), 1)
	close(ended)
	left.Wait()
	if r.Status != api.RUNTIME_STATUS_COMPLETED || r.Output != "1" {
		t.Errorf("%v %s %s", r.Status, r.Output, r.Failure)
	}
}
