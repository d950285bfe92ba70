package durable

import (
	"fmt"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// FailureKind says why a task failed.
type FailureKind = replay.Kind

// The kinds of failure.
const (
	Failed           = replay.Failed           // the function returned an error
	Panicked         = replay.Panicked         // the function panicked
	DeadlineExceeded = replay.DeadlineExceeded // the function ran past its deadline
	Lost             = replay.Lost             // the handler died or was not there, or a sub-orchestration failed in the host
	NotUnderstood    = replay.NotUnderstood    // the host could not read the answer, or the handler the request
	NotFound         = replay.NotFound         // the host knows no activity of that name
)

// TaskError is the failure of an activity or a sub-orchestration. Find it with errors.As.
type TaskError struct {
	Name    string // of the function
	Kind    FailureKind
	Message string // what the function said, or what the host said of it
}

// Error returns the message.
func (e *TaskError) Error() string { return e.Message }

// Infrastructure says that the function itself did not fail, but what runs it: the handler died or was not there, the
// deadline passed, the answer was not understood, there is no such function. The work may have been done, in part or
// whole. Where it is false, the function returned an error or panicked.
func (e *TaskError) Infrastructure() bool { return e.Kind != Failed && e.Kind != Panicked }

// ErrTimeout is the error of a task that did not end in time: see WaitForEvent and WithTimeout. It is durabletask-go's
// task.ErrTaskCanceled too.
var ErrTimeout = fmt.Errorf("timed out: %w", task.ErrTaskCanceled)

func taskError(name string, f *replay.Failure) error {
	if f == nil {
		return nil
	}
	return &TaskError{Name: name, Kind: f.Kind, Message: f.Message}
}
