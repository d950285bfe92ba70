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

// CRM is a record store with a REST interface. It does nothing a second time for the same Idempotency-Key.
type CRM struct {
	URL     string
	Records []string // of each batch
	// Answer, unless nil, sees each request first, with n counting the requests of that path from 1. If it returns true, it has
	// answered the request.
	Answer Fault

	server *http.Server

	mu       sync.Mutex
	requests []CRMRequest
	calls    map[string]int             // by path
	keys     map[string]map[string]bool // by record: the keys under which it was processed
}

// CRMRequest is a request that has reached a CRM. Path is still escaped.
type CRMRequest struct{ Method, Path, Key, Authorization, Body string }

// Fault answers the nth request of a path instead of the CRM, or returns false to let the CRM answer.
type Fault func(w http.ResponseWriter, r *http.Request, n int) bool

// NewCRM returns a CRM whose batches have the records a, b and c. Set its fields before it is started.
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

// Start serves on a port, or on any free one if port is 0, until the test ends.
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

// Process does what a request asks for, without an answer: a fault can call it and then answer with an error or not at all.
func (c *CRM) Process(r *http.Request) {
	record := RecordOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[record] == nil {
		c.keys[record] = map[string]bool{}
	}
	c.keys[record][r.Header.Get("Idempotency-Key")] = true
}

// RecordOf returns the record that a request is for, or the name of the batch if it asks for a batch.
func RecordOf(r *http.Request) string { return append(strings.Split(r.URL.Path, "/"), "", "", "")[2] }

// Calls returns how often a path was called.
func (c *CRM) Calls(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[path]
}

// Requests returns the requests so far.
func (c *CRM) Requests() []CRMRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Effects returns how many records were processed, counting a record once for each key.
func (c *CRM) Effects() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, keys := range c.keys {
		n += len(keys)
	}
	return n
}

// WantEffects checks that this many records were processed, each under one key, and all of them in one job.
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

// Processed returns the records that were processed.
func (c *CRM) Processed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.keys))
}

// Always makes f answer every request whose path begins with path.
func Always(path string, f http.HandlerFunc) Fault { return First(1<<30, path, f) }

// First makes f answer the first n requests of each path that begins with path.
func First(n int, path string, f http.HandlerFunc) Fault {
	return func(w http.ResponseWriter, r *http.Request, call int) bool {
		if !strings.HasPrefix(r.URL.Path, path) || call > n {
			return false
		}
		f(w, r)
		return true
	}
}

// Status answers with a status code and with headers such as "Retry-After: 1".
func Status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
	}
}

// Sends takes over the connection, sends the text and closes the connection.
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

// Silent does not answer and waits until the caller hangs up. It reads the request first, because only then does the server
// notice that the caller hung up.
func Silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}
