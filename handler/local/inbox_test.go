package local

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for name, c := range map[string]struct {
		function, contentType, body string
		header                      map[string]string
		want                        int
		message                     string // what the function gets, "-": nothing
	}{
		"text":            {"Start", jsonType, `{"input":"hello"}`, nil, 202, "hello"},
		"other case":      {"START", jsonType + "; charset=utf-8", `{"Input":"hello"}`, nil, 202, "hello"},
		"number":          {"Start", jsonType, `{"input": 5}`, nil, 202, "5"},
		"empty text":      {"Start", jsonType, `{"input":""}`, nil, 202, ""},
		"empty object":    {"Start", jsonType, `{}`, nil, 202, "-"},
		"null":            {"Start", jsonType, `{"input":null}`, nil, 202, "-"},
		"no content type": {"Start", "", "", nil, 415, "-"},
		"text type":       {"Start", "text/plain", `{"input":"x"}`, nil, 415, "-"},
		"no body":         {"Start", jsonType, "", nil, 400, "-"},
		"not JSON":        {"Start", jsonType, "nonsense", nil, 400, "-"},
		"object input":    {"Start", jsonType, `{"input":{"a":1}}`, nil, 400, "-"},
		"array":           {"Start", jsonType, "[]", nil, 400, "-"},
		"body null":       {"Start", jsonType, "null", nil, 400, "-"},
		"unknown":         {"Nope", jsonType, `{"input":"x"}`, nil, 404, "-"},
		"no message":      {"Echo", jsonType, `{"input":"x"}`, nil, 404, "-"},
		"rebinding":       {"Start", jsonType, `{"input":"x"}`, map[string]string{"Host": "evil.example.com:7071"}, 403, "-"},
		"cross-site":      {"Start", jsonType, `{"input":"x"}`, map[string]string{"Origin": "https://evil.example.com"}, 403, "-"},
		"fetch metadata":  {"Start", jsonType, `{"input":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "-"},
		"null origin":     {"Start", jsonType, `{"input":"x"}`, map[string]string{"Origin": "null"}, 403, "-"},
		"own page":        {"Start", jsonType, `{"input":"x"}`, map[string]string{"Origin": "http://localhost:7071", "Host": "[::1]:7071"}, 202, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newTestApp(t)
			delivered := make(chan string, 1)
			app.onRequest = func(r recordedRequest) { delivered <- text(r.data["item"]) }
			h := open(t, app)
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:7071/admin/functions/"+c.function, strings.NewReader(c.body))
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			if host := c.header["Host"]; host != "" {
				r.Host = host
			}
			w := httptest.NewRecorder()
			h.Admin().ServeHTTP(w, r)
			if w.Code != c.want || w.Body.Len() != 0 {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
			if c.message != "-" {
				if got := <-delivered; got != c.message {
					t.Errorf("delivered %q", got)
				}
			} else if n := messagesLeft(t, h); n != 0 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func messagesLeft(t testing.TB, h *Host) (n int) {
	t.Helper()
	if err := h.store.read.QueryRow("SELECT COUNT(*) FROM messages").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRedelivery: a message comes again until it is taken.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	var calls atomic.Int64
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			fail(w, "not yet")
			return
		}
		answerJSON(w, map[string]any{})
	}
	h := open(t, app)
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "again", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	for i, r := range app.seen("Start") {
		if text(r.metadata["DeliveryCount"]) != []string{"1", "2"}[i] || text(r.metadata["MessageId"]) != "again" {
			t.Errorf("delivery %d: %s of %s", i, r.metadata["DeliveryCount"], r.metadata["MessageId"])
		}
	}
}

// TestDeadMessage: a message that was delivered too often is kept with its reason.
func TestDeadMessage(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) { fail(w, "never") }
	h := open(t, app, func(o *Options) { o.MaxDeliveryCount = 1 })
	if err := h.Enqueue(t.Context(), "Start", Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	var reason string
	waitFor(t, func() bool {
		return h.store.read.QueryRow("SELECT reason FROM messages WHERE dead = 1").Scan(&reason) == nil
	})
	if !strings.Contains(reason, "never") || len(app.seen("Start")) != 1 {
		t.Errorf("reason %q after %d deliveries", reason, len(app.seen("Start")))
	}
	if err := h.Enqueue(t.Context(), "Nope", Message{}); err == nil {
		t.Error("a message for no function was taken")
	}
}

// TestInboxSurvives: a message whose delivery was cut short comes again with the next host.
func TestInboxSurvives(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	running := make(chan struct{})
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if len(app.seen("Start")) == 1 {
			close(running)
			<-r.Context().Done()
			return
		}
		answerJSON(w, map[string]any{})
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "kept", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	<-running
	closeNow(t, h)
	h = open(t, app, func(o *Options) { o.DataDir = data })
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	if n := len(app.seen("Start")); n != 2 {
		t.Errorf("%d deliveries", n)
	}
}
