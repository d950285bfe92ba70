package durable

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// Call has the entity with that key run the operation, and is the task of its result. If the operation fails, the error is
// a *TaskError; an entity's operations that the orchestrator calls or signals are run in the order of its calls. While
// the orchestrator holds a lock, it may only call the entities that it has locked.
//
// The host does not retry a call. When it loses the answer of the handler, the error's Infrastructure is true.
func (o Operation[State, In, Out]) Call(ctx *task.OrchestrationContext, key string, in In) *Task[Out] {
	t := newTask[Out](ctx)
	to, input, err := o.request(key, in)
	if err == nil {
		if lock := t.turn.Held(); lock != nil && !lock.Has(to.String()) {
			err = fmt.Errorf("the orchestrator holds a lock and calls %s, which it has not locked: two that wait for each other would do so for ever", to)
		}
	}
	if err != nil {
		t.end("", err)
		return t
	}
	name := fmt.Sprintf("%s.%s", o.entity, o.name)
	op := t.turn.CallEntity(replay.Operation{Target: to.String(), Name: o.name, GUID: NewGUID(ctx).String(), Input: input})
	op.Then(func() {
		result, failure := replay.EntityOutcome(op.Result)
		t.end(result, taskError(name, failure))
	})
	return t
}

// Signal has the entity with that key run the operation. Nobody hears of its result. A key that the host does not take,
// or an input that cannot be JSON, panics.
func (o Operation[State, In, Out]) Signal(ctx *task.OrchestrationContext, key string, in In, options ...SignalOption) {
	turn := replay.Of(ctx)
	to, input, err := o.request(key, in)
	if err != nil {
		panic(fmt.Errorf("durable: %w", err))
	}
	turn.SignalEntity(replay.Operation{Target: to.String(), Name: o.name, GUID: NewGUID(ctx).String(), Input: input}, applySignal(options).at)
}

// EntityLock is the lock on a set of entities.
type EntityLock struct {
	section *replay.Section
}

// LockEntities waits until the orchestrator has each of the entities for itself. What others ask of them meanwhile waits
// until the lock is released, at the latest when the orchestration ends. An orchestrator holds one lock at a time; a
// second one panics, as does a set without entities.
//
//	lock := durable.LockEntities(ctx, Account.ID(from), Account.ID(to))
//	defer lock.Release()
func LockEntities(ctx *task.OrchestrationContext, ids ...EntityID) *EntityLock {
	turn := replay.Of(ctx)
	if turn.Held() != nil {
		panic("durable: the orchestrator holds a lock and asks for another: lock all entities at once")
	}
	if len(ids) == 0 {
		panic("durable: LockEntities of no entities")
	}
	set := slices.Clone(ids)
	for _, id := range set {
		if err := checkEntityID(id); err != nil {
			panic(fmt.Errorf("durable: %w", err))
		}
	}
	// In one order everywhere, so that no two orchestrations wait for each other.
	slices.SortFunc(set, func(a, b EntityID) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	})
	section, granted := turn.Lock(slices.Compact(set), NewGUID(ctx).String())
	turn.Until(func() bool { return granted.Done })
	return &EntityLock{section}
}

// Release gives the entities back. A second time it does nothing.
func (l *EntityLock) Release() { l.section.Release() }
