package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/handler/internal/sidecar"
	"example.com/durablefunctions/internal/testkit"
)

// methods returns the names of the calls so far.
func methods(host *testkit.Sidecar) []string {
	var names []string
	for _, c := range host.Calls() {
		names = append(names, c.Method)
	}
	return names
}

// lastCall returns what the newest call of the method holds.
func lastCall(t testing.TB, host *testkit.Sidecar, method string) map[string]string {
	t.Helper()
	calls := host.Calls(method)
	if len(calls) == 0 {
		t.Fatalf("no %s reached the host", method)
	}
	return calls[len(calls)-1].Fields
}

// before lets f run before each call is answered; its error is the answer.
func before(f func(ctx context.Context, method string) error) func(context.Context, testkit.Call) (string, bool, error) {
	return func(ctx context.Context, c testkit.Call) (string, bool, error) {
		err := f(ctx, c.Method)
		return "", err != nil, err
	}
}

// newTestClient returns a client of the endpoint; replace changes the recorded binding, by pairs of old and new text.
func newTestClient(t testing.TB, address string, replace ...string) *Client {
	t.Helper()
	c, err := NewClient(testkit.ClientBinding(address, replace...), MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shortTimeout makes each call end after 50 milliseconds.
var shortTimeout = []string{"00:01:40", "00:00:00.05"}

// clientErrors are the errors that a caller may act on.
var clientErrors = []error{ErrExists, ErrNotFound, ErrNotValid, ErrUnavailable, ErrBadID, ErrTooLarge, ErrBadFilter, ErrBadVersion, ErrOldHost}

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
	{"purge tree", func(ctx context.Context, c *Client, id string) error { return c.PurgeTree(ctx, id) }},
	{"rewind", func(ctx context.Context, c *Client, id string) error { return c.Rewind(ctx, id, "why") }},
	{"restart", func(ctx context.Context, c *Client, id string) error {
		_, err := c.Restart(ctx, id, false)
		return err
	}},
	{"history", func(ctx context.Context, c *Client, id string) error {
		_, err := c.History(ctx, id)
		return err
	}},
}

// serveEngine serves durabletask-go's own sidecar over the backend and returns its address.
func serveEngine(t testing.TB, be backend.Backend) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	_, register := backend.NewGrpcExecutor(be, backend.DefaultLogger())
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
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
	c, ctx := newTestClient(t, serveEngine(t, be)), t.Context()

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
		"resume":     finishedOrUnknown(api.RUNTIME_STATUS_RUNNING),
		"history":    fill(ErrNotFound, unknown),
		"rewind": merge(fill(ErrNotFound, unknown), fill(ErrNotValid, api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED,
			api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_TERMINATED)),
		"restart":    merge(fill(ErrNotFound, unknown), fill(ErrNotValid, api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED)),
		"purge":      {api.RUNTIME_STATUS_PENDING: ErrNotValid, api.RUNTIME_STATUS_RUNNING: ErrNotValid, api.RUNTIME_STATUS_SUSPENDED: ErrNotValid, unknown: ErrNotFound},
		"purge tree": {api.RUNTIME_STATUS_PENDING: ErrNotValid, api.RUNTIME_STATUS_RUNNING: ErrNotValid, api.RUNTIME_STATUS_SUSPENDED: ErrNotValid, unknown: ErrNotFound},
	}
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
	for _, op := range operations {
		errs, ok := want[op.name]
		if !ok {
			continue // wait has tests of its own
		}
		for _, state := range states {
			id := strings.ReplaceAll(op.name, " ", "-") + "-" + state.String()
			if state != unknown {
				host.Set(id, state)
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

func merge(a, b map[api.OrchestrationStatus]error) map[api.OrchestrationStatus]error {
	maps.Copy(a, b)
	return a
}

func finishedOrUnknown(more ...api.OrchestrationStatus) map[api.OrchestrationStatus]error {
	m := fill(ErrNotValid, append(more, api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED)...)
	m[unknown] = ErrNotFound
	return m
}

// TestRecordedAnswers plays answers of the real host, with the extension's version that gave them, and checks what the
// caller gets.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	ops := map[string]func(context.Context, *Client, string) error{}
	for _, op := range operations {
		ops[op.name] = op.call
	}
	const thrown = "Exception was thrown by handler."
	running, suspended, completed := api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED, api.RUNTIME_STATUS_COMPLETED
	host := testkit.StartSidecar(t)
	var answer error
	host.Answer = before(func(_ context.Context, method string) error {
		if method == "GetInstance" || method == "QueryInstances" {
			return nil
		}
		return answer
	})
	c := newTestClient(t, host.Address)
	for _, test := range []struct {
		extension, operation, id string
		code                     codes.Code
		details                  string
		state                    api.OrchestrationStatus // for the client that asks, where the answer says too little
		want                     error
	}{
		{"3.14", "suspend", "nobody", codes.Unknown, thrown, unknown, ErrNotFound},
		{"3.14", "resume", "nobody", codes.Unknown, thrown, unknown, ErrNotFound},
		{"3.14", "suspend", "l-done", codes.Unknown, thrown, completed, ErrNotValid},
		{"3.14", "suspend", "l-susp", codes.Unknown, thrown, suspended, ErrNotValid},
		{"3.14", "resume", "l-done", codes.Unknown, thrown, completed, ErrNotValid},
		{"3.14", "terminate", "nobody", codes.NotFound, "ArgumentException: No instance with ID 'nobody' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.14", "terminate", "l-done", codes.FailedPrecondition, "InvalidOperationException: Cannot terminate the orchestration instance l-done because instance is in the Completed state.", completed, ErrNotValid},
		{"3.14", "raise", "nobody", codes.NotFound, "No instance with ID 'nobody' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.14", "start", "l-event", codes.AlreadyExists, "An Orchestration instance with the ID l-event already exists.", running, ErrExists},
		{"3.19", "start", "wait1", codes.AlreadyExists, "An Orchestration instance with the ID wait1 already exists.", running, ErrExists},
		{"3.19", "start once", "done2", codes.AlreadyExists, "An Orchestration instance with the ID done2 already exists.", completed, nil},
		{"3.19", "raise", "unknownX", codes.NotFound, "No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "raise", "fin1", codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.", completed, ErrNotValid},
		{"3.19", "suspend", "l2", codes.FailedPrecondition, "InvalidOperationException: Cannot suspend the orchestration instance l2 because instance is in the Suspended state.", suspended, ErrNotValid},
		{"3.19", "suspend", "unknownX", codes.NotFound, "ArgumentException: No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "suspend", "fin1", codes.FailedPrecondition, "InvalidOperationException: Cannot suspend the orchestration instance fin1 because instance is in the Completed state.", completed, ErrNotValid},
		{"3.19", "resume", "l2", codes.FailedPrecondition, "InvalidOperationException: Cannot resume the orchestration instance l2 because instance is in the Running state.", running, ErrNotValid},
		{"3.19", "resume", "unknownX", codes.NotFound, "ArgumentException: No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "resume", "fin1", codes.FailedPrecondition, "InvalidOperationException: Cannot resume the orchestration instance fin1 because instance is in the Completed state.", completed, ErrNotValid},
		{"3.19", "terminate", "l3", codes.FailedPrecondition, "InvalidOperationException: Cannot terminate the orchestration instance l3 because instance is in the Terminated state.", completed, ErrNotValid},
		{"3.19", "terminate", "unknownX", codes.NotFound, "ArgumentException: No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "purge", "l5", codes.FailedPrecondition, "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID l5 has status Running", running, ErrNotValid},
		{"3.19", "purge", "unknownX", codes.OK, "", unknown, ErrNotFound},
		{"3.19", "restart", "unknownX", codes.NotFound, "ArgumentException: No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "restart", "wait1", codes.FailedPrecondition, "Non-terminal instance with this instance ID already exists: An Orchestration instance with the status Running already exists.", running, ErrNotValid},
		{"3.19", "rewind", "unknownX", codes.NotFound, "No instance with ID 'unknownX' was found. (Parameter 'instanceId')", unknown, ErrNotFound},
		{"3.19", "rewind", "qq3", codes.FailedPrecondition, "The rewind operation is only supported on failed orchestration instances.", completed, ErrNotValid},
		{"3.19", "history", "unknownX", codes.NotFound, "Orchestration instance with ID unknownX was not found.", unknown, ErrNotFound},
	} {
		if test.state != unknown {
			host.Set(test.id, test.state)
		}
		answer = status.Error(test.code, test.details)
		what := fmt.Sprintf("%s: %s %s", test.extension, test.operation, test.id)
		err := ops[test.operation](t.Context(), c, test.id)
		expectError(t, what, err, test.want)
		if err != nil && !strings.Contains(err.Error(), test.id) {
			t.Errorf("%s: %v does not name the instance", what, err)
		}
	}
}

// TestRecordedStates plays states of instances as the real host answers them.
func TestRecordedStates(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	states := map[string]string{
		"wait1": `"name":"Orch","input":"{}","customStatus":"null"`, // running, which is protobuf's zero
		"fin1":  `"name":"Orch","orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED","output":"\"done\"","customStatus":"null"`,
		"l2":    `"name":"Orch","orchestrationStatus":"ORCHESTRATION_STATUS_SUSPENDED","output":"because","customStatus":"null"`,
		"l2b":   `"name":"Orch","output":"go on","customStatus":"{\"entityExists\":true}"`,
		"sched": `"name":"Orch","orchestrationStatus":"ORCHESTRATION_STATUS_PENDING"`,
	}
	host.Answer = func(_ context.Context, c testkit.Call) (string, bool, error) {
		id := c.Fields["instanceId"]
		if states[id] == "" {
			return `{}`, true, nil
		}
		return `{"exists":true,"orchestrationState":{"instanceId":"` + id + `",` + states[id] + `}}`, true, nil
	}
	c := newTestClient(t, host.Address)
	for id, want := range map[string]api.OrchestrationMetadata{
		"wait1": {RuntimeStatus: api.RUNTIME_STATUS_RUNNING, SerializedInput: "{}"},
		"fin1":  {RuntimeStatus: api.RUNTIME_STATUS_COMPLETED, SerializedOutput: `"done"`},
		"l2":    {RuntimeStatus: api.RUNTIME_STATUS_SUSPENDED, SerializedOutput: "because"},
		"l2b":   {RuntimeStatus: api.RUNTIME_STATUS_RUNNING, SerializedOutput: "go on", SerializedCustomStatus: `{"entityExists":true}`},
		"sched": {RuntimeStatus: api.RUNTIME_STATUS_PENDING},
	} {
		want.InstanceID, want.Name = api.InstanceID(id), "Orch"
		got, err := c.Query(t.Context(), id)
		if err != nil || got.OrchestrationMetadata != want {
			t.Errorf("%s: got %+v, %v, want %+v", id, got, err, want)
		}
	}
	_, err := c.Query(t.Context(), "unknown1")
	expectError(t, "an unknown instance", err, ErrNotFound)
}

// TestRaiseWithoutName: the host answers "Value cannot be null. (Parameter 'eventName')", which would be taken for a bad id.
func TestRaiseWithoutName(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	err := newTestClient(t, host.Address).Raise(t.Context(), "x", "", 1)
	if err == nil || !strings.Contains(err.Error(), "has no name") || len(host.Calls()) > 0 {
		t.Errorf("got %v after the calls %v", err, methods(host))
	}
	expectError(t, "an event without a name", err, err)
}

// TestClientErrorsKeepTheAnswer: the host's own words and code are there for who wants them.
func TestClientErrorsKeepTheAnswer(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	_, err := newTestClient(t, host.Address).Start(t.Context(), "Orch", "x", nil)
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
		codes.Unimplemented:     ErrOldHost,
		codes.Internal:          nil,
		codes.Unknown:           nil, // the instance is running, so it is not a state that does not allow the call
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			host := testkit.StartSidecar(t)
			host.Set("x", api.RUNTIME_STATUS_RUNNING)
			host.Answer = before(func(_ context.Context, method string) error {
				if method == "GetInstance" && code == codes.Unknown {
					return nil // which the client asks, to learn what was wrong
				}
				return status.Error(code, "no")
			})
			c := newTestClient(t, host.Address)
			for _, op := range operations {
				if code == codes.Unknown && slices.Contains([]string{"query", "wait", "purge tree"}, op.name) {
					continue // they are answered, or ask first
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
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
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
	if calls := methods(host); len(calls) > 0 {
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
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
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
	host := testkit.StartSidecar(t)
	c, ctx := newTestClient(t, host.Address), t.Context()
	for input, want := range map[any]string{
		nil: "null", "": `""`, `{"a":1}`: `"{\"a\":1}"`, 1.5: "1.5", true: "true",
		struct{ A, B string }{"ü", "\u2028"}: `{"A":"ü","B":"\u2028"}`,
		[2]any{uint64(math.MaxUint64), nil}:  "[18446744073709551615,null]",
	} {
		id, err := c.Start(ctx, "oRCH", "", input)
		wantCall(t, host, err, "StartInstance", map[string]string{"instanceId": id, "name": "oRCH", "input": want})
		_, err = c.StartOnce(ctx, "Other", id+"-once", input)
		wantCall(t, host, err, "StartInstance", map[string]string{
			"instanceId": id + "-once", "name": "Other", "input": want,
			// The policy and three statuses, and nothing beside them that the host could read as something else.
			"orchestrationIdReusePolicy":                      "",
			"orchestrationIdReusePolicy.replaceableStatus[0]": "ORCHESTRATION_STATUS_FAILED",
			"orchestrationIdReusePolicy.replaceableStatus[1]": "ORCHESTRATION_STATUS_TERMINATED",
			"orchestrationIdReusePolicy.replaceableStatus[2]": "ORCHESTRATION_STATUS_CANCELED",
		})
		err = c.Raise(ctx, id, "Go!", input)
		wantCall(t, host, err, "RaiseEvent", map[string]string{"instanceId": id, "name": "Go!", "input": want})
		err = c.Terminate(ctx, id, input)
		wantCall(t, host, err, "TerminateInstance", map[string]string{"instanceId": id, "output": want, "recursive": "true"})
	}
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	wantCall(t, host, c.Suspend(ctx, "x", "a pause"), "SuspendInstance", map[string]string{"instanceId": "x", "reason": "a pause"})
	host.Set("x", api.RUNTIME_STATUS_SUSPENDED)
	wantCall(t, host, c.Resume(ctx, "x", "go on"), "ResumeInstance", map[string]string{"instanceId": "x", "reason": "go on"})
}

func wantCall(t testing.TB, host *testkit.Sidecar, err error, method string, want map[string]string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", method, err)
	}
	if diff := cmp.Diff(want, lastCall(t, host, method)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", method, diff)
	}
}

// TestReusePolicyOnTheWire: field 1 of the policy with the numbers of failed, canceled and terminated, in one run of
// bytes: what the host calls replaceableStatus.
func TestReusePolicyOnTheWire(t *testing.T) {
	t.Parallel()
	got, err := proto.Marshal(&sidecar.OrchestrationIdReusePolicy{ReplaceableStatus: replaceable})
	if want := []byte{1<<3 | 2, 3, 3, 5, 4}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("got % x, %v, want % x", got, err, want)
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { return nil, errors.New("no JSON for this") }

// TestClientMarshal: a value that cannot be JSON is an error, never a call without it.
func TestClientMarshal(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	c, ctx := newTestClient(t, host.Address), t.Context()
	for _, v := range []any{make(chan int), func() {}, math.NaN(), badJSON{}, json.RawMessage("{"), map[string]any{"a": math.Inf(1)}} {
		_, startErr := c.Start(ctx, "Orch", "", v)
		_, onceErr := c.StartOnce(ctx, "Orch", "new", v)
		for _, err := range []error{startErr, onceErr, c.Raise(ctx, "x", "Go", v), c.Terminate(ctx, "x", v)} {
			if err == nil || !strings.Contains(err.Error(), "cannot be JSON") {
				t.Errorf("%T: got %v", v, err)
			}
		}
	}
	if calls := methods(host); len(calls) > 0 {
		t.Errorf("calls were made: %v", calls)
	}
}

// TestClientPayloadLimit: what does not fit is refused before the call, to the byte.
func TestClientPayloadLimit(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	c, err := NewClient(testkit.ClientBinding(host.Address), 100)
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
		calls := len(methods(host))
		err := call(tooLarge)
		expectError(t, name, err, ErrTooLarge)
		if err != nil && !(strings.Contains(err.Error(), "101") && strings.Contains(err.Error(), "100")) {
			t.Errorf("%s: %q does not say how large it is and may be", name, err)
		}
		if n := len(methods(host)); n != calls {
			t.Errorf("%s: the host was called", name)
		}
		expectError(t, name, call(fits), nil)
	}
	greedy, err := NewClient(testkit.ClientBinding(host.Address), 2*MaxPayload)
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
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
	if _, err := c.Start(t.Context(), "Orch", "large", strings.Repeat("x", MaxPayload-2)); err != nil {
		t.Fatal(err)
	}
	host.SetOutput("large", lastCall(t, host, "StartInstance")["input"])
	m, err := c.Query(t.Context(), "large")
	if err != nil || len(m.SerializedInput) != MaxPayload || len(m.SerializedOutput) != MaxPayload {
		t.Fatalf("got %v", err)
	}
}

// TestClientConnection: one connection per endpoint, whoever uses it.
func TestClientConnection(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	shared := newTestClient(t, host.Address)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			c := newTestClient(t, host.Address, "LabHub", "OtherHub")
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
	if n := host.Connections(); n != 1 {
		t.Errorf("%d connections for 200 calls, want 1", n)
	}
}

// TestClientFollowsTheHost: a host that has restarted has another port. It is not parallel: another test could get the
// old port.
func TestClientFollowsTheHost(t *testing.T) {
	before := testkit.StartSidecar(t)
	old := newTestClient(t, before.Address)
	if _, err := old.Start(t.Context(), "Orch", "x", nil); err != nil {
		t.Fatal(err)
	}
	before.Stop()
	after := testkit.StartSidecar(t)
	after.Set("x", api.RUNTIME_STATUS_COMPLETED)
	for _, op := range operations {
		expectError(t, op.name, op.call(t.Context(), old, "x"), ErrUnavailable)
	}
	if m, err := newTestClient(t, after.Address).Query(t.Context(), "x"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestClientFindsTheHostAgain: a host that comes back on its port is found at once, however often it was not there
// before. It is not parallel: another test could get the port.
func TestClientFindsTheHostAgain(t *testing.T) {
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	if _, err := newTestClient(t, host.Address).Query(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	host.Stop()
	for range 3 {
		_, err := newTestClient(t, host.Address).Query(t.Context(), "x")
		expectError(t, "a stopped host", err, ErrUnavailable)
	}
	for state := connectivity.State(-1); state != connectivity.TransientFailure; time.Sleep(time.Millisecond) {
		endpoints.Lock() // gRPC answers a call a moment before its connection's state says why
		state = endpoints.conns[len(endpoints.conns)-1].GetState()
		endpoints.Unlock()
	}
	host.Listen(t)
	if _, err := newTestClient(t, host.Address).Query(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// TestClientConnectionsAreBounded: connections that are in use are not closed, however many endpoints there are. It is not
// parallel: it pushes out the connections of other tests.
func TestClientConnectionsAreBounded(t *testing.T) {
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	called, release := make(chan struct{}), make(chan struct{})
	host.Answer = before(func(context.Context, string) error {
		called <- struct{}{}
		<-release
		return nil
	})
	ended := make(chan error)
	go func() {
		_, err := newTestClient(t, host.Address).Query(context.Background(), "x")
		ended <- err
	}()
	<-called
	for i := range 2 * maxEndpoints {
		_, err := newTestClient(t, fmt.Sprintf("127.0.0.1:%d", i+1)).Query(t.Context(), "x")
		expectError(t, "an endpoint without a host", err, ErrUnavailable)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the connection was closed under a call: %v", err)
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
			host := testkit.StartSidecar(t)
			c := newTestClient(t, host.Address, test.replace...)
			// What the caller sends to others is no business of the host's.
			ctx := metadata.AppendToOutgoingContext(t.Context(), "Durable-TaskHub", "forged", "secret", "s")
			for _, op := range operations {
				host.Set("x", api.RUNTIME_STATUS_COMPLETED)
				_ = op.call(ctx, c, "x")
			}
			for _, call := range host.Calls() {
				hub, connection := call.Header.Get("Durable-TaskHub"), call.Header.Get("Durable-ConnectionName")
				if !slices.Equal(hub, test.hub) || !slices.Equal(connection, test.connection) || call.Header.Get("secret") != nil {
					t.Errorf("%s: got %v", call.Method, call.Header)
				}
			}
			if n := len(host.Calls()); n < len(operations) {
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
			host := testkit.StartSidecar(t)
			host.Set("x", api.RUNTIME_STATUS_SUSPENDED)
			var calls atomic.Int32
			host.Answer = before(func(ctx context.Context, _ string) error {
				if calls.Add(1) == 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			})
			err := op.call(t.Context(), newTestClient(t, host.Address, shortTimeout...), "x")
			expectError(t, op.name, err, ErrUnavailable)
			if n := calls.Load(); n > 1 {
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
			host := testkit.StartSidecar(t)
			host.Set("x", api.RUNTIME_STATUS_RUNNING)
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			host.Answer = before(func(context.Context, string) error {
				cancel()
				<-release
				return nil
			})
			expectError(t, op.name, op.call(ctx, newTestClient(t, host.Address), "x"), context.Canceled)
		})
	}
}

// TestClientTooLate: a context that has ended makes no call.
func TestClientTooLate(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 10 {
		for _, op := range operations {
			expectError(t, op.name, op.call(ctx, c, fmt.Sprintf("x%d", i)), context.Canceled)
		}
	}
	_, err := c.Query(t.Context(), "x") // comes after what the others may have left behind
	expectError(t, "in time", err, ErrNotFound)
	if calls := methods(host); len(calls) != 1 {
		t.Errorf("calls were made although their context had ended: %v", calls)
	}
}

// TestWait: a wait lasts as long as its context, whatever the timeout of one call, and never asks the host to wait.
func TestWait(t *testing.T) {
	t.Parallel()
	for _, ended := range []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED} {
		t.Run(ended.String(), func(t *testing.T) {
			t.Parallel()
			host := testkit.StartSidecar(t)
			host.Set("x", api.RUNTIME_STATUS_PENDING)
			began := time.Now()
			c := newTestClient(t, host.Address, "00:01:40", "00:00:00.3")
			host.Answer = before(func(context.Context, string) error {
				if time.Since(began) > 2*c.timeout {
					host.Set("x", ended)
				} else {
					host.Set("x", []api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED}[len(methods(host))%2])
				}
				return nil
			})
			if m, err := c.Wait(t.Context(), "x"); err != nil || m.RuntimeStatus != ended {
				t.Errorf("got %+v, %v", m, err)
			}
			if calls, all := len(host.Calls("GetInstance")), methods(host); calls != len(all) || calls < 3 {
				t.Errorf("the host was asked %v", all)
			}
		})
	}
}

// TestWaitForStart: an instance has started as soon as it is not pending, whatever it is then.
func TestWaitForStart(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
	for _, started := range []api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED, api.RUNTIME_STATUS_FAILED} {
		id := started.String()
		host.Set(id, api.RUNTIME_STATUS_PENDING)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := c.WaitForStart(ctx, id)
		expectError(t, "a pending instance", err, context.DeadlineExceeded)
		cancel()
		host.Set(id, started)
		if i, err := c.WaitForStart(t.Context(), id); err != nil || i.RuntimeStatus != started {
			t.Errorf("got %+v, %v, want %s", i, err, started)
		}
	}
	_, err := c.WaitForStart(t.Context(), "nobody")
	expectError(t, "an unknown instance", err, ErrNotFound)
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Set("x", api.RUNTIME_STATUS_RUNNING)
	c := newTestClient(t, host.Address)
	_, err := c.Wait(t.Context(), "nobody")
	expectError(t, "an unknown instance", err, ErrNotFound)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Wait(ctx, "x")
	expectError(t, "the context ends between two questions", err, context.DeadlineExceeded)

	host.Answer = before(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Wait(ctx, "x")
	expectError(t, "the context ends during a question", err, context.DeadlineExceeded)
}

// olderBinding makes newTestClient's binding that of an extension before 3.19, which knows no reuse policy.
var olderBinding = []string{`"useForwardedHost":false,`, ``}

// TestStartOnce: what is replaced, by the statuses that an instance can have, in one call; on an extension before 3.19
// with a question before it.
func TestStartOnce(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string][]string{"one call": nil, "older extension": olderBinding} {
		host := testkit.StartSidecar(t)
		if replace != nil {
			host.Answer = ignorePolicy()
		}
		c := newTestClient(t, host.Address, replace...)
		for state, want := range map[api.OrchestrationStatus]bool{
			unknown: true, api.RUNTIME_STATUS_FAILED: true, api.RUNTIME_STATUS_TERMINATED: true, api.RUNTIME_STATUS_CANCELED: true,
			api.RUNTIME_STATUS_PENDING: false, api.RUNTIME_STATUS_RUNNING: false, api.RUNTIME_STATUS_SUSPENDED: false,
			api.RUNTIME_STATUS_COMPLETED: false,
		} {
			id := "once-" + state.String()
			if state != unknown {
				host.Set(id, state)
			}
			host.Forget()
			before := len(host.Started())
			started, err := c.StartOnce(t.Context(), "Orch", id, "input")
			if err != nil || started != want || (len(host.Started()) == before+1) != want {
				t.Errorf("%s, %s: got %t, %v, want %t", name, state, started, err, want)
			}
			if calls := methods(host); replace == nil && !slices.Equal(calls, []string{"StartInstance"}) {
				t.Errorf("%s: the calls are %v", state, calls)
			}
			if again, err := c.StartOnce(t.Context(), "Orch", id, "input"); err != nil || again {
				t.Errorf("%s, %s: a second call got %t, %v", name, state, again, err)
			}
		}
	}
}

// ignorePolicy answers starts as an extension before 3.19: it replaces whatever has finished.
func ignorePolicy() func(context.Context, testkit.Call) (string, bool, error) {
	return func(_ context.Context, c testkit.Call) (string, bool, error) {
		maps.DeleteFunc(c.Fields, func(name, _ string) bool { return strings.HasPrefix(name, "orchestrationIdReusePolicy") })
		return "", false, nil
	}
}

// TestStartOnceTogether: of 20 callers at once, on several workers, exactly one starts the instance, and it alone says
// so.
func TestStartOnceTogether(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.StartedAs = api.RUNTIME_STATUS_COMPLETED // before the others ask: it is not started again
	host.Set("x", api.RUNTIME_STATUS_FAILED)
	var startedBy atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			started, err := newTestClient(t, host.Address).StartOnce(t.Context(), "Orch", "x", nil)
			if err != nil {
				t.Error(err)
			}
			if started {
				startedBy.Add(1)
			}
		})
	}
	group.Wait()
	if n, starts := startedBy.Load(), len(host.Started()); n != 1 || starts != 1 {
		t.Errorf("%d callers say that they started it, %d starts", n, starts)
	}
}
