package handler

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/handler/internal/wire"
)

// end is how an orchestration ends, or which of an entity's operations failed, when the answer itself is not an error.
type end struct {
	status             string // of the orchestration
	errorType, message string // of the failure, if there is one
}

// begin returns the context of the trace that the host names, with the span of the invocation.
func (s *server) begin(r *http.Request, c *call) (ctx context.Context) {
	asked := telemetry.Call{Function: c.name, Kind: telemetry.Trigger, TriggerType: c.Trigger().Type, ID: c.id}
	switch {
	case c.orchestrator != nil:
		asked.Kind = telemetry.Orchestrator
	case c.activity != nil:
		asked.Kind = telemetry.Activity
	case c.entity != nil:
		asked.Kind = telemetry.Entity
	}
	ctx, c.seen = s.telemetry.Begin(telemetry.FromHost(r.Context(), r.Header), asked)
	return ctx
}

// observe takes up what the request says.
func (s *server) observe(c *call) {
	if s.telemetry == nil {
		return
	}
	switch {
	case c.turn != nil:
		c.seen.Turn(c.observedTurn())
	case c.batch != nil:
		c.seen.Instance(c.batch.ID)
	case c.activity != nil:
		properties, _ := c.request.Properties()
		c.seen.Instance(wire.Text(properties["instanceId"]))
	default:
		if enqueued := c.enqueued(); !enqueued.IsZero() {
			c.seen.Waited(enqueued)
		}
	}
}

func (c *call) observedTurn() telemetry.Turn {
	t := telemetry.Turn{Instance: c.turn.InstanceID, Past: c.turn.Past, New: c.turn.New, Size: c.size}
	t.Start, t.Length = historyevent.Start(t.New, t.Past), len(t.Past)+len(t.New)
	if c.session != nil { // which may have seen the start
		t.Start, t.Length = c.session.start, t.Length+c.session.Length()
	}
	return t
}

// enqueued is when a message was sent, to the second; zero if that is not sure: the properties of a message that comes as text
// may be its sender's.
func (c *call) enqueued() (at time.Time) {
	if c.Trigger().DataType() != "binary" {
		return at
	}
	in := &Invocation{request: c.request}
	if text, ok := in.Metadata("EnqueuedTimeUtc"); ok { // Service Bus
		at, _ = time.Parse("2006-01-02T15:04:05", text)
	} else if text, ok := in.Metadata("InsertionTime"); ok { // Azure Storage
		at, _ = time.Parse(time.RFC3339, text)
	}
	return at
}

// observeOutcome takes up what is answered.
func (c *call) observeOutcome(o outcome) {
	switch {
	case c.seen == nil:
	case o.err != nil:
		c.seen.Failed(string(cmp.Or(o.kind, wire.KindFailed)), o.err.Error())
	case o.end != nil:
		c.seen.Completed(o.end.status)
		if o.end.errorType != "" {
			c.seen.Failed(o.end.errorType, o.end.message)
		}
	}
}

// statusNames are an orchestration's last statuses, as the host spells them.
var statusNames = map[api.OrchestrationStatus]string{
	api.RUNTIME_STATUS_COMPLETED: "Completed", api.RUNTIME_STATUS_FAILED: "Failed", api.RUNTIME_STATUS_TERMINATED: "Terminated",
	api.RUNTIME_STATUS_CANCELED: "Canceled", api.RUNTIME_STATUS_CONTINUED_AS_NEW: "ContinuedAsNew",
}

// endOf returns how the orchestration ends with its turn; nil if it goes on.
func endOf(r replay.Result) *end {
	for _, a := range r.Response.Actions {
		if c := a.GetCompleteOrchestration(); c != nil {
			e := &end{status: statusNames[c.OrchestrationStatus]}
			if c.OrchestrationStatus == api.RUNTIME_STATUS_FAILED {
				e.errorType, e.message = cmp.Or(c.GetFailureDetails().GetErrorType(), "failed"), c.GetFailureDetails().GetErrorMessage()
			}
			return e
		}
	}
	return nil
}

// failureOf returns the first failure of a batch's operations; nil if all succeeded.
func failureOf(r *entity.Result) *end {
	for _, o := range r.Outcomes {
		if o.Failure != nil {
			return &end{errorType: o.Failure.Type, message: o.Failure.Message}
		}
	}
	return nil
}
