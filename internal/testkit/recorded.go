package testkit

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// RecordedKey is the access key of every recorded host. It is also in the recorded answers, in the URLs of an instance.
const RecordedKey = "LOCALKEY"

// exchange is one line of a recording of the Durable HTTP API.
type exchange struct {
	Request  struct{ Method, Path, Body string }
	Response struct {
		Status  int
		Headers map[string]string
		Body    string
	}
	url *url.URL
}

// recordedHost plays recordings. Like the recorded host, it answers according to what it was told before.
type recordedHost struct {
	lines []exchange
	mu    sync.Mutex
	told  int // the last played line that changed something; -1 before that
}

// RecordedHost serves the Durable HTTP API of the real host from its recordings. Their names are relative to
// tests/conformance/testdata/recordings, such as 3.19/lab-http-api.jsonl. A request gets the answer that was recorded for the
// same request, and 404 if it was not recorded. If it was recorded more than once, the first answer after the last change counts:
// a second suspend is refused, and an instance shows as suspended after the first.
func RecordedHost(t testing.TB, names ...string) *httptest.Server {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(here), "..", "..", "tests", "conformance", "testdata", "recordings")
	h := &recordedHost{told: -1}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for raw := range bytes.Lines(text) {
			var e exchange
			if json.Unmarshal(raw, &e) != nil { // an invocation, which has a text as its request
				continue
			}
			if e.url, err = url.Parse(e.Request.Path); err != nil {
				t.Fatal(err)
			}
			h.lines = append(h.lines, e)
		}
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func (h *recordedHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Functions-Key") != RecordedKey {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	e := h.play(r)
	if e == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for name, value := range e.Response.Headers {
		if name != "Connection" && name != "Content-Length" {
			w.Header()[name] = []string{value}
		}
	}
	w.WriteHeader(e.Response.Status)
	_, _ = w.Write([]byte(e.Response.Body))
}

// play finds the answer to a request among the recorded requests that ask for nothing that this one does not ask for. It prefers
// the one that asks for most, and returns nil if it finds none.
func (h *recordedHost) play(r *http.Request) *exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	best, matched := -1, -1
	for n, e := range h.lines {
		if e.Request.Method != r.Method || e.url.Path != r.URL.Path {
			continue
		}
		asked := isAskedFor(e.url.Query(), r.URL.Query())
		if later := asked >= 0 && asked == matched && best <= h.told; asked > matched || later {
			best, matched = n, asked
		}
	}
	if best < 0 {
		return nil
	}
	if r.Method != http.MethodGet && h.lines[best].Response.Status < 300 {
		h.told = best
	}
	return &h.lines[best]
}

// isAskedFor counts how much of a recorded request this request asks for. It returns -1 if this request does not ask for all of
// it, or chooses other instances.
func isAskedFor(recorded, query url.Values) (n int) {
	recorded.Del("code")
	if recorded.Get("runtimeStatus") == "Nonsense" { // the real host ignored it
		recorded.Del("runtimeStatus")
	}
	for name := range recorded {
		if recorded.Get(name) != query.Get(name) {
			return -1
		}
	}
	for _, chooses := range []string{"runtimeStatus", "instanceIdPrefix", "createdTimeFrom", "createdTimeTo"} {
		if query.Get(chooses) != recorded.Get(chooses) {
			return -1
		}
	}
	return len(recorded)
}
