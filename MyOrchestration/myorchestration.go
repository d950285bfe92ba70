// Package myorchestration is the orchestrator function MyOrchestration: it processes each record of its input in an
// activity of its own, all side by side, waits for all of them, and has the failures mailed.
//
// # Input
//
// The input is the seed's: the JSON of an Input, compressed by package payload, as a JSON string. Whatever shapes the
// orchestration's history stands in it (attempts, intervals, whether and where to mail), with defaults for what an
// input leaves out. So an orchestration in flight keeps its course when a setting changes.
//
// # Mail
//
// The host fails an orchestration for good, and loses its result, if its mail cannot be sent. So MyOrchestration has
// the mail sent by a small sub-orchestration, itself with an alert for its input, tries again if that fails, and keeps
// its result whatever comes of it.
package myorchestration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/task"

	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/payload"
)

// Name is the function's folder, with the types of its input and result.
const Name = durable.OrchestratorName[any, Output]("MyOrchestration")

// Input is what the orchestration works on. The names are .NET's. Zero values mean the defaults.
type Input struct {
	RecordIds []string

	Attempts                 int     `json:",omitempty"` // of a record whose activity was lost, in all; default 3
	RetryIntervalSeconds     float64 `json:",omitempty"` // before the second attempt, doubled for each one after; default 5
	AlertEmailTo             string  `json:",omitempty"` // who gets the mail; empty: no mail
	AlertEmailFrom           string  `json:",omitempty"` // default no-reply@mycompany.co.nz
	MailAttempts             int     `json:",omitempty"` // in all; default 3
	MailRetryIntervalSeconds float64 `json:",omitempty"` // as above; default 10
}

// Compress returns the input as the orchestration takes it. The defaults are written out: those of a later version may
// be others.
func (in Input) Compress() (string, error) {
	text, err := json.Marshal(in.withDefaults())
	return payload.Compress(string(text)), err
}

func (in Input) withDefaults() Input {
	setDefault(&in.Attempts, 3)
	setDefault(&in.RetryIntervalSeconds, 5)
	setDefault(&in.AlertEmailFrom, "no-reply@mycompany.co.nz")
	setDefault(&in.MailAttempts, 3)
	setDefault(&in.MailRetryIntervalSeconds, 10)
	return in
}

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Output is the orchestration's result.
type Output struct {
	Total, Succeeded, Failed int
	Failures                 []Failure // every record that failed
	Mail                     string    // MailNone, MailSent or MailFailed
}

// Failure is a record that failed and why.
type Failure struct {
	RecordId     string
	ErrorMessage string // at most 500 characters
}

// What became of the mail.
const (
	MailNone   = "none"   // nothing failed, or there is no recipient
	MailSent   = "sent"   // handed to SendGrid (in local mode without a key: written to a file)
	MailFailed = "failed" // given up
)

// part is what MyOrchestration calls itself with: a piece of its own work. It is an object; the input of the whole is a
// string.
type part struct {
	Alert *Alert
}

// Run is the orchestrator.
func Run(ctx *task.OrchestrationContext, input json.RawMessage) (*Output, error) {
	if bytes.HasPrefix(input, []byte("{")) {
		return nil, runPart(ctx, input)
	}
	in, err := decode(input)
	if err != nil {
		return nil, err
	}
	out := process(ctx, in)
	if out.Failed > 0 {
		durable.ReplayLog(ctx).Error(fmt.Sprintf("%d tasks failed.", out.Failed))
		out.Mail = alert(ctx, in, out)
	}
	return out, nil
}

func decode(input json.RawMessage) (Input, error) {
	var compressed, text string
	var in Input
	err := json.Unmarshal(input, &compressed)
	if err == nil {
		text, err = payload.Decompress(compressed, payload.DefaultMaxBytes)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &in)
	}
	if err != nil {
		return in, fmt.Errorf("the input of MyOrchestration must be the compressed JSON of its Input: %w", err)
	}
	return in.withDefaults(), nil
}

// process fans out and in again. A record whose activity was lost is tried again; one that failed is not.
func process(ctx *task.OrchestrationContext, in Input) *Output {
	inputs := make([]processactivity.Input, len(in.RecordIds))
	for i, id := range in.RecordIds {
		inputs[i] = processactivity.Input{RecordId: id, JobId: string(ctx.ID)}
	}
	failed := func(r processactivity.Result) bool { return !r.Success }
	outcomes := durable.FanOut(ctx, processactivity.Name, inputs, failed, durable.WithRetry(durable.RetryPolicy{
		Attempts:      in.Attempts,
		FirstInterval: seconds(in.RetryIntervalSeconds),
		Backoff:       2,
		Retry:         lost,
	}))

	out := &Output{Total: len(outcomes), Failures: []Failure{}, Mail: MailNone}
	for i, o := range outcomes {
		switch {
		case o.Err != nil:
			out.Failures = append(out.Failures, Failure{in.RecordIds[i], shorten(o.Err.Error())})
		case !o.Value.Success:
			out.Failures = append(out.Failures, Failure{in.RecordIds[i], shorten(o.Value.ErrorMessage)})
		}
	}
	out.Failed = len(out.Failures)
	out.Succeeded = out.Total - out.Failed
	return out
}

// lost says whether another attempt may do better: the process died, say. One that ran past its deadline would do so
// again.
func lost(err error) bool {
	var e *durable.TaskError
	return errors.As(err, &e) && e.Surroundings() && e.Kind != durable.DeadlineExceeded
}

// shorten cuts what an error says at 500 characters.
func shorten(message string) string {
	const limit = 500
	if r := []rune(message); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return message
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
