// Package myorchestration is the orchestrator function MyOrchestration: it processes each record of its input in an
// activity of its own, all side by side, waits for all of them, and mails the failures.
//
// # Batches
//
// Each turn of an orchestration carries its whole history, so that a fan-out of n costs up to n² bytes. Above
// Input.BatchSize records MyOrchestration therefore splits them and runs itself as sub-orchestrations, in levels when
// needed: no history has more than BatchSize activities or children in it. The result, the progress and the mail are
// those of the whole; a part returns counts and failures. A part that was lost (the process died in one of its turns) is
// run again by its parent. A lost turn of the root is asked again by the host's retry policy, in function.json.
//
// # Input
//
// The input is the seed's: the JSON of an Input, compressed by package payload, as a JSON string. Whatever shapes the
// orchestration's history stands in it (attempts, intervals, whether and where to mail), with defaults for what an
// input leaves out. So an orchestration in flight keeps its course when a setting changes.
//
// # Mail
//
// The host fails an orchestration, and loses its result, if its mail cannot be sent. So a small sub-orchestration sends the
// mail: MyOrchestration itself, with an alert for its input. If that fails it is tried again, and the result of the whole
// stands either way.
package myorchestration

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/payload"
)

// Name is the function's folder, with the types of its input and result.
const Name = durable.OrchestratorName[any, Output]("MyOrchestration")

// Input is what the orchestration works on. The names are .NET's. Zero values mean the defaults.
type Input struct {
	RecordIds []string

	BatchSize                int     `json:",omitempty"` // records in one orchestration, at least 2; 0: all of them
	Attempts                 int     `json:",omitempty"` // of a record whose activity was lost, in all; default 3
	RetryIntervalSeconds     float64 `json:",omitempty"` // before the second attempt, doubled for each one after; default 5
	StoreAttempts            int     `json:",omitempty"` // of a record whose store was down, in all; 0: it fails at once
	AlertEmailTo             string  `json:",omitempty"` // who gets the mail: addresses with ; or , between them; empty: no mail
	NoSendGridKey            bool    `json:",omitempty"` // there was no key for the mail: no mail
	AlertEmailFrom           string  `json:",omitempty"` // default no-reply@mycompany.co.nz
	MailAttempts             int     `json:",omitempty"` // in all; default 3
	MailRetryIntervalSeconds float64 `json:",omitempty"` // as above; default 10
}

// Compress returns the input as the orchestration takes it. The defaults are written out: those of a later version may
// be others.
func (in Input) Compress() (string, error) {
	in = in.withDefaults()
	setDefault(&in.StoreAttempts, 10) // not for an input that another version made: it keeps its course
	text, err := json.Marshal(in)
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
	Mail                     string    `json:",omitempty"` // MailNone, MailSent or MailFailed; of the whole only
}

// Failure is a record that failed and why.
type Failure struct {
	RecordId     string
	ErrorMessage string // at most 500 characters, less where a result would pass 16 MB, or a part its share of that
}

// The states of the mail.
const (
	MailNone   = "none"   // nothing failed, or there is no recipient
	MailSent   = "sent"   // handed to SendGrid (in local mode without a key: written to a file)
	MailFailed = "failed" // given up
)

// part is what MyOrchestration calls itself with: a piece of its own work, either some of the records or the mail. It is
// an object; the input of the whole is a string.
type part struct {
	Batch *batch `json:",omitempty"`
	Alert *Alert `json:",omitempty"`
}

// Run is the orchestrator.
func Run(ctx *task.OrchestrationContext, input json.RawMessage) (*Output, error) {
	if bytes.HasPrefix(input, []byte("{")) {
		return runPart(ctx, input)
	}
	in, err := decode(input)
	if err != nil {
		return nil, err
	}
	return logged(ctx, len(in.RecordIds), func() *Output {
		out := process(ctx, batch{Input: in, JobId: string(ctx.ID), MaxOutputBytes: maxOutput})
		out.Mail = MailNone
		if out.Failed > 0 {
			durable.ReplayLog(ctx).Error(fmt.Sprintf("%d tasks failed.", out.Failed))
			out.Mail = alert(ctx, in, out)
		}
		return out
	}), nil
}

// logged logs the start and the end of the work on some records, each in one line that names the instance.
func logged(ctx *task.OrchestrationContext, records int, work func() *Output) *Output {
	log, begun := durable.ReplayLog(ctx).With("instance", ctx.ID), ctx.CurrentTimeUtc
	log.Info("MyOrchestration has started.", "records", records)
	out := work()
	attrs := []any{"records", out.Total, "succeeded", out.Succeeded, "failed", out.Failed, "duration", ctx.CurrentTimeUtc.Sub(begun)}
	if out.Mail != "" {
		attrs = append(attrs, "mail", out.Mail)
	}
	log.Info("MyOrchestration has ended.", attrs...)
	return out
}

// runPart is the orchestrator as a sub-orchestration of itself.
func runPart(ctx *task.OrchestrationContext, input json.RawMessage) (*Output, error) {
	var p part
	switch err := json.Unmarshal(input, &p); {
	case err == nil && p.Batch != nil:
		return logged(ctx, len(p.Batch.RecordIds), func() *Output { return process(ctx, *p.Batch) }), nil
	case err == nil && p.Alert != nil:
		durable.SetOutput(ctx, mailBinding, message(p.Alert))
		return nil, nil
	}
	return nil, fmt.Errorf("the input of MyOrchestration is neither a compressed string nor a part of its own work: %.100s", input)
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
	if in.BatchSize == 1 || in.BatchSize < 0 {
		return in, fmt.Errorf("the input of MyOrchestration has the BatchSize %d: it must be 0 or at least 2", in.BatchSize)
	}
	return in.withDefaults(), nil
}
