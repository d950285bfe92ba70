// Package processactivity is the activity function ProcessActivity: it processes one record.
//
// It reports a record that failed in its result, as the seed's C# function does. So an activity that fails as a whole
// always means that something around the record failed (the process died, the record store is down), and only such a
// failure is worth another attempt of the host's. A record that takes longer than the invocation may is reported in the
// result, too: the host would ask five times, each time until the deadline.
package processactivity

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

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
	TimedOut     bool   `json:",omitempty"` // nobody knows whether it was processed: time was up
}

// Processor processes one record, once for each job, even if it is called several times. Put your own work here; crm.Store is the
// one of this app. A *crm.UnavailableError says that it cannot be done now: the record is tried again later. Any other error is
// the record's failure. The context ends in time for an answer; a call that has not returned by then is left running.
type Processor interface {
	Process(ctx context.Context, jobID, recordID string) error
}

// New returns the function.
func New(p Processor) func(context.Context, Input) (Result, error) {
	return func(ctx context.Context, in Input) (Result, error) {
		err := processInTime(ctx, p, in)
		if err == nil {
			return Result{Success: true}, nil
		}
		_, timedOut := errors.AsType[*timeoutError](err)
		if down, ok := errors.AsType[*crm.UnavailableError](err); ok && !timedOut {
			return Result{}, down // the activity fails, and is tried again
		}
		durable.Log(ctx).Error(err.Error(), "record", in.RecordId, "instance", in.JobId)
		return Result{ErrorMessage: err.Error(), TimedOut: timedOut}, nil
	}
}

// reserve is how much of an invocation's time is left for the answer. It costs little; but a processor that is told to stop
// needs a moment to do so on a machine that has much to do.
func reserve(limit time.Duration) time.Duration {
	return min(limit/10, max(limit/20, 300*time.Millisecond), time.Second)
}

// processInTime processes the record and returns before the invocation's deadline, whatever the processor does.
func processInTime(ctx context.Context, p Processor, in Input) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return process(ctx, p, in)
	}
	limit := time.Until(deadline)
	reserve := reserve(limit)
	timeout := &timeoutError{limit - reserve}
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-reserve))
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := errors.New("the processing ended its goroutine")
		defer func() { done <- err }()
		err = process(ctx, p, in)
	}()
	select {
	case err := <-done:
		// A store that was down all the time says so; what was under way when the time was up may have been done.
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return timeout
		}
		return err
	case <-time.After(limit - reserve/2): // half of the reserve for the processor to come back
		return timeout
	}
}

// timeoutError says that a record took longer than an invocation may.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("not done within %s, which is what host.json's functionTimeout leaves; the record may have been processed all the same",
		e.limit.Round(100*time.Millisecond))
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
