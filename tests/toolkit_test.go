package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/client"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

const flaky = durable.ActivityName[int, int]("Flaky")

// toolkitOrchestrators has an orchestrator for each part of the toolkit.
func toolkitOrchestrators() map[string]task.Orchestrator {
	child := durable.OrchestratorName[int, int]("Child")
	versioned := durable.OrchestratorName[any, string]("Versioned")
	again := durable.OrchestratorName[int, int]("Again")
	tree := durable.OrchestratorName[int, string]("Tree")
	return map[string]task.Orchestrator{
		"Child": durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (int, error) {
			if n < 0 {
				return 0, errors.New("child says no")
			}
			return n + 1, nil
		}),
		"FanOut": durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (string, error) {
			outcomes := durable.FanOut(ctx, flaky, make([]int, n), nil, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: 10 * time.Millisecond}))
			failed := 0
			for _, o := range outcomes {
				if o.Err != nil {
					failed++
				}
			}
			return fmt.Sprint(len(outcomes), " ", failed), nil
		}),
		"Race": durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (int, error) {
			return durable.WhenAny(durable.Timer(ctx, time.Hour), durable.Timer(ctx, 10*time.Millisecond)), nil
		}),
		"Approval": durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
			durable.SetCustomStatus(ctx, map[string]any{"waiting": true, "id": durable.NewGUID(ctx)})
			durable.ReplayLog(ctx).Info("approval begins")
			_, timeout := durable.WaitForEvent[string](ctx, "Never", 10*time.Millisecond).Await()
			by, err := durable.WaitForEvent[string](ctx, "Approved", time.Minute).Await()
			return fmt.Sprint(by, " ", errors.Is(timeout, durable.ErrTimeout)), err
		}),
		"Parent": durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
			results, err := durable.WhenAll(child.Call(ctx, 1), child.Call(ctx, -1))
			return fmt.Sprint(results, " ", err), nil
		}),
		"Tree": durable.Orchestrator(func(ctx *task.OrchestrationContext, depth int) (string, error) {
			if depth > 0 {
				return tree.Call(ctx, depth-1, durable.WithInstanceID(fmt.Sprint("tree-", depth-1))).Await()
			}
			return durable.WaitForEvent[string](ctx, "Never", -1).Await()
		}),
		"Versioned": durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
			return durable.Version(ctx), nil
		}),
		"Calls": durable.Orchestrator(func(ctx *task.OrchestrationContext, url string) (string, error) {
			r, err := durable.CallHTTP(ctx, durable.HTTPRequest{URL: url}).Await()
			if err != nil {
				return "", err
			}
			version, err := versioned.Call(ctx, nil, durable.WithVersion("2.1")).Await()
			if err != nil {
				return "", err
			}
			limited := durable.FanOut(ctx, flaky, []int{1, -7, 3}, nil, durable.WithLimit(1), durable.WithRetry(durable.RetryPolicy{
				Attempts: 99, FirstInterval: 10 * time.Millisecond,
				Retry: func(err error) bool { return err.Error() != "negative" },
			}))
			var failed *durable.TaskError
			var n int
			if !errors.As(limited[1].Err, &failed) {
				return "", errors.New("the activity did not fail")
			}
			err = failed.Details(&n)
			return fmt.Sprint(r.Body, " ", version, " ", limited[0].Value, failed.Code, n, limited[2].Value), err
		}),
		"Again": durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (int, error) {
			if n < 30 { // more than the engine's own limit of 20 in a row
				again.ContinueAsNew(ctx, n+1)
			}
			return n, nil
		}),
	}
}

// toolkitApp returns an app with the toolkit's orchestrators, and their names.
func toolkitApp(failures *atomic.Int32) (*handler.App, []string) {
	app := handler.New()
	app.Trigger("Start", func(ctx context.Context, in *handler.Invocation) error {
		var m struct {
			Name, ID, Raise, Terminate string
			Input                      any
		}
		if err := json.Unmarshal([]byte(in.Text("item")), &m); err != nil {
			return err
		}
		c, err := in.DurableClient("starter")
		if err == nil && m.Terminate != "" {
			return terminateAlone(ctx, in.Text("starter"), m.ID, m.Terminate)
		}
		if err == nil && m.Raise != "" {
			return c.Raise(ctx, m.ID, m.Raise, m.Input)
		}
		if err == nil {
			_, err = c.Start(ctx, m.Name, m.ID, m.Input)
		}
		return err
	})
	app.Activity("Flaky", durable.Activity(func(_ context.Context, n int) (int, error) {
		if n < 0 {
			return 0, durable.WithDetails(errors.New("negative"), "negative", n)
		}
		if failures.Add(-1) >= 0 {
			return 0, errors.New("not yet")
		}
		return 1, nil
	}))
	names := []string{}
	for name, o := range toolkitOrchestrators() {
		app.Orchestrator(name, o)
		names = append(names, name)
	}
	return app, names
}

// terminateAlone terminates an instance as the real host does: it accepts "recursive" and ignores it, so that the handler must
// terminate the children.
func terminateAlone(ctx context.Context, binding, id, why string) error {
	var b struct{ RPCBaseURL, TaskHubName string }
	if err := json.Unmarshal([]byte(binding), &b); err != nil {
		return err
	}
	u, err := url.Parse(b.RPCBaseURL)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "Durable-TaskHub", b.TaskHubName, "authorization", "Bearer "+u.User.Username())
	return client.NewTaskHubGrpcClient(conn, backend.DefaultLogger()).
		TerminateOrchestration(ctx, api.InstanceID(id), api.WithOutput(why), api.WithRecursiveTerminate(false))
}

// toolkitHost is a local host with the toolkit's app.
type toolkitHost struct {
	*local.Host
	console *testkit.Buffer
}

func openToolkit(t *testing.T) *toolkitHost {
	t.Helper()
	var failures atomic.Int32
	failures.Store(7)
	app, names := toolkitApp(&failures)
	dir := t.TempDir()
	testkit.WriteFile(t, filepath.Join(dir, "host.json"), `{"version":"2.0","functionTimeout":"00:01:00","extensions":{"durableTask":{"hubName":"Toolkit"}}}`)
	testkit.WriteFile(t, filepath.Join(dir, "Start", "function.json"), `{"bindings":[{"name":"item","type":"serviceBusTrigger","direction":"in","queueName":"q","connection":"c"},{"name":"starter","type":"durableClient","direction":"in"}]}`)
	testkit.WriteFile(t, filepath.Join(dir, "Flaky", "function.json"), `{"bindings":[{"name":"input","type":"activityTrigger","direction":"in"}]}`)
	for _, name := range names {
		testkit.WriteFile(t, filepath.Join(dir, name, "function.json"), `{"bindings":[{"name":"context","type":"orchestrationTrigger","direction":"in"}]}`)
	}
	none := func(string) string { return "" }
	functions, err := app.Handler(handler.Options{Root: dir, Getenv: none, Environ: []string{}, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	h := &toolkitHost{console: &testkit.Buffer{}}
	h.Host, err = local.Open(t.Context(), local.Options{
		Root: dir, DataDir: t.TempDir(), Handler: functions, Settings: none, Environ: []string{}, Logger: slog.New(slog.DiscardHandler),
		OnConsole: func(_, line string) { fmt.Fprintln(h.console, line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = h.Close(ctx)
	})
	return h
}

func (h *toolkitHost) send(t *testing.T, text string) {
	t.Helper()
	if _, err := h.Deliver(t.Context(), "Start", local.Message{Body: []byte(text)}); err != nil {
		t.Fatal(err)
	}
}

// completes waits until an instance has ended, and checks that it completed with this output.
func (h *toolkitHost) completes(t *testing.T, id, output string) local.Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := h.Wait(ctx, id)
	if err != nil || i.Status != api.RUNTIME_STATUS_COMPLETED || i.Output != output {
		t.Errorf("%s: %s %s %v, want %s", id, i.Status, i.Output, err, output)
	}
	return i
}

// The toolkit works with the real handler and the real engine.
func TestToolkitThroughTheEngine(t *testing.T) {
	t.Parallel()
	h := openToolkit(t)
	for _, m := range []string{
		`{"name":"FanOut","id":"fan","input":40}`, `{"name":"Race","id":"race"}`, `{"name":"Approval","id":"approval"}`,
		`{"name":"Parent","id":"parent"}`, `{"name":"Again","id":"again","input":0}`,
	} {
		h.send(t, m)
	}
	if fan := h.completes(t, "fan", `"40 0"`); fan.CustomStatus != `{"Total":40,"Completed":40,"Failed":0}` {
		t.Errorf("custom status %s", fan.CustomStatus)
	}
	h.completes(t, "race", "1")
	h.completes(t, "parent", `"[2 0] child says no"`)
	h.completes(t, "again", "30")

	var status struct {
		Waiting bool
		ID      uuid.UUID
	}
	for deadline := time.Now().Add(time.Minute); !status.Waiting; time.Sleep(10 * time.Millisecond) {
		i, err := h.Instance(t.Context(), "approval")
		if err != nil || time.Now().After(deadline) {
			t.Fatal(err, i)
		}
		_ = json.Unmarshal([]byte(i.CustomStatus), &status)
	}
	h.send(t, `{"id":"approval","raise":"APPROVED","input":"the boss"}`)
	i := h.completes(t, "approval", `"the boss true"`)
	if want := fmt.Sprintf(`{"id":%q,"waiting":true}`, status.ID); i.CustomStatus != want || status.ID.Version() != 5 {
		t.Errorf("custom status %s, was %s", i.CustomStatus, want)
	}
	if n := strings.Count(h.console.String(), "approval begins"); n != 1 {
		t.Errorf("logged %d times: %s", n, h.console.String())
	}
}

// With the engine too: an HTTP call that the host makes and polls, a child with a version, the details of an activity's error,
// and a fan-out with a limit.
func TestCallsThroughTheEngine(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Location", "/done?q=1")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		_, _ = io.WriteString(w, r.URL.String())
	}))
	t.Cleanup(server.Close)
	h := openToolkit(t)
	h.send(t, fmt.Sprintf(`{"name":"Calls","id":"calls","input":%q}`, server.URL))
	h.completes(t, "calls", `"/done?q=1 2.1 1negative-7 1"`)
}

// A termination reaches the children and their children, on the local host as on the real one.
func TestTerminationThroughTheEngine(t *testing.T) {
	t.Parallel()
	h := openToolkit(t)
	h.send(t, `{"name":"Tree","id":"tree-2","input":2}`)
	waitUntil(t, "the leaf waits", func() bool {
		i, err := h.Instance(t.Context(), "tree-0")
		return err == nil && i.Status == api.RUNTIME_STATUS_RUNNING
	})
	h.send(t, `{"id":"tree-2","terminate":"enough"}`)
	for _, id := range []string{"tree-2", "tree-1", "tree-0"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if i, err := h.Wait(ctx, id); err != nil || i.Status != api.RUNTIME_STATUS_TERMINATED || i.Output != `"enough"` {
			t.Errorf("%s: %s %s %v", id, i.Status, i.Output, err)
		}
	}
}
