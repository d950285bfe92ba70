package testkit

import (
	"encoding/json"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// CRM is a record store behind REST. It does nothing twice for an Idempotency-Key.
type CRM struct {
	URL     string
	Records []string // of each batch
	// Answer, unless nil, sees each request first, the nth of its path (from 1), and has answered it when it returns true.
	Answer Fault

	server *http.Server

	mu       sync.Mutex
	requests []CRMRequest
	calls    map[string]int             // by path
	keys     map[string]map[string]bool // by record: the keys under which it was processed
}

// CRMRequest is what reached a CRM. Path is as it was escaped.
type CRMRequest struct{ Method, Path, Key, Authorization, Body string }

// Fault answers a request, the nth of its path, in place of a CRM, or returns false.
type Fault func(w http.ResponseWriter, r *http.Request, n int) bool

// NewCRM is a CRM whose batches have the records a, b and c. It answers once it is started; what is set on it is set before.
func NewCRM() *CRM {
	return &CRM{Records: []string{"a", "b", "c"}, calls: map[string]int{}, keys: map[string]map[string]bool{}}
}

// StartCRM starts a new CRM on a free port.
func StartCRM(t testing.TB, answer Fault) *CRM {
	t.Helper()
	c := NewCRM()
	c.Answer = answer
	c.Start(t, "0")
	return c
}

// Start serves on a port, 0 for any free one, until the test ends.
func (c *CRM) Start(t testing.TB, port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.URL = "http://" + listener.Addr().String()
	c.server = &http.Server{Handler: c, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = c.server.Serve(listener) }()
	t.Cleanup(c.Close)
}

// Close ends the service.
func (c *CRM) Close() { _ = c.server.Close() }

func (c *CRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.requests = append(c.requests, CRMRequest{r.Method, r.URL.EscapedPath(), r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), string(body)})
	c.calls[r.URL.Path]++
	n := c.calls[r.URL.Path]
	c.mu.Unlock()
	if c.Answer != nil && c.Answer(w, r, n) {
		return
	}
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(map[string]any{"RecordIds": c.Records})
		return
	}
	c.Process(r)
}

// Process does what a request asks for: the effect is there, whatever the answer will be.
func (c *CRM) Process(r *http.Request) {
	record := RecordOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[record] == nil {
		c.keys[record] = map[string]bool{}
	}
	c.keys[record][r.Header.Get("Idempotency-Key")] = true
}

// RecordOf is the record that a request is for; a batch's name for a request of a batch.
func RecordOf(r *http.Request) string { return append(strings.Split(r.URL.Path, "/"), "", "", "")[2] }

// Calls is how often a path was called.
func (c *CRM) Calls(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[path]
}

// Requests returns what has reached the CRM so far.
func (c *CRM) Requests() []CRMRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Effects is how often something was done: once for each key.
func (c *CRM) Effects() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, keys := range c.keys {
		n += len(keys)
	}
	return n
}

// WantEffects checks that so many records were processed, each under one key, and all of them for one job.
func (c *CRM) WantEffects(t testing.TB, records int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	jobs, more := map[string]bool{}, []string{}
	for record, keys := range c.keys {
		for key := range keys {
			job, _, _ := strings.Cut(key, "/")
			jobs[job] = true
		}
		if len(keys) > 1 {
			more = append(more, record)
		}
	}
	if len(c.keys) != records || len(more) > 0 || len(jobs) != min(records, 1) {
		t.Errorf("%d records were processed, in %d jobs, and under several keys %q; want %d in one job under one key each",
			len(c.keys), len(jobs), more, records)
	}
}

// Processed lists the records that were processed.
func (c *CRM) Processed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.keys))
}

// Always makes a fault of every request whose path begins with path.
func Always(path string, f http.HandlerFunc) Fault { return First(1<<30, path, f) }

// First makes a fault of the first n requests of each path that begins with path.
func First(n int, path string, f http.HandlerFunc) Fault {
	return func(w http.ResponseWriter, r *http.Request, call int) bool {
		if !strings.HasPrefix(r.URL.Path, path) || call > n {
			return false
		}
		f(w, r)
		return true
	}
}

// Status answers with a status and headers like "Retry-After: 1".
func Status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
	}
}

// Sends takes the connection over, sends the text and hangs up.
func Sends(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// Silent waits for the caller to hang up, which a server notices once it has read the request.
func Silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}
