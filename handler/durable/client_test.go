package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/backend/sqlite"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// clientHost is the host as a durable client sees it: durabletask-go's TaskHubSidecarService on a loopback port, over a
// backend that gives the answers which the real host was recorded with.
type clientHost struct {
	backend.Backend
	address  string
	server   *grpc.Server
	accepted atomic.Int32 // connections

	// hook runs before a call is answered, by the method's name; its error is the answer.
	hook func(ctx context.Context, method string) error
	// startedAs is the status that a started instance has at once.
	startedAs api.OrchestrationStatus

	mu        sync.Mutex
	instances map[string]*api.OrchestrationMetadata
	events    []*backend.HistoryEvent
	calls     []hostCall
}

type hostCall struct {
	method string
	header metadata.MD
}

func newClientHost(t testing.TB) *clientHost {
	h := &clientHost{address: "127.0.0.1:0", instances: map[string]*api.OrchestrationMetadata{}, startedAs: api.RUNTIME_STATUS_RUNNING}
	h.serve(t, h)
	return h
}

// serve listens on h.address: a free port at first, and that one again.
func (h *clientHost) serve(t testing.TB, be backend.Backend) {
	t.Helper()
	listener, err := net.Listen("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	h.server = grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32), grpc.UnaryInterceptor(h.answer))
	_, register := backend.NewGrpcExecutor(be, backend.DefaultLogger())
	register(h.server)
	go func() { _ = h.server.Serve(countingListener{listener, &h.accepted}) }()
	t.Cleanup(h.server.Stop)
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func (h *clientHost) answer(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	header, _ := metadata.FromIncomingContext(ctx)
	h.mu.Lock()
	h.calls = append(h.calls, hostCall{method, header})
	h.mu.Unlock()
	if h.hook != nil {
		if err := h.hook(ctx, method); err != nil {
			return nil, err
		}
	}
	response, err := next(ctx, request)
	if method == "PurgeInstances" && errors.Is(err, api.ErrInstanceNotFound) {
		return response, nil // which says that none was purged
	}
	return response, err
}

func (h *clientHost) set(id string, status api.OrchestrationStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.instances[id] = &api.OrchestrationMetadata{InstanceID: api.InstanceID(id), Name: "Orch", RuntimeStatus: status}
}

// methods returns the names of the calls so far.
func (h *clientHost) methods() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, c := range h.calls {
		names = append(names, c.method)
	}
	return names
}

func (h *clientHost) count(method string) int {
	n := 0
	for _, m := range h.methods() {
		if m == method {
			n++
		}
	}
	return n
}

// lastEvent returns the newest event that was sent to an instance.
func (h *clientHost) lastEvent(t testing.TB) *backend.HistoryEvent {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) == 0 {
		t.Fatal("no event reached the host")
	}
	return h.events[len(h.events)-1]
}

func (h *clientHost) CreateOrchestrationInstance(_ context.Context, e *backend.HistoryEvent, _ ...backend.OrchestrationIdReusePolicyOptions) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	started := e.GetExecutionStarted()
	id := started.GetOrchestrationInstance().GetInstanceId()
	if was := h.instances[id]; was != nil && !was.IsComplete() {
		return status.Errorf(codes.AlreadyExists, "An Orchestration instance with the ID %s already exists.", id)
	}
	h.events = append(h.events, e)
	h.instances[id] = &api.OrchestrationMetadata{InstanceID: api.InstanceID(id), Name: started.GetName(), RuntimeStatus: h.startedAs, SerializedInput: started.GetInput().GetValue()}
	return nil
}

func (h *clientHost) AddNewOrchestrationEvent(_ context.Context, id api.InstanceID, e *backend.HistoryEvent) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.instances[string(id)]
	finished := i != nil && i.IsComplete()
	switch {
	case e.GetExecutionTerminated() != nil && i == nil:
		return status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case e.GetExecutionTerminated() != nil && finished:
		return status.Errorf(codes.FailedPrecondition, "InvalidOperationException: Cannot terminate the orchestration instance %s because instance is in the Completed state.", id)
	case e.GetExecutionSuspended() != nil && (i == nil || finished || i.RuntimeStatus == api.RUNTIME_STATUS_SUSPENDED),
		e.GetExecutionResumed() != nil && (i == nil || finished):
		return status.Error(codes.Unknown, "Exception was thrown by handler.")
	case i == nil:
		return status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case finished:
		return status.Error(codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.")
	}
	h.events = append(h.events, e)
	return nil
}

func (h *clientHost) GetOrchestrationMetadata(_ context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.instances[string(id)]; i != nil {
		state := *i
		return &state, nil
	}
	return nil, nil
}

func (h *clientHost) PurgeOrchestrationState(_ context.Context, id api.InstanceID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.instances[string(id)]
	switch {
	case i == nil:
		return api.ErrInstanceNotFound
	case !i.IsComplete():
		return status.Errorf(codes.FailedPrecondition, "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID %s has status Running", id)
	}
	delete(h.instances, string(id))
	return nil
}

// recordedBinding is a durableClient binding as the real host sent it, but for the endpoint.
const recordedBinding = `{"taskHubName":"LabHub","connectionName":null,"creationUrls":null,"managementUrls":null,"baseUrl":null,` +
	`"requiredQueryStringParameters":"code=LOCALKEY","rpcBaseUrl":"http://ENDPOINT",` +
	`"httpBaseUrl":"http://localhost:7171/runtime/webhooks/durabletask","maxGrpcMessageSizeInBytes":4194304,"grpcHttpClientTimeout":"\"00:01:40\""}`

// newTestClient returns a client of the endpoint; replace changes the recorded binding, by pairs of old and new text.
func newTestClient(t testing.TB, address string, replace ...string) *Client {
	t.Helper()
	text := strings.NewReplacer(append(replace, "ENDPOINT", address)...).Replace(recordedBinding)
	c, err := NewClient(text, MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shortTimeout makes each call end after 50 milliseconds.
var shortTimeout = []string{"00:01:40", "00:00:00.05"}

// clientErrors are the errors that a caller may act on.
var clientErrors = []error{ErrExists, ErrNotFound, ErrNotValid, ErrUnavailable, ErrBadID, ErrTooLarge}

// expectError checks that err is want, and none of the client's other errors.
func expectError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
	for _, other := range clientErrors {
		if other != want && errors.Is(err, other) {
			t.Errorf("%s: got %v, which is %q too", what, err, other)
		}
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: more than one line: %q", what, err)
	}
}

type operation struct {
	name string
	call func(context.Context, *Client, string) error
}

// operations are the client's calls, each for an instance id.
var operations = []operation{
	{"start", func(ctx context.Context, c *Client, id string) error {
		_, err := c.Start(ctx, "Orch", id, 1)
		return err
	}},
	{"start once", func(ctx context.Context, c *Client, id string) error {
		_, err := c.StartOnce(ctx, "Orch", id, 1)
		return err
	}},
	{"query", func(ctx context.Context, c *Client, id string) error {
		_, err := c.Query(ctx, id)
		return err
	}},
	{"wait", func(ctx context.Context, c *Client, id string) error {
		_, err := c.Wait(ctx, id)
		return err
	}},
	{"raise", func(ctx context.Context, c *Client, id string) error { return c.Raise(ctx, id, "Go", 1) }},
	{"terminate", func(ctx context.Context, c *Client, id string) error { return c.Terminate(ctx, id, "why") }},
	{"suspend", func(ctx context.Context, c *Client, id string) error { return c.Suspend(ctx, id, "why") }},
	{"resume", func(ctx context.Context, c *Client, id string) error { return c.Resume(ctx, id, "why") }},
	{"purge", func(ctx context.Context, c *Client, id string) error { return c.Purge(ctx, id) }},
}

// TestClientAndEngine runs orchestrations on durabletask-go's engine.
func TestClientAndEngine(t *testing.T) {
	t.Parallel()
	registry := task.NewTaskRegistry()
	err := registry.AddOrchestratorN("Orch", func(ctx *task.OrchestrationContext) (any, error) {
		var input string
		if err := ctx.GetInput(&input); err != nil || input == "fail" {
			return nil, fmt.Errorf("broken")
		}
		var data json.RawMessage
		err := ctx.WaitForSingleEvent("Go", -1).Await(&data)
		return data, err
	})
	if err != nil {
		t.Fatal(err)
	}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(""), backend.DefaultLogger())
	engine := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, task.NewTaskExecutor(registry), backend.DefaultLogger()),
		backend.NewActivityTaskWorker(be, task.NewTaskExecutor(registry), backend.DefaultLogger()), backend.DefaultLogger())
	if err := engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Shutdown(context.Background()) })
	host := &clientHost{address: "127.0.0.1:0"}
	host.serve(t, be)
	c, ctx := newTestClient(t, host.address), t.Context()

	check := func(id string, want api.OrchestrationStatus, output string) {
		t.Helper()
		m, err := c.Wait(ctx, id)
		if err != nil || m.RuntimeStatus != want || m.SerializedOutput != output {
			t.Errorf("%s: got %+v, %v, want %s %s", id, m, err, want, output)
		}
	}
	for _, id := range []string{"event", "terminated"} {
		if got, err := c.Start(ctx, "Orch", id, "event"); err != nil || got != id {
			t.Fatalf("started %q, %v", got, err)
		}
	}
	if err := c.Suspend(ctx, "event", "a pause"); err != nil {
		t.Error(err)
	}
	if err := c.Raise(ctx, "event", "Go", map[string]any{"yes": []int{1, 2}}); err != nil {
		t.Error(err)
	}
	if err := c.Resume(ctx, "event", "go on"); err != nil {
		t.Error(err)
	}
	check("event", api.RUNTIME_STATUS_COMPLETED, `{"yes":[1,2]}`)
	if err := c.Terminate(ctx, "terminated", "why"); err != nil {
		t.Error(err)
	}
	check("terminated", api.RUNTIME_STATUS_TERMINATED, `"why"`)
	if err := c.Purge(ctx, "event"); err != nil {
		t.Error(err)
	}
	_, err = c.Query(ctx, "event")
	expectError(t, "a purged instance", err, ErrNotFound)
}

// TestClientAnswers: what the host answers to each call in each state of the instance, as the error that the caller
// sees.
func TestClientAnswers(t *testing.T) {
	t.Parallel()
	states := []api.OrchestrationStatus{api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED,
		api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, unknown}
	want := map[string]map[api.OrchestrationStatus]error{ // nil where nothing is said
		"start":      fill(ErrExists, api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED),
		"start once": nil,
		"query":      fill(ErrNotFound, unknown),
		"raise":      finishedOrUnknown(),
		"terminate":  finishedOrUnknown(),
		"suspend":    finishedOrUnknown(api.RUNTIME_STATUS_SUSPENDED),
		"resume":     finishedOrUnknown(),
		"purge":      {api.RUNTIME_STATUS_PENDING: ErrNotValid, api.RUNTIME_STATUS_RUNNING: ErrNotValid, api.RUNTIME_STATUS_SUSPENDED: ErrNotValid, unknown: ErrNotFound},
	}
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	for _, op := range operations {
		errs, ok := want[op.name]
		if !ok {
			continue // wait has tests of its own
		}
		for _, state := range states {
			id := strings.ReplaceAll(op.name, " ", "-") + "-" + state.String()
			if state != unknown {
				host.set(id, state)
			}
			err := op.call(t.Context(), c, id)
			expectError(t, op.name+" "+state.String(), err, errs[state])
			if err != nil && !strings.Contains(err.Error(), id) {
				t.Errorf("%q does not name the instance", err)
			}
		}
	}
}

const unknown api.OrchestrationStatus = -1

func fill(err error, states ...api.OrchestrationStatus) map[api.OrchestrationStatus]error {
	m := map[api.OrchestrationStatus]error{}
	for _, s := range states {
		m[s] = err
	}
	return m
}

func finishedOrUnknown(more ...api.OrchestrationStatus) map[api.OrchestrationStatus]error {
	m := fill(ErrNotValid, append(more, api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED)...)
	m[unknown] = ErrNotFound
	return m
}

// TestClientErrorsKeepTheAnswer: the host's own words and code are there for who wants them.
func TestClientErrorsKeepTheAnswer(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	_, err := newTestClient(t, host.address).Start(t.Context(), "Orch", "x", nil)
	if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "An Orchestration instance with the ID x already exists.") {
		t.Errorf("got %v", err)
	}
}

// TestClientCodes: what else the endpoint may answer.
func TestClientCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]error{
		codes.Unavailable:       ErrUnavailable,
		codes.DeadlineExceeded:  ErrUnavailable,
		codes.Canceled:          ErrUnavailable, // the connection was closed under the call
		codes.ResourceExhausted: ErrTooLarge,
		codes.InvalidArgument:   ErrBadID,
		codes.Internal:          nil,
		codes.Unknown:           nil, // the instance is running, so it is not a state that does not allow the call
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			host := newClientHost(t)
			host.set("x", api.RUNTIME_STATUS_RUNNING)
			host.hook = func(_ context.Context, method string) error {
				if method == "GetInstance" && code == codes.Unknown {
					return nil // which the client asks, to learn what was wrong
				}
				return status.Error(code, "no")
			}
			c := newTestClient(t, host.address)
			for _, op := range operations {
				if code == codes.Unknown && slices.Contains([]string{"start once", "query", "wait"}, op.name) {
					continue // they are answered
				}
				err := op.call(t.Context(), c, "x")
				switch {
				case want != nil:
					expectError(t, op.name, err, want)
				case err == nil || status.Code(err) != code:
					t.Errorf("%s: got %v, want the code %s", op.name, err, code)
				default:
					expectError(t, op.name, err, err)
				}
			}
		})
	}
}

func TestClientIDs(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	for _, id := range []string{strings.Repeat("x", 101), strings.Repeat("é", 101), strings.Repeat("x", 513), "a/b", `a\b`, "a#b", "a?b", "a\nb", "a\x00b", "a\u0085b",
		"@", "@name@key", "a\xff"} {
		for _, op := range operations {
			expectError(t, fmt.Sprintf("%s %.20q", op.name, id), op.call(t.Context(), c, id), ErrBadID)
		}
	}
	for _, op := range operations {
		if op.name != "start" { // which makes one up
			expectError(t, op.name+" without an id", op.call(t.Context(), c, ""), ErrBadID)
		}
	}
	if calls := host.methods(); len(calls) > 0 {
		t.Errorf("bad ids reached the host: %v", calls)
	}
	for _, id := range []string{"x", strings.Repeat("x", 100), strings.Repeat("é", 100), "a@b", "a b", "0ab1:0001", "支払い", "..", "%2F"} {
		if got, err := c.Start(t.Context(), "Orch", id, nil); err != nil || got != id {
			t.Errorf("%.20q: got %q, %v", id, got, err)
		}
	}
}

func TestStartMakesUpAnID(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	a, errA := c.Start(t.Context(), "Orch", "", nil)
	b, errB := c.Start(t.Context(), "Orch", "", nil)
	if errA != nil || errB != nil || a == b {
		t.Errorf("got %q, %q, %v, %v", a, b, errA, errB)
	}
	if _, err := uuid.Parse(a); err != nil {
		t.Errorf("%q: %v", a, err)
	}
	if m, err := c.Query(t.Context(), a); err != nil || string(m.InstanceID) != a {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestClientRequests: what of each call reaches the host.
func TestClientRequests(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	c, ctx := newTestClient(t, host.address), t.Context()
	for input, want := range map[any]string{
		nil: "null", "": `""`, `{"a":1}`: `"{\"a\":1}"`, 1.5: "1.5", true: "true",
		struct{ A, B string }{"ü", "\u2028"}: `{"A":"ü","B":"\u2028"}`,
		[2]any{uint64(math.MaxUint64), nil}:  "[18446744073709551615,null]",
	} {
		id, err := c.Start(ctx, "oRCH", "", input)
		started := host.lastEvent(t).GetExecutionStarted()
		if err != nil || started.GetInput() == nil || started.GetInput().GetValue() != want || started.GetName() != "oRCH" {
			t.Errorf("%v: got %v, %v, want the input %s", input, started, err, want)
		}
		if _, err := c.StartOnce(ctx, "Other", id+"-once", input); err != nil || host.lastEvent(t).GetExecutionStarted().GetInput().GetValue() != want {
			t.Errorf("%v: got %v, %v, want the input %s", input, host.lastEvent(t), err, want)
		}
		if err := c.Raise(ctx, id, "Go!", input); err != nil {
			t.Error(err)
		}
		if e := host.lastEvent(t).GetEventRaised(); e.GetName() != "Go!" || e.GetInput() == nil || e.GetInput().GetValue() != want {
			t.Errorf("%v: raised %v, want %s", input, e, want)
		}
		if err := c.Terminate(ctx, id, input); err != nil {
			t.Error(err)
		}
		if e := host.lastEvent(t).GetExecutionTerminated(); e.GetInput().GetValue() != want || !e.GetRecurse() {
			t.Errorf("%v: terminated %v, want %s and the children too", input, e, want)
		}
	}
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	if err := c.Suspend(ctx, "x", "a pause"); err != nil || host.lastEvent(t).GetExecutionSuspended().GetInput().GetValue() != "a pause" {
		t.Errorf("got %v, %v", host.lastEvent(t), err)
	}
	if err := c.Resume(ctx, "x", "go on"); err != nil || host.lastEvent(t).GetExecutionResumed().GetInput().GetValue() != "go on" {
		t.Errorf("got %v, %v", host.lastEvent(t), err)
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { return nil, errors.New("no JSON for this") }

// TestClientMarshal: a value that cannot be JSON is an error, never a call without it.
func TestClientMarshal(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	c, ctx := newTestClient(t, host.address), t.Context()
	for _, v := range []any{make(chan int), func() {}, math.NaN(), badJSON{}, json.RawMessage("{"), map[string]any{"a": math.Inf(1)}} {
		_, startErr := c.Start(ctx, "Orch", "", v)
		_, onceErr := c.StartOnce(ctx, "Orch", "new", v)
		for _, err := range []error{startErr, onceErr, c.Raise(ctx, "x", "Go", v), c.Terminate(ctx, "x", v)} {
			if err == nil || !strings.Contains(err.Error(), "cannot be JSON") {
				t.Errorf("%T: got %v", v, err)
			}
		}
	}
	if calls := host.methods(); len(calls) > 0 {
		t.Errorf("calls were made: %v", calls)
	}
}

// TestClientPayloadLimit: what does not fit is refused before the call, to the byte.
func TestClientPayloadLimit(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	c, err := NewClient(strings.Replace(recordedBinding, "ENDPOINT", host.address, 1), 100)
	if err != nil {
		t.Fatal(err)
	}
	fits, tooLarge := strings.Repeat("x", 98), strings.Repeat("x", 99) // two quotes more
	ctx := t.Context()
	for name, call := range map[string]func(any) error{
		"start": func(v any) error {
			_, err := c.Start(ctx, "Orch", "", v)
			return err
		},
		"start once": func(v any) error {
			_, err := c.StartOnce(ctx, "Orch", "once", v)
			return err
		},
		"raise":     func(v any) error { return c.Raise(ctx, "x", "Go", v) },
		"terminate": func(v any) error { return c.Terminate(ctx, "x", v) },
	} {
		calls := len(host.methods())
		err := call(tooLarge)
		expectError(t, name, err, ErrTooLarge)
		if err != nil && !(strings.Contains(err.Error(), "101") && strings.Contains(err.Error(), "100")) {
			t.Errorf("%s: %q does not say how large it is and may be", name, err)
		}
		if n := len(host.methods()); n != calls {
			t.Errorf("%s: the host was called", name)
		}
		expectError(t, name, call(fits), nil)
	}
	greedy, err := NewClient(strings.Replace(recordedBinding, "ENDPOINT", host.address, 1), 2*MaxPayload)
	if err != nil || greedy.maxPayload != MaxPayload {
		t.Errorf("got a limit of %d, %v", greedy.maxPayload, err)
	}
}

// TestClientLargePayloads: 64 MiB in, and an answer of 64 MiB of input and as much output, although gRPC's own limit is
// 4 MiB and the binding's maxGrpcMessageSizeInBytes says so too.
func TestClientLargePayloads(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a gigabyte of memory")
	}
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	if _, err := c.Start(t.Context(), "Orch", "large", strings.Repeat("x", MaxPayload-2)); err != nil {
		t.Fatal(err)
	}
	host.instances["large"].SerializedOutput = host.instances["large"].SerializedInput
	m, err := c.Query(t.Context(), "large")
	if err != nil || len(m.SerializedInput) != MaxPayload || len(m.SerializedOutput) != MaxPayload {
		t.Fatalf("got %v", err)
	}
}

// TestClientConnection: one connection per endpoint, whoever uses it.
func TestClientConnection(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	shared := newTestClient(t, host.address)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			c := newTestClient(t, host.address, "LabHub", "OtherHub")
			for range 5 {
				_, err1 := shared.Query(t.Context(), "x")
				_, err2 := c.Query(t.Context(), "x")
				if err := errors.Join(err1, err2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := host.accepted.Load(); n != 1 {
		t.Errorf("%d connections for 200 calls, want 1", n)
	}
}

// TestClientFollowsTheHost: a host that has restarted has another port. It is not parallel: another test could get the
// old port.
func TestClientFollowsTheHost(t *testing.T) {
	before := newClientHost(t)
	old := newTestClient(t, before.address)
	if _, err := old.Start(t.Context(), "Orch", "x", nil); err != nil {
		t.Fatal(err)
	}
	before.server.Stop()
	after := newClientHost(t)
	after.set("x", api.RUNTIME_STATUS_COMPLETED)
	for _, op := range operations {
		expectError(t, op.name, op.call(t.Context(), old, "x"), ErrUnavailable)
	}
	if m, err := newTestClient(t, after.address).Query(t.Context(), "x"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestClientFindsTheHostAgain: a host that comes back on its port is found at once, however often it was not there
// before. It is not parallel: another test could get the port.
func TestClientFindsTheHostAgain(t *testing.T) {
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	if _, err := newTestClient(t, host.address).Query(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	host.server.Stop()
	for range 3 {
		_, err := newTestClient(t, host.address).Query(t.Context(), "x")
		expectError(t, "a stopped host", err, ErrUnavailable)
	}
	for state := connectivity.State(-1); state != connectivity.TransientFailure; time.Sleep(time.Millisecond) {
		endpoints.Lock() // gRPC answers a call a moment before its connection's state says why
		state = endpoints.conns[len(endpoints.conns)-1].GetState()
		endpoints.Unlock()
	}
	host.serve(t, host)
	if _, err := newTestClient(t, host.address).Query(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// TestClientConnectionsAreBounded is not parallel: it pushes out the connections of other tests.
func TestClientConnectionsAreBounded(t *testing.T) {
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	first := newTestClient(t, host.address)
	for i := range 2 * maxEndpoints {
		newTestClient(t, fmt.Sprintf("127.0.0.1:%d", i+1)) // connects at its first call only
		for _, c := range []*Client{first, newTestClient(t, host.address)} {
			if _, err := c.Query(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := host.accepted.Load(); n != 1 {
		t.Errorf("the connection in use was closed: %d of them", n)
	}
	endpoints.Lock()
	defer endpoints.Unlock()
	if n := len(endpoints.conns); n > maxEndpoints {
		t.Errorf("%d connections are kept", n)
	}
}

// TestClientMetadata: the task hub and the connection's name go with each call, if the binding has them.
func TestClientMetadata(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		replace         []string
		hub, connection []string
	}{
		"recorded":   {nil, []string{"LabHub"}, nil},
		"connection": {[]string{`"connectionName":null`, `"connectionName":"MyStorage"`}, []string{"LabHub"}, []string{"MyStorage"}},
		"no hub":     {[]string{`"taskHubName":"LabHub",`, ``}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newClientHost(t)
			c := newTestClient(t, host.address, test.replace...)
			// What the caller sends to others is no business of the host's.
			ctx := metadata.AppendToOutgoingContext(t.Context(), "Durable-TaskHub", "forged", "secret", "s")
			for _, op := range operations {
				host.set("x", api.RUNTIME_STATUS_COMPLETED)
				_ = op.call(ctx, c, "x")
			}
			for _, call := range host.calls {
				hub, connection := call.header.Get("Durable-TaskHub"), call.header.Get("Durable-ConnectionName")
				if !slices.Equal(hub, test.hub) || !slices.Equal(connection, test.connection) || call.header.Get("secret") != nil {
					t.Errorf("%s: got %v", call.method, call.header)
				}
			}
			if n := len(host.calls); n < len(operations) {
				t.Errorf("only %d calls", n)
			}
		})
	}
}

// TestClientTimeout: a host that does not answer in time is unavailable; that is no statement about the instance.
func TestClientTimeout(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			host := newClientHost(t)
			host.set("x", api.RUNTIME_STATUS_SUSPENDED)
			var calls atomic.Int32
			host.hook = func(ctx context.Context, _ string) error {
				if calls.Add(1) == 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			}
			err := op.call(t.Context(), newTestClient(t, host.address, shortTimeout...), "x")
			expectError(t, op.name, err, ErrUnavailable)
			if n := calls.Load(); n != 1 {
				t.Errorf("%d calls: a call that had no answer was followed by another", n)
			}
		})
	}
}

// TestClientCancel: a caller that gives up gets its own reason back.
func TestClientCancel(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			host := newClientHost(t)
			host.set("x", api.RUNTIME_STATUS_RUNNING)
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			host.hook = func(context.Context, string) error {
				cancel()
				<-release
				return nil
			}
			expectError(t, op.name, op.call(ctx, newTestClient(t, host.address), "x"), context.Canceled)
		})
	}
}

// TestClientTooLate: a context that has ended makes no call.
func TestClientTooLate(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 10 {
		for _, op := range operations {
			expectError(t, op.name, op.call(ctx, c, fmt.Sprintf("x%d", i)), context.Canceled)
		}
	}
	_, err := c.Query(t.Context(), "x") // comes after what the others may have left behind
	expectError(t, "in time", err, ErrNotFound)
	if calls := host.methods(); len(calls) != 1 {
		t.Errorf("calls were made although their context had ended: %v", calls)
	}
}

// TestWait: a wait lasts as long as its context, whatever the timeout of one call, and never asks the host to wait.
func TestWait(t *testing.T) {
	t.Parallel()
	for _, ended := range []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED} {
		t.Run(ended.String(), func(t *testing.T) {
			t.Parallel()
			host := newClientHost(t)
			host.set("x", api.RUNTIME_STATUS_PENDING)
			began := time.Now()
			c := newTestClient(t, host.address, "00:01:40", "00:00:00.3")
			host.hook = func(context.Context, string) error {
				if time.Since(began) > 2*c.timeout {
					host.set("x", ended)
				} else {
					host.set("x", []api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED}[len(host.methods())%2])
				}
				return nil
			}
			if m, err := c.Wait(t.Context(), "x"); err != nil || m.RuntimeStatus != ended {
				t.Errorf("got %+v, %v", m, err)
			}
			if calls, all := host.count("GetInstance"), host.methods(); calls != len(all) || calls < 3 {
				t.Errorf("the host was asked %v", all)
			}
		})
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.set("x", api.RUNTIME_STATUS_RUNNING)
	c := newTestClient(t, host.address)
	_, err := c.Wait(t.Context(), "nobody")
	expectError(t, "an unknown instance", err, ErrNotFound)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Wait(ctx, "x")
	expectError(t, "the context ends between two questions", err, context.DeadlineExceeded)

	host.hook = func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Wait(ctx, "x")
	expectError(t, "the context ends during a question", err, context.DeadlineExceeded)
}

func TestStartOnce(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	c := newTestClient(t, host.address)
	for state, want := range map[api.OrchestrationStatus]bool{
		unknown: true, api.RUNTIME_STATUS_FAILED: true, api.RUNTIME_STATUS_TERMINATED: true, api.RUNTIME_STATUS_CANCELED: true,
		api.RUNTIME_STATUS_PENDING: false, api.RUNTIME_STATUS_RUNNING: false, api.RUNTIME_STATUS_SUSPENDED: false,
		api.RUNTIME_STATUS_COMPLETED: false, api.RUNTIME_STATUS_CONTINUED_AS_NEW: false,
	} {
		id := "once-" + state.String()
		if state != unknown {
			host.set(id, state)
		}
		starts := host.count("StartInstance")
		started, err := c.StartOnce(t.Context(), "Orch", id, "input")
		if err != nil || started != want {
			t.Errorf("%s: got %t, %v, want %t", state, started, err, want)
		}
		if n := host.count("StartInstance") - starts; (n == 1) != want {
			t.Errorf("%s: %d starts, want one: %t", state, n, want)
		}
		if again, err := c.StartOnce(t.Context(), "Orch", id, "input"); err != nil || again {
			t.Errorf("%s: a second call got %t, %v", state, again, err)
		}
	}
}

// TestStartOnceLosesTheRace: another process started the instance between the question and the start.
func TestStartOnceLosesTheRace(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.hook = func(_ context.Context, method string) error {
		if method == "StartInstance" {
			host.set("x", api.RUNTIME_STATUS_RUNNING)
		}
		return nil
	}
	started, err := newTestClient(t, host.address).StartOnce(t.Context(), "Orch", "x", nil)
	if started || err != nil {
		t.Errorf("got %t, %v", started, err)
	}
}

// TestStartOnceTogether: 20 callers at once start one instance, also when it has failed before the last of them asks (a
// failed one may be started again); one of them says that it did, and one that gives up takes no other along.
func TestStartOnceTogether(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	host.startedAs = api.RUNTIME_STATUS_FAILED
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	host.hook = func(_ context.Context, method string) error {
		if method == "GetInstance" {
			asked <- struct{}{}
			<-answer
		}
		return nil
	}
	c := newTestClient(t, host.address)
	impatient, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := c.StartOnce(impatient, "Orch", "x", nil)
		gaveUp <- err
	}()
	<-asked // the impatient one leads

	var began atomic.Int32
	var startedBy atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			began.Add(1)
			started, err := newTestClient(t, host.address).StartOnce(t.Context(), "Orch", "x", nil)
			if err != nil {
				t.Error(err)
			}
			if started {
				startedBy.Add(1)
			}
		})
	}
	for began.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // let them all reach the flight: nothing shows that they have
	giveUp()
	expectError(t, "the impatient caller", <-gaveUp, context.Canceled)
	close(answer)
	group.Wait()
	if n := host.count("StartInstance"); n != 1 {
		t.Errorf("%d starts, want 1", n)
	}
	if n := startedBy.Load(); n != 0 { // the impatient one did
		t.Errorf("%d callers say that they started it", n)
	}
}

// TestStartOnceSaysWhoStarted: of 20 callers at once exactly one started the instance.
func TestStartOnceSaysWhoStarted(t *testing.T) {
	t.Parallel()
	host := newClientHost(t)
	var startedBy atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			started, err := newTestClient(t, host.address).StartOnce(t.Context(), "Orch", "x", nil)
			if err != nil {
				t.Error(err)
			}
			if started {
				startedBy.Add(1)
			}
		})
	}
	group.Wait()
	if n := startedBy.Load(); n != 1 || len(host.events) != 1 {
		t.Errorf("%d callers say that they started it, %d starts", n, len(host.events))
	}
}

// TestStartOnceElsewhere: the same id at another host, or in another task hub, is another instance.
func TestStartOnceElsewhere(t *testing.T) {
	t.Parallel()
	here, there := newClientHost(t), newClientHost(t)
	var asked sync.WaitGroup
	asked.Add(3) // none is answered before all have asked
	wait := func(_ context.Context, method string) error {
		if method == "GetInstance" {
			asked.Done()
			asked.Wait()
		}
		return nil
	}
	here.hook, there.hook = wait, wait
	var group sync.WaitGroup
	for _, c := range []*Client{newTestClient(t, here.address), newTestClient(t, here.address, "LabHub", "OtherHub"), newTestClient(t, there.address)} {
		group.Go(func() {
			if _, err := c.StartOnce(t.Context(), "Orch", "x", nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if a, b := here.count("StartInstance"), there.count("StartInstance"); a != 2 || b != 1 {
		t.Errorf("%d and %d starts, want 2 and 1", a, b)
	}
}
