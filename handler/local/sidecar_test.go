package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

func decodeTurn(t testing.TB, r testkit.Request) *wire.Turn {
	t.Helper()
	turn, err := wire.DecodeTurn(text(r.Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// eventApp waits for the event Go and returns its data; with the input "done" it returns at once.
func eventApp(t testing.TB) *testkit.App {
	return testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var input string
		if err := ctx.GetInput(&input); err != nil || input == "done" {
			return "done", err
		}
		if input == "fail" {
			return nil, errors.New("broken")
		}
		ctx.SetCustomStatus(`{"waiting":true}`)
		var data json.RawMessage
		err := ctx.WaitForSingleEvent("Go", -1).Await(&data)
		return data, err
	})
}

// expectStatus compares the error of a call with the recorded one of the real host.
func expectStatus(t testing.TB, err error, code codes.Code, message string) {
	t.Helper()
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) || s.GRPCStatus().Code() != code || s.GRPCStatus().Message() != message {
		t.Errorf("got %v, want %s: %s", err, code, message)
	}
}

// TestLifecycle plays the recorded calls of the durable client.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	app := eventApp(t)
	h := open(t, app)
	c := durableClient(t, h)

	start(t, h, "l-event", `"event"`)
	started, err := c.WaitForOrchestrationStart(ctx, "l-event")
	if err != nil || started.RuntimeStatus != api.RUNTIME_STATUS_RUNNING || started.SerializedCustomStatus != `{"waiting":true}` || started.SerializedInput != `"event"` {
		t.Errorf("got %+v, %v", started, err)
	}
	_, err = c.ScheduleNewOrchestration(ctx, "Orch", api.WithInstanceID("l-event"))
	expectStatus(t, err, codes.AlreadyExists, "An Orchestration instance with the ID l-event already exists.")
	expectStatus(t, c.PurgeOrchestrationState(ctx, "l-event"), codes.FailedPrecondition,
		"Only orchestrations in a terminal state can be purged, but the orchestration with instance ID l-event has status Running")
	if err := c.RaiseEvent(ctx, "l-event", "Go", api.WithRawEventData(`{"yes":[1,2,3]}`)); err != nil {
		t.Error(err)
	}
	ended, err := c.WaitForOrchestrationCompletion(ctx, "l-event")
	if err != nil || ended.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || ended.SerializedOutput != `{"yes":[1,2,3]}` {
		t.Errorf("got %+v, %v", ended, err)
	}
	expectStatus(t, c.RaiseEvent(ctx, "l-event", "Go"), codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.")
	expectStatus(t, c.TerminateOrchestration(ctx, "l-event"), codes.FailedPrecondition,
		"InvalidOperationException: Cannot terminate the orchestration instance l-event because instance is in the Completed state.")
	expectStatus(t, c.SuspendOrchestration(ctx, "l-event", ""), codes.FailedPrecondition,
		"InvalidOperationException: Cannot suspend the orchestration instance l-event because instance is in the Completed state.")
	expectStatus(t, c.ResumeOrchestration(ctx, "l-event", ""), codes.FailedPrecondition,
		"InvalidOperationException: Cannot resume the orchestration instance l-event because instance is in the Completed state.")

	// A finished instance is replaced, and purged.
	start(t, h, "l-event", `"done"`)
	expect(t, wait(t, h, "l-event"), api.RUNTIME_STATUS_COMPLETED, `"done"`)
	if err := c.PurgeOrchestrationState(ctx, "l-event"); err != nil {
		t.Error(err)
	}
	if _, err := c.FetchOrchestrationMetadata(ctx, "l-event"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("a purged instance: %v", err)
	}

	start(t, h, "l-fail", `"fail"`)
	if failed, err := c.WaitForOrchestrationCompletion(ctx, "l-fail"); err != nil || failed.SerializedOutput != "*errors.errorString: broken" {
		t.Errorf("got %+v, %v", failed, err)
	}
}

// TestSidecarIsLocal: the service listens on this machine only, and does not answer requests of a browser.
func TestSidecarIsLocal(t *testing.T) {
	t.Parallel()
	h := open(t, testkit.NewApp(t))
	if address, err := netip.ParseAddrPort(h.sidecar.Address); err != nil || !address.Addr().IsLoopback() {
		t.Errorf("it listens on %s", h.sidecar.Address)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if response, err := client.Post("http://"+h.sidecar.Address+"/TaskHubSidecarService/StartInstance", "application/grpc", strings.NewReader("")); err == nil {
		response.Body.Close()
		t.Errorf("it answers HTTP/1.1: %s", response.Status)
	}
}

func TestUnknownInstance(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := durableClient(t, open(t, eventApp(t)))
	expectStatus(t, c.RaiseEvent(ctx, "nobody", "Go"), codes.NotFound, "No instance with ID 'nobody' was found. (Parameter 'instanceId')")
	expectStatus(t, c.TerminateOrchestration(ctx, "nobody"), codes.NotFound, "ArgumentException: No instance with ID 'nobody' was found. (Parameter 'instanceId')")
	expectStatus(t, c.SuspendOrchestration(ctx, "nobody", ""), codes.NotFound, "ArgumentException: No instance with ID 'nobody' was found. (Parameter 'instanceId')")
	expectStatus(t, c.ResumeOrchestration(ctx, "nobody", ""), codes.NotFound, "ArgumentException: No instance with ID 'nobody' was found. (Parameter 'instanceId')")
	if err := c.PurgeOrchestrationState(ctx, "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("purge: %v", err)
	}
	if _, err := c.FetchOrchestrationMetadata(ctx, "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("query: %v", err)
	}
	if _, err := c.WaitForOrchestrationCompletion(ctx, "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("wait: %v", err)
	}
}

// TestSuspend plays the recorded suspension: turns go on, with the events.
func TestSuspend(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	app := eventApp(t)
	h := open(t, app)
	c := durableClient(t, h)
	start(t, h, "l-susp", `"event"`)
	status := func(want api.OrchestrationStatus) func() bool {
		return func() bool {
			i, err := h.Instance(ctx, "l-susp")
			return err == nil && i.Status == want
		}
	}
	waitFor(t, status(api.RUNTIME_STATUS_RUNNING))
	if err := c.SuspendOrchestration(ctx, "l-susp", "wait"); err != nil {
		t.Error(err)
	}
	waitFor(t, status(api.RUNTIME_STATUS_SUSPENDED))
	expectStatus(t, c.SuspendOrchestration(ctx, "l-susp", ""), codes.FailedPrecondition,
		"InvalidOperationException: Cannot suspend the orchestration instance l-susp because instance is in the Suspended state.")
	_, err := c.ScheduleNewOrchestration(ctx, "Orch", api.WithInstanceID("l-susp"))
	expectStatus(t, err, codes.AlreadyExists, "An Orchestration instance with the ID l-susp already exists.")
	if err := c.RaiseEvent(ctx, "l-susp", "Go", api.WithEventPayload("while suspended")); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return len(app.Seen("Orch")) == 3 })
	if err := c.ResumeOrchestration(ctx, "l-susp", ""); err != nil {
		t.Error(err)
	}
	expect(t, wait(t, h, "l-susp"), api.RUNTIME_STATUS_COMPLETED, `"while suspended"`)
	want := "orchestratorStarted executionStarted orchestratorCompleted orchestratorStarted executionSuspended orchestratorCompleted orchestratorStarted eventRaised orchestratorCompleted"
	if got := kinds(lastTurn(t, app).Past); got != want {
		t.Errorf("past %s", got)
	}
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	c := durableClient(t, h)
	start(t, h, "l-term", `"event"`)
	if err := c.TerminateOrchestration(t.Context(), "l-term", api.WithOutput("why")); err != nil {
		t.Error(err)
	}
	expect(t, wait(t, h, "l-term"), api.RUNTIME_STATUS_TERMINATED, `"why"`)
}

func TestScheduledStart(t *testing.T) {
	t.Parallel()
	app := eventApp(t)
	h := open(t, app)
	at := time.Now().Add(300 * time.Millisecond)
	_, err := durableClient(t, h).ScheduleNewOrchestration(t.Context(), "Orch", api.WithInstanceID("later"), api.WithInput("done"), api.WithStartTime(at))
	if err != nil {
		t.Fatal(err)
	}
	app.OnRequest = func(testkit.Request) {
		if time.Now().Before(at) {
			t.Error("it started too early")
		}
	}
	wait(t, h, "later")
}

// TestBadIDs: ids that would stall the real host are refused.
func TestBadIDs(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	c := durableClient(t, h)
	for _, id := range []string{"@name@key", strings.Repeat("x", 513), "a\x00b"} {
		_, err := c.ScheduleNewOrchestration(t.Context(), "Orch", api.WithInstanceID(api.InstanceID(id)))
		var s interface{ GRPCStatus() *status.Status }
		if !errors.As(err, &s) || s.GRPCStatus().Code() != codes.InvalidArgument {
			t.Errorf("%.20q: got %v", id, err)
		}
	}
	for _, id := range []string{"a/b", "a#b?c", strings.Repeat("x", 120)} {
		if _, err := c.ScheduleNewOrchestration(t.Context(), "Orch", api.WithInstanceID(api.InstanceID(id)), api.WithInput("done")); err != nil {
			t.Errorf("%.20q: got %v", id, err)
		}
		expect(t, wait(t, h, id), api.RUNTIME_STATUS_COMPLETED, "done")
	}
}

// TestLargePayloads: 5 MB in both directions, which is more than gRPC's default limit.
func TestLargePayloads(t *testing.T) {
	t.Parallel()
	app := eventApp(t)
	h := open(t, app)
	payload := strings.Repeat("x", 5<<20)
	start(t, h, "large", `"event"`)
	c := durableClient(t, h)
	if err := c.RaiseEvent(t.Context(), "large", "Go", api.WithEventPayload(payload)); err != nil {
		t.Fatal(err)
	}
	m, err := c.WaitForOrchestrationCompletion(t.Context(), "large")
	if err != nil || m.SerializedOutput != `"`+payload+`"` {
		t.Errorf("got %v", err)
	}
}

func TestWaitIsCancelled(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	start(t, h, "waiting", `"event"`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Wait(ctx, "waiting"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCloseDrains: running work may finish when a host is closed.
func TestCloseDrains(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	app := testkit.NewApp(t).Orchestrator(fanOut)
	app.Answers["Echo"] = func(w http.ResponseWriter, r *http.Request) {
		close(running)
		<-release
		answerJSON(w, map[string]any{"ReturnValue": 7})
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	start(t, h, "drained", "1")
	<-running
	closed := make(chan error)
	go func() { closed <- h.Close(context.Background()) }()
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	h = open(t, app, func(o *Options) { o.DataDir = data })
	expect(t, wait(t, h, "drained"), api.RUNTIME_STATUS_COMPLETED, "7")
	if n := len(app.Seen("Echo")); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// TestReusePolicy: which instances a start replaces, as recorded. Without a policy it replaces any finished one, with a policy
// those that it lists, and never an unfinished one.
func TestReusePolicy(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	c := durableClient(t, h)
	running, completed, failed := api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED
	for i, test := range []struct {
		input    string
		was      api.OrchestrationStatus
		listed   []api.OrchestrationStatus
		replaced bool
	}{
		{`"done"`, completed, nil, true},
		{`"done"`, completed, []api.OrchestrationStatus{completed}, true},
		{`"done"`, completed, []api.OrchestrationStatus{failed, running}, false},
		{`"fail"`, failed, nil, true},
		{`"fail"`, failed, []api.OrchestrationStatus{completed, failed}, true},
		{`"fail"`, failed, []api.OrchestrationStatus{completed}, false},
		{`"event"`, running, nil, false},
		{`"event"`, running, []api.OrchestrationStatus{running, completed, failed}, false},
	} {
		id := api.InstanceID(fmt.Sprintf("reuse-%d", i))
		start(t, h, string(id), test.input)
		wait := c.WaitForOrchestrationCompletion
		if test.was == running {
			wait = c.WaitForOrchestrationStart
		}
		if m, err := wait(t.Context(), id); err != nil || m.RuntimeStatus != test.was {
			t.Fatalf("%s: got %+v, %v, want %s", id, m, err, test.was)
		}
		options := []api.NewOrchestrationOptions{api.WithInstanceID(id)}
		if test.listed != nil {
			options = append(options, api.WithOrchestrationIdReusePolicy(&api.OrchestrationIdReusePolicy{OperationStatus: test.listed}))
		}
		_, err := c.ScheduleNewOrchestration(t.Context(), "Orch", options...)
		if test.replaced && err != nil {
			t.Errorf("%s with the policy %v: %v", test.was, test.listed, err)
		} else if !test.replaced {
			expectStatus(t, err, codes.AlreadyExists, "An Orchestration instance with the ID "+string(id)+" already exists.")
		}
	}
}
