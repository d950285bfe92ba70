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

// RecordedKey is the access key of every recorded host. Its answers hold it, too: in the URLs of an instance.
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

// recordedHost plays recordings: what has been told to it decides what it answers, as it did then.
type recordedHost struct {
	lines []exchange
	mu    sync.Mutex
	told  int // the last line played that changed something, -1 before it
}

// RecordedHost serves the Durable HTTP API of the real host from its recordings, named below tests/conformance/testdata/recordings, such as
// 3.19/lab-http-api.jsonl. A request gets the recorded answer to the same one; what was not recorded is 404. A request that was recorded
// more than once gets the first answer that came after the last thing the host was told, so a second suspend is refused, and an instance
// is shown as suspended after the first.
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

// play finds the answer to a request, nil if there is none: of the recorded requests that ask for no more than it does, one that asks for
// most.
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

// isAskedFor counts what a recorded request asked for, -1 if the request does not ask for all of that, or chooses among instances
// otherwise.
func isAskedFor(recorded, query url.Values) (n int) {
	recorded.Del("code")
	if recorded.Get("runtimeStatus") == "Nonsense" { // the host took no notice of it
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
