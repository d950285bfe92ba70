package durable

import (
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

// FanOut calls the function once for each input, all before it waits for any, and returns their outcomes in the
// order of the inputs. An item that fails stops no other. While it runs, the orchestration's custom status shows the
// Progress; failed says which results count as failures there beside the errors, nil: none.
//
// Each turn carries the orchestration's whole history. Above a few hundred items, fan out to sub-orchestrations that fan
// out to the activities.
func FanOut[In, Out any](ctx *task.OrchestrationContext, f Function[In, Out], inputs []In, failed func(Out) bool, options ...CallOption) []Outcome[Out] {
	progress := Progress{Total: len(inputs)}
	turn := replay.Of(ctx)
	turn.Status = func() string { return statusText(progress) } // made once a turn, not at each item
	outcomes := FanOutFunc(ctx, f, inputs, func(_ int, o Outcome[Out]) {
		progress.Completed++
		if o.Err != nil || failed != nil && failed(o.Value) {
			progress.Failed++
		}
	}, options...)
	turn.Status = nil
	SetCustomStatus(ctx, progress)
	return outcomes
}

// FanOutFunc is FanOut without a custom status. Instead done is told of each item as it ends (its index and outcome), in
// the order of the history.
func FanOutFunc[In, Out any](ctx *task.OrchestrationContext, f Function[In, Out], inputs []In, done func(int, Outcome[Out]), options ...CallOption) []Outcome[Out] {
	outcomes := make([]Outcome[Out], len(inputs))
	tasks := make([]*Task[Out], len(inputs))
	for i, in := range inputs {
		tasks[i] = f.Call(ctx, in, options...)
		tasks[i].then(func() {
			v, err := tasks[i].value()
			outcomes[i] = Outcome[Out]{v, err}
			done(i, outcomes[i])
		})
	}
	for _, t := range tasks {
		t.turn.Until(func() bool { return t.done })
	}
	return outcomes
}
