package durable

import (
	"slices"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// Function is what a fan-out calls: an ActivityName or an OrchestratorName.
type Function[In, Out any] interface {
	Call(ctx *task.OrchestrationContext, in In, options ...CallOption) *Task[Out]
}

// Outcome is the result of one item of a fan-out, or its error.
type Outcome[T any] struct {
	Value T
	Err   error // a *TaskError, as Task.Await returns it
}

// Progress is how far a fan-out is. Its JSON is the custom status that FanOut shows.
type Progress struct {
	Total, Completed, Failed int
}

// FanOut calls the function once for each input, all at once or as many at a time as WithLimit says, and returns the outcomes in
// the order of the inputs. An item that fails does not stop the others. While it runs, the orchestration's custom status shows the
// Progress. There, beside the items with an error, those count as failed for whose result failed returns true; nil: no others.
//
// Each turn carries the orchestration's whole history. Above a few hundred items, fan out to sub-orchestrations that fan
// out to the activities.
func FanOut[In, Out any](ctx *task.OrchestrationContext, f Function[In, Out], inputs []In, failed func(Out) bool, options ...CallOption) []Outcome[Out] {
	progress := Progress{Total: len(inputs)}
	turn := replay.Of(ctx)
	turn.Status = func() string { return statusText(progress) } // called once a turn, not for each item
	outcomes := make([]Outcome[Out], len(inputs))
	tasks := callAll(ctx, f, inputs, options, func(i int, t *Task[Out]) {
		progress.Completed++
		if failed == nil && t.err == nil {
			return // nobody needs its result before the end
		}
		outcomes[i] = t.outcome()
		if outcomes[i].Err != nil || failed(outcomes[i].Value) {
			progress.Failed++
		}
	})
	for i, t := range tasks {
		if failed == nil && t.err == nil {
			if outcomes[i] = t.outcome(); outcomes[i].Err != nil {
				progress.Failed++
			}
		}
	}
	turn.Status = nil
	SetCustomStatus(ctx, progress)
	return outcomes
}

// FanOutFunc is FanOut without a custom status. Instead it calls done when an item ends, with the item's index and outcome, in the
// order of the history.
func FanOutFunc[In, Out any](ctx *task.OrchestrationContext, f Function[In, Out], inputs []In, done func(int, Outcome[Out]), options ...CallOption) []Outcome[Out] {
	outcomes := make([]Outcome[Out], len(inputs))
	callAll(ctx, f, inputs, options, func(i int, t *Task[Out]) {
		outcomes[i] = t.outcome()
		done(i, outcomes[i])
	})
	return outcomes
}

func (t *Task[T]) outcome() Outcome[T] {
	v, err := t.value()
	return Outcome[T]{v, err}
}

// WithLimit lets a fan-out run at most n items at a time: it calls the first n, and the next one each time that any of them has
// ended. An item that waits for its next attempt still counts as running. With an n of zero or less there is no limit.
func WithLimit(n int) CallOption { return func(o *callOptions) { o.atOnce = n } }

// callAll calls the function for each input, as many at once as the options say, and returns the tasks when all have
// ended. done is told of each that ends, in the order of the history.
func callAll[In, Out any](ctx *task.OrchestrationContext, f Function[In, Out], inputs []In, options []CallOption, done func(int, *Task[Out])) []*Task[Out] {
	limit := len(inputs)
	if n := apply(options).atOnce; n > 0 {
		limit = n
		options = append(slices.Clip(options), WithLimit(0))
	}
	tasks, ended, calling := make([]*Task[Out], 0, len(inputs)), 0, false
	var next func()
	next = func() {
		if calling {
			return // an item ended while it was called: the loop below goes on
		}
		calling = true
		for len(tasks) < len(inputs) && len(tasks)-ended < limit {
			i, t := len(tasks), f.Call(ctx, inputs[len(tasks)], options...)
			tasks = append(tasks, t)
			t.then(func() {
				ended++
				done(i, t)
				next()
			})
		}
		calling = false
	}
	next()
	replay.Of(ctx).Until(func() bool { return ended == len(inputs) })
	return tasks
}
