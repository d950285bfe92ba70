package myorchestration

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/microsoft/durabletask-go/task"

	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/text"
)

// Bounds of what failed records say. Messages are cut for them, ids never.
const (
	maxMessage = 500      // characters
	maxOutput  = 16 << 20 // of the result, in bytes of JSON
	maxParted  = 4        // times its own limit: of the results of an orchestration's parts together, which its turns carry
)

// batch is the records of one orchestration: all of them, or a part.
type batch struct {
	Input
	JobId          string // the root's instance id
	MaxOutputBytes int
}

// process runs the activities of the batch's records and counts. A batch of more than BatchSize records is run in parts, each a
// sub-orchestration: so no history has more than BatchSize activities or sub-orchestrations in it.
func process(ctx *task.OrchestrationContext, b batch) *Output {
	run := runRecords
	if b.BatchSize > 0 && len(b.RecordIds) > b.BatchSize {
		run = runParts
	}
	out := &Output{Total: len(b.RecordIds), Failures: run(ctx, b)}
	out.Failed = len(out.Failures)
	out.Succeeded = out.Total - out.Failed
	out.fit(b.MaxOutputBytes)
	return out
}

// runRecords processes each record in an activity of its own and returns those that failed.
func runRecords(ctx *task.OrchestrationContext, b batch) []Failure {
	inputs := make([]processactivity.Input, len(b.RecordIds))
	for i, id := range b.RecordIds {
		inputs[i] = processactivity.Input{RecordId: id, JobId: b.JobId}
	}
	failed := func(r processactivity.Result) bool { return !r.Success && !r.TimedOut }
	outcomes := durable.FanOut(ctx, processactivity.Name, inputs, failed, b.retryRecord())
	timedOut := b.tryTimedOut(ctx, inputs, outcomes)
	log, failures := durable.ReplayLog(ctx), []Failure{}
	for i, o := range outcomes {
		switch {
		case o.Err != nil: // ProcessActivity has logged every other failure
			reason := text.Shorten(b.explain(o.Err), maxMessage)
			log.Error(reason, "record", b.RecordIds[i], "instance", b.JobId)
			failures = append(failures, Failure{b.RecordIds[i], reason})
		case !o.Value.Success:
			failures = append(failures, Failure{b.RecordIds[i], text.Shorten(o.Value.ErrorMessage, maxMessage)})
		}
	}
	if timedOut {
		durable.SetCustomStatus(ctx, durable.Progress{Total: len(inputs), Completed: len(inputs), Failed: len(failures)})
	}
	return failures
}

// tryTimedOut processes the records whose time was up once more, under the same key: by then the store has often done them, or
// knows that it has not. The new outcomes replace the earlier ones.
func (b batch) tryTimedOut(ctx *task.OrchestrationContext, inputs []processactivity.Input, outcomes []durable.Outcome[processactivity.Result]) bool {
	var again []processactivity.Input
	var places []int
	for i, o := range outcomes {
		if o.Err == nil && o.Value.TimedOut {
			again, places = append(again, inputs[i]), append(places, i)
		}
	}
	ignore := func(int, durable.Outcome[processactivity.Result]) {}
	for n, o := range durable.FanOutFunc(ctx, processactivity.Name, again, ignore, b.retryRecord()) {
		outcomes[places[n]] = o
	}
	return len(again) > 0
}

// runParts runs the parts of a batch and returns the records that failed. A part that was lost runs again as a new
// sub-orchestration: records that it has processed are not processed twice, thanks to the JobId.
func runParts(ctx *task.OrchestrationContext, b batch) []Failure {
	progress := durable.Progress{Total: len(b.RecordIds)}
	durable.SetCustomStatus(ctx, progress)
	parts := b.split()
	inputs := make([]any, len(parts))
	for i, p := range parts {
		inputs[i] = part{Batch: &p}
	}
	outcomes := durable.FanOutFunc(ctx, Name, inputs, func(i int, o durable.Outcome[Output]) {
		progress.Completed += len(parts[i].RecordIds)
		if o.Err != nil {
			progress.Failed += len(parts[i].RecordIds)
		} else {
			progress.Failed += o.Value.Failed
		}
		durable.SetCustomStatus(ctx, progress)
	}, b.retryLost())
	failures := []Failure{}
	for i, o := range outcomes {
		if o.Err == nil {
			failures = append(failures, o.Value.Failures...)
			continue
		}
		message := text.Shorten("its batch failed, after it was processed or before: "+o.Err.Error(), maxMessage)
		for _, id := range parts[i].RecordIds {
			failures = append(failures, Failure{id, message})
		}
	}
	return failures
}

// maxParts is how many parts an orchestration has at most. It parses the ids of all of them in each of its turns, of
// which there is one for each part.
const maxParts = 20

// split makes parts of a batch. Where parts of BatchSize would be too many, they are larger and split again.
func (b batch) split() []batch {
	total := len(b.RecordIds)
	size := b.BatchSize * ceil(ceil(total, b.BatchSize), min(maxParts, b.BatchSize))
	var parts []batch
	for ids := range slices.Chunk(b.RecordIds, size) {
		p := b
		p.RecordIds = ids
		p.MaxOutputBytes = min(b.MaxOutputBytes, maxParted*b.MaxOutputBytes*len(ids)/total)
		p.AlertEmailTo, p.AlertEmailFrom, p.MailAttempts, p.MailRetryIntervalSeconds = "", "", 0, 0
		parts = append(parts, p)
	}
	return parts
}

func ceil(a, b int) int { return (a + b - 1) / b }

// retryLost tries an activity or a part again if it was lost, and not if it failed.
func (b batch) retryLost() durable.CallOption {
	return durable.WithRetry(durable.RetryPolicy{
		Attempts:      b.Attempts,
		FirstInterval: seconds(b.RetryIntervalSeconds),
		Backoff:       2,
		Retry:         lost,
	})
}

// maxStoreInterval bounds the waits for a store that is down: with the defaults they add up to ten and a half minutes.
const maxStoreInterval = 2 * time.Minute

// retryRecord is retryLost for a record, with more attempts if the record store was down: then the activity itself fails.
func (b batch) retryRecord() durable.CallOption {
	if b.StoreAttempts == 0 {
		return b.retryLost()
	}
	return durable.WithRetry(durable.RetryPolicy{
		AttemptsFor: func(err error) int {
			e, ok := errors.AsType[*durable.TaskError](err)
			switch {
			case !ok:
				return 1
			case e.Kind == durable.Failed:
				return b.StoreAttempts
			case lost(err):
				return b.Attempts
			}
			return 1
		},
		FirstInterval: seconds(b.RetryIntervalSeconds),
		Backoff:       2,
		MaxInterval:   maxStoreInterval,
		Spread:        0.5,
	})
}

// explain returns the reason of a record whose activity failed.
func (b batch) explain(err error) string {
	e, ok := errors.AsType[*durable.TaskError](err)
	if ok && b.StoreAttempts > 0 && e.Kind == durable.DeadlineExceeded {
		return e.Message + "; the record may have been processed all the same"
	}
	return err.Error()
}

// lost says whether another attempt may succeed, for example because the process died. An attempt that ran past its deadline would
// do so again.
func lost(err error) bool {
	var e *durable.TaskError
	return errors.As(err, &e) && e.Infrastructure() && e.Kind != durable.DeadlineExceeded
}

// fit cuts all messages to the same length, so that the result has at most limit bytes of JSON.
func (o *Output) fit(limit int) {
	for length := maxMessage; length > 0; {
		if encoded, err := json.Marshal(o); err != nil || len(encoded) <= limit {
			return
		}
		length /= 2
		for i := range o.Failures {
			o.Failures[i].ErrorMessage = text.Shorten(o.Failures[i].ErrorMessage, length)
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
