package durable

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
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
	Code    string // of an activity's error: what WithDetails gave it, else empty

	details json.RawMessage
}

// Details reads the details that WithDetails gave an activity's error into v, as JSON. Without any it is an error.
func (e *TaskError) Details(v any) error {
	if len(e.details) == 0 {
		return fmt.Errorf("the error of %s carries no details", e.Name)
	}
	return json.Unmarshal(e.details, v)
}

// maxCode is how long the code of an error may be, in bytes.
const maxCode = 128

// WithDetails returns an activity's error that carries, beside the message of err, a code of at most 128 bytes and
// details, anything that can be JSON of up to 16 KiB; nil: none. The orchestrator finds them in the TaskError. Details
// that do not fit are left out, and the message says so. A nil err stays nil. Everything in it is in the host's logs, as
// the message is.
func WithDetails(err error, code string, details any) error {
	if err == nil {
		return nil
	}
	d := wire.Details{Code: strings.ToValidUTF8(code[:min(len(code), maxCode)], "")}
	if details == nil {
		return &detailedError{err, d}
	}
	var failed error
	if d.Value, failed = json.Marshal(details); failed == nil && d.Phrase() == "" {
		failed = fmt.Errorf("%d bytes are more than the host takes", len(d.Value))
	}
	if failed != nil {
		d.Value = nil
		err = fmt.Errorf("%w (its details are left out: %w)", err, failed)
	}
	return &detailedError{err, d}
}

type detailedError struct {
	error
	details wire.Details
}

func (e *detailedError) Unwrap() error { return e.error }

// FailureDetails returns the details, for what answers the host.
func (e *detailedError) FailureDetails() wire.Details { return e.details }

// Error returns the message.
func (e *TaskError) Error() string { return e.Message }

// Infrastructure says that not the function failed, but what runs it: the handler died or was not there, the deadline passed, the
// answer was not understood, or there is no function of that name. The work may have been done, in part or as a whole. If it is
// false, the function returned an error or panicked.
func (e *TaskError) Infrastructure() bool { return e.Kind != Failed && e.Kind != Panicked }

// ErrTimeout is the error of a task that did not end in time: see WaitForEvent and WithTimeout. It is durabletask-go's
// task.ErrTaskCanceled too.
var ErrTimeout = fmt.Errorf("timed out: %w", task.ErrTaskCanceled)

func taskError(name string, f *replay.Failure) error {
	if f == nil {
		return nil
	}
	return &TaskError{Name: name, Kind: f.Kind, Message: f.Message, Code: f.Details.Code, details: f.Details.Value}
}
