package performance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// serve returns the app's handler, with an app root for these functions.
func serve(b *testing.B, app *handler.App, triggers map[string]string) http.Handler {
	b.Helper()
	h, err := app.Handler(handler.Options{Root: appRoot(b, triggers), Getenv: func(string) string { return "" }, Environ: []string{}, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// appRoot makes an app root for functions with these triggers.
func appRoot(b *testing.B, triggers map[string]string) string {
	b.Helper()
	root := b.TempDir()
	testkit.WriteFile(b, filepath.Join(root, "host.json"), `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"}}}`)
	for function, trigger := range triggers {
		binding := map[string]string{"orchestrationTrigger": "context", "activityTrigger": "input"}[trigger]
		testkit.WriteFile(b, filepath.Join(root, function, "function.json"), fmt.Sprintf(`{"bindings":[{"name":%q,"type":%q,"direction":"in"}]}`, binding, trigger))
	}
	return root
}

// invoke sends the body and checks the status. It does almost nothing else, so that the benchmark measures the handler.
func invoke(b *testing.B, h http.Handler, r *http.Request, body *bytes.Reader) {
	_, _ = body.Seek(0, io.SeekStart)
	w := writer{http.Header{}, http.StatusOK}
	h.ServeHTTP(&w, r)
	if w.status != http.StatusOK {
		b.Fatalf("answer %d", w.status)
	}
}

func newRequest(function string, text []byte) (*http.Request, *bytes.Reader) {
	body := bytes.NewReader(text)
	return httptest.NewRequest("POST", "http://127.0.0.1/"+function, io.NopCloser(body)), body
}

// writer is a response writer that accepts deadlines, as a connection of net/http's server does.
type writer struct {
	header http.Header
	status int
}

func (w *writer) Header() http.Header         { return w.header }
func (w *writer) Write(p []byte) (int, error) { return len(p), nil }
func (w *writer) WriteHeader(status int)      { w.status = status }

func (w *writer) SetReadDeadline(time.Time) error { return nil }

// BenchmarkActivity measures what the handler adds to the cost of an activity.
func BenchmarkActivity(b *testing.B) {
	type in struct{ RecordId, JobId string }
	app := handler.New()
	app.Activity("Work", durable.Activity(func(context.Context, in) (bool, error) { return true, nil }))
	h := serve(b, app, map[string]string{"Work": "activityTrigger"})
	r, body := newRequest("Work", activityBody(`{"RecordId":"C-001","JobId":"0123456789abcdef0123456789abcdef"}`))
	b.ReportAllocs()
	for b.Loop() {
		invoke(b, h, r, body)
	}
	report(b, float64(b.Elapsed().Nanoseconds())/1000/float64(b.N), "µs/op")
	figures[b.Name()+" allocs"] = testing.AllocsPerRun(100, func() { invoke(b, h, r, body) })
}

const records = 1000

const work = durable.ActivityName[int, json.RawMessage]("Work")

func fanOut(ctx *task.OrchestrationContext) (any, error) {
	tasks := make([]task.Task, records)
	for i := range tasks {
		tasks[i] = ctx.CallActivity("Work", task.WithActivityInput(i))
	}
	for _, t := range tasks {
		var result json.RawMessage
		if err := t.Await(&result); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// history returns the turns of an orchestrator that calls this many activities at once. The results are spread evenly over all
// turns but the first. As on the host, pastEvents ends with orchestratorCompleted, and newEvents starts with orchestratorStarted.
func history(b *testing.B, records, turns int) []testkit.Turn {
	event := func(id int, format string, args ...any) *backend.HistoryEvent {
		return testkit.Event(b, fmt.Sprintf(`{"eventId":%d,"timestamp":"2026-11-23T01:02:03.456Z",%s}`, id, fmt.Sprintf(format, args...)))
	}
	started, completed := event(-1, `"orchestratorStarted":{}`), event(-1, `"orchestratorCompleted":{}`)
	first := testkit.Turn{InstanceID: "i", New: []*backend.HistoryEvent{started, event(-1, `"executionStarted":{"name":"Orch","orchestrationInstance":{"instanceId":"i","executionId":"e"}}`)}}
	all, past := []testkit.Turn{first}, first.New
	for i := range records {
		past = append(past, event(i, `"taskScheduled":{"name":"Work"}`))
	}
	past = append(past, completed)
	for t := range turns - 1 {
		turn := testkit.Turn{InstanceID: "i", Past: past, New: []*backend.HistoryEvent{started}}
		for i := t * records / (turns - 1); i < (t+1)*records/(turns-1); i++ {
			turn.New = append(turn.New, event(-1, `"taskCompleted":{"taskScheduledId":%d,"result":"{\"Success\":true}"}`, i))
		}
		all = append(all, turn)
		past = append(turn.History(), completed)
	}
	return all
}

// activityBody makes an activity's invocation with everything that the host puts into it.
func activityBody(input string) []byte {
	once, _ := json.Marshal(input)
	return fmt.Appendf(nil, `{"Data":{"input":%s},"Metadata":{"instanceId":"\"0123456789abcdef0123456789abcdef\"","input":%s,"data":%s,`+
		`"sys":{"MethodName":"Work","UtcNow":"2026-11-22T19:57:51.8657934Z","RandGuid":"d0cdff5f-9731-4ce7-8cb0-64c9394320cb"}}}`, testkit.Twice(input), testkit.Twice(input), once)
}

// BenchmarkTurn sends ServeHTTP an orchestrator's turn with 1,000 past activities, with the SDK's own tasks and with the
// toolkit's. It compares them with only unmarshalling, executing and marshalling the same bytes. x-bare is the ratio of their
// times. They take turns, so that a busy machine slows both.
func BenchmarkTurn(b *testing.B) {
	text := history(b, records, 130)[129].Body() // the last turn
	bare := bareTurn(b, text)
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bare()
		}
	})
	for _, v := range []struct {
		name         string
		orchestrator task.Orchestrator
	}{
		{"sdk", fanOut},
		{"toolkit", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (int, error) {
			return len(durable.FanOut(ctx, work, make([]int, records), nil)), nil
		})},
		{"toolkit-with-retry", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (int, error) {
			return len(durable.FanOut(ctx, work, make([]int, records), nil, durable.WithRetry(durable.RetryPolicy{Attempts: 3}))), nil
		})},
	} {
		app := handler.New()
		app.Orchestrator("Orch", v.orchestrator)
		h := serve(b, app, map[string]string{"Orch": "orchestrationTrigger"})
		r, body := newRequest("Orch", []byte(text))
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				invoke(b, h, r, body)
			}
		})
		b.Run(v.name+"-against-bare", func(b *testing.B) {
			var ours, theirs time.Duration
			for b.Loop() {
				start := time.Now()
				invoke(b, h, r, body)
				between := time.Now()
				bare()
				ours += between.Sub(start)
				theirs += time.Since(between)
			}
			b.ReportMetric(float64(ours)/float64(b.N), "ns/op")
			report(b, float64(ours)/float64(theirs), "x-bare")
		})
	}
}

// bareTurn returns a function that does the least work of a turn: unmarshal, execute and marshal.
func bareTurn(b *testing.B, body string) func() {
	registry := task.NewTaskRegistry()
	_ = registry.AddOrchestratorN("*", fanOut)
	executor := task.NewTaskExecutor(registry)
	request, err := testkit.ParseInvocation(body)
	if err != nil {
		b.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(testkit.Text(request.Data["context"]))
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		m := bareRequest()
		if err := proto.Unmarshal(raw, m); err != nil {
			b.Fatal(err)
		}
		old, fresh := bareEvents(m)
		results, err := executor.ExecuteOrchestrator(context.Background(), api.InstanceID("i"), old, fresh)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := proto.Marshal(results.Response); err != nil {
			b.Fatal(err)
		}
	}
}

var orchestratorRequest, _ = protoregistry.GlobalTypes.FindMessageByName("OrchestratorRequest")

func bareRequest() proto.Message { return orchestratorRequest.New().Interface() }

func bareEvents(m proto.Message) (old, fresh []*backend.HistoryEvent) {
	fields := orchestratorRequest.Descriptor().Fields()
	read := func(name protoreflect.Name) []*backend.HistoryEvent {
		list := m.ProtoReflect().Get(fields.ByName(name)).List()
		events := make([]*backend.HistoryEvent, list.Len())
		for i := range events {
			events[i] = list.Get(i).Message().Interface().(*backend.HistoryEvent)
		}
		return events
	}
	return read("pastEvents"), read("newEvents")
}
