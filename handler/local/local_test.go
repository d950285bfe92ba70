package local

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/client"
	"github.com/microsoft/durabletask-go/task"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/local/internal/taskhub"
	"example.com/durablefunctions/internal/testkit"
)

func TestMain(m *testing.M) {
	// The durable client keeps some connections for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"))
}

func text(raw json.RawMessage) string { return testkit.Text(raw) }

func answerJSON(w http.ResponseWriter, v any) { testkit.AnswerJSON(w, v) }

func fail(w http.ResponseWriter, reason string) {
	testkit.AnswerStatus(w, http.StatusInternalServerError, reason)
}

const testHost = `{"version":"2.0","functionTimeout":"00:01:00","extensions":{"durableTask":{"hubName":"LabHub"}}}`

var testFunctions = map[string]string{
	"Start": `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"item","queueName":"q","connection":"C"},{"type":"durableClient","direction":"in","name":"starter"}]}`,
	"Orch":  `{"bindings":[{"type":"orchestrationTrigger","direction":"in","name":"context"},{"type":"sendGrid","direction":"out","name":"mail","apiKey":"Key"},{"type":"queue","direction":"out","name":"other"}]}`,
	"Echo":  `{"bindings":[{"type":"activityTrigger","direction":"in","name":"input"}]}`,
	"Fail":  `{"bindings":[{"type":"activityTrigger","direction":"in","name":"input"}]}`,
}

// writeRoot makes an app root; host replaces host.json.
func writeRoot(t testing.TB, host string) string {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), host)
	for name, text := range testFunctions {
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), text)
	}
	return root
}

// open starts a host that is closed with the test.
func open(t testing.TB, app http.Handler, change ...func(*Options)) *Host {
	t.Helper()
	o := Options{Root: writeRoot(t, testHost), DataDir: t.TempDir(), Handler: app, Logger: testLogger(t)}
	for _, c := range change {
		c(&o)
	}
	h, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, h) })
	return h
}

// closeNow closes a host without waiting for running work.
func closeNow(t testing.TB, h *Host) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// testWriter writes to the test's log, which must not be used after the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// durableClient is durabletask-go's client on the host's sidecar.
func durableClient(t testing.TB, h *Host) *client.TaskHubGrpcClient {
	t.Helper()
	token := "Bearer " + h.sidecar.NewCaller().Token
	conn, err := grpc.NewClient(h.sidecar.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", token), method, request, reply, c, o...)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*durable.MaxPayload+1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client.NewTaskHubGrpcClient(conn, taskhub.NewLogger(slog.New(slog.DiscardHandler)))
}

// start starts Orch.
func start(t testing.TB, h *Host, id, input string) {
	t.Helper()
	_, err := durableClient(t, h).ScheduleNewOrchestration(t.Context(), "Orch", api.WithInstanceID(api.InstanceID(id)), api.WithRawInput(input))
	if err != nil {
		t.Fatal(err)
	}
}

func wait(t testing.TB, h *Host, id string) Instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := h.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait for %s: %v, %+v", id, err, i)
	}
	return i
}

// run starts Orch and waits for its end.
func run(t testing.TB, h *Host, id, input string) Instance {
	t.Helper()
	start(t, h, id, input)
	return wait(t, h, id)
}

func expect(t testing.TB, i Instance, status api.OrchestrationStatus, output string) {
	t.Helper()
	if i.Status != status || !strings.Contains(Reason(i), output) {
		t.Errorf("got %s %q, want %s %q", i.Status, i.Output, status, output)
	}
}

// fanOut schedules Echo n times and returns n.
func fanOut(ctx *task.OrchestrationContext) (any, error) {
	var n int
	if err := ctx.GetInput(&n); err != nil {
		return nil, err
	}
	var tasks []task.Task
	for i := range n {
		tasks = append(tasks, ctx.CallActivity("Echo", task.WithActivityInput(i)))
	}
	sum := 0
	for _, t := range tasks {
		var i int
		if err := t.Await(&i); err != nil {
			return nil, err
		}
		sum += i
	}
	return sum, nil
}

func TestWholeRun(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(fanOut)
	var mu sync.Mutex
	var changes []api.OrchestrationStatus
	var console []string
	h := open(t, app, func(o *Options) {
		o.OnInstance = func(i Instance) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, i.Status)
		}
		o.OnConsole = func(function, line string) {
			mu.Lock()
			defer mu.Unlock()
			console = append(console, function+": "+line)
		}
	})
	expect(t, run(t, h, "whole", "20"), api.RUNTIME_STATUS_COMPLETED, "190")
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(changes) != fmt.Sprint([]api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_COMPLETED}) {
		t.Errorf("changes %v", changes)
	}
	if len(console) != 20 || console[0] != "Echo: log line of Echo" {
		t.Errorf("console %v", console)
	}
	if n := len(app.Seen("Echo")); n != 20 {
		t.Errorf("%d activities", n)
	}
	if running, err := h.Running(t.Context()); err != nil || len(running) != 0 {
		t.Errorf("running: %v, %v", running, err)
	}
	if _, err := h.Instance(t.Context(), "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("unknown instance: %v", err)
	}
}

// TestHistory: histories look like the real host's.
func TestHistory(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(fanOut)
	h := open(t, app)
	run(t, h, "history", "2")
	turns := app.Seen("Orch")
	first, err := wire.DecodeTurn(text(turns[0].Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(first.New); got != "orchestratorStarted executionStarted" || len(first.Past) != 0 {
		t.Errorf("first turn: %s after %s", got, kinds(first.Past))
	}
	second, err := wire.DecodeTurn(text(turns[1].Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(second.Past); got != "orchestratorStarted executionStarted taskScheduled taskScheduled orchestratorCompleted" {
		t.Errorf("second turn's past: %s", got)
	}
	for _, e := range second.Past {
		if e.GetTaskScheduled().GetInput() != nil {
			t.Error("a taskScheduled with its input")
		}
	}
	if !strings.HasPrefix(kinds(second.New), "orchestratorStarted taskCompleted") {
		t.Errorf("second turn: %s", kinds(second.New))
	}
}

// kinds names the events' types.
func kinds(events []*backend.HistoryEvent) string {
	var names []string
	for _, e := range events {
		m := e.ProtoReflect()
		names = append(names, string(m.WhichOneof(m.Descriptor().Oneofs().ByName("eventType")).Name()))
	}
	return strings.Join(names, " ")
}

// TestContinueAsNew: there are more generations than the engine takes within a turn. Each has its own turn, and nothing of an old
// generation reaches a new one.
func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var n int
		if err := ctx.GetInput(&n); err != nil {
			return nil, err
		}
		if n > 0 {
			ctx.ContinueAsNew(n - 1)
			return nil, nil
		}
		return "generations done", nil
	})
	h := open(t, app)
	expect(t, run(t, h, "again", "30"), api.RUNTIME_STATUS_COMPLETED, `"generations done"`)
	turns := app.Seen("Orch")
	if len(turns) != 31 {
		t.Errorf("%d turns", len(turns))
	}
	last, err := wire.DecodeTurn(text(turns[30].Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(last.New); got != "orchestratorStarted executionStarted orchestratorCompleted" || len(last.Past) != 0 {
		t.Errorf("last turn: %s after %s", got, kinds(last.Past))
	}
}

// TestStaleCompletions: a timer, an activity and a child that are open at a continue-as-new have no effect on the next generation,
// whose tasks have the same ids.
func TestStaleCompletions(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	app := testkit.NewApp(t).Orchestrator(staleOrchestrator)
	slow := make(chan struct{}, 2)
	app.Answers["Echo"] = func(w http.ResponseWriter, r *http.Request) {
		echoes := app.Seen("Echo")
		value := text(echoes[len(echoes)-1].Data["input"])
		if value == `"slow"` {
			slow <- struct{}{}
			<-release
		}
		answerJSON(w, map[string]any{"ReturnValue": json.RawMessage(value)})
	}
	h := open(t, app)
	start(t, h, "stale", `"first"`)
	<-slow
	<-slow
	if err := durableClient(t, h).RaiseEvent(t.Context(), "stale", "go", api.WithEventPayload("now")); err != nil {
		t.Fatal(err)
	}
	// The old activities may end only when the next generation exists.
	waitFor(t, func() bool { return len(app.Seen("Echo")) >= 4 })
	close(release)
	expect(t, wait(t, h, "stale-child"), api.RUNTIME_STATUS_COMPLETED, `"stale"`)
	expect(t, wait(t, h, "stale"), api.RUNTIME_STATUS_COMPLETED, `"ab"`)
	timers := 0
	for _, r := range app.Seen("Orch") {
		turn, err := wire.DecodeTurn(text(r.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		if turn.InstanceID == "stale" {
			timers += strings.Count(kinds(turn.New), "timerFired")
		}
	}
	if timers != 1 {
		t.Errorf("%d timers fired, want the second generation's", timers)
	}
	var left int
	if err := openFile(t, h.dataDir).QueryRow("SELECT (SELECT COUNT(*) FROM events) + (SELECT COUNT(*) FROM tasks)").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d events and tasks are left, %v", left, err)
	}
}

// staleOrchestrator leaves an activity, a timer and a child open when it continues as new, and then schedules others with the same
// ids.
func staleOrchestrator(ctx *task.OrchestrationContext) (any, error) {
	var input string
	if err := ctx.GetInput(&input); err != nil {
		return nil, err
	}
	switch input {
	case "child":
		var got string
		err := ctx.CallActivity("Echo", task.WithActivityInput("slow")).Await(&got)
		return "stale", err
	case "first":
		ctx.CallActivity("Echo", task.WithActivityInput("slow"))
		ctx.CreateTimer(500 * time.Millisecond)
		ctx.CallSubOrchestrator("Orch", task.WithSubOrchestrationInstanceID("stale-child"), task.WithSubOrchestratorInput("child"))
		var go_ string
		if err := ctx.WaitForSingleEvent("go", -1).Await(&go_); err != nil {
			return nil, err
		}
		ctx.ContinueAsNew("second")
		return nil, nil
	}
	// The same task ids 0, 1 and 2 again, for something else.
	var a, b string
	first := ctx.CallActivity("Echo", task.WithActivityInput("a"))
	second := ctx.CallActivity("Echo", task.WithActivityInput("b"))
	third := ctx.CreateTimer(time.Second)
	if err := errors.Join(first.Await(&a), second.Await(&b), third.Await(nil)); err != nil {
		return nil, err
	}
	return a + b, nil
}

// openFile opens the task hub's file beside the host, to look at what is stored.
func openFile(t testing.TB, dataDir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dataDir, "taskhub.db"))+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// idOf makes an instance id from any text.
func idOf(prefix, text string) string {
	return fmt.Sprintf("%s-%x", prefix, sha256.Sum256([]byte(text)))
}

// waitFor polls a condition that nothing announces.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come true within a minute")
		}
	}
}

func TestSubOrchestrations(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var mode string
		if err := ctx.GetInput(&mode); err != nil {
			return nil, err
		}
		child := func(name, id, input string) (result string, err error) {
			err = ctx.CallSubOrchestrator(name, task.WithSubOrchestrationInstanceID(id), task.WithSubOrchestratorInput(input)).Await(&result)
			return result, err
		}
		switch mode {
		case "leaf":
			return "leaf " + string(ctx.ID), nil
		case "broken":
			return nil, errors.New("child says no")
		case "parent":
			first, err := child("Orch", "the-child", "leaf")
			if err != nil {
				return nil, err
			}
			second, err := child("Orch", "the-child", "leaf") // a finished child is replaced
			return first + ", " + second, err
		case "of broken":
			_, err := child("Orch", "broken-child", "broken")
			return fmt.Sprint(err), nil
		case "same turn":
			ctx.CallSubOrchestrator("Orch", task.WithSubOrchestrationInstanceID("twin"), task.WithSubOrchestratorInput("leaf"))
			return child("Orch", "twin", "leaf")
		case "no id":
			return child("Orch", "", "leaf")
		case "entity":
			return child("Orch", "@name@key", "leaf")
		}
		return nil, fmt.Errorf("unknown mode %s", mode)
	})
	h := open(t, app)
	expect(t, run(t, h, "p", `"parent"`), api.RUNTIME_STATUS_COMPLETED, `"leaf the-child, leaf the-child"`)
	expect(t, run(t, h, "b", `"of broken"`), api.RUNTIME_STATUS_COMPLETED, `child says no`)
	expect(t, wait(t, h, "broken-child"), api.RUNTIME_STATUS_FAILED, `*errors.errorString: child says no`)
	expect(t, run(t, h, "t", `"same turn"`), api.RUNTIME_STATUS_FAILED, `"twin"`)
	expect(t, run(t, h, "n", `"no id"`), api.RUNTIME_STATUS_FAILED, `id is empty`)
	expect(t, run(t, h, "e", `"entity"`), api.RUNTIME_STATUS_FAILED, `starts with @`)
	child, err := h.Instance(t.Context(), "the-child")
	if err != nil || child.Parent != "p" {
		t.Errorf("child %+v, %v", child, err)
	}
}

// TestReplacedInstance: children and activities of a replaced instance do not reach the new one.
func TestReplacedInstance(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := make(chan struct{}, 2)
	app := testkit.NewApp(t)
	app.Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var input string
		if err := ctx.GetInput(&input); err != nil {
			return nil, err
		}
		if input == "first" || input == "child" {
			pending := ctx.CallActivity("Echo", task.WithActivityInput("slow"))
			if input == "first" {
				ctx.CallSubOrchestrator("Orch", task.WithSubOrchestrationInstanceID("r-child"), task.WithSubOrchestratorInput("child"))
				return nil, errors.New("gone")
			}
			return "child", pending.Await(nil)
		}
		var a, b string
		first := ctx.CallActivity("Echo", task.WithActivityInput("a"))
		second := ctx.CallActivity("Echo", task.WithActivityInput("b"))
		go_ := ctx.WaitForSingleEvent("go", -1)
		return "new", errors.Join(go_.Await(nil), first.Await(&a), second.Await(&b))
	})
	app.Answers["Echo"] = func(w http.ResponseWriter, r *http.Request) {
		echoes := app.Seen("Echo")
		value := text(echoes[len(echoes)-1].Data["input"])
		if value == `"slow"` {
			slow <- struct{}{}
			<-release
		}
		answerJSON(w, map[string]any{"ReturnValue": json.RawMessage(value)})
	}
	h := open(t, app)
	expect(t, run(t, h, "r", `"first"`), api.RUNTIME_STATUS_FAILED, "gone")
	<-slow
	<-slow
	start(t, h, "r", `"second"`)
	waitFor(t, func() bool { return len(app.Seen("Echo")) == 4 })
	close(release)
	wait(t, h, "r-child")
	if err := durableClient(t, h).RaiseEvent(t.Context(), "r", "go", api.WithEventPayload("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, h, "r"), api.RUNTIME_STATUS_COMPLETED, `"new"`)
	for _, turn := range app.Seen("Orch") {
		decoded, err := wire.DecodeTurn(text(turn.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		if decoded.InstanceID == "r" && strings.Contains(kinds(decoded.New), "subOrchestration") {
			t.Errorf("the old child's end reached the new instance: %s", kinds(decoded.New))
		}
	}
}

// TestReopen: the next host continues what a killed process left.
func TestReopen(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{}, 8)
	app := testkit.NewApp(t)
	app.Orchestrator(fanOut)
	var hang sync.Once
	app.Answers["Echo"] = func(w http.ResponseWriter, r *http.Request) {
		value := app.Seen("Echo")
		stuck := false
		hang.Do(func() { stuck = true })
		if stuck {
			blocked <- struct{}{}
			<-r.Context().Done()
			return
		}
		_ = value
		answerJSON(w, map[string]any{"ReturnValue": 1})
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	start(t, h, "reopened", "3")
	<-blocked
	// A copy of the directory, taken in the middle of the work, is what a killed process leaves.
	copied := t.TempDir()
	copyDir(t, data, copied)

	second := open(t, app, func(o *Options) { o.DataDir = copied })
	expect(t, wait(t, second, "reopened"), api.RUNTIME_STATUS_COMPLETED, "3")

	if _, err := Open(t.Context(), Options{Root: writeRoot(t, testHost), DataDir: data, Handler: app}); !errors.As(err, new(*BusyError)) {
		t.Errorf("a second host on one directory: %v", err)
	}
	closeNow(t, h)
	third := open(t, app, func(o *Options) { o.DataDir = data })
	expect(t, wait(t, third, "reopened"), api.RUNTIME_STATUS_COMPLETED, "3")
}

// A host can be closed at any moment, also just after it has been opened, and the next one continues.
func TestCloseAtAnyMoment(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	app := testkit.NewApp(t)
	app.Orchestrator(fanOut)
	h := open(t, app, func(o *Options) { o.DataDir = data })
	start(t, h, "often", "100")
	for i := range 20 {
		time.Sleep(time.Duration(i%5) * time.Millisecond)
		closeNow(t, h)
		h = open(t, app, func(o *Options) { o.DataDir = data })
	}
	expect(t, wait(t, h, "often"), api.RUNTIME_STATUS_COMPLETED, "4950")
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	for _, name := range []string{"taskhub.db", "taskhub.db-wal"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTimersSurvive(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		return "fired", ctx.CreateTimer(300 * time.Millisecond).Await(nil)
	})
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	start(t, h, "timer", "1")
	waitFor(t, func() bool { return len(app.Seen("Orch")) == 1 })
	closeNow(t, h)
	expect(t, wait(t, open(t, app, func(o *Options) { o.DataDir = data }), "timer"), api.RUNTIME_STATUS_COMPLETED, "fired")
}

func TestDataDirErrors(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	notADir := filepath.Join(t.TempDir(), "file")
	corrupt := t.TempDir()
	for _, path := range []string{notADir, filepath.Join(corrupt, "taskhub.db")} {
		if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{notADir, corrupt} {
		_, err := Open(t.Context(), Options{Root: writeRoot(t, testHost), DataDir: dir, Handler: app})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	h := open(t, testkit.NewApp(t))
	want := "[{Echo activityTrigger false } {Fail activityTrigger false } {Orch orchestrationTrigger false } {Start serviceBusTrigger true }]"
	if got := fmt.Sprint(h.Functions()); got != want {
		t.Errorf("got %s", got)
	}
}

// TestBadCORS: a text that is not an origin is refused at start.
func TestBadCORS(t *testing.T) {
	t.Parallel()
	root := writeRoot(t, testHost)
	testkit.WriteFile(t, filepath.Join(root, "local.settings.json"), `{"Host":{"CORS":"localhost"}}`)
	if _, err := Open(t.Context(), Options{Root: root, DataDir: t.TempDir(), Handler: http.NotFoundHandler()}); err == nil {
		t.Error("it was taken")
	}
}
