package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

func goexit() { runtime.Goexit() }

const (
	queueMetadata = `"DequeueCount":"2","Id":"\"m-1\"","InsertionTime":"2026-11-26T00:05:44+00:00"`
	busMetadata   = `"DeliveryCount":"2","MessageId":"\"m-1\"","EnqueuedTimeUtc":"2026-11-26T00:05:44","Subject":"\"s\"","CorrelationId":"\"c\"","ContentType":"\"text/plain\"","ApplicationProperties":{"n":7,"s":"v"}`
)

func TestMessages(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 0, 5, 44, 0, time.UTC)
	for name, c := range map[string]struct {
		trigger, value, metadata string
		want                     handler.Message
	}{
		"queue, bytes":        {`"queueTrigger","dataType":"binary"`, `"AP8="`, queueMetadata, handler.Message{Body: []byte("\x00\xff"), ID: "m-1", DeliveryCount: 2, EnqueuedAt: at}},
		"queue, text":         {`"queueTrigger"`, testkit.Twice("hello"), queueMetadata, handler.Message{Body: []byte("hello"), ID: "m-1", DeliveryCount: 2, EnqueuedAt: at}},
		"Service Bus":         {`"serviceBusTrigger","topicName":"t","subscriptionName":"s","dataType":"binary"`, `"aGk="`, busMetadata, handler.Message{Body: []byte("hi"), ID: "m-1", DeliveryCount: 2, EnqueuedAt: at, Subject: "s", CorrelationID: "c", ContentType: "text/plain", Properties: map[string]any{"n": 7.0, "s": "v"}}},
		"forged":              {`"queueTrigger"`, testkit.Twice(`{"ID":"evil","dequeuecount":9}`), `"DequeueCount":"\"9\"","Id":"\"evil\"","InsertionTime":"2026-11-26T00:05:44+00:00"`, handler.Message{Body: []byte(`{"ID":"evil","dequeuecount":9}`), EnqueuedAt: at}},
		"forged, lax JSON":    {`"queueTrigger"`, testkit.Twice(`/**/{'Id':'evil'}`), `"DequeueCount":"1","Id":"\"evil\""`, handler.Message{Body: []byte(`/**/{'Id':'evil'}`)}},
		"not forged, a list":  {`"queueTrigger"`, testkit.Twice(`[{"Id":1}]`), queueMetadata, handler.Message{Body: []byte(`[{"Id":1}]`), ID: "m-1", DeliveryCount: 2, EnqueuedAt: at}},
		"nothing is known":    {`"queueTrigger"`, testkit.Twice("x"), `"DequeueCount":"many","InsertionTime":"soon","ApplicationProperties":[1]`, handler.Message{Body: []byte("x")}},
		"bytes forge nothing": {`"queueTrigger","dataType":"binary"`, `"eyJJZCI6MX0="`, queueMetadata, handler.Message{Body: []byte(`{"Id":1}`), ID: "m-1", DeliveryCount: 2, EnqueuedAt: at}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got handler.Message
			app := handler.New()
			app.Queue("Q", func(_ context.Context, m handler.Message) error { got = m; return nil })
			h := start(t, app, map[string]string{"Q/function.json": `{"bindings":[{"name":"item","direction":"in","type":` + c.trigger + `}]}`}, nil)
			if a := h.post("Q", `{"Data":{"item":`+c.value+`},"Metadata":{`+c.metadata+`}}`); a.Status != 200 || !reflect.DeepEqual(got, c.want) {
				t.Errorf("answer %s, message %+v, want %+v", a, got, c.want)
			}
		})
	}
}

// TestJSON calls a function of typed messages as the Go function that it is.
func TestJSON(t *testing.T) {
	t.Parallel()
	type order struct{ Item string }
	f := handler.JSON(func(_ context.Context, o order, m handler.Message) error { return errors.New(o.Item + " " + m.ID) })
	if err := f(t.Context(), handler.Message{ID: "m", Body: []byte(`{"item":"tea"}`)}); err == nil || err.Error() != "tea m" {
		t.Errorf("error %v", err)
	}
	if err := f(t.Context(), handler.Message{ID: "m", Body: []byte(`tea`)}); err == nil || !strings.Contains(err.Error(), `message "m" is no`) {
		t.Errorf("error %v", err)
	}
}

func TestTimer(t *testing.T) {
	t.Parallel()
	due := time.Date(2026, 11, 26, 0, 12, 0, 0, time.UTC)
	for value, want := range map[string]handler.Timer{
		`{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":true}`:                                                                              {IsPastDue: true},
		`{"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"2026-11-26T00:12:00+00:00","LastUpdated":"2026-11-26T01:12:00+01:00"},"IsPastDue":false}`: {Status: &handler.ScheduleStatus{Next: due, LastUpdated: due}},
		`{"IsPastDue":true,"ScheduleStatus":7}`: {IsPastDue: true},
		`"x"`:                                   {},
	} {
		var got handler.Timer
		app := handler.New()
		app.Timer("Tick", func(_ context.Context, t handler.Timer) error { got = t; return nil })
		h := start(t, app, map[string]string{"Tick/function.json": `{"bindings":[{"name":"timer","direction":"in","type":"timerTrigger","schedule":"0 * * * * *"}]}`}, nil)
		if a := h.post("Tick", `{"Data":{"timer":`+value+`},"Metadata":{}}`); a.Status != 200 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: answer %s, timer %+v, want %+v", value, a, got, want)
		}
	}
}

func TestBlob(t *testing.T) {
	t.Parallel()
	for uri, name := range map[string]string{
		"http://127.0.0.1:10000/devstoreaccount1/samples/dir/bin%20x.dat": "dir/bin x.dat",
		"https://acct.blob.core.windows.net/samples/dir/b.dat":            "dir/b.dat",
		"https://acct.blob.core.windows.net/samples/samples/b.dat":        "samples/b.dat",
	} {
		var got handler.Blob
		app := handler.New()
		app.Blob("B", func(_ context.Context, b handler.Blob) error { got = b; return nil })
		h := start(t, app, map[string]string{"B/function.json": `{"bindings":[{"name":"blob","direction":"in","type":"blobTrigger","path":"samples/{name}.{ext}"}]}`}, nil)
		a := h.post("B", `{"Data":{"blob":"AP8="},"Metadata":{"Uri":`+testkit.Twice(uri)+`,"Properties":{"ContentType":"a/b","LastModified":"2026-11-26T00:12:00+00:00","ETag":{}},"Metadata":{"Owner":"me"},"name":"\"n\"","ext":"\"dat\""}}`)
		want := handler.Blob{Name: name, Content: []byte("\x00\xff"), URI: uri, ContentType: "a/b", LastModified: time.Date(2026, 11, 26, 0, 12, 0, 0, time.UTC), Metadata: map[string]string{"Owner": "me"}, Params: map[string]string{"name": "n", "ext": "dat"}}
		if a.Status != 200 || !reflect.DeepEqual(got, want) {
			t.Errorf("answer %s, blob %+v, want %+v", a, got, want)
		}
	}
}

func TestTypedOutputs(t *testing.T) {
	t.Parallel()
	type order struct{ ID int }
	app := handler.New()
	app.Queue("Q", func(ctx context.Context, _ handler.Message) error {
		handler.OutputName[order]("orders").Set(ctx, order{7})
		handler.OutputName[[]string]("table").Set(ctx, []string{"a"})
		handler.SetOutput(ctx, "$return", "text.")
		return nil
	})
	h := start(t, app, map[string]string{"Q/function.json": `{"bindings":[{"name":"item","direction":"in","type":"queueTrigger"},{"name":"orders","type":"queue","direction":"out"},{"name":"table","type":"table","direction":"inout"},{"name":"$return","type":"queue","direction":"out"}]}`}, nil)
	a := h.post("Q", `{"Data":{"item":"\"x\"","table":"\"old\""},"Metadata":{}}`)
	if string(a.Outputs["orders"]) != `{"ID":7}` || string(a.Outputs["table"]) != `["a"]` || string(a.ReturnValue) != `"text."` || len(a.Outputs) != 2 {
		t.Errorf("answer %s", a)
	}
}

// TestMisfits: a function that is registered as something its folder is not is one line at the start, which says what to write.
func TestMisfits(t *testing.T) {
	t.Parallel()
	message := func(context.Context, handler.Message) error { return nil }
	for name, c := range map[string]struct {
		register func(*handler.App)
		folder   string
		want     []string
	}{
		"HTTP on a queue":     {func(a *handler.App) { a.HTTP("F", http.NotFoundHandler()) }, triggerJSON, []string{"queueTrigger", "an HTTP function", `app.Queue("F", …)`, `"type": "httpTrigger"`}},
		"queue on a timer":    {func(a *handler.App) { a.Queue("F", message) }, `{"bindings":[{"name":"t","direction":"in","type":"timerTrigger","schedule":"0 * * * * *"}]}`, []string{`app.Timer("F", …)`, `"type": "queueTrigger"`}},
		"trigger on activity": {func(a *handler.App) { a.Trigger("F", func(context.Context, *handler.Invocation) error { return nil }) }, activityJSON, []string{`app.Activity("F", …)`}},
		"activity on another": {func(a *handler.App) { a.Activity("F", func(task.ActivityContext) (any, error) { return nil, nil }) }, `{"bindings":[{"name":"e","direction":"in","type":"eventGridTrigger"}]}`, []string{`app.Trigger("F", …)`, `"type": "activityTrigger"`}},
		"no http output":      {func(a *handler.App) { a.HTTP("F", http.NotFoundHandler()) }, `{"bindings":[{"name":"req","direction":"in","type":"httpTrigger"}]}`, []string{`"type":"http"`}},
		"many messages":       {func(a *handler.App) { a.Queue("F", message) }, `{"bindings":[{"name":"m","direction":"in","type":"serviceBusTrigger","cardinality":"many"}]}`, []string{"cardinality"}},
		"no code":             {func(a *handler.App) { a.Queue("F", nil) }, triggerJSON, []string{"without code"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			c.register(app)
			_, err := app.Handler(handler.Options{Root: appRoot(t, map[string]string{"F/function.json": c.folder}), Getenv: func(string) string { return "" }, Environ: []string{}})
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want one with %q", err, want)
				}
			}
		})
	}
}

// TestGo: what a goroutine of a function comes to is what the invocation comes to.
func TestGo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		task func() error
		want string // of the reason phrase; "" is an answer
	}{
		"well":   {func() error { return nil }, ""},
		"error":  {func() error { return errors.New("sad") }, "sad"},
		"panic":  {func() error { panic("boom") }, "panic: boom"},
		"Goexit": {func() error { runtime.Goexit(); return nil }, "ended itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			app.Queue("T", func(ctx context.Context, _ handler.Message) error { handler.Go(ctx, c.task); return nil })
			app.Activity("Work", durable.Activity(func(ctx context.Context, _ any) (int, error) { handler.Go(ctx, c.task); return 7, nil }))
			h := start(t, app, map[string]string{"T/function.json": triggerJSON, "Work/function.json": activityJSON}, nil)
			for function, body := range map[string]string{"T": `{"Data":{"item":"\"x\""}}`, "Work": testkit.ActivityBody("1")} {
				switch a := h.post(function, body); {
				case c.want == "" && a.Status != 200:
					t.Errorf("%s: answer %s", function, a)
				case c.want != "" && (a.Status != 500 || !strings.Contains(a.Phrase, c.want)):
					t.Errorf("%s: answer %s, want 500 with %q", function, a, c.want)
				}
			}
		})
	}
}

// TestFunctionsAlone: functions of every kind are called in a test as what they are, outside of an invocation.
func TestFunctionsAlone(t *testing.T) {
	t.Parallel()
	client, err := durable.NewClient(`{"rpcBaseUrl":"http://127.0.0.1:1"}`, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.FromContext(t.Context()); !errors.Is(err, durable.ErrNoClient) {
		t.Errorf("error %v, want ErrNoClient", err)
	}
	done := make(chan bool)
	f := func(w http.ResponseWriter, r *http.Request) {
		if c, err := durable.FromContext(r.Context()); err != nil || c != client {
			t.Errorf("client %v (%v)", c, err)
		}
		handler.SetOutput(r.Context(), "mail", 1)
		handler.Go(r.Context(), func() error { close(done); return nil })
		_, _ = io.WriteString(w, "ok")
	}
	w := httptest.NewRecorder()
	f(w, httptest.NewRequestWithContext(durable.NewContext(t.Context(), client), "GET", "/", nil))
	<-done
	if w.Body.String() != "ok" {
		t.Errorf("answer %q", w.Body)
	}
}

// FuzzTriggers sends any invocation to a function of each kind.
func FuzzTriggers(f *testing.F) {
	f.Add(httpBody("POST", "http://h/api/things/7?code=x", `"Content-Type":["application/octet-stream"]`, "AAH/"))
	f.Add(`{"Data":{"item":"\"{\\\"Id\\\":1}\""},"Metadata":{` + queueMetadata + `}}`)
	f.Add(`{"Data":{"item":"AP8="},"Metadata":{` + busMetadata + `}}`)
	f.Add(`{"Data":{"timer":{"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"x"},"IsPastDue":1}},"Metadata":{}}`)
	f.Add(`{"Data":{"blob":"AP8="},"Metadata":{"Uri":"\"http://h/a/b\"","Properties":{"LastModified":7},"Metadata":{"a":1},"name":[]}}`)
	app := handler.New()
	app.HTTP("H", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	app.Queue("Q", func(context.Context, handler.Message) error { return nil })
	app.Timer("T", func(context.Context, handler.Timer) error { return nil })
	app.Blob("B", func(context.Context, handler.Blob) error { return nil })
	h, err := app.Handler(handler.Options{
		Root: appRoot(f, map[string]string{
			"H/function.json": httpJSON, "Q/function.json": triggerJSON,
			"T/function.json": `{"bindings":[{"name":"timer","direction":"in","type":"timerTrigger","schedule":"0 * * * * *"}]}`,
			"B/function.json": `{"bindings":[{"name":"blob","direction":"in","type":"blobTrigger","path":"samples/{name}"}]}`,
		}),
		Getenv: func(string) string { return "" }, Environ: []string{}, Stdout: io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, function := range []string{"H", "Q", "T", "B"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1/"+function, strings.NewReader(body)))
			if w.Code == http.StatusOK && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: 200 with %q: the host would never end this", function, w.Body)
			}
		}
	})
}
