package handler_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

const (
	httpJSON    = `{"bindings":[{"name":"req","type":"httpTrigger","direction":"in","route":"things/{id}/{name?}"},{"name":"res","type":"http","direction":"out"},{"name":"mail","type":"queue","direction":"out"},{"name":"starter","type":"durableClient","direction":"in"}]}`
	returnJSON  = `{"bindings":[{"name":"req","type":"httpTrigger","direction":"in"},{"name":"$return","type":"http","direction":"out"}]}`
	forwardJSON = `{"bindings":[{"name":"req","type":"httpTrigger","direction":"in","route":"things/{id}"},{"name":"res","type":"http","direction":"out"}]}`

	forwardingHost = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"},"enableForwardingHttpRequest":true}}`
)

// httpBody is an invocation for an httpTrigger.
func httpBody(method, url, headers, body string) string {
	text, _ := json.Marshal(body)
	return `{"Data":{"req":{"Url":"` + url + `","Method":"` + method + `","Query":{},"Headers":{` + headers + `},"Params":{"id":"7","name":null},"Identities":[],"Body":` + string(text) +
		`},"starter":` + testkit.Twice(`{"rpcBaseUrl":"http://127.0.0.1:1","taskHubName":"H"}`) + `},"Metadata":{}}`
}

// enveloped is the value of an http output.
type enveloped struct {
	StatusCode int
	Headers    map[string]string
	Body       string
}

func TestHTTPThroughARouter(t *testing.T) {
	t.Parallel()
	router := chi.NewRouter()
	router.Post("/api/things/{id}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if _, err := durable.FromContext(r.Context()); err != nil {
			t.Error(err)
		}
		handler.SetOutput(r.Context(), "mail", map[string]string{"to": "x"})
		w.Header().Add("X-Seen", chi.URLParam(r, "id")+r.PathValue("id")+r.PathValue("name"))
		w.Header().Add("X-Seen", strings.Join(r.URL.Query()["q"], "+")+r.Host+r.Header.Get("X-Multi")+r.Header.Get("Accept-Encoding"))
		w.WriteHeader(http.StatusCreated)
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "<html>"+string(body))
	})
	app := handler.New()
	app.HTTP("Things", router)
	h := start(t, app, map[string]string{"Things/function.json": httpJSON}, nil)
	a := h.post("Things", httpBody("POST", "https://app.example/api/things/7?q=1&q=2", `"Host":["app.example"],"X-Multi":["one","two"],"Accept-Encoding":["gzip"]`, `{"n": 1.50}`))
	var got enveloped
	if err := json.Unmarshal(a.Outputs["res"], &got); err != nil {
		t.Fatalf("answer %s: %v", a, err)
	}
	if got.StatusCode != 201 || got.Body != `<html>{"n": 1.50}` || got.Headers["X-Seen"] != "77, 1+2app.exampleone" || got.Headers["Content-Type"] != "text/html; charset=utf-8" {
		t.Errorf("got %+v", got)
	}
	if string(a.Outputs["mail"]) != `{"to":"x"}` || string(a.ReturnValue) != "null" {
		t.Errorf("outputs %s, return value %s", a.Outputs["mail"], a.ReturnValue)
	}
	a = h.post("Things", httpBody("GET", "http://h/api/other", ``, ""))
	if err := json.Unmarshal(a.Outputs["res"], &got); err != nil || got.StatusCode != 404 {
		t.Errorf("a path that the router has not: %s", a)
	}
}

// TestHTTPFailures: what fails is a 500 that says why, in the answer and in the log, and never shows a key.
func TestHTTPFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(http.ResponseWriter, *http.Request)
		want  string
	}{
		"panic":           {func(http.ResponseWriter, *http.Request) { panic("boom") }, "boom"},
		"bad status":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(99999) }, "99999"},
		"binary body":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\xff\xd8")) }, "enableForwardingHttpRequest"},
		"two cookies":     {func(w http.ResponseWriter, _ *http.Request) { w.Header()["Set-Cookie"] = []string{"a=1", "b=2"} }, "enableForwardingHttpRequest"},
		"too large":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 3000)) }, "HANDLER_MAX_BODY_BYTES"},
		"goroutine panic": {func(_ http.ResponseWriter, r *http.Request) { handler.Go(r.Context(), func() error { panic("aside") }) }, "aside"},
		"goroutine error": {func(_ http.ResponseWriter, r *http.Request) {
			handler.Go(r.Context(), func() error { return errors.New("sad") })
		}, "sad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			app.HTTP("Things", http.HandlerFunc(c.serve))
			h := start(t, app, map[string]string{"Things/function.json": httpJSON}, map[string]string{"HANDLER_MAX_BODY_BYTES": "4096"})
			body := httpBody("GET", "http://h/api/things/7?code=SECRET", `"X-Functions-Key":["SECRET"]`, "")
			if a := h.post("Things", body); a.Status != 500 || !strings.Contains(a.Phrase, c.want) {
				t.Errorf("answer %s, want 500 with %q", a, c.want)
			}
			h.post("Things", strings.Replace(body, `"Method":"GET"`, `"Method":"G T"`, 1))
			h.post("Things", strings.Replace(body, `http://h/`, `http://h:x:/%zz`, 1))
			if log := h.stdout.String() + h.stderr.String(); strings.Contains(log, "SECRET") {
				t.Errorf("the log shows a key:\n%s", log)
			}
		})
	}
}

func TestHTTPReturn(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.HTTP("Hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	h := start(t, app, map[string]string{"Hello/function.json": returnJSON}, nil)
	if a := h.post("Hello", httpBody("DELETE", "http://h/api/Hello", "", "")); string(a.ReturnValue) != `{"statusCode":204,"headers":{},"body":""}` || len(a.Outputs) > 0 {
		t.Errorf("answer %s", a)
	}
}

// forwarded starts an app whose one function gets its requests as they are, and sends one.
func forwarded(t *testing.T, serve http.HandlerFunc, change func(*http.Request)) (*http.Response, *host, error) {
	t.Helper()
	app := handler.New()
	app.HTTP("Things", serve)
	h := start(t, app, map[string]string{"Things/function.json": forwardJSON, "host.json": forwardingHost}, map[string]string{"HANDLER_MAX_BODY_BYTES": "4096"})
	r, err := http.NewRequest("PUT", h.URL+"/api/things/a%20b?q=1,2&code=SECRET", strings.NewReader("\x00\xffbody"))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "app.example"
	r.Header.Set("Origin", "https://elsewhere.example")
	r.Header.Set("X-Functions-Key", "SECRET")
	r.Header.Set("X-Azure-Functions-InvocationId", testkit.InvocationID)
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err == nil {
		t.Cleanup(func() { answer.Body.Close() })
	}
	return answer, h, err
}

func TestForwardedHTTP(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	answer, h, err := forwarded(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "\x00\xffbody" || r.PathValue("id") != "a b" || r.URL.Query().Get("q") != "1,2" || r.Host != "app.example" || r.Method != "PUT" {
			t.Errorf("%s %s %s %q (%v), id %q", r.Method, r.Host, r.URL, body, err, r.PathValue("id"))
		}
		durable.Log(r.Context()).Info("seen")
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("\xff\xd8\n"))
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-goOn
		_, _ = io.WriteString(w, "rest")
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(answer.Body)
	if first, err := body.ReadString('\n'); err != nil || first != "\xff\xd8\n" {
		t.Errorf("what was flushed: %q (%v)", first, err)
	}
	close(goOn)
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "rest" || answer.StatusCode != 418 || len(answer.Cookies()) != 2 {
		t.Errorf("answer %s %v, rest %q (%v)", answer.Status, answer.Header, rest, err)
	}
	if !strings.Contains(h.stdout.String(), "seen") {
		t.Errorf("stdout: %q", h.stdout.String())
	}
}

// TestForwardedHTTPFailures: the process lives, the client sees a 500 or a broken answer, and no log shows a key.
func TestForwardedHTTPFailures(t *testing.T) {
	t.Parallel()
	abort := 0
	for name, c := range map[string]struct {
		serve  http.HandlerFunc
		change func(*http.Request)
		status int // abort: the answer breaks off
		log    string
	}{
		"panic":           {func(http.ResponseWriter, *http.Request) { panic("boom") }, nil, 500, "boom"},
		"late panic":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic("boom") }, nil, abort, "boom"},
		"goroutine panic": {func(_ http.ResponseWriter, r *http.Request) { handler.Go(r.Context(), func() error { panic("aside") }) }, nil, 500, "aside"},
		"Goexit":          {func(http.ResponseWriter, *http.Request) { goexit() }, nil, 500, "goroutine"},
		"large body": {func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			}
		}, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 5000))), 5000
		}, 413, ""},
		"a web page": {func(http.ResponseWriter, *http.Request) { t.Error("called") }, func(r *http.Request) { r.Header.Del("X-Azure-Functions-InvocationId") }, 403, ""},
		"no such route": {nil, func(r *http.Request) {
			r.URL.Path, r.URL.RawPath, r.Host = "/api/other", "", r.URL.Host
			r.Header.Del("Origin")
		}, 404, "/api/other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve := c.serve
			if serve == nil {
				serve = func(http.ResponseWriter, *http.Request) { t.Error("called") }
			}
			answer, h, err := forwarded(t, serve, c.change)
			switch {
			case c.status == abort:
				if err == nil {
					if _, err = io.ReadAll(answer.Body); err == nil {
						t.Error("the answer looks whole")
					}
				}
			case err != nil || answer.StatusCode != c.status:
				t.Errorf("answer %v (%v), want %d", answer, err, c.status)
			}
			log := h.stdout.String() + h.stderr.String()
			if !strings.Contains(log, c.log) || strings.Contains(log, "SECRET") {
				t.Errorf("log %q, want one with %q and without keys", log, c.log)
			}
		})
	}
}

func TestForwardedDeadline(t *testing.T) {
	t.Parallel()
	release := make(chan bool)
	t.Cleanup(func() { close(release) })
	app := handler.New()
	app.HTTP("Things", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "too late")
	}))
	h := start(t, app, map[string]string{"Things/function.json": forwardJSON, "host.json": strings.Replace(forwardingHost, `"version"`, `"functionTimeout":"00:00:01","version"`, 1)}, nil)
	r, _ := http.NewRequest("GET", h.URL+"/api/things/7", nil)
	r.Header.Set("X-Azure-Functions-InvocationId", testkit.InvocationID)
	answer, err := http.DefaultClient.Do(r)
	if err != nil || answer.StatusCode != 500 {
		t.Fatalf("answer %v (%v)", answer, err)
	}
	answer.Body.Close()
	if !strings.Contains(h.stderr.String(), "left behind") {
		t.Errorf("log %q", h.stderr.String())
	}
}

// TestEnvelopeBesideForwarding: a function with more bindings gets the envelope although the host forwards.
func TestEnvelopeBesideForwarding(t *testing.T) {
	t.Parallel()
	app := handler.New()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	app.HTTP("Start", hello)
	app.HTTP("All", hello)
	app.Queue("T", func(context.Context, handler.Message) error { return nil })
	h := start(t, app, map[string]string{
		"Start/function.json": httpJSON, "T/function.json": triggerJSON,
		"All/function.json": strings.Replace(forwardJSON, "things/{id}", "{*all}", 1),
		"host.json":         strings.Replace(forwardingHost, `"version"`, `"extensions":{"http":{"routePrefix":""}},"version"`, 1),
	}, nil)
	for function, body := range map[string]string{"Start": httpBody("GET", "http://h/things/7", "", ""), "T": `{"Data":{"item":"\"x\""}}`} {
		if a := h.post(function, body); a.Status != 200 || a.ContentType != "application/json" {
			t.Errorf("%s: answer %s", function, a)
		}
	}
}
