package handler_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
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

const (
	triggerJSON  = `{"bindings":[{"name":"item","type":"queueTrigger","direction":"in","queueName":"q"},{"name":"starter","type":"durableClient","direction":"in"},{"name":"out","type":"queue","direction":"out"}]}`
	orchJSON     = `{"bindings":[{"name":"context","type":"orchestrationTrigger","direction":"in"},{"name":"mail","type":"queue","direction":"out"}]}`
	activityJSON = `{"bindings":[{"name":"input","type":"activityTrigger","direction":"in"},{"name":"side","type":"queue","direction":"out"}]}`
)

// appRoot writes an app root.
func appRoot(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if _, ok := files["host.json"]; !ok {
		files["host.json"] = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"}}}`
	}
	for name, text := range files {
		testkit.WriteFile(t, filepath.Join(root, name), text)
	}
	return root
}

// host is the Functions host before a server of the app, and what that wrote.
type host struct {
	testkit.Host
	t              *testing.T
	stdout, stderr testkit.Buffer
}

func start(t *testing.T, app *handler.App, files map[string]string, settings map[string]string) *host {
	t.Helper()
	return startTraced(t, nil, app, files, settings)
}

func startTraced(t *testing.T, sent *telemetry.Telemetry, app *handler.App, files map[string]string, settings map[string]string) *host {
	t.Helper()
	h := &host{t: t}
	handle, err := app.Handler(handler.Options{
		Telemetry: sent,
		Root:      appRoot(t, files),
		Getenv:    func(name string) string { return settings[name] }, Environ: []string{},
		Stdout: &h.stdout, Stderr: &h.stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = handler.NewServer(handle)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(testkit.CloseIdleConnections)
	h.URL = server.URL
	return h
}

// post invokes a function. A good answer must be one that the host can read.
func (h *host) post(function, body string) testkit.Answer {
	h.t.Helper()
	a := h.Post(h.t, function, body)
	if a.Status == http.StatusOK && (a.ContentType != "application/json" || !json.Valid([]byte(a.Body))) {
		h.t.Errorf("Content-Type %q, answer %q: the host takes application/json only", a.ContentType, a.Body)
	}
	return a
}

func activityApp(f task.Activity) *handler.App {
	app := handler.New()
	app.Activity("Work", f)
	return app
}

func TestDecodingByWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ data, want string }{
		"string":             {testkit.Twice("hello"), "hello"},
		"empty string":       {testkit.Twice(""), ""},
		"JSON in a string":   {testkit.Twice(`{"a":1}`), `{"a":1}`},
		"number in a string": {testkit.Twice("42"), "42"},
		"quoted string":      {testkit.Twice(`"x"`), `"x"`},
		"unicode, escapes":   {testkit.Twice("ü\n\"\\\u2028😀"), "ü\n\"\\\u2028😀"},
		"bytes":              {`"aGVsbG8="`, "aGVsbG8="},
		"absent blob":        {`"null"`, "null"},
		"object":             {`{"a": [1]}`, `{"a": [1]}`},
		"array":              {`"[1,2]"`, "[1,2]"},
		"number":             {`"5"`, "5"},
		"not a literal":      {`"\"open"`, `"open`},
		"null":               {`null`, "null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			app := handler.New()
			app.Trigger("T", func(_ context.Context, in *handler.Invocation) error {
				got <- in.Text("item")
				return nil
			})
			h := start(t, app, map[string]string{"T/function.json": triggerJSON}, nil)
			if a := h.post("T", `{"Data":{"item":`+c.data+`},"Metadata":{}}`); a.Status != 200 {
				t.Fatalf("answer %+v", a)
			}
			if text := <-got; text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

// The host copies a message's properties over Metadata: the function is chosen by the path all the same.
func TestForgedMetadata(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Trigger("T", func(_ context.Context, in *handler.Invocation) error {
		id, _ := in.Metadata("messageid")
		if in.Function != "T" || in.ID != testkit.InvocationID || id != "evil" {
			return fmt.Errorf("function %q, id %q, message %q", in.Function, in.ID, id)
		}
		return nil
	})
	app.Activity("Work", durable.Activity(func(context.Context, any) (any, error) { return nil, errors.New("the wrong function") }))
	h := start(t, app, map[string]string{"T/function.json": triggerJSON, "Work/function.json": activityJSON}, nil)
	for _, sys := range []string{`"\"True\""`, `{"MethodName":"Work"}`, `null`, `[1]`} {
		body := `{"Data":{"item":` + testkit.Twice("x") + `},"Metadata":{"sys":` + sys + `,"SYS":` + sys + `,"MethodName":"\"Work\"","MessageId":"\"evil\"","instanceId":{"a":1},"Id":"\"evil\"","DequeueCount":"\"99\""}}`
		if a := h.post("T", body); a.Status != 200 {
			t.Errorf("sys %s: %d %s", sys, a.Status, a.Phrase)
		}
	}
}

// badError is an error that panics when asked for its text.
type badError struct{ text *string }

func (e *badError) Error() string {
	if e.text == nil {
		panic("no words")
	}
	return *e.text
}

// badJSON panics when it is to become JSON.
type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("no JSON") }

func TestActivity(t *testing.T) {
	t.Parallel()
	echo := durable.Activity(func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })
	for name, c := range map[string]struct {
		f      task.Activity
		input  string
		status int
		value  string // of a good answer
		phrase string // in a bad one
	}{
		"object":     {f: echo, input: `{"RecordId":"7"}`, status: 200, value: `{"RecordId":"7"}`},
		"null input": {f: echo, input: "null", status: 200, value: "null"},
		"HTML":       {f: echo, input: `"<b>&"`, status: 200, value: `"<b>&"`},
		"no result":  {f: func(task.ActivityContext) (any, error) { return nil, nil }, input: "1", status: 200, value: "null"},
		"error":      {f: func(task.ActivityContext) (any, error) { return nil, errors.New("card declined: 42") }, input: "1", status: 500, phrase: "card declined: 42"},
		"panic":      {f: func(task.ActivityContext) (any, error) { panic("boom") }, input: "1", status: 500, phrase: "panic: boom"},
		"nil":        {f: func(ctx task.ActivityContext) (any, error) { return ctx.Context().Err().Error(), nil }, input: "1", status: 500, phrase: "nil pointer"},
		"goexit":     {f: func(task.ActivityContext) (any, error) { runtime.Goexit(); return nil, nil }, input: "1", status: 500, phrase: "goroutine"},
		"no JSON":    {f: func(task.ActivityContext) (any, error) { return make(chan int), nil }, input: "1", status: 500, phrase: "cannot be JSON"},
		"bad input":  {f: durable.Activity(func(context.Context, int) (int, error) { return 1, nil }), input: `"text"`, status: 500, phrase: "input is no int"},
		"nil error":  {f: func(task.ActivityContext) (any, error) { return 1, (*badError)(nil) }, input: "1", status: 500, phrase: "error of type *handler_test.badError, whose Error method panicked"},
		"bad error":  {f: func(task.ActivityContext) (any, error) { return 1, &badError{} }, input: "1", status: 500, phrase: "panicked: no words"},
		"wrapped":    {f: func(task.ActivityContext) (any, error) { return 1, fmt.Errorf("saving: %w", &badError{}) }, input: "1", status: 500, phrase: "saving: "},
		"joined":     {f: func(task.ActivityContext) (any, error) { return 1, errors.Join(errors.New("a"), &badError{}) }, input: "1", status: 500, phrase: "panicked: no words"},
		"bad panic":  {f: func(task.ActivityContext) (any, error) { panic(&badError{}) }, input: "1", status: 500, phrase: "panic: "},
		"bad result": {f: func(task.ActivityContext) (any, error) { return badJSON{}, nil }, input: "1", status: 500, phrase: "no JSON"},
		"newline":    {f: func(task.ActivityContext) (any, error) { return nil, errors.New("one\r\ntwo\x00") }, input: "1", status: 500, phrase: "one"},
		"long error": {f: func(task.ActivityContext) (any, error) { return nil, errors.New(strings.Repeat("é", 100_000)) }, input: "1", status: 500, phrase: "é"},
		"no words":   {f: func(task.ActivityContext) (any, error) { return nil, errors.New("") }, input: "1", status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, activityApp(c.f), map[string]string{"Work/function.json": activityJSON}, nil)
			for range 2 { // the process lives on
				a := h.post("Work", testkit.ActivityBody(c.input))
				if a.Status != c.status || string(a.ReturnValue) != c.value || !strings.Contains(a.Phrase, c.phrase) {
					t.Errorf("answer %d %.200q %s, want %d %q %s", a.Status, a.Phrase, a.ReturnValue, c.status, c.phrase, c.value)
				}
			}
		})
	}
}

func TestPanicIsLoggedOnceWithItsStack(t *testing.T) {
	t.Parallel()
	h := start(t, activityApp(func(task.ActivityContext) (any, error) { panic("boom") }), map[string]string{"Work/function.json": activityJSON}, nil)
	h.post("Work", testkit.ActivityBody("1"))
	if log := h.stderr.String(); strings.Count(log, "function panicked") != 1 || !strings.Contains(log, "handler_test.go") ||
		!strings.Contains(log, "function=Work") || !strings.Contains(log, "invocation="+testkit.InvocationID) {
		t.Errorf("stderr: %s", log)
	}
}

// A result with a property named like an output binding would be taken for that output.
func TestResultIsNoOutput(t *testing.T) {
	t.Parallel()
	h := start(t, activityApp(func(task.ActivityContext) (any, error) { return map[string]int{"side": 1}, nil }),
		map[string]string{"Work/function.json": activityJSON}, nil)
	if a := h.post("Work", testkit.ActivityBody("1")); !bytes.HasPrefix(a.ReturnValue, []byte(`"`)) {
		t.Errorf("ReturnValue %s is an object with an output's name", a.ReturnValue)
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Trigger("T", func(ctx context.Context, _ *handler.Invocation) error {
		handler.SetOutput(ctx, "out", map[string]int{"n": 1})
		handler.SetOutput(ctx, "nope", 1)
		return nil
	})
	h := start(t, app, map[string]string{"T/function.json": triggerJSON}, nil)
	a := h.post("T", `{"Data":{},"Metadata":{}}`)
	if len(a.Outputs) != 1 || string(a.Outputs["out"]) != `{"n":1}` || !strings.Contains(h.stderr.String(), "output=nope") {
		t.Errorf("outputs %s, stderr %s", a.Outputs, h.stderr.String())
	}
}

// TestInOutBinding: a binding of direction inout is an input and an output.
func TestInOutBinding(t *testing.T) {
	t.Parallel()
	h := start(t, activityApp(func(ctx task.ActivityContext) (any, error) {
		handler.SetOutput(ctx.Context(), "state", map[string]int{"n": 1})
		return map[string]string{"state": "a property of that name"}, nil
	}), map[string]string{"Work/function.json": `{"bindings":[{"name":"input","type":"activityTrigger","direction":"in"},{"name":"state","type":"blob","direction":"inout","path":"a/b"}]}`}, nil)
	a := h.post("Work", testkit.ActivityBody("1"))
	if string(a.Outputs["state"]) != `{"n":1}` || !bytes.HasPrefix(a.ReturnValue, []byte(`"`)) || h.stderr.String() != "" {
		t.Errorf("outputs %s, result %s, stderr %s", a.Outputs, a.ReturnValue, h.stderr.String())
	}
}

// TestOnlyTheHostMayCall: a web page in a browser on this machine reaches the port, and may run nothing.
func TestOnlyTheHostMayCall(t *testing.T) {
	t.Parallel()
	ran := make(chan bool, 100)
	h := start(t, activityApp(func(task.ActivityContext) (any, error) { ran <- true; return 1, nil }), map[string]string{"Work/function.json": activityJSON}, nil)
	for name, c := range map[string]struct {
		host, header, value string
		want                int
	}{
		"the host":                 {"", "", "", 200},
		"localhost":                {"localhost:7071", "", "", 200},
		"IPv6":                     {"[::1]:7071", "", "", 200},
		"without a port":           {"127.0.0.1", "", "", 200},
		"a page":                   {"", "Origin", "https://evil.example", 403},
		"a page in a frame":        {"", "Origin", "null", 403},
		"a page of this machine":   {"", "Origin", "http://127.0.0.1:7071", 403},
		"a form":                   {"", "Sec-Fetch-Site", "cross-site", 403},
		"a name that leads here":   {"evil.example:7071", "", "", 403},
		"one that looks like us":   {"localhost.evil.example", "", "", 403},
		"and another":              {"127.0.0.1.evil.example:80", "", "", 403},
		"the machine's address":    {"192.168.1.5:7071", "", "", 403},
		"a name, the trigger's in": {"evil.example", "X-Azure-Functions-InvocationId", "inv-2", 403},
	} {
		for _, method := range []string{"POST", "GET"} {
			path := map[string]string{"POST": "/Work", "GET": "/"}[method]
			req, err := http.NewRequest(method, h.URL+path, strings.NewReader(testkit.ActivityBody("1")))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			req.Header.Set("Content-Type", "text/plain") // which a page may send without asking
			if c.header != "" {
				req.Header.Set(c.header, c.value)
			}
			a, err := h.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != c.want {
				t.Errorf("%s %s: %d %s, want %d", name, method, a.Status, a.Phrase, c.want)
			}
			if method == "POST" && (len(ran) == 1) != (c.want == 200) {
				t.Errorf("%s: ran %d times", name, len(ran))
			}
			for len(ran) > 0 {
				<-ran
			}
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	fail := false
	app := handler.New()
	app.Trigger("T", func(ctx context.Context, _ *handler.Invocation) error {
		log := durable.Log(ctx).With("k", "v").WithGroup("g")
		log.Info("an info", "n", 1)
		log.Debug("a debug")
		log.Error("an error", "n", 2)
		if fail {
			return errors.New("no")
		}
		return nil
	})
	h := start(t, app, map[string]string{"T/function.json": triggerJSON}, nil)
	a := h.post("T", `{"Data":{},"Metadata":{}}`)
	if want := `level=INFO msg="an info" k=v g.n=1`; len(a.Logs) != 1 || a.Logs[0] != want {
		t.Errorf("Logs %q, want %q", a.Logs, want)
	}
	if log := h.stderr.String(); strings.Count(log, `msg="an error" function=T invocation=`+testkit.InvocationID+` k=v g.n=2`) != 1 || strings.Contains(log, "an info") {
		t.Errorf("stderr %q", log)
	}
	if h.stdout.String() != "" {
		t.Errorf("stdout %q", h.stdout.String())
	}
	// The host does not read the Logs of a bad answer: they go to stdout instead.
	fail = true
	h.post("T", `{"Data":{},"Metadata":{}}`)
	if log := h.stdout.String(); strings.Count(log, `msg="an info"`) != 1 || !strings.Contains(log, "invocation="+testkit.InvocationID) {
		t.Errorf("stdout %q", log)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := start(t, activityApp(func(task.ActivityContext) (any, error) { return 1, nil }),
		map[string]string{"Work/function.json": activityJSON}, map[string]string{"HANDLER_MAX_BODY_BYTES": "1000"})
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		phrase             string
	}{
		"ready?":         {"GET", "/", "", 200, ""},
		"GET":            {"GET", "/Work", "", 405, "POST"},
		"PUT":            {"PUT", "/Work", "{}", 405, "POST"},
		"unknown":        {"POST", "/Nope", "{}", 404, "Nope"},
		"other case":     {"POST", "/work", "{}", 404, "work"},
		"deep path":      {"POST", "/Work/x", "{}", 404, "/Work/x"},
		"not JSON":       {"POST", "/Work", "hello", 400, "no invocation"},
		"truncated JSON": {"POST", "/Work", `{"Data":{"inp`, 400, "no invocation"},
		"array":          {"POST", "/Work", `[]`, 400, "no invocation"},
		"empty":          {"POST", "/Work", ``, 400, "no invocation"},
		"too large":      {"POST", "/Work", strings.Repeat(" ", 1001), 413, "limit is 1000"},
		"largest":        {"POST", "/Work", testkit.ActivityBody("1") + strings.Repeat(" ", 1000-len(testkit.ActivityBody("1"))), 200, ""},
		"injection":      {"POST", "/a%0d%0aX-Evil:1", "{}", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, h.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.status || !strings.Contains(res.Status, c.phrase) || res.Header.Get("X-Evil") != "" {
				t.Errorf("answer %s, want %d %q", res.Status, c.status, c.phrase)
			}
		})
	}
}

// A function that sleeps through the deadline is answered before the host would kill the process; others go on.
func TestDeadline(t *testing.T) {
	t.Parallel()
	asleep, wake := make(chan time.Time, 1), make(chan struct{})
	t.Cleanup(func() { close(wake) })
	app := handler.New()
	app.Activity("Work", func(ctx task.ActivityContext) (any, error) {
		var s string
		_ = ctx.GetInput(&s)
		if s == "sleep" {
			deadline, _ := ctx.Context().Deadline()
			asleep <- deadline
			<-wake
		}
		return s, nil
	})
	app.Orchestrator("Orch", func(*task.OrchestrationContext) (any, error) { <-wake; return nil, nil })
	h := start(t, app, map[string]string{"Work/function.json": activityJSON, "Orch/function.json": orchJSON,
		"host.json": `{"version":"2.0","functionTimeout":"00:00:04"}`}, map[string]string{"HANDLER_DEADLINE_MARGIN": "2s"})

	slow := make(chan testkit.Answer, 1)
	go func() { slow <- h.post("Work", testkit.ActivityBody(`"sleep"`)) }()
	if left := time.Until(<-asleep); left <= 0 || left > 2*time.Second {
		t.Errorf("the context's deadline is in %s, want at most 2s", left)
	}
	if a := h.post("Work", testkit.ActivityBody(`"quick"`)); a.Status != 200 {
		t.Errorf("an invocation beside the sleeping one: %d %s", a.Status, a.Phrase)
	}
	if a := <-slow; a.Status != 500 || !strings.Contains(a.Phrase, "ran for 2s, the limit") {
		t.Errorf("the sleeping one: %d %s", a.Status, a.Phrase)
	}
	if a := h.post("Orch", `{"Data":{"context":`+testkit.Twice(firstTurn)+`},"Metadata":{}}`); a.Status != 200 || len(a.ReturnValue) < 10 {
		t.Errorf("a sleeping orchestrator: %d %s %s", a.Status, a.Phrase, a.ReturnValue)
	}
}

// firstTurn is a recorded first turn of an instance of Orch.
const firstTurn = "CgVjLWZhbiIbCP///////////wESDAiPko3YBhC8nOHlAXIAImwI////////////ARILCI+SjdgGEOTIq28aUgoET3JjaBoZChd7Im1vZGUiOiJmYW5vdXQiLCJuIjozfSIvCgVjLWZhbhImCiRiMGQ5ZDQzYi05MTYwLTQyNDgtYTIwOC1jMGM5ODVkYjFiZTkqBQoDCIgOOjkKLEh0dHBEZWZhdWx0QXN5bmNSZXF1ZXN0U2xlZXBUaW1lTWlsbGlzZWNvbmRzEgkRAAAAAABM3UA6EgoMSW5jbHVkZVN0YXRlEgIgAToXChFJc0V4dGVuZGVkU2Vzc2lvbhICIAA6MAojRXh0ZW5kZWRTZXNzaW9uSWRsZVRpbWVvdXRJblNlY29uZHMSCREAAAAAAAAAAA=="

// TestTriggerErrorWhoseTextPanics: a trigger's invocation is answered whatever its error does.
func TestTriggerErrorWhoseTextPanics(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Trigger("T", func(context.Context, *handler.Invocation) error { return (*badError)(nil) })
	h := start(t, app, map[string]string{"T/function.json": triggerJSON}, nil)
	if a := h.post("T", `{"Data":{},"Metadata":{}}`); a.Status != 500 || !strings.Contains(a.Phrase, "whose Error method panicked") {
		t.Errorf("%d %s", a.Status, a.Phrase)
	}
}

// Whatever an orchestrator does, a turn gets a good answer: the host would fail the orchestration and not say why.
func TestTurnsThatGoWrong(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]task.Orchestrator{
		"panic":  func(*task.OrchestrationContext) (any, error) { panic("boom") },
		"goexit": func(*task.OrchestrationContext) (any, error) { runtime.Goexit(); return nil, nil },
		"output": func(ctx *task.OrchestrationContext) (any, error) {
			durable.SetOutput(ctx, "mail", make(chan int))
			return 1, nil
		},
		"result":     func(*task.OrchestrationContext) (any, error) { return make(chan int), nil },
		"bad error":  func(*task.OrchestrationContext) (any, error) { return nil, &badError{} },
		"bad result": func(*task.OrchestrationContext) (any, error) { return badJSON{}, nil },
		"bad panic":  func(*task.OrchestrationContext) (any, error) { panic(&badError{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			app.Orchestrator("Orch", o)
			h := start(t, app, map[string]string{"Orch/function.json": orchJSON}, nil)
			a := h.post("Orch", `{"Data":{"context":`+testkit.Twice(firstTurn)+`},"Metadata":{}}`)
			if raw, err := base64.StdEncoding.DecodeString(strings.Trim(string(a.ReturnValue), `"`)); a.Status != 200 || err != nil || len(raw) == 0 || len(a.Outputs) != 0 {
				t.Errorf("%d %s %+v", a.Status, a.Phrase, a)
			}
		})
	}
}

// A function that is switched off does not keep the others from running.
func TestDisabledFunction(t *testing.T) {
	t.Parallel()
	app := activityApp(func(task.ActivityContext) (any, error) { return 1, nil })
	app.Activity("Off", func(task.ActivityContext) (any, error) { return 1, nil })
	root := appRoot(t, map[string]string{"Work/function.json": activityJSON, "Off/function.json": activityJSON})
	handle, err := app.Handler(handler.Options{Root: root, Getenv: func(string) string { return "" }, Environ: []string{"AzureWebJobs.Off.Disabled=1"}})
	if err != nil {
		t.Fatal(err)
	}
	for function, want := range map[string]int{"Work": 200, "Off": 404} {
		w := httptest.NewRecorder()
		handle.ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1/"+function, strings.NewReader(testkit.ActivityBody("1"))))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", function, w.Code, want)
		}
	}
}

// An input whose turns would not fit the body limit is refused before it is sent.
func TestStartThatWouldNotFit(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Trigger("T", func(ctx context.Context, in *handler.Invocation) error {
		c, err := in.DurableClient("starter")
		if err != nil {
			return err
		}
		_, err = c.Start(ctx, "Orch", "", strings.Repeat("x", 6000))
		if !errors.Is(err, durable.ErrTooLarge) {
			t.Errorf("error %v, want ErrTooLarge", err)
		}
		return nil
	})
	h := start(t, app, map[string]string{"T/function.json": triggerJSON}, map[string]string{"HANDLER_MAX_BODY_BYTES": "10000"})
	if a := h.post("T", `{"Data":{"starter":`+testkit.Twice(`{"rpcBaseUrl":"http://127.0.0.1:1"}`)+`},"Metadata":{}}`); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Phrase)
	}
}

// What a function logs after its answer, left behind at the deadline, goes to stdout.
func TestLateLogs(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	app := handler.New()
	app.Trigger("T", func(ctx context.Context, _ *handler.Invocation) error {
		defer close(done)
		log := durable.Log(ctx)
		log.Info("early")
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond)
		log.Info("late")
		return nil
	})
	h := start(t, app, map[string]string{"T/function.json": triggerJSON, "host.json": `{"version":"2.0","functionTimeout":"00:00:01"}`}, nil)
	h.post("T", `{"Data":{},"Metadata":{}}`)
	<-done
	if log := h.stdout.String(); strings.Count(log, "msg=early") != 1 || strings.Count(log, "msg=late function=T") != 1 {
		t.Errorf("stdout %q", log)
	}
}

func TestTraceparentIsTheParent(t *testing.T) {
	t.Parallel()
	got := make(chan trace.SpanContext, 1)
	h := start(t, activityApp(func(ctx task.ActivityContext) (any, error) {
		got <- trace.SpanContextFromContext(ctx.Context())
		return nil, nil
	}), map[string]string{"Work/function.json": activityJSON}, nil)
	req, _ := http.NewRequest("POST", h.URL+"/Work", strings.NewReader(testkit.ActivityBody("1")))
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if _, err := h.Do(req); err != nil {
		t.Fatal(err)
	}
	if sc := <-got; sc.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || sc.SpanID().String() != "b7ad6b7169203331" || !sc.IsSampled() {
		t.Errorf("span context %+v", sc)
	}
}

func TestBadTurns(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Orchestrator("Orch", func(*task.OrchestrationContext) (any, error) { return nil, nil })
	h := start(t, app, map[string]string{"Orch/function.json": orchJSON}, nil)
	for name, value := range map[string]string{
		"absent": `null`, "not base64": testkit.Twice("a?b"), "bad byte": testkit.Twice(firstTurn[:40] + "*" + firstTurn[41:]),
		"truncated": testkit.Twice(firstTurn[:60]), "no instance": testkit.Twice(""),
	} {
		a := h.post("Orch", `{"Data":{"context":`+value+`},"Metadata":{}}`)
		if a.Status != 400 || a.Phrase == "Bad Request" {
			t.Errorf("%s: %d %q, want a 400 that says why", name, a.Status, a.Phrase)
		}
	}
}

func TestWrongSetUp(t *testing.T) {
	t.Parallel()
	nothing := func(task.ActivityContext) (any, error) { return nil, nil }
	orchestrate := func(*task.OrchestrationContext) (any, error) { return nil, nil }
	for name, c := range map[string]struct {
		register func(*handler.App)
		files    map[string]string
		settings map[string]string
		want     string
	}{
		"no function.json": {register: func(a *handler.App) { a.Activity("Work", nothing) }, want: "Work/function.json"},
		"not registered":   {files: map[string]string{"Work/function.json": activityJSON}, want: "not registered"},
		"twice":            {register: func(a *handler.App) { a.Activity("Work", nothing); a.Orchestrator("Work", orchestrate) }, want: "twice"},
		"no name":          {register: func(a *handler.App) { a.Activity("", nothing) }, want: "without a name"},
		"no code":          {register: func(a *handler.App) { a.Activity("Work", nil) }, want: "without code"},
		"wrong trigger":    {register: func(a *handler.App) { a.Orchestrator("Work", orchestrate) }, files: map[string]string{"Work/function.json": activityJSON}, want: "registered as an orchestrator"},
		"trigger function": {register: func(a *handler.App) {
			a.Trigger("Work", func(context.Context, *handler.Invocation) error { return nil })
		}, files: map[string]string{"Work/function.json": activityJSON}, want: "registered as a trigger function"},
		"bad host.json":     {files: map[string]string{"host.json": `{"version":`}, want: "host.json"},
		"bad function.json": {files: map[string]string{"Work/function.json": `{]`}, want: "function.json"},
		"extended sessions": {files: map[string]string{"host.json": `{"version":"2.0","extensions":{"durableTask":{"extendedSessionsEnabled":true}}}`}, want: "extendedSessionsEnabled"},
		"bad setting":       {settings: map[string]string{"HANDLER_MAX_BODY_BYTES": "lots"}, want: "HANDLER_MAX_BODY_BYTES"},
		"another runtime":   {settings: map[string]string{"FUNCTIONS_WORKER_RUNTIME": "node"}, want: `setting FUNCTIONS_WORKER_RUNTIME is "node"`},
		"bad level":         {settings: map[string]string{"HANDLER_LOG_LEVEL": "loud"}, want: "HANDLER_LOG_LEVEL"},
		"margin too large":  {settings: map[string]string{"HANDLER_DEADLINE_MARGIN": "1h"}, want: "HANDLER_DEADLINE_MARGIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			if c.register != nil {
				c.register(app)
			}
			if c.files == nil {
				c.files = map[string]string{}
			}
			_, err := app.Handler(handler.Options{Root: appRoot(t, c.files), Environ: []string{}, Getenv: func(n string) string { return c.settings[n] }})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

// 200 invocations at once, clients that hang up, a body that never ends: nothing is left behind.
func TestUnderLoad(t *testing.T) {
	release := make(chan struct{})
	h := start(t, activityApp(func(ctx task.ActivityContext) (any, error) {
		select {
		case <-release:
		case <-ctx.Context().Done():
		}
		return 1, nil
	}), map[string]string{"Work/function.json": activityJSON}, nil)
	before := runtime.NumGoroutine()

	hung, hangUp := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx := context.Background()
			if i%4 == 0 {
				ctx = hung
			}
			req, _ := http.NewRequestWithContext(ctx, "POST", h.URL+"/Work", strings.NewReader(testkit.ActivityBody("1")))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				if ctx == hung {
					return
				}
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if res.StatusCode != 200 {
				t.Error(res.Status)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	hangUp()
	time.Sleep(50 * time.Millisecond)
	close(release)
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
	if log := h.stderr.String(); strings.Contains(log, "left behind") {
		t.Errorf("a client that hung up is taken for a deadline: %s", log)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before+5 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
