package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// Task is a durable operation that an orchestrator has scheduled and whose result is a T.
type Task[T any] struct {
	future
}

func newTask[T any](ctx *task.OrchestrationContext) *Task[T] {
	return &Task[T]{future{turn: replay.Of(ctx)}}
}

// Awaitable is a task of any type, for WhenAny.
type Awaitable interface{ base() *future }

// future is a task without its type. It may stand for several operations, one after the other: the attempts of a retry and the
// delays between them, or the parts of a long timer.
type future struct {
	turn   *replay.Turn
	done   bool
	order  int // when it ended, counted in this turn
	result string
	err    error
	onDone func() // nil: nobody waits to be told

	abandon func() // is called when the task times out, to end its operation; nil: nothing to do
}

func (f *future) base() *future { return f }

// end ends the task, unless it has ended already: a result that comes after the timeout does not count.
func (f *future) end(result string, err error) {
	if f.done {
		return
	}
	f.turn.Ended++
	f.done, f.order, f.result, f.err = true, f.turn.Ended, result, err
	if f.onDone != nil {
		f.onDone()
	}
}

// then calls g when f has ended, before the replay goes on to later events.
func (f *future) then(g func()) {
	earlier := f.onDone
	switch {
	case f.done:
		g()
	case earlier == nil:
		f.onDone = g
	default:
		f.onDone = func() { earlier(); g() }
	}
}

// follow lets f end when op does.
func (f *future) follow(op *replay.Op, name string) {
	op.Then(func() { f.end(op.Result, taskError(name, op.Failure)) })
}

// Await waits for the task and returns its result; an absent result is the zero T. If the task failed, the error is a
// *TaskError, for which Error() is what the function said.
func (t *Task[T]) Await() (T, error) {
	t.turn.Until(func() bool { return t.done })
	return t.value()
}

func (t *Task[T]) value() (T, error) {
	var v T
	if t.err != nil || t.result == "" {
		return v, t.err
	}
	if err := decode(t.result, &v); err != nil {
		return v, fmt.Errorf("the task's result is no %T: %w", v, err)
	}
	return v, nil
}

// WhenAll waits for all tasks and returns their results in the order of the tasks. The error joins those of the tasks
// that failed; the results of the others are there nevertheless.
func WhenAll[T any](tasks ...*Task[T]) ([]T, error) {
	results := make([]T, len(tasks))
	var errs []error
	for i, t := range tasks {
		var err error
		if results[i], err = t.Await(); err != nil {
			errs = append(errs, err)
		}
	}
	return results, errors.Join(errs...)
}

// WhenAny waits until one of the tasks has ended, with or without an error, and returns its index. The tasks may have different
// types. Which one is the first follows from the history, so every replay finds the same one. The others go on, but nobody has to
// wait for them: an orchestration ends when its function returns, even if timers are still set. WhenAny panics if there are no
// tasks. Select is the same with a function for each task.
func WhenAny(tasks ...Awaitable) int {
	if len(tasks) == 0 {
		panic("durable: WhenAny of no tasks")
	}
	winner := -1
	tasks[0].base().turn.Until(func() bool {
		for i, t := range tasks {
			if f := t.base(); f.done && (winner < 0 || f.order < tasks[winner].base().order) {
				winner = i
			}
		}
		return winner >= 0
	})
	return winner
}

// ActivityName is the name of an activity, its function's folder, with the types of its input and result.
type ActivityName[In, Out any] string

// Call schedules the activity. It runs when the orchestrator waits. WithRetry tries it again when it fails. An option for
// sub-orchestrations panics.
func (name ActivityName[In, Out]) Call(ctx *task.OrchestrationContext, in In, options ...CallOption) *Task[Out] {
	if o := apply(options); o.instanceID != "" || o.version != "" || o.tags != nil {
		panic(fmt.Errorf("durable: WithInstanceID, WithVersion and WithTags are for sub-orchestrations; %q is an activity, which has none of these", string(name)))
	}
	return call[Out](ctx, called{schedule: scheduleActivity, name: string(name)}, in, options)
}

// OrchestratorName is the name of an orchestrator, its function's folder, with the types of its input and result.
type OrchestratorName[In, Out any] string

// Call runs the orchestrator as a sub-orchestration. Its instance id is unique unless WithInstanceID gives another.
func (name OrchestratorName[In, Out]) Call(ctx *task.OrchestrationContext, in In, options ...CallOption) *Task[Out] {
	return call[Out](ctx, called{schedule: scheduleSubOrchestration, name: string(name)}, in, options)
}

// ContinueAsNew ends this run of the orchestrator and starts it anew with that input and an empty history; return right
// after it. Events that nobody has waited for go along.
func (name OrchestratorName[In, Out]) ContinueAsNew(ctx *task.OrchestrationContext, in In) {
	replay.Of(ctx).Context.ContinueAsNew(in, task.WithKeepUnprocessedEvents())
}

// called is what an orchestrator calls: an activity or a sub-orchestration, with its input.
type called struct {
	schedule func(*replay.Turn, called) *replay.Op
	name     string
	in       any
	input    []byte // in as JSON; nil: not made yet
	callOptions
}

// encode makes the input's JSON. Most calls of a long turn repeat those of earlier turns, and nobody reads the inputs of these, so
// their JSON is not made.
func (c *called) encode(t *replay.Turn) {
	if !t.Repeats() {
		c.json()
	}
}

// json returns the input's JSON. If the input might not be JSON, call has made it before and returned the error.
func (c *called) json() []byte {
	if c.input == nil {
		c.input, _ = json.Marshal(c.in)
	}
	return c.input
}

func scheduleActivity(t *replay.Turn, c called) *replay.Op { return t.Activity(c.name, c.input) }

func scheduleSubOrchestration(t *replay.Turn, c called) *replay.Op {
	if c.version != "" || c.tags != nil {
		t.Describe(c.version, c.tags)
	}
	return t.SubOrchestration(c.name, c.instanceID, c.input)
}

func call[Out any](ctx *task.OrchestrationContext, c called, in any, options []CallOption) *Task[Out] {
	t := newTask[Out](ctx)
	c.in, c.callOptions = in, apply(options)
	if c.atOnce > 0 {
		panic(fmt.Errorf("durable: WithLimit is for a fan-out, and not for a call of %s", c.name))
	}
	if !isPlain(in) {
		var err error
		if c.input, err = json.Marshal(in); err != nil {
			t.end("", fmt.Errorf("the input of %s cannot be JSON: %w", c.name, err))
			return t
		}
	}
	if c.retry == nil {
		c.encode(t.turn)
		t.follow(c.schedule(t.turn, c), c.name)
	} else {
		retry(&t.future, c)
	}
	return t
}

// CallOption changes how an activity or a sub-orchestration is called.
type CallOption func(*callOptions)

type callOptions struct {
	retry      *RetryPolicy
	instanceID string
	version    string
	tags       map[string]string
	atOnce     int // of a fan-out, 0: all
}

func apply(options []CallOption) callOptions {
	if len(options) == 0 {
		return callOptions{}
	}
	var o callOptions
	for _, option := range options {
		option(&o)
	}
	return o
}

// WithInstanceID gives a sub-orchestration an id of its own. Be careful: if an instance with that id exists, even a running one,
// the host replaces it silently, and its work is lost.
func WithInstanceID(id string) CallOption { return func(o *callOptions) { o.instanceID = id } }

// WithVersion starts a sub-orchestration in a version of its own, which its Version returns. Without, it gets
// defaultVersion of host.json, if there is one. The host leaves a version that its versionMatchStrategy does not take
// Pending for ever, or fails it, as versionFailureStrategy says: "CurrentOrOlder" takes defaultVersion and what is older.
func WithVersion(version string) CallOption { return func(o *callOptions) { o.version = version } }

// WithTags gives a sub-orchestration tags of its own, which status queries show. Without, it has those of its parent.
func WithTags(tags map[string]string) CallOption {
	tags = maps.Clone(tags)
	return func(o *callOptions) { o.tags = tags }
}
