// Package processactivity is the activity function ProcessActivity: it processes one record.
//
// It reports a record that failed in its result, as the seed's C# function does. So an activity that fails as a whole
// always means that something around the record failed (the process died, the deadline passed, the record store is down),
// and only such a failure is worth another attempt.
package processactivity

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/crm"
)

// Name is the function's folder, with the types of its input and result.
const Name = durable.ActivityName[Input, Result]("ProcessActivity")

// Input names a record and the job that it is processed for. The same record of the same job may arrive more than once.
type Input struct { // the names of the payloads are .NET's
	RecordId string
	JobId    string // the id of the root orchestration
}

// Result says whether the record was processed.
type Result struct {
	Success      bool
	ErrorMessage string `json:",omitempty"`
}

// Processor processes one record, once for each job however often it is called. Put your own work here; crm.Store is
// the one of this app. A *crm.UnavailableError says that it cannot be done now: the record is tried again later. Any
// other error is the record's failure.
type Processor interface {
	Process(ctx context.Context, jobID, recordID string) error
}

// New returns the function.
func New(p Processor) func(context.Context, Input) (Result, error) {
	return func(ctx context.Context, in Input) (Result, error) {
		err := process(ctx, p, in)
		if down, ok := errors.AsType[*crm.UnavailableError](err); ok {
			return Result{}, down // the activity fails, and is tried again
		}
		if err != nil {
			durable.Log(ctx).Error(err.Error(), "record", in.RecordId, "instance", in.JobId)
			return Result{ErrorMessage: err.Error()}, nil
		}
		return Result{Success: true}, nil
	}
}

// process turns a panic into an error: it is that record's failure and no other's.
func process(ctx context.Context, p Processor, in Input) (err error) {
	defer func() {
		if r := recover(); r != nil {
			durable.Log(ctx).Error("processing panicked", "record", in.RecordId, "instance", in.JobId, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	if in.RecordId == "" || in.JobId == "" {
		return errors.New("the activity's input must name a RecordId and a JobId")
	}
	return p.Process(ctx, in.JobId, in.RecordId)
}
