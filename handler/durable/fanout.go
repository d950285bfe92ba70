package durable

import (
	"github.com/microsoft/durabletask-go/task"
)

// Outcome is what became of one item of a fan-out.
type Outcome[T any] struct {
	Value T
	Err   error // a *TaskError, as Task.Await returns it
}

// Progress is how far a fan-out is. Its JSON is the custom status that FanOut shows.
type Progress struct {
	Total, Completed, Failed int
}

// FanOut calls the activity once for each input, all before it waits for any, and returns what became of each, in the
// order of the inputs. An item that fails stops no other. While it runs, the orchestration's custom status shows the
// Progress; failed says which results count as failures there beside the errors, nil: none.
func FanOut[In, Out any](ctx *task.OrchestrationContext, activity ActivityName[In, Out], inputs []In, failed func(Out) bool, options ...CallOption) []Outcome[Out] {
	outcomes := make([]Outcome[Out], len(inputs))
	progress := Progress{Total: len(inputs)}
	SetCustomStatus(ctx, progress)
	tasks := make([]*Task[Out], len(inputs))
	for i, in := range inputs {
		tasks[i] = activity.Call(ctx, in, options...)
		count := func() {
			v, err := tasks[i].value()
			outcomes[i] = Outcome[Out]{v, err}
			progress.Completed++
			if err != nil || failed != nil && failed(v) {
				progress.Failed++
			}
			SetCustomStatus(ctx, progress)
		}
		if tasks[i].done {
			count()
		} else {
			tasks[i].onDone = append(tasks[i].onDone, count)
		}
	}
	for _, t := range tasks {
		t.turn.Until(func() bool { return t.done })
	}
	return outcomes
}
