package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// Here the handler dies while the host lives; TestCrash kills the host. Invocations in flight get no answer, which fails an
// activity for this try and an orchestration for good.

// killPoint is the moment in an invocation at which the handler is killed.
type killPoint int

const (
	never        killPoint = iota
	onRequest              // before the handler has the whole request
	beforeAnswer           // the handler has done its work, but the answer never arrives
)

// killable runs the built binary as the real host does: if the binary is killed, every invocation in flight ends without an
// answer, and within a second there is a new process. After the third kill the real host shuts down.
type killable struct {
	t   *testing.T
	env []string
	// killAt decides for each turn and message; nil means never. n counts the turns of an instance, or the deliveries of a
	// message.
	killAt func(function, instanceID string, n int) killPoint
	limit  int // the number of kills; 0 means two
	// alter may change the request of a message.
	alter func(body []byte, n int) []byte

	turn   sync.Mutex // held during a turn or a message, so that a kill that takes it interrupts neither
	counts map[string]int

	mu    sync.Mutex
	child *process
	kills int
}

func (m *killable) url() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child.URL
}

func (m *killable) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kills++; m.kills > max(m.limit, 2) {
		m.t.Error("the handler is killed for the third time: the host shuts down")
	}
	m.child.kill()
	m.child = startHandler(m.t, m.env...)
}

// killInActivity kills the handler while no turn is in flight.
func (m *killable) killInActivity() {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.kill()
}

// ServeHTTP passes an invocation to the running process. It takes over the connection, because only so it can pass on the status
// line, which holds the handler's error messages.
func (m *killable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	when := never
	if r.URL.Path != "/ProcessActivity" {
		m.turn.Lock()
		defer m.turn.Unlock()
		when, body = m.decide(r.URL.Path[1:], body)
	}
	answer, err := m.forward(r, body, when)
	if err != nil || when == beforeAnswer {
		if err == nil {
			m.kill()
		}
		return
	}
	_ = answer.Write(conn)
}

// decide says at which moment of a turn or message the handler is killed. It may alter the request.
func (m *killable) decide(function string, body []byte) (killPoint, []byte) {
	id := ""
	if function == "MyOrchestration" {
		turn, err := testkit.DecodeTurn(string(body))
		if err != nil {
			m.t.Error(err)
		}
		id = turn.InstanceID
	}
	m.counts[id]++
	if id == "" && m.alter != nil {
		body = m.alter(body, m.counts[id])
	}
	if m.killAt == nil {
		return never, body
	}
	return m.killAt(function, id, m.counts[id]), body
}

// forward passes an invocation to the handler and reads the answer.
func (m *killable) forward(r *http.Request, body []byte, when killPoint) (*http.Response, error) {
	var sent io.Reader = bytes.NewReader(body)
	if when == onRequest {
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenBody{m})
	}
	request, err := http.NewRequest(r.Method, m.url()+r.URL.Path, io.MultiReader(sent))
	if err != nil {
		return nil, err
	}
	request.Header = r.Header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	response.Body, response.ContentLength, response.Close = io.NopCloser(bytes.NewReader(text)), int64(len(text)), true
	return response, err
}

// brokenBody is a request body that ends in the middle: the handler is killed before it gets the rest.
type brokenBody struct{ *killable }

func (d brokenBody) Read([]byte) (int, error) {
	d.kill()
	return 0, io.ErrUnexpectedEOF
}

// killableHost is a local host whose handler is killed.
type killableHost struct {
	*local.Host
	*killable
	mu        sync.Mutex
	instances map[string]local.Instance // as last seen
}

func startKillable(t *testing.T, m *killable, env ...string) *killableHost {
	t.Helper()
	m.t, m.counts = t, map[string]int{}
	m.env = append([]string{"PROCESS_RETRY_INTERVAL=200ms", "AlertEmailTo=ops@example.com", "SendGridKey=SG.not-a-key"}, env...)
	m.child = startHandler(t, m.env...)
	h := &killableHost{killable: m, instances: map[string]local.Instance{}}
	host, err := local.Open(t.Context(), local.Options{
		Root: root, DataDir: t.TempDir(), Handler: m, Settings: func(string) string { return "" },
		Environ: []string{}, Logger: slog.New(slog.DiscardHandler),
		OnInstance: func(i local.Instance) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.instances[i.ID] = i
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Host = host
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = host.Close(ctx)
	})
	return h
}

func (h *killableHost) count(is func(local.Instance) bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range h.instances {
		if is(i) {
			n++
		}
	}
	return n
}

// ended waits until the only root instance has ended.
func (h *killableHost) ended(t *testing.T) (local.Instance, output) {
	t.Helper()
	id := ""
	for deadline := time.Now().Add(time.Minute); id == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no orchestration was started")
		}
		h.mu.Lock()
		for _, i := range h.instances {
			if i.Parent == "" {
				id = i.ID
			}
		}
		h.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := h.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var out output
	if i.Status == api.RUNTIME_STATUS_COMPLETED {
		if err := json.Unmarshal([]byte(i.Output), &out); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.count(func(i local.Instance) bool { return i.Parent == "" }); n != 1 {
		t.Errorf("%d orchestrations were started, want 1", n)
	}
	return i, out
}

const theJob = "the-message"

func (h *killableHost) deliver(t *testing.T, records, delivery int) {
	t.Helper()
	ids := make([]string, records)
	for i := range ids {
		ids[i] = fmt.Sprintf("R-%d", i)
	}
	body, _ := json.Marshal(map[string]any{"RecordIds": ids})
	m := local.Message{ID: theJob, Body: body, DeliveryCount: delivery}
	if _, err := h.Deliver(t.Context(), clientFunction, m); err != nil {
		t.Fatal(err)
	}
}

// A record whose activity is lost with the handler is tried again after a delay, and is processed once.
func TestActivityDies(t *testing.T) {
	t.Parallel()
	const records = 60
	m := &killable{}
	var mu sync.Mutex
	times := map[string][]time.Time{}
	crm := testkit.NewCRM()
	crm.Answer = func(_ http.ResponseWriter, r *http.Request, n int) bool {
		mu.Lock()
		times[r.URL.Path] = append(times[r.URL.Path], time.Now())
		mu.Unlock()
		switch {
		case n > 1:
		case strings.HasPrefix(r.URL.Path, "/records/R-7/"): // before the record is processed
			m.killInActivity()
			return true
		case strings.HasPrefix(r.URL.Path, "/records/R-40/"): // after it
			crm.Process(r)
			m.killInActivity()
			return true
		}
		return false
	}
	crm.Start(t, "0")
	h := startKillable(t, m, "CRM_BASE_URL="+crm.URL)
	h.deliver(t, records, 1)
	if i, out := h.ended(t); out.Succeeded != records || out.Mail != "" && out.Mail != "none" {
		t.Errorf("%+v", i)
	}
	crm.WantEffects(t, records)
	mu.Lock()
	defer mu.Unlock()
	for _, path := range []string{"/records/R-7/process", "/records/R-40/process"} {
		if t0 := times[path]; len(t0) < 2 || t0[1].Sub(t0[0]) < 200*time.Millisecond {
			t.Errorf("%s was called at %v: want a second time, after 200 ms", path, t0)
		}
	}
	if m.kills != 2 {
		t.Errorf("%d kills, want 2", m.kills)
	}
}

// A record that kills the handler each time is given up after its last attempt; each attempt has five tries of the host's retry
// policy. The record is in the result and in the mail. (The real host shuts down at the third kill, and continues after its next
// start.)
func TestDeadlyRecord(t *testing.T) {
	t.Parallel()
	const calls = 2 * 5
	m := &killable{limit: calls}
	crm := testkit.StartCRM(t, func(http.ResponseWriter, *http.Request, int) bool { m.killInActivity(); return true })
	h := startKillable(t, m, "CRM_BASE_URL="+crm.URL, "PROCESS_ATTEMPTS=2", "PROCESS_RETRY_INTERVAL=5s")
	h.deliver(t, 1, 1)
	i, out := h.ended(t)
	if out.Failed != 1 || out.Mail != "sent" {
		t.Fatalf("%+v", i)
	}
	checkReason(t, out.Failures[0].ErrorMessage, "ended prematurely")
	if got, effects := crm.Calls("/records/R-0/process"), crm.Effects(); got != calls || effects != 0 {
		t.Errorf("%d calls, %d effects; want %d and none", got, effects, calls)
	}
}

// The retry policy also repeats a lost turn of a batch: no batch fails.
func TestBatchDies(t *testing.T) {
	t.Parallel()
	const records = 100
	var batches []string // in the order of their first turns
	rootID := ""
	m := &killable{killAt: func(function, id string, n int) killPoint {
		switch {
		case function != "MyOrchestration" || id == rootID:
			return never
		case rootID == "":
			rootID = id
			return never
		case !slices.Contains(batches, id):
			batches = append(batches, id)
		}
		switch {
		case id == batches[0] && n == 1:
			return onRequest // nothing is scheduled yet
		case len(batches) > 1 && id == batches[1] && n == 2:
			return beforeAnswer // some records are processed, others are waiting
		}
		return never
	}}
	crm := testkit.StartCRM(t, nil)
	h := startKillable(t, m, "CRM_BASE_URL="+crm.URL, "BATCH_SIZE=30")
	h.deliver(t, records, 1)
	if i, out := h.ended(t); out.Succeeded != records {
		t.Errorf("%+v", i)
	}
	crm.WantEffects(t, records)
	children := h.count(func(i local.Instance) bool { return i.Parent != "" })
	failed := h.count(func(i local.Instance) bool { return i.Status == api.RUNTIME_STATUS_FAILED })
	if children != 4 || failed != 0 || m.kills != 2 {
		t.Errorf("%d batches, %d failed, %d kills; want 4, none and 2", children, failed, m.kills)
	}
}

// The retry policy in MyOrchestration's function.json repeats a lost turn of the root: the run completes as if nothing had
// happened, in one delivery.
func TestRootDies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		batchSize, turn int
		when            killPoint
	}{
		"in its first turn":             {100, 1, onRequest},
		"among its records":             {100, 3, beforeAnswer},
		"while its batches are running": {30, 2, onRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const records = 100
			killed := false
			rootID := ""
			m := &killable{killAt: func(function, id string, n int) killPoint {
				if rootID == "" && function == "MyOrchestration" {
					rootID = id
				}
				if killed || function != "MyOrchestration" || id != rootID || n != c.turn {
					return never
				}
				killed = true
				return c.when
			}}
			crm := testkit.StartCRM(t, testkit.First(1<<30, "/records/R-17/", testkit.Status(422)))
			h := startKillable(t, m, "CRM_BASE_URL="+crm.URL, fmt.Sprint("BATCH_SIZE=", c.batchSize))
			h.deliver(t, records, 1)
			i, out := h.ended(t)
			if i.Status != api.RUNTIME_STATUS_COMPLETED || out.Total != records || out.Succeeded != records-1 || out.Failed != 1 || out.Mail != "sent" || m.kills != 1 {
				t.Errorf("%d kills, %+v", m.kills, i)
			}
			crm.WantEffects(t, records-1)
			mails, err := h.Mails(t.Context(), i.ID)
			if err != nil || len(mails) != 1 {
				t.Errorf("mails %+v, %v; want one", mails, err)
			}
		})
	}
}

// A message that is lost with the handler is delivered again, and starts one orchestration.
func TestClientFunctionDies(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]killPoint{"before it starts the orchestration": onRequest, "after": beforeAnswer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deliveries := 0
			m := &killable{killAt: func(function, _ string, n int) killPoint {
				if function != clientFunction {
					return never
				}
				if deliveries = n; n == 1 {
					return when
				}
				return never
			}}
			crm := testkit.StartCRM(t, nil)
			h := startKillable(t, m, "CRM_BASE_URL="+crm.URL)
			if err := h.Enqueue(t.Context(), clientFunction, local.Message{ID: theJob, Body: []byte(threeRecords)}); err != nil {
				t.Fatal(err)
			}
			if i, out := h.ended(t); out.Succeeded != 3 {
				t.Errorf("%+v", i)
			}
			crm.WantEffects(t, 3)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				if n, err := h.Waiting(t.Context()); n == 0 && err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("%d messages are waiting, %v", n, err)
				}
			}
			if deliveries != 2 {
				t.Errorf("%d deliveries, want 2", deliveries)
			}
		})
	}
}

var rpcBaseURL = regexp.MustCompile(`(rpcBaseUrl\\*":\\*")[^"\\]+`)

// If the durable endpoint gives a wrong answer or none, the message fails in bounded time. The next delivery, whose request names
// another endpoint, starts one orchestration.
func TestRPC(t *testing.T) {
	t.Parallel()
	hang := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }
	for name, endpoint := range map[string]func(t *testing.T) string{
		"refuses":  func(t *testing.T) string { return "http://127.0.0.1:" + testkit.FreePort(t) },
		"hangs":    func(t *testing.T) string { return "http://" + listen(t, hang) },
		"hangs up": func(t *testing.T) string { return "http://" + listen(t, func(conn net.Conn) { _ = conn.Close() }) },
		"hangs up in the middle": func(t *testing.T) string {
			return "http://" + listen(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 64)); _ = conn.Close() })
		},
		"is something else": func(t *testing.T) string {
			s := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(s.Close)
			return s.URL
		},
		"is not an address": func(*testing.T) string { return "nowhere" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := endpoint(t)
			m := &killable{alter: func(body []byte, n int) []byte {
				if n > 1 {
					return body
				}
				altered := rpcBaseURL.ReplaceAll(body, []byte("${1}"+url))
				altered = bytes.Replace(altered, []byte("00:01:40"), []byte("00:00:01"), 1)
				if !bytes.Contains(altered, []byte(url)) || !bytes.Contains(altered, []byte("00:00:01")) {
					t.Errorf("this is not a durable client binding: %s", body)
				}
				return altered
			}}
			crm := testkit.StartCRM(t, nil)
			h := startKillable(t, m, "CRM_BASE_URL="+crm.URL)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			message := local.Message{ID: theJob, Body: []byte(threeRecords)}
			_, err := h.Deliver(ctx, clientFunction, message)
			if ctx.Err() != nil || err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("the first delivery: %v", err)
			}
			t.Log(err)
			message.DeliveryCount = 2
			if _, err := h.Deliver(t.Context(), clientFunction, message); err != nil {
				t.Fatal(err)
			}
			if i, out := h.ended(t); out.Succeeded != 3 {
				t.Errorf("%+v", i)
			}
			crm.WantEffects(t, 3)
		})
	}
}

// listen passes each connection to serve, on its own port, and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}
