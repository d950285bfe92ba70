package myorchestration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"

	myclientfunction "example.com/durablefunctions/MyClientFunction"
	myorchestration "example.com/durablefunctions/MyOrchestration"
	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// record makes new files: go test ./MyOrchestration -run TestHistories -record NAME runs each scenario on the local host
// and keeps it in testdata/histories/NAME. The name is that of the version, its commit say. Commit those that take
// another course than before. An old file is never made anew: it stands for orchestrations that are in flight when a new
// version is published.
var record = flag.String("record", "", "record the histories of this version under this `name`")

// exchange is a turn as it was: the body of the host's request and of our answer. A file holds one a line.
type exchange struct {
	Request, Answer json.RawMessage
}

// answer is what of an answer the host acts on.
type answer struct {
	ReturnValue string
	Outputs     map[string]json.RawMessage
}

// TestHistories plays the turns of orchestrations that earlier versions ran to the present one. It must want the same
// done in each of them: see "A new version" in package durable.
func TestHistories(t *testing.T) {
	if *record != "" {
		for name, s := range scenarios {
			recordHistory(t, filepath.Join("testdata", "histories", *record, name+".jsonl"), s)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "histories", "*", "*.jsonl"))
	if err != nil || len(files) < len(scenarios) {
		t.Fatalf("%d files %v, want those of a version at least", len(files), err)
	}
	app := appHandler(t, 0, durable.Orchestrator(myorchestration.Run), nil)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			for i, e := range readHistory(t, file) {
				if diff := replay(t, app, e); diff != "" {
					t.Errorf("turn %d wants something else done (- then, + now), which breaks the orchestrations in flight:\n%s", i+1, diff)
				}
			}
		})
	}
}

// A change that breaks orchestrations in flight is found in the histories that it breaks.
func TestBreakingChangesShow(t *testing.T) {
	t.Parallel()
	const activity = string(processactivity.Name)
	for name, c := range map[string]struct {
		file   string // a history of the first version
		before func(*task.OrchestrationContext)
		after  func(*task.OrchestrationContext)
	}{
		"another step first": {"succeed", func(ctx *task.OrchestrationContext) { _ = ctx.CallActivity(activity).Await(nil) }, nil},
		"a timer first":      {"failures", func(ctx *task.OrchestrationContext) { _ = ctx.CreateTimer(time.Second).Await(nil) }, nil},
		"not waited for":     {"midflight", func(ctx *task.OrchestrationContext) { ctx.CallActivity(activity) }, nil},
		"another step last":  {"mail-retried", nil, func(ctx *task.OrchestrationContext) { _ = ctx.CallActivity("Tidy").Await(nil) }},
		"the end in failure": {"lost", nil, func(*task.OrchestrationContext) { panic("a new check") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := appHandler(t, 0, func(ctx *task.OrchestrationContext) (any, error) {
				if c.before != nil {
					c.before(ctx)
				}
				out, err := durable.Orchestrator(myorchestration.Run)(ctx)
				if c.after != nil {
					c.after(ctx)
				}
				return out, err
			}, nil)
			for _, e := range readHistory(t, filepath.Join("testdata", "histories", "76546d4", c.file+".jsonl")) {
				if replay(t, app, e) != "" {
					return
				}
			}
			t.Error("no turn shows the change")
		})
	}
}

// replay sends a turn and returns in what its actions differ from what they were.
func replay(t *testing.T, app http.Handler, e exchange) string {
	t.Helper()
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://127.0.0.1/MyOrchestration", bytes.NewReader(e.Request)))
	if w.Code != http.StatusOK {
		return fmt.Sprintf("status %d: %s", w.Code, w.Body)
	}
	then, now := decode(t, e.Answer), decode(t, w.Body.Bytes())
	// The id that a new child gets may change: from then on the history holds it. The text of a mail may change, too, but
	// not whether there is one.
	sameButIDs := protocmp.IgnoreFields(childAction, "instanceId")
	return cmp.Diff(then.actions, now.actions, protocmp.Transform(), sameButIDs) + cmp.Diff(then.outputs, now.outputs)
}

// childAction is an action that starts a child; durabletask-go only registers its type.
var childAction = func() proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName("CreateSubOrchestrationAction")
	if err != nil {
		panic(err)
	}
	return kind.New().Interface()
}()

type decoded struct {
	actions []proto.Message
	outputs map[string]bool
}

// decode reads the actions and the names of the outputs in an orchestrator's answer.
func decode(t *testing.T, body []byte) decoded {
	t.Helper()
	var a answer
	err := json.Unmarshal(body, &a)
	if err != nil {
		t.Fatal(err)
	}
	m, err := testkit.DecodeMessage("OrchestratorResponse", a.ReturnValue)
	if err != nil {
		t.Fatal(err)
	}
	d := decoded{outputs: map[string]bool{}}
	for name := range a.Outputs {
		d.outputs[name] = true
	}
	list := m.Get(m.Descriptor().Fields().ByName("actions")).List()
	for i := range list.Len() {
		d.actions = append(d.actions, list.Get(i).Message().Interface())
	}
	return d
}

func readHistory(t *testing.T, file string) []exchange {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var turns []exchange
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var e exchange
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		turns = append(turns, e)
	}
	if len(turns) < 2 {
		t.Fatalf("%s holds %d turns", file, len(turns))
	}
	return turns
}

// scenarios are what is recorded of each version.
var scenarios = map[string]scenario{
	"succeed":      {records: `"good-1","good-2","good-3"`},
	"failures":     {records: `"good-1","bad-1","bad-2"`},
	"lost":         {records: `"lost-1","good-1","lost-2"`},
	"given-up":     {records: `"gone-1","good-1"`},
	"mail-retried": {records: `"bad-1"`, mailsRefused: 2},
	"mail-failed":  {records: `"bad-1","good-1"`, mailsRefused: 3},
	"midflight":    {records: `"good-1","held-1","bad-1"`}, // has turns in which some of the activities are done
	"batches":      {records: `"good-1","bad-1","lost-1","good-2","good-3"`, batchSize: 2},
}

// scenario is a message. What becomes of its records stands in their ids: good, bad, lost once, gone for good, or held
// until the others are done.
type scenario struct {
	records      string
	mailsRefused int32
	batchSize    int
}

func recordHistory(t *testing.T, file string, s scenario) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		t.Fatalf("%s is there already", file)
	}
	var mails atomic.Int32
	sendGrid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if mails.Add(1) <= s.mailsRefused {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer sendGrid.Close()
	settings := map[string]string{"SendGridKey": "none of ours", "SENDGRID_BASE_URL": sendGrid.URL}
	othersDone := make(chan struct{})
	app := appHandler(t, s.batchSize, durable.Orchestrator(myorchestration.Run), func(_ context.Context, in processactivity.Input) (processactivity.Result, error) {
		switch {
		case strings.HasPrefix(in.RecordId, "bad"):
			return processactivity.Result{ErrorMessage: in.RecordId + " is bad"}, nil
		case strings.HasPrefix(in.RecordId, "held"):
			<-othersDone
		}
		return processactivity.Result{Success: true}, nil
	})
	r := &recorder{app: app}
	host, err := local.Open(t.Context(), local.Options{
		Root: "..", DataDir: t.TempDir(), Handler: r,
		Settings: func(name string) string { return settings[name] },
		OnInstance: func(i local.Instance) {
			if strings.Contains(s.records, "held") && i.CustomStatus == `{"Total":3,"Completed":2,"Failed":1}` {
				close(othersDone)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close(t.Context())
	text := `{"RecordIds":[` + s.records + `]}`
	message := local.Message{ID: "message", Body: []byte(text)}
	if _, err := host.Deliver(t.Context(), "MyClientFunction", message); err != nil {
		t.Fatal(err)
	}
	id := myclientfunction.InstanceID(text, func(name string) (string, bool) { return message.ID, name == "MessageId" })
	if _, err := host.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, r.lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// recorder passes requests on, keeps the turns, and loses activities as a handler does that dies.
type recorder struct {
	app  http.Handler
	lost sync.Map // record ids

	mu    sync.Mutex
	lines bytes.Buffer
}

var toBeLost = regexp.MustCompile(`(lost|gone)-\d`)

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		panic(err)
	}
	if id := toBeLost.FindString(string(body)); request.URL.Path == "/ProcessActivity" && id != "" {
		if _, again := r.lost.LoadOrStore(id, true); !again || strings.HasPrefix(id, "gone") {
			panic(http.ErrAbortHandler)
		}
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	if request.URL.Path != "/MyOrchestration" {
		r.app.ServeHTTP(w, request)
		return
	}
	answer := httptest.NewRecorder()
	r.app.ServeHTTP(answer, request)
	line, err := json.Marshal(exchange{body, answer.Body.Bytes()})
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.lines.Write(append(line, '\n'))
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer.Body.Bytes())
}

// appHandler is the app with these functions.
func appHandler(t *testing.T, batchSize int, run task.Orchestrator, process func(context.Context, processactivity.Input) (processactivity.Result, error)) http.Handler {
	t.Helper()
	app := handler.New()
	app.Trigger("MyClientFunction", myclientfunction.New(nil, myclientfunction.Settings{
		MaxMessageBytes: 1000,
		Input: myorchestration.Input{
			BatchSize: batchSize, RetryIntervalSeconds: 0.02, AlertEmailTo: "ops@example.com", MailRetryIntervalSeconds: 0.02,
		},
	}))
	app.Orchestrator("MyOrchestration", run)
	app.Activity("ProcessActivity", durable.Activity(process))
	h, err := app.Handler(handler.Options{Root: "..", Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}
