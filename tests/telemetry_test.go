package tests

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// A run of the local host is one trace: the function that got the message, the start, the orchestration, one span for each
// record's activity in spite of replays, and the sub-orchestration for the mail.
func TestOneTraceOfARun(t *testing.T) {
	t.Parallel()
	o := testkit.StartOTLP(t)
	p := startLocal(t, t.TempDir(), o.Env("AlertEmailTo=ops@example.com", "AlertEmailFrom=app@example.com", "OTEL_BSP_SCHEDULE_DELAY=60000")...)
	p.send(t, `{"RecordIds":["C-001","C-002","C-999"]}`)
	p.waitFor(t, "completed: 3 records")
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.out.String())
	}
	spans := o.Spans() // the process sends all of them before it ends
	find := func(name, parent string) (found []testkit.Span) {
		return slices.DeleteFunc(slices.Clone(spans), func(s testkit.Span) bool { return s.Name != name || s.Parent != parent })
	}
	top := find("MyClientFunction", "")
	if len(top) != 1 || top[0].Kind != "CONSUMER" || top[0].Attributes["faas.trigger"] != "pubsub" || top[0].Attributes["faas.invocation_id"] == "" {
		t.Fatalf("spans %+v", spans)
	}
	start := find("StartInstance:MyOrchestration", top[0].ID)
	if len(start) != 1 || start[0].Kind != "CLIENT" {
		t.Fatalf("spans %+v", spans)
	}
	run := find("orchestration:MyOrchestration", start[0].ID)
	if len(run) != 1 || run[0].Kind != "SERVER" || run[0].Attributes["durabletask.task.status"] != "Completed" {
		t.Fatalf("spans %+v", spans)
	}
	instance := start[0].Attributes["durabletask.task.instance_id"]
	activities, mail := find("activity:ProcessActivity", run[0].ID), find("orchestration:MyOrchestration", run[0].ID)
	if len(activities) != 3 || len(mail) != 1 || len(spans) != 7 {
		t.Fatalf("spans %+v", spans)
	}
	for _, s := range activities {
		if s.Attributes["durabletask.task.instance_id"] != instance || s.Start.Before(run[0].Start) || s.End.After(run[0].End) {
			t.Errorf("activity %+v of %+v", s, run[0])
		}
	}
	if id := run[0].Attributes["durabletask.task.instance_id"]; id != instance || !strings.HasPrefix(mail[0].Attributes["durabletask.task.instance_id"], id+":") {
		t.Errorf("instances of %+v and %+v", run[0], mail[0])
	}
	for _, s := range spans {
		if s.Trace != top[0].Trace || s.Status != "UNSET" {
			t.Errorf("span %+v", s)
		}
	}
	for metric, want := range map[string]int64{"faas.invocations": 3, "faas.invoke_duration": 3} {
		if points := o.Points(metric, "faas.name", "ProcessActivity"); len(points) != 1 || points[0].Count != want {
			t.Errorf("%s: %+v", metric, points)
		}
	}
	if !strings.Contains(p.out.String(), "trace_id="+top[0].Trace) {
		t.Errorf("no trace id in the log: %s", p.out.String())
	}
}

// A handler under the Functions host sends its telemetry as soon as it is asked to stop, because the host may kill it at any
// moment then.
func TestTelemetryIsSentAtTheEnd(t *testing.T) {
	t.Parallel()
	o := testkit.StartOTLP(t)
	h := startHandler(t, o.Env("OTEL_BSP_SCHEDULE_DELAY=60000", "OTEL_METRIC_EXPORT_INTERVAL=60000", "WEBSITE_SITE_NAME=shop")...)
	if a := h.Post(t, clientFunction, message("127.0.0.1:1", "hello", "")); a.Status != http.StatusInternalServerError {
		t.Fatal(a)
	}
	h.signal(t, syscall.SIGTERM)
	o.WaitFor(t, "span", func() bool {
		return len(o.Spans()) == 1 && len(o.Points("faas.errors", "faas.name", clientFunction)) == 1
	})
	if s := o.Spans()[0]; s.Name != clientFunction || s.Status != "ERROR" || s.Attributes["error.type"] != "failed" || o.Resource()["service.name"] != "shop" {
		t.Errorf("span %+v of %v", s, o.Resource())
	}
}

// Without the variables, or with OTEL_SDK_DISABLED, nothing is sent. If the receiver cannot be reached, the log has one line
// about it, without its address.
func TestTelemetryOffOrAway(t *testing.T) {
	t.Parallel()
	o := testkit.StartOTLP(t)
	body := message("127.0.0.1:1", "hello", "")
	off := startHandler(t, o.Env("OTEL_SDK_DISABLED=true")...)
	off.Post(t, clientFunction, body)
	away := startHandler(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:secret@127.0.0.1:1/?key=secret", "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_METRICS_EXPORTER=none", "OTEL_EXPORTER_OTLP_TIMEOUT=100")
	away.Post(t, clientFunction, body)
	away.signal(t, syscall.SIGTERM)
	away.waitFor(t, "telemetry could not be sent")
	wrong := startHandler(t, "OTEL_EXPORTER_OTLP_ENDPOINT=secret.example.com")
	wrong.waitFor(t, "setting OTEL_EXPORTER_OTLP_ENDPOINT is no URL")
	if a := wrong.Post(t, clientFunction, body); a.Status != http.StatusInternalServerError {
		t.Error(a)
	}
	for _, p := range []*process{away, wrong} {
		if strings.Contains(p.out.String(), "secret") {
			t.Errorf("a secret in the log: %s", p.out.String())
		}
	}
	if n := o.Requests(); n != 0 {
		t.Errorf("%d requests, though telemetry is off", n)
	}
}
