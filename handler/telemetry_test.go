package handler_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"
	"go.opentelemetry.io/otel/trace"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/internal/testkit"
)

// traced starts a handler whose telemetry goes to a receiver. It sets the environment of the process, so that no test that
// calls it runs beside another. sent has the telemetry sent, for good.
func traced(t *testing.T, app *handler.App, files map[string]string, env ...string) (h *host, o *testkit.OTLP, sent func()) {
	t.Helper()
	o = testkit.StartOTLP(t)
	for _, setting := range o.Env(env...) {
		name, value, _ := strings.Cut(setting, "=")
		t.Setenv(name, value)
	}
	tel := telemetry.Start(os.Getenv, slog.Default())
	if tel == nil {
		t.Fatal("the environment does not turn telemetry on")
	}
	h = startTraced(t, tel, app, files, nil)
	sent = sync.OnceFunc(func() { tel.Stop(context.Background()) })
	t.Cleanup(sent)
	return h, o, sent
}

func TestNoTelemetryUnlessTurnedOn(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, env := range []map[string]string{
		{}, {"OTEL_SERVICE_NAME": "app"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
	} {
		if telemetry.Start(func(name string) string { return env[name] }, slog.Default()) != nil {
			t.Errorf("%v turns it on", env)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

// script is the input of the recorded orchestrations.
type script struct {
	Turns []struct {
		Actions []struct {
			ScheduleTask           *struct{ Name, Input string }
			CreateSubOrchestration *struct{ InstanceID, Name, Input string }
		}
	}
}

// scriptedApp does what the recorded handler did.
func scriptedApp() *handler.App {
	app := handler.New()
	app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, in script) (string, error) {
		var awaits []func() error
		for _, a := range in.Turns[0].Actions {
			if s := a.ScheduleTask; s != nil {
				call := durable.ActivityName[any, any](s.Name).Call(ctx, json.RawMessage(s.Input))
				awaits = append(awaits, func() error { _, err := call.Await(); return err })
			}
			if s := a.CreateSubOrchestration; s != nil {
				call := durable.OrchestratorName[any, any](s.Name).Call(ctx, json.RawMessage(s.Input), durable.WithInstanceID(s.InstanceID))
				awaits = append(awaits, func() error { _, err := call.Await(); return err })
			}
		}
		for _, await := range awaits {
			if err := await(); err != nil {
				return "", err
			}
		}
		return "done", nil
	}))
	app.Activity("Echo", durable.Activity(func(_ context.Context, in any) (any, error) { return in, nil }))
	app.HTTP("HttpA", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	return app
}

// recorded is a line of the recording.
type recorded struct {
	Function string
	Request  json.RawMessage
	Headers  map[string][]string
}

func recordedTraces(t *testing.T) (all []recorded) {
	t.Helper()
	f, err := os.Open("../tests/conformance/testdata/recordings/3.19/tracing.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Function != "" {
			all = append(all, r)
		}
	}
	return all
}

// parts are the ids of a traceparent.
func parts(traceparent string) (traceID, span string) {
	p := strings.Split(traceparent+"---", "-")
	return p[1], p[2]
}

// Each recorded request makes the spans that join the host's trace: an activity below the header, an orchestration below the
// trace context in its history, once, by its last turn; both although the host's flag says not sampled.
func TestRecordedTraces(t *testing.T) {
	files := map[string]string{"Orch/function.json": orchJSON, "Echo/function.json": activityJSON, "HttpA/function.json": httpJSON}
	ends := 0
	for _, r := range recordedTraces(t) {
		h, o, sent := traced(t, scriptedApp(), files)
		var body string
		if err := json.Unmarshal(r.Request, &body); err != nil {
			t.Fatal(err)
		}
		header := strings.Join(r.Headers["traceparent"], "")
		state := strings.Join(r.Headers["tracestate"], "")
		for range 2 { // the host may ask again
			req, err := h.NewRequest(r.Function, body)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"traceparent", "tracestate"} {
				if v := r.Headers[name]; len(v) > 0 {
					req.Header[name] = v
				}
			}
			a, err := h.Do(req)
			if err != nil || a.Status != http.StatusOK {
				t.Fatalf("%s: %s %v", r.Function, a, err)
			}
			if r.Function != "Orch" {
				break
			}
			if end := endOfTurn(t, a); end == "" {
				break
			}
		}
		sent()
		spans := o.Spans()
		traceID, parent := parts(header)
		switch r.Function {
		case "Orch":
			turn, err := testkit.DecodeTurn(body)
			if err != nil {
				t.Fatal(err)
			}
			ended := slices.ContainsFunc(spans, func(s testkit.Span) bool { return s.Name == "orchestration:Orch" })
			a := h.post("Orch", body)
			if ended != (endOfTurn(t, a) != "") {
				t.Errorf("a span %v, the end %q", ended, endOfTurn(t, a))
			}
			if !ended {
				break
			}
			ends++
			for _, e := range turn.History() {
				if es := e.GetExecutionStarted(); es != nil {
					traceID, parent = parts(es.GetParentTraceContext().GetTraceParent())
					if !spans[0].Start.Equal(e.GetTimestamp().AsTime()) {
						t.Errorf("the span starts at %s, not with the execution", spans[0].Start)
					}
				}
			}
		case "Echo":
			if s := spans[0]; s.Name != "activity:Echo" || s.Kind != "SERVER" || !strings.HasPrefix(s.Attributes["durabletask.task.instance_id"], "tr") {
				t.Errorf("%+v", s)
			}
		case "HttpA":
			if s := spans[0]; s.Name != "HttpA" || s.Kind != "SERVER" || s.Attributes["http.response.status_code"] != "202" || s.Attributes["faas.trigger"] != "http" {
				t.Errorf("%+v", s)
			}
		}
		if len(spans) > 1 || len(spans) == 0 && r.Function != "Orch" {
			t.Errorf("%s: spans %+v", r.Function, spans)
		}
		for _, s := range spans {
			if traceID != "" && s.Trace != traceID || s.Parent != parent || !strings.Contains(s.State, state) || s.Status != "UNSET" {
				t.Errorf("%s: header %q, state %q, span %+v", r.Function, header, state, s)
			}
		}
	}
	if ends != 8 { // five orchestrations, three of which have a child
		t.Errorf("%d orchestrations ended", ends)
	}
}

// endOfTurn is how the orchestration ends by the answer; empty if it goes on.
func endOfTurn(t *testing.T, a testkit.Answer) (status string) {
	t.Helper()
	for _, action := range testkit.Actions(t, a).Response.Actions {
		if c := action.GetCompleteOrchestration(); c != nil {
			status = c.OrchestrationStatus.String()
		}
	}
	return status
}

func TestSampling(t *testing.T) {
	const on, off = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	for _, c := range []struct {
		name, sampler, arg, function, header, state string
		want                                        bool
	}{
		{"the default", "", "", "Work", off, "", true},
		{"always on", "always_on", "", "T", off, "", true},
		{"always off", "always_off", "", "T", on, "", false},
		{"of a trigger the flag counts", "parentbased_always_on", "", "T", off, "", false},
		{"which is on", "parentbased_always_off", "", "T", on, "", true},
		{"of an activity it does not", "parentbased_always_on", "", "Work", off, "", true},
		{"neither if it is on", "parentbased_always_off", "", "Work", on, "", false},
		{"of an activity the start's decision counts", "parentbased_traceidratio", "0", "Work", off, "godurable=1", true},
		{"or its no", "parentbased_traceidratio", "1", "Work", off, "a=b,godurable=0", false},
		{"without one the trace id", "parentbased_traceidratio", "0", "Work", off, "", false},
		{"for all of the trace alike", "traceidratio", "0.9", "Work", off, "", true},
		{"a sampler that is none", "sometimes", "", "Work", off, "", true},
		{"a ratio that is none", "traceidratio", "2", "Work", off, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			app := activityApp(func(task.ActivityContext) (any, error) { return nil, nil })
			app.Trigger("T", func(context.Context, *handler.Invocation) error { return nil })
			h, o, sent := traced(t, app, map[string]string{"Work/function.json": activityJSON, "T/function.json": triggerJSON},
				"OTEL_TRACES_SAMPLER="+c.sampler, "OTEL_TRACES_SAMPLER_ARG="+c.arg)
			req, _ := h.NewRequest(c.function, testkit.ActivityBody("1"))
			req.Header.Set("traceparent", c.header)
			req.Header.Set("tracestate", c.state)
			if _, err := h.Do(req); err != nil {
				t.Fatal(err)
			}
			sent()
			if got := len(o.Spans()) == 1; got != c.want {
				t.Errorf("sampled %v, want %v: %+v", got, c.want, o.Spans())
			}
		})
	}
}

// What the function itself makes with the API of its context is below its span, and so is what it starts.
func TestSpansOfTheFunction(t *testing.T) {
	s := testkit.StartSidecar(t)
	app := handler.New()
	app.Trigger("T", func(ctx context.Context, in *handler.Invocation) error {
		ctx, own := trace.SpanFromContext(ctx).TracerProvider().Tracer("app").Start(ctx, "own")
		defer own.End()
		durable.Log(ctx).Error("look here")
		c, err := in.DurableClient("starter")
		if err != nil {
			return err
		}
		_, err = c.Start(ctx, "Orch", "one", nil)
		_, _ = c.Wait(ctx, "nobody")
		return errors.Join(err, errors.New("but it fails"))
	})
	h, o, sent := traced(t, app, map[string]string{"T/function.json": triggerJSON}, "OTEL_SERVICE_NAME=shop", "OTEL_EXPORTER_OTLP_HEADERS=x-key=secret")
	h.post("T", `{"Data":{"item":"1","starter":`+testkit.Twice(testkit.ClientBinding(s.Address))+`},"Metadata":{}}`)
	o.WaitFor(t, "spans", func() bool { return len(o.Spans()) == 4 }) // a failure's answer is out before the span has ended
	sent()
	spans := map[string]testkit.Span{}
	for _, s := range o.Spans() {
		spans[s.Name] = s
	}
	top, own, started, waited := spans["T"], spans["own"], spans["StartInstance:Orch"], spans["WaitForInstance"]
	if len(spans) != 4 || own.Parent != top.ID || started.Parent != own.ID || waited.Parent != own.ID || top.Kind != "CONSUMER" || started.Kind != "CLIENT" {
		t.Errorf("spans %+v", o.Spans())
	}
	if top.Status != "ERROR" || top.Message != "but it fails" || top.Attributes["error.type"] != "failed" || started.Attributes["durabletask.task.instance_id"] != "one" {
		t.Errorf("span %+v", top)
	}
	call := s.Calls("StartInstance")[0]
	if want := "00-" + started.Trace + "-" + started.ID + "-01"; call.Fields["parentTraceContext.traceParent"] != want || call.Fields["parentTraceContext.traceState"] != "godurable=1" {
		t.Errorf("the start says %v, want %s", call.Fields, want)
	}
	if log := h.stderr.String(); !strings.Contains(log, "trace_id="+top.Trace+" span_id="+top.ID) {
		t.Errorf("log %q", log)
	}
	if o.Resource()["service.name"] != "shop" || o.Header("x-key") != "secret" {
		t.Errorf("resource %v, header %q", o.Resource(), o.Header("x-key"))
	}
}

func TestMetrics(t *testing.T) {
	app := activityApp(func(ctx task.ActivityContext) (any, error) {
		var n int
		if err := ctx.GetInput(&n); err != nil || n < 0 {
			return nil, errors.Join(err, errors.New("negative"))
		}
		return n, nil
	})
	app.Orchestrator("Orch", durable.Orchestrator(func(*task.OrchestrationContext, any) (any, error) { return nil, errors.New("no") }))
	app.Trigger("T", func(context.Context, *handler.Invocation) error { return nil })
	app.Entity("Tally", durable.Entity(add))
	h, o, sent := traced(t, app, map[string]string{
		"Work/function.json": activityJSON, "Orch/function.json": orchJSON, "Tally/function.json": entityJSON,
		"T/function.json": strings.Replace(triggerJSON, `"type":"queueTrigger"`, `"type":"queueTrigger","dataType":"binary"`, 1),
	})
	for _, n := range []string{"1", "-1", "2"} {
		h.post("Work", testkit.ActivityBody(n))
	}
	h.post("Orch", `{"Data":{"context":`+testkit.Twice(firstTurn)+`},"Metadata":{}}`)
	h.post("Orch", `{"Data":{"context":"\"?\""},"Metadata":{}}`)
	h.post("Tally", entityBody(t, `{"instanceId":"@tally@a","operations":[{"operation":"nosuch","requestId":"b0d9d43b-9160-4248-a208-c0c985db1be9"}]}`))
	sentAt := time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05+00:00")
	h.post("T", `{"Data":{"item":"aGVsbG8="},"Metadata":{"InsertionTime":"`+sentAt+`"}}`)
	o.WaitFor(t, "refused turn", func() bool {
		return len(o.Points("faas.errors", "error.type", "refused")) > 0 && len(o.Points("faas.invocations", "faas.name", "T")) > 0
	})
	sent()
	count := func(metric, function string) (n int64) {
		for _, p := range o.Points(metric, "faas.name", function) {
			n += p.Count
		}
		return n
	}
	for function, want := range map[string][2]int64{"Work": {3, 1}, "Orch": {2, 2}, "Tally": {1, 1}, "T": {1, 0}} {
		if n, failed := count("faas.invocations", function), count("faas.errors", function); n != want[0] || failed != want[1] || count("faas.invoke_duration", function) != n {
			t.Errorf("%s: %d invocations, %d failed, want %v", function, n, failed, want)
		}
	}
	if p := o.Points("faas.errors", "error.type", "refused"); len(p) != 1 || p[0].Attributes["faas.name"] != "Orch" {
		t.Errorf("refused %+v", p)
	}
	if n := count("durabletask.turn.size", "Orch"); n != 1 || count("durabletask.turn.history_length", "Orch") != 1 || count("durabletask.queue_time", "Orch") != 1 {
		t.Errorf("of %d turns there are sizes", n)
	}
	if p := o.Points("durabletask.queue_time", "faas.name", "T"); len(p) != 1 || p[0].Sum < 3500 || p[0].Sum > 7200 {
		t.Errorf("the message has waited %+v", p)
	}
	failed := map[string]bool{}
	for _, s := range o.Spans() {
		if s.Status == "ERROR" {
			failed[s.Name] = true
		}
	}
	for _, name := range []string{"activity:Work", "orchestration:Orch", "entity:Tally", "entity:Tally:nosuch"} {
		if !failed[name] {
			t.Errorf("no span %s that failed: %+v", name, o.Spans())
		}
	}
}

// A receiver that is away, or refuses, is a line in the log and no more.
func TestReceiverAway(t *testing.T) {
	app := activityApp(func(task.ActivityContext) (any, error) { return 1, nil })
	h, o, sent := traced(t, app, map[string]string{"Work/function.json": activityJSON})
	o.Fail(http.StatusUnauthorized)
	for range 2500 { // more than the queue holds
		if a := h.post("Work", testkit.ActivityBody("1")); a.Status != http.StatusOK {
			t.Fatal(a)
		}
	}
	sent()
	if o.Requests() == 0 || len(o.Spans()) > 0 {
		t.Errorf("%d requests", o.Requests())
	}
}
