package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// Kinds of functions, as durabletask.type names them in spans. A trigger function's span has no such attribute.
const (
	Trigger      = ""
	Orchestrator = "orchestration"
	Activity     = "activity"
	Entity       = "entity"
)

// Call is an invocation.
type Call struct {
	Function    string
	Kind        string // Trigger, Orchestrator …
	TriggerType string // of function.json, "httpTrigger" say
	ID          string // the host's invocation id
}

// Invocation is a running invocation. Its methods record what is sent when it ends.
type Invocation struct {
	t       *Telemetry
	call    Call
	began   time.Time
	ctx     context.Context // with the span, or for an orchestrator with the parent of the orchestration
	span    trace.Span      // nil for an orchestrator
	metrics metric.MeasurementOption

	failure string // its type; empty: none
	message string
	turn    *turn
}

// turn holds what is recorded of an orchestrator's turn.
type turn struct {
	start    *backend.HistoryEvent
	instance string
	parent   trace.SpanContext
	span     trace.SpanID
	status   string // the status of an orchestration that ends; empty: it goes on
}

// FromHost returns the context of the trace that the headers of the host's request name.
func FromHost(ctx context.Context, headers http.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(headers))
}

// Begin begins an invocation. ctx carries the trace that the host names; the returned context carries the span.
func (t *Telemetry) Begin(ctx context.Context, c Call) (context.Context, *Invocation) {
	if t == nil {
		return ctx, nil
	}
	i := &Invocation{t: t, call: c, began: time.Now(), ctx: ctx}
	i.metrics = metric.WithAttributes(attribute.String("faas.name", c.Function), attribute.String("faas.trigger", c.triggerKind()))
	if c.Kind == Orchestrator {
		return ctx, i
	}
	if c.Kind != Trigger {
		ctx = context.WithValue(ctx, flagIsWrong{}, true)
	}
	i.ctx, i.span = t.tracer.Start(ctx, c.spanName(), trace.WithSpanKind(c.spanKind()), trace.WithTimestamp(i.began), trace.WithAttributes(c.attributes()...))
	return i.ctx, i
}

func (c Call) spanName() string {
	if c.Kind == Trigger {
		return c.Function
	}
	return c.Kind + ":" + c.Function
}

func (c Call) spanKind() trace.SpanKind {
	if c.triggerKind() == "pubsub" {
		return trace.SpanKindConsumer
	}
	return trace.SpanKindServer
}

func (c Call) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String("faas.name", c.Function), attribute.String("faas.trigger", c.triggerKind()), attribute.String("faas.invocation_id", c.ID)}
	if c.Kind != Trigger {
		list = append(list, attribute.String("durabletask.type", c.Kind), attribute.String("durabletask.task.name", c.Function))
	}
	return list
}

// triggerKind returns the kind of the trigger in OpenTelemetry's terms.
func (c Call) triggerKind() string {
	if c.Kind != Trigger {
		return "other"
	}
	kinds := map[string]string{
		"httptrigger": "http", "timertrigger": "timer", "blobtrigger": "datasource", "cosmosdbtrigger": "datasource", "sqltrigger": "datasource",
		"queuetrigger": "pubsub", "servicebustrigger": "pubsub", "eventhubtrigger": "pubsub", "eventgridtrigger": "pubsub", "kafkatrigger": "pubsub", "rabbitmqtrigger": "pubsub",
	}
	if kind := kinds[strings.ToLower(c.TriggerType)]; kind != "" {
		return kind
	}
	return "other"
}

// Instance records the instance that an activity or a batch of entity operations belongs to.
func (i *Invocation) Instance(id string) {
	if i != nil && id != "" {
		i.span.SetAttributes(attribute.String("durabletask.task.instance_id", id))
	}
}

// Turn is an orchestrator's turn.
type Turn struct {
	Instance string
	Start    *backend.HistoryEvent   // of the execution
	Past     []*backend.HistoryEvent // may be without events that an earlier Turn had, as long as nothing was rewound
	New      []*backend.HistoryEvent
	Length   int // of the whole history, in events
	Size     int // of the request, in bytes
}

// Turn records an orchestrator's turn.
func (i *Invocation) Turn(t Turn) {
	if i == nil {
		return
	}
	i.t.meters.turnSize.Record(i.ctx, int64(t.Size), i.metrics)
	i.t.meters.history.Record(i.ctx, int64(t.Length), i.metrics)
	if oldest := oldestNews(t.New); !oldest.IsZero() {
		i.Waited(oldest)
	}
	i.turn = &turn{start: t.Start, instance: t.Instance, parent: parentOf(t.Start), span: historyevent.SpanID(t.Start, t.Past, t.New)}
}

// oldestNews returns when the oldest of the new events was made, or when its timer was due.
func oldestNews(added []*backend.HistoryEvent) (oldest time.Time) {
	for _, e := range added {
		at := e.GetTimestamp().AsTime()
		switch {
		case e.GetOrchestratorStarted() != nil:
			continue
		case e.GetTimerFired() != nil:
			at = e.GetTimerFired().GetFireAt().AsTime()
		case e.GetExecutionStarted().GetScheduledStartTimestamp() != nil:
			at = e.GetExecutionStarted().GetScheduledStartTimestamp().AsTime()
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// parentOf reads the trace context of an executionStarted.
func parentOf(start *backend.HistoryEvent) trace.SpanContext {
	c := start.GetExecutionStarted().GetParentTraceContext()
	headers := propagation.MapCarrier{"traceparent": c.GetTraceParent(), "tracestate": c.GetTraceState().GetValue()}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), headers))
}

// Waited records since when the work of the invocation has waited.
func (i *Invocation) Waited(since time.Time) {
	if i != nil {
		i.t.meters.queueTime.Record(i.ctx, max(i.began.Sub(since), 0).Seconds(), i.metrics)
	}
}

// Failed records that the invocation failed, and the type of its error.
func (i *Invocation) Failed(errorType, message string) {
	if i != nil {
		i.failure, i.message = errorType, message
	}
}

// Completed records that the orchestration ends with this turn, and its status, such as "Completed".
func (i *Invocation) Completed(status string) {
	if i != nil && i.turn != nil {
		i.turn.status = status
	}
}

// PutOff records that the host has to ask again.
func (i *Invocation) PutOff() {
	if i != nil {
		i.t.meters.putOff.Add(i.ctx, 1, i.metrics)
	}
}

// LogAttrs returns trace_id and span_id for the log of the invocation.
func (i *Invocation) LogAttrs() []slog.Attr {
	if i == nil {
		return nil
	}
	traceID, span := trace.TraceID{}, trace.SpanID{}
	switch {
	case i.span != nil:
		traceID, span = i.span.SpanContext().TraceID(), i.span.SpanContext().SpanID()
	case i.turn != nil:
		traceID, span = i.turn.parent.TraceID(), i.turn.span
	}
	if !traceID.IsValid() || !span.IsValid() {
		return nil
	}
	return []slog.Attr{slog.String("trace_id", traceID.String()), slog.String("span_id", span.String())}
}

// maxMessage is how many bytes of an error's text a span gets.
const maxMessage = 1 << 10

// End ends the invocation, after its answer is sent.
func (i *Invocation) End() {
	if i == nil {
		return
	}
	m := i.t.meters
	m.invocations.Add(i.ctx, 1, i.metrics)
	m.duration.Record(i.ctx, time.Since(i.began).Seconds(), i.metrics)
	if i.failure != "" {
		m.failures.Add(i.ctx, 1, i.metrics, metric.WithAttributes(attribute.String("error.type", i.failure)))
	}
	span := i.span
	if i.turn != nil && i.turn.status != "" {
		span = i.orchestration()
	}
	if span == nil {
		return
	}
	if i.failure != "" {
		span.SetAttributes(attribute.String("error.type", i.failure))
		span.SetStatus(codes.Error, strings.ToValidUTF8(i.message[:min(len(i.message), maxMessage)], ""))
	}
	span.End()
}

// orchestration makes the span of an execution. It returns nil if the span exists already, because the host has asked for the
// turn again.
func (i *Invocation) orchestration() trace.Span {
	turn := i.turn
	if !i.t.ended.add(turn.span) {
		return nil
	}
	ctx := context.WithValue(context.WithValue(context.Background(), flagIsWrong{}, true), spanID{}, turn.span)
	ctx = trace.ContextWithRemoteSpanContext(ctx, turn.parent)
	began := turn.start.GetTimestamp().AsTime()
	if began.After(i.began) { // the clock of another machine
		began = i.began
	}
	started := turn.start.GetExecutionStarted()
	attributes := append(i.call.attributes(), attribute.String("durabletask.task.instance_id", turn.instance),
		attribute.String("durabletask.task.execution_id", historyevent.Execution(turn.start)), attribute.String("durabletask.task.status", turn.status))
	if v := started.GetVersion().GetValue(); v != "" {
		attributes = append(attributes, attribute.String("durabletask.task.version", v))
	}
	_, span := i.t.tracer.Start(ctx, i.call.spanName(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	return span
}

// Answered writes the answer of an HTTP function to the span in its context.
func Answered(ctx context.Context, r *http.Request, status int) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
}

// maxRecent is how many executions are remembered.
const maxRecent = 4096

// recent remembers the ids that were added last.
type recent struct {
	mu    sync.Mutex
	known map[trace.SpanID]bool
	order []trace.SpanID
	next  int
}

// add says whether the id is new.
func (r *recent) add(id trace.SpanID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.known[id]:
		return false
	case r.known == nil:
		r.known = map[trace.SpanID]bool{}
	}
	if len(r.order) < maxRecent {
		r.order = append(r.order, id)
	} else {
		delete(r.known, r.order[r.next])
		r.order[r.next], r.next = id, (r.next+1)%maxRecent
	}
	r.known[id] = true
	return true
}
