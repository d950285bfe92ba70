package replay

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"
	"weak"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// turns holds the state of each turn that is running, by its context, and a tombstone of each that has ended for as long
// as somebody holds its context.
var turns sync.Map // weak.Pointer[task.OrchestrationContext] → *Turn or tombstone

type tombstone struct{ logger *slog.Logger }

// Of returns the state of the turn that ctx belongs to. It panics if ctx is not from the handler or the test kit: the toolkit works
// only for the orchestrators that these run.
func Of(ctx *task.OrchestrationContext) *Turn {
	found, _ := turns.Load(weak.Make(ctx))
	switch t := found.(type) {
	case *Turn:
		t.mustOwn()
		return t
	case tombstone:
		leave(t.logger, "a goroutine that an orchestrator started has outlived its turn and is ended: an orchestrator starts no goroutines")
	}
	panic("durable: this orchestrator does not run under the custom handler or durabletest")
}

// execute runs the SDK's executor. It contains a panic that is not the SDK's own signal; the SDK's state is not used after one.
func (t *Turn) execute(orchestrator task.Orchestrator) (results *backend.ExecutionResults, failed *failure) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // see isTurns
	registry := task.NewTaskRegistry()
	_ = registry.AddOrchestratorN("*", func(ctx *task.OrchestrationContext) (any, error) {
		if t.Context != nil {
			t.historyEnds()
			return nil, nil
		}
		t.enter(ctx)
		defer t.exit()
		output, err := orchestrator(ctx)
		t.releaseHeld()
		return output, err
	})
	defer func() {
		t.end()
		if p := recover(); p != nil {
			t.Logger.Error("orchestrator panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			failed = &failure{PanicType, fmt.Sprintf("panic: %v", p)}
		} else if t.strayed.Load() {
			failed = &failure{PanicType, strayMessage}
		}
	}()
	h := t.history
	h.endWithCall()
	results, _ = task.NewTaskExecutor(registry).ExecuteOrchestrator(context.Background(), api.InstanceID(h.instanceID), h.past, h.new)
	t.dropLate(results)
	return results, nil
}

// endWithCall puts a second start behind the last event: by it the SDK calls us when somebody waits for more.
func (h *history) endWithCall() {
	if h.executionID != "" {
		again := historyevent.New("executionStarted", time.Time{})
		again.GetExecutionStarted().Name = h.name
		h.new = append(h.new, again)
	}
}

func (t *Turn) enter(ctx *task.OrchestrationContext) {
	t.Context = ctx
	t.sdk = reflect.ValueOf(ctx).Elem()
	turns.Store(weak.Make(ctx), t)
}

// exit runs when the orchestrator returns or panics. An orchestrator that has to wait is left now, even if it has recovered the
// panic by which it was to be left.
func (t *Turn) exit() {
	t.returned = true
	if !t.blocked {
		return
	}
	if p := recover(); p != task.ErrTaskBlocked {
		t.Logger.Warn("the orchestrator recovered the panic of task.ErrTaskBlocked, by which it is left while it has to wait; " +
			"what it did after that does not count: let this panic pass")
	}
	panic(task.ErrTaskBlocked)
}

// end leaves a tombstone for goroutines that outlive the turn: without one they would panic, and a panic in a goroutine that the
// orchestrator has started ends the process. The tombstone must not lead to the context, which would never be freed then.
func (t *Turn) end() {
	if t.Context == nil {
		return
	}
	key := weak.Make(t.Context)
	turns.Store(key, tombstone{t.Logger})
	runtime.AddCleanup(t.Context, func(key weak.Pointer[task.OrchestrationContext]) { turns.Delete(key) }, key)
}

// historyEnds leaves the orchestrator, which waits for more than there is in the history. It returns if the orchestrator has waited
// in its session, and there is more now.
func (t *Turn) historyEnds() {
	// The SDK goes one event back, so that it calls us the next time, too.
	index := t.field(historyIndex)
	index.SetInt(index.Int() - 1)
	t.mustOwn()
	if t.session != nil && t.session.wait() {
		return
	}
	if !t.returned && !t.blocked {
		t.frozen, t.shown = t.nextID(), t.customStatus()
		t.blocked = true
	}
	panic(task.ErrTaskBlocked)
}

// dropLate drops what the orchestrator scheduled after it should have been left, unless the history has it: earlier versions of
// this package did not drop it.
func (t *Turn) dropLate(results *backend.ExecutionResults) {
	if !t.blocked || t.nextID() == t.frozen {
		return
	}
	recorded := map[int32]bool{}
	for _, e := range t.history.scheduled {
		recorded[e.EventId] = true
	}
	kept, next := results.Response.Actions[:0], t.frozen
	for _, a := range results.Response.Actions {
		if a.Id < t.frozen || recorded[a.Id] {
			kept, next = append(kept, a), max(next, a.Id+1)
		}
	}
	results.Response.Actions = kept
	t.field(sequenceNumber).SetInt(int64(next))
}

const strayMessage = "the orchestrator called or awaited something in another goroutine than its own, which cannot be replayed: " +
	"start no goroutines in it; call everything first and await it then, with durable.FanOut say"

// mustOwn ends the goroutine if it is not the one that the orchestrator runs in: the SDK leaves an orchestrator by a
// panic, which in a goroutine of its own would end the process.
func (t *Turn) mustOwn() {
	if !isTurns() {
		t.strayed.Store(true)
		leave(t.Logger, strayMessage)
	}
}

func leave(logger *slog.Logger, message string) {
	logger.Error(message, "stack", string(debug.Stack()))
	runtime.Goexit()
}

// isTurns says whether the goroutine is one that a turn runs in. Go tells no goroutine from another, but keeps this
// setting for each: it is on for the goroutine of a turn, and off for those that it starts.
func isTurns() bool {
	on := debug.SetPanicOnFault(true)
	debug.SetPanicOnFault(on)
	return on
}

// claimID is nextID for a caller that schedules right after it. It keeps other goroutines away from the SDK, which writes to a map
// then: Go ends a process in which two goroutines do so at the same time.
func (t *Turn) claimID() int32 {
	t.mustOwn()
	return t.nextID()
}

// nextID is the number of what is scheduled next.
func (t *Turn) nextID() int32 {
	if t.Context == nil {
		return 0
	}
	return int32(t.sdk.FieldByIndex(sequenceNumber).Int())
}

// customStatus is the status that the orchestrator has set, or empty. What deferred functions set while it is left does not count.
func (t *Turn) customStatus() string {
	switch {
	case t.blocked:
		return t.shown
	case t.Status != nil:
		return t.Status()
	case t.Context == nil:
		return ""
	}
	return t.sdk.FieldByIndex(customStatus).String()
}

// Fields that the SDK does not export. By its sequence number the toolkit finds the outcome of an operation in the history, beside
// operations that the orchestrator called on the SDK directly.
var (
	sequenceNumber = fieldOfContext("sequenceNumber")
	customStatus   = fieldOfContext("customStatus")
	historyIndex   = fieldOfContext("historyIndex")
	pendingActions = fieldOfContext("pendingActions")
	oldEvents      = fieldOfContext("oldEvents")
	newEvents      = fieldOfContext("newEvents")
	continuedAsNew = fieldOfContext("continuedAsNew")
)

// field returns a field that the SDK does not export, so that it can be set.
func (t *Turn) field(index []int) reflect.Value {
	v := t.sdk.FieldByIndex(index)
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

func fieldOfContext(name string) []int {
	f, ok := reflect.TypeFor[task.OrchestrationContext]().FieldByName(name)
	if !ok {
		panic("durabletask-go's OrchestrationContext has no " + name + " any more")
	}
	return f.Index
}
