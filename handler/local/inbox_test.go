package local

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/durablefunctions/handler/local/internal/taskhub"
)

const adminJSON = "application/json"

var adminCalls = map[string]struct {
	function, contentType, body string
	header                      map[string]string
	want                        int
	message                     string // what the function gets, "-": nothing
}{
	"text":            {"Start", adminJSON, `{"input":"hello"}`, nil, 202, "hello"},
	"other case":      {"START", adminJSON + "; charset=utf-8", `{"Input":"hello"}`, nil, 202, "hello"},
	"number":          {"Start", adminJSON, `{"input": 5}`, nil, 202, "5"},
	"empty text":      {"Start", adminJSON, `{"input":""}`, nil, 202, ""},
	"empty object":    {"Start", adminJSON, `{}`, nil, 202, "-"},
	"null":            {"Start", adminJSON, `{"input":null}`, nil, 202, "-"},
	"no content type": {"Start", "", "", nil, 415, "-"},
	"text type":       {"Start", "text/plain", `{"input":"x"}`, nil, 415, "-"},
	"no body":         {"Start", adminJSON, "", nil, 400, "-"},
	"not JSON":        {"Start", adminJSON, "nonsense", nil, 400, "-"},
	"object input":    {"Start", adminJSON, `{"input":{"a":1}}`, nil, 400, "-"},
	"array":           {"Start", adminJSON, "[]", nil, 400, "-"},
	"body null":       {"Start", adminJSON, "null", nil, 400, "-"},
	"unknown":         {"Nope", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"no message":      {"Echo", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"rebinding":       {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "evil.example.com:7071"}, 403, "-"},
	"cross-site":      {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "https://evil.example.com"}, 403, "-"},
	"fetch metadata":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "-"},
	"null origin":     {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "null"}, 403, "-"},
	"name in a name":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "127.0.0.1.evil.example.com"}, 403, "-"},
	"subdomain":       {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "evil.localhost:7071"}, 403, "-"},
	"other address":   {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "0.0.0.0:7071"}, 403, "-"},
	"user in origin":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "http://localhost@evil.example.com"}, 403, "-"},
	"file":            {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "file://"}, 403, "-"},
	"no origin's URL": {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "localhost"}, 403, "-"},
	"IPv6":            {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "[::1]"}, 202, "x"},
	"not this IPv6":   {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "[2001:db8::1]:7071"}, 403, "-"},
	"upward":          {"..%2FStart", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"own page":        {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "http://localhost:7071", "Host": "[::1]:7071"}, 202, "x"},
}

// TestAdmin: which calls of the admin endpoint are taken.
func TestAdmin(t *testing.T) {
	t.Parallel()
	for name, c := range adminCalls {
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

// TestAdminLimits: neither a request that is too large nor one without a host is taken, and nothing is read without POST.
func TestAdminLimits(t *testing.T) {
	t.Parallel()
	h := open(t, newTestApp(t))
	const path = "http://127.0.0.1:7071/admin/functions/Start"
	post := func(body io.Reader) *http.Request {
		r := httptest.NewRequest(http.MethodPost, path, body)
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	noHost := post(strings.NewReader(`{"input":"x"}`))
	noHost.Host = ""
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"too large": {post(io.MultiReader(strings.NewReader(`{"input":"`), io.LimitReader(endless{}, maxAdminBody))), http.StatusRequestEntityTooLarge},
		"no host":   {noHost, http.StatusForbidden},
		"GET":       {httptest.NewRequest(http.MethodGet, path, nil), http.StatusMethodNotAllowed},
		"preflight": {httptest.NewRequest(http.MethodOptions, path, nil), http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		h.Admin().ServeHTTP(w, c.r)
		if w.Code != c.want || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: got %d %v, want %d", name, w.Code, w.Header(), c.want)
		}
	}
	if n := messagesLeft(t, h); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestPostedMessages: a message keeps the id that its poster gives it, and one that is too large is not stored.
func TestPostedMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		want int
		id   string // that the function sees, "": any
	}{
		"id":            {`{"input":"hello","messageId":"mine"}`, 202, "mine"},
		"id, any case":  {`{"INPUT":"hello","MessageID":"mine"}`, 202, "mine"},
		"none":          {`{"input":"hello"}`, 202, ""},
		"empty id":      {`{"input":"hello","messageId":""}`, 202, ""},
		"number as id":  {`{"input":"hello","messageId":7}`, 400, ""},
		"largest":       {`{"input":"1234567890"}`, 202, ""},
		"too large":     {`{"input":"12345678901"}`, 413, ""},
		"bytes count":   {`{"input":"üüüüü."}`, 413, ""},
		"escapes don't": {`{"input":"\u0031234567890"}`, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newTestApp(t)
			ids := make(chan string, 1)
			app.onRequest = func(r recordedRequest) { ids <- text(r.metadata["MessageId"]) }
			h := open(t, app, func(o *Options) { o.MaxMessageBytes = 10 })
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:7071/admin/functions/Start", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.Admin().ServeHTTP(w, r)
			if w.Code != c.want {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
			if w.Code != http.StatusAccepted {
				if n := messagesLeft(t, h); n != 0 {
					t.Errorf("%d messages", n)
				}
				return
			}
			if id := <-ids; id == "" || c.id != "" && id != c.id {
				t.Errorf("the message has the id %q", id)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func messagesLeft(t testing.TB, h *Host) int {
	t.Helper()
	n, err := h.Waiting(t.Context())
	if err != nil {
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

// What came of a delivery is stored when the file can be written again: the message is not delivered anew meanwhile.
func TestDeliveryIsRecordedLater(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"taken": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newTestApp(t)
			readOnly := make(chan int)
			var h *Host
			var calls atomic.Int64
			app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					readOnly <- 1
					readOnly <- 1 // done
					if refused {
						fail(w, "not yet")
						return
					}
				}
				answerJSON(w, map[string]any{})
			}
			h = open(t, app, func(o *Options) { o.Logger = nil })
			if err := h.Enqueue(t.Context(), "Start", Message{ID: "m", Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			<-readOnly
			lock, err := openFile(t, h.dataDir).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if _, err := lock.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
			<-readOnly
			time.Sleep(300 * time.Millisecond)
			if n := calls.Load(); n != 1 {
				t.Errorf("delivered %d times while nothing can be stored", n)
			}
			if _, err := lock.ExecContext(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
			if n := calls.Load(); n != 1 && !refused || n != 2 && refused {
				t.Errorf("delivered %d times", n)
			}
		})
	}
}

// TestDeadLetter: a message that was delivered too often is kept with its reason, and comes again when another process
// has put it back.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	var repaired atomic.Bool
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if repaired.Load() {
			answerJSON(w, map[string]any{})
			return
		}
		fail(w, "never")
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.MaxDeliveryCount, o.DataDir = 2, data })
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "poison", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	l := waitForDeadLetter(t, data)
	if l.ID != "poison" || string(l.Body) != "x" || l.Function != "Start" || l.DeliveryCount != 2 || !strings.Contains(l.Reason, "never") ||
		time.Since(l.EnqueuedAt) > time.Hour || l.DiedAt.Before(l.EnqueuedAt) || len(app.seen("Start")) != 2 {
		t.Errorf("got %+v after %d deliveries", l, len(app.seen("Start")))
	}
	if err := Resubmit(t.Context(), data, l.SequenceNumber, l.SequenceNumber+1); err == nil || len(app.seen("Start")) != 2 {
		t.Errorf("a dead letter that there is not was put back: %v", err)
	}
	if letters, err := DeadLetters(t.Context(), data); err != nil || len(letters) != 1 {
		t.Errorf("one of two was put back: %+v, %v", letters, err)
	}
	repaired.Store(true)
	if err := Resubmit(t.Context(), data, l.SequenceNumber); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	if seen := app.seen("Start"); len(seen) != 3 || text(seen[2].metadata["DeliveryCount"]) != "1" || text(seen[2].metadata["MessageId"]) != "poison" {
		t.Errorf("%d deliveries, the last with %v", len(seen), seen[len(seen)-1].metadata)
	}
	if err := h.Enqueue(t.Context(), "Nope", Message{}); err == nil {
		t.Error("a message for no function was taken")
	}
}

func waitForDeadLetter(t testing.TB, data string) DeadLetter {
	t.Helper()
	var letters []DeadLetter
	waitFor(t, func() bool {
		var err error
		if letters, err = DeadLetters(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		return len(letters) == 1
	})
	return letters[0]
}

// TestDeadly: a message whose delivery killed the process so often is not delivered again.
func TestDeadly(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	h.stopAccepting() // so that the row below is what a dead process left
	h.delivery.Wait()
	if _, err := openFile(t, data).Exec("INSERT INTO messages (function, id, body, enqueued, deliveries, reason) VALUES ('Start', 'deadly', 'x', 1, 10, ?)", taskhub.DiedReason); err != nil {
		t.Fatal(err)
	}
	closeNow(t, h)
	open(t, app, func(o *Options) { o.DataDir = data })
	if l := waitForDeadLetter(t, data); l.DeliveryCount != 10 || l.Reason != taskhub.DiedReason || len(app.seen("Start")) != 0 {
		t.Errorf("got %+v after %d deliveries", l, len(app.seen("Start")))
	}
}

func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "none")
	_, err := DeadLetters(t.Context(), data)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), data) {
		t.Errorf("got %v", err)
	}
	if err := Resubmit(t.Context(), data, 1); err == nil {
		t.Error("put back into nothing")
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

// TestInboxSurvives: a message whose delivery was cut short comes again with the next host, and that one did not count.
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
	seen := app.seen("Start")
	if len(seen) != 2 || text(seen[1].metadata["DeliveryCount"]) != "1" {
		t.Errorf("%d deliveries, the last is number %s", len(seen), seen[len(seen)-1].metadata["DeliveryCount"])
	}
}
