package tests

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// lockedBuffer collects what a process prints while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// has waits for a text: what a process prints arrives a little later than what it answers.
func (l *lockedBuffer) has(text string) bool {
	for range 500 {
		if strings.Contains(l.String(), text) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// customHandler is the binary as the Functions host runs it.
type customHandler struct {
	url  string
	out  *lockedBuffer
	kill func() // and wait for its end
}

func startHandler(t *testing.T, env ...string) *customHandler {
	t.Helper()
	port := freePort(t)
	h := &customHandler{url: "http://127.0.0.1:" + port, out: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, append([]string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + port, "FUNCTIONS_APP_ROOT_PATH=" + root,
		"CRM_DATABASE=" + filepath.Join(t.TempDir(), "crm.db")}, env...))
	cmd.Stdout, cmd.Stderr = h.out, h.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.kill = sync.OnceFunc(func() { cancel(); _ = cmd.Wait() })
	t.Cleanup(h.kill)
	h.waitUntilUp(t)
	return h
}

func (h *customHandler) waitUntilUp(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if res, err := http.Get(h.url); err == nil {
			res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the handler does not answer: %s", h.out.String())
		}
	}
}

// reply is what the host reads of an answer.
type reply struct {
	status      string
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

func (h *customHandler) post(t *testing.T, function, body string) reply {
	t.Helper()
	req, err := http.NewRequest("POST", h.url+"/"+function, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("X-Azure-Functions-InvocationId", "4a3f2f5e-0000-4000-8000-000000000001")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := reply{status: res.Status}
	if res.StatusCode == http.StatusOK {
		if res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("Content-Type %q", res.Header.Get("Content-Type"))
		}
		if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// twice encodes a string as the host does.
func twice(s string) string {
	once, _ := json.Marshal(s)
	again, _ := json.Marshal(string(once))
	return string(again)
}

// sidecar is the host's durable endpoint. It remembers what was started and knows the instances it is told.
type sidecar struct {
	backend.Backend // what is not overridden is not called
	url             string

	mu      sync.Mutex
	started []started
	states  map[string]api.OrchestrationStatus
}

type started struct{ name, id, input string }

func startSidecar(t *testing.T) *sidecar {
	t.Helper()
	s := &sidecar{states: map[string]api.OrchestrationStatus{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	server := grpc.NewServer()
	_, register := backend.NewGrpcExecutor(s, backend.DefaultLogger())
	register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s
}

func (s *sidecar) CreateOrchestrationInstance(_ context.Context, e *backend.HistoryEvent, _ ...backend.OrchestrationIdReusePolicyOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := e.GetExecutionStarted()
	id := start.OrchestrationInstance.InstanceId
	s.started = append(s.started, started{start.Name, id, start.Input.GetValue()})
	s.states[id] = api.RUNTIME_STATUS_RUNNING
	return nil
}

func (s *sidecar) GetOrchestrationMetadata(_ context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[string(id)]
	if !ok {
		return nil, api.ErrInstanceNotFound
	}
	return &api.OrchestrationMetadata{InstanceID: id, RuntimeStatus: state}, nil
}

func (s *sidecar) starts() []started {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]started(nil), s.started...)
}

func (s *sidecar) set(id string, state api.OrchestrationStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[id] = state
}

// message is the request that a Service Bus message makes.
func (s *sidecar) message(text, metadata string) string {
	starter := fmt.Sprintf(`{"taskHubName":"MyTaskHub","connectionName":null,"creationUrls":null,"managementUrls":null,"baseUrl":null,"requiredQueryStringParameters":"code=KEY","rpcBaseUrl":%q,"httpBaseUrl":"http://localhost:7071/runtime/webhooks/durabletask","maxGrpcMessageSizeInBytes":4194304,"grpcHttpClientTimeout":"\"00:01:40\""}`, s.url)
	return `{"Data":{"myQueueItem":` + twice(text) + `,"starter":` + twice(starter) + `},"Metadata":{` + metadata + `"sys":{"MethodName":"MyClientFunction","UtcNow":"2026-11-23T01:02:03Z","RandGuid":"b0d9d43b-9160-4248-a208-c0c985db1be9"}}}`
}

// input is the start's input, decompressed as the seed does.
func (s started) decode(t *testing.T) map[string]any {
	t.Helper()
	var compressed string
	if err := json.Unmarshal([]byte(s.input), &compressed); err != nil {
		t.Fatalf("input %.80s is no JSON string", s.input)
	}
	raw, err := base64.StdEncoding.DecodeString(compressed)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(raw[4:]))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil || len(text) != int(binary.LittleEndian.Uint32(raw)) {
		t.Fatalf("%d bytes, %d announced: %v", len(text), binary.LittleEndian.Uint32(raw), err)
	}
	var in map[string]any
	if err := json.Unmarshal(text, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestMessageStartsOneOrchestration(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t, "AlertEmailTo=ops@example.com"), startSidecar(t)
	body := s.message(`{"RecordIds":["C-001",17,"C-001"]}`, `"MessageId":"\"m-1\"","DeliveryCount":"1",`)
	r := h.post(t, clientFunction, body)
	starts := s.starts()
	if r.status != "200 OK" || len(starts) != 1 || starts[0].name != "MyOrchestration" {
		t.Fatalf("answer %+v, started %+v", r, starts)
	}
	in := starts[0].decode(t)
	if fmt.Sprint(in["RecordIds"]) != "[C-001 17]" || in["AlertEmailTo"] != "ops@example.com" {
		t.Errorf("input %v", in)
	}
	if logs := strings.Join(r.Logs, "\n"); !strings.Contains(logs, "queue trigger function received") && !strings.Contains(logs, "Queue trigger function received") || !strings.Contains(logs, starts[0].id) {
		t.Errorf("Logs %q", r.Logs)
	}

	for _, c := range []struct {
		name  string
		state api.OrchestrationStatus
		want  int
	}{
		{"running", api.RUNTIME_STATUS_RUNNING, 1},
		{"suspended", api.RUNTIME_STATUS_SUSPENDED, 1},
		{"completed", api.RUNTIME_STATUS_COMPLETED, 1},
		{"failed", api.RUNTIME_STATUS_FAILED, 2},
		{"terminated", api.RUNTIME_STATUS_TERMINATED, 3},
	} {
		s.set(starts[0].id, c.state)
		if r := h.post(t, clientFunction, body); r.status != "200 OK" || len(s.starts()) != c.want {
			t.Errorf("delivered again while %s: %s, %d starts, want %d", c.name, r.status, len(s.starts()), c.want)
		}
	}

	// Another text under the same (forged) message id, and the same text in another message, are other orchestrations.
	h.post(t, clientFunction, s.message(`{"RecordIds":["C-002"]}`, `"MessageId":"\"m-1\"",`))
	h.post(t, clientFunction, s.message(`{"RecordIds":["C-001",17,"C-001"]}`, `"MessageId":"\"m-2\"",`))
	h.post(t, clientFunction, s.message(`{"RecordIds":["C-001"]}`, ``))
	h.post(t, clientFunction, s.message(`{"RecordIds":["C-001"]}`, ``))
	ids := map[string]bool{}
	for _, st := range s.starts() {
		ids[st.id] = true
	}
	if len(ids) != 5 {
		t.Errorf("%d ids in %+v, want 5", len(ids), s.starts())
	}
}

func TestSameMessageAtOnce(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t), startSidecar(t)
	body := s.message(`{"RecordIds":["C-001"]}`, `"MessageId":"\"m-1\"",`)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { h.post(t, clientFunction, body) })
	}
	wg.Wait()
	if n := len(s.starts()); n != 1 {
		t.Errorf("%d starts, want 1", n)
	}
}

func TestMessageFailsTheInvocation(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t), startSidecar(t)
	for text, want := range map[string]string{
		"hello": "not JSON", "": "not JSON", `{"Batch":"1999-01"}`: "1999-01", `{"RecordIds":[""]}`: "empty", `{}`: "neither",
	} {
		if r := h.post(t, clientFunction, s.message(text, "")); !strings.HasPrefix(r.status, "500 ") || !strings.Contains(r.status, want) {
			t.Errorf("%q: %s, want a 500 that says %q", text, r.status, want)
		}
	}
	if r := h.post(t, clientFunction, s.message(`{"RecordIds":[]}`, "")); r.status != "200 OK" || !strings.Contains(strings.Join(r.Logs, " "), "nothing is started") {
		t.Errorf("nothing to process: %+v", r)
	}
	if n := len(s.starts()); n != 0 {
		t.Errorf("%d starts, want none", n)
	}
	// A host that does not answer its durable endpoint fails the invocation, too: Service Bus keeps the message.
	s.url = "http://127.0.0.1:" + freePort(t)
	if r := h.post(t, clientFunction, s.message(`{"RecordIds":["C-001"]}`, "")); !strings.HasPrefix(r.status, "500 ") {
		t.Errorf("no endpoint: %s", r.status)
	}
}

func TestLargeInputIsWarnedOf(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t), startSidecar(t)
	ids := make([]string, 12000)
	for i := range ids {
		ids[i] = fmt.Sprintf(`"%x"`, i*2654435761)
	}
	r := h.post(t, clientFunction, s.message(`{"RecordIds":[`+strings.Join(ids, ",")+`]}`, ""))
	if logs := strings.Join(r.Logs, "\n"); r.status != "200 OK" || strings.Count(logs, "level=WARN") != 1 || !strings.Contains(logs, "64 KB") {
		t.Errorf("%s, Logs %.2000q", r.status, logs)
	}
}

func TestProcessActivity(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	for input, want := range map[string]string{
		`{"RecordId":"C-001","JobId":"j"}`:  `{"Success":true}`,
		`{"recordid":"C-001","jobid":"j"}`:  `{"Success":true}`,
		`{"RecordId":"nobody","JobId":"j"}`: `"Success":false`,
		`{"RecordId":"C-001"}`:              "JobId",
		`null`:                              "RecordId",
	} {
		r := h.post(t, "ProcessActivity", `{"Data":{"input":`+twice(input)+`},"Metadata":{"instanceId":"\"forged\"","sys":"\"True\"","RecordId":"\"other\""}}`)
		if r.status != "200 OK" || !strings.Contains(string(r.ReturnValue), want) {
			t.Errorf("%s: %s %s, want %s", input, r.status, r.ReturnValue, want)
		}
	}
}

// conversation is an orchestration as the host keeps it: its history grows turn by turn.
type conversation struct {
	t     *testing.T
	id    string
	past  [][]byte
	input string
	turns int
}

// event makes a history event of protobuf JSON.
func event(t *testing.T, text string) []byte {
	t.Helper()
	e := &backend.HistoryEvent{}
	if err := protojson.Unmarshal([]byte(text), e); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// turn sends the new events and returns what the orchestrator wants done.
func (c *conversation) turn(h *customHandler, news ...string) (reply, *backend.ExecutionResults) {
	c.t.Helper()
	c.turns++
	now := fmt.Sprintf(`"timestamp":"2026-11-23T01:02:%02dZ"`, c.turns)
	events := [][]byte{event(c.t, `{"eventId":-1,`+now+`,"orchestratorStarted":{}}`)}
	if c.turns == 1 {
		input, _ := json.Marshal(c.input)
		events = append(events, event(c.t, fmt.Sprintf(`{"eventId":-1,%s,"executionStarted":{"name":"MyOrchestration","input":%s,"orchestrationInstance":{"instanceId":%q,"executionId":"exec-1"}}}`, now, input, c.id)))
	}
	for _, n := range news {
		events = append(events, event(c.t, `{"eventId":-1,`+now+`,`+n+`}`))
	}
	var request []byte
	request = protowire.AppendTag(request, 1, protowire.BytesType)
	request = protowire.AppendString(request, c.id)
	for _, e := range c.past {
		request = protowire.AppendTag(request, 3, protowire.BytesType)
		request = protowire.AppendBytes(request, e)
	}
	for _, e := range events {
		request = protowire.AppendTag(request, 4, protowire.BytesType)
		request = protowire.AppendBytes(request, e)
	}
	r := h.post(c.t, "MyOrchestration", `{"Data":{"context":`+twice(base64.StdEncoding.EncodeToString(request))+`},"Metadata":{"sys":{"MethodName":"MyOrchestration"}}}`)
	results := decodeActions(c.t, r)
	c.past = append(c.past, events...)
	for _, a := range results.Response.Actions {
		if s := a.GetScheduleTask(); s != nil {
			c.past = append(c.past, event(c.t, fmt.Sprintf(`{"eventId":%d,%s,"taskScheduled":{"name":%q}}`, a.Id, now, s.Name)))
		}
		if s := a.GetCreateSubOrchestration(); s != nil {
			c.past = append(c.past, event(c.t, fmt.Sprintf(`{"eventId":%d,%s,"subOrchestrationInstanceCreated":{"name":%q,"instanceId":%q}}`, a.Id, now, s.Name, s.InstanceId)))
		}
		if s := a.GetCreateTimer(); s != nil {
			c.past = append(c.past, event(c.t, fmt.Sprintf(`{"eventId":%d,%s,"timerCreated":{}}`, a.Id, now)))
		}
	}
	c.past = append(c.past, event(c.t, `{"eventId":-1,`+now+`,"orchestratorCompleted":{}}`))
	return r, results
}

func decodeActions(t *testing.T, r reply) *backend.ExecutionResults {
	t.Helper()
	var text string
	if err := json.Unmarshal(r.ReturnValue, &text); err != nil {
		t.Fatalf("answer %s, ReturnValue %.100s: %v", r.status, r.ReturnValue, err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName("OrchestratorResponse")
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New().Interface()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	results := &backend.ExecutionResults{}
	set(&results.Response, m)
	return results
}

// set assigns a message to a field whose type durabletask-go does not export.
func set[T any](field *T, m any) { *field = m.(T) }

// seedInput compresses the input as the seed does.
func seedInput(text string) string {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, int32(len(text)))
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	quoted, _ := json.Marshal(base64.StdEncoding.EncodeToString(b.Bytes()))
	return string(quoted)
}

func taskCompleted(id int, result string) string {
	quoted, _ := json.Marshal(result)
	return fmt.Sprintf(`"taskCompleted":{"taskScheduledId":%d,"result":%s}`, id, quoted)
}

// A history that was made under other settings is replayed under them: they are in the input.
func TestSettingsInFlight(t *testing.T) {
	t.Parallel()
	first := startHandler(t, "AlertEmailTo=first@example.com")
	other := startHandler(t, "AlertEmailTo=", "MAIL_ATTEMPTS=1", "PROCESS_ATTEMPTS=1", "AlertEmailFrom=other@example.com")

	c := &conversation{t: t, id: "job-1", input: seedInput(`{"RecordIds":["a","b"],"AlertEmailTo":"first@example.com","MailAttempts":2,"Attempts":2}`)}
	_, results := c.turn(first)
	if n := len(results.Response.Actions); n != 2 {
		t.Fatalf("%d actions in the first turn, want 2", n)
	}
	// Lost without a word of the work: tried again, under the other settings too.
	lost := `"taskFailed":{"taskScheduledId":0,"failureDetails":{"errorType":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException","errorMessage":"Exception while executing function: Functions.ProcessActivity","innerFailure":{"errorType":"System.Net.Http.HttpRequestException","errorMessage":"An error occurred while sending the request.","innerFailure":{"errorType":"System.Net.Http.HttpIOException","errorMessage":"The response ended prematurely. (ResponseEnded)"}}}}`
	_, results = c.turn(other, lost)
	if a := results.Response.Actions; len(a) != 1 || a[0].GetCreateTimer() == nil {
		t.Fatalf("after a lost activity: %v, want a timer", a)
	}
	_, results = c.turn(other, `"timerFired":{"timerId":2}`, taskCompleted(1, `{"Success":false,"ErrorMessage":"<declined>"}`))
	if a := results.Response.Actions; len(a) != 1 || a[0].GetScheduleTask().GetName() != "ProcessActivity" {
		t.Fatalf("after the delay: %v, want ProcessActivity", a)
	}
	if got, want := results.Response.CustomStatus.GetValue(), `{"Total":2,"Completed":1,"Failed":1}`; got != want {
		t.Errorf("custom status %s, want %s", got, want)
	}
	_, results = c.turn(other, taskCompleted(3, `{"Success":true}`))
	sub := results.Response.Actions[0].GetCreateSubOrchestration()
	if sub.GetName() != "MyOrchestration" || !strings.HasPrefix(sub.GetInstanceId(), "exec-1:") || !strings.Contains(sub.Input.GetValue(), "first@example.com") {
		t.Fatalf("after the last record: %v, want the mail's sub-orchestration", results.Response.Actions)
	}
	if !other.out.has("1 tasks failed.") || strings.Count(other.out.String(), "1 tasks failed.") != 1 {
		t.Errorf("stderr %s", other.out.String())
	}

	// The mail itself.
	mail := &conversation{t: t, id: sub.InstanceId, input: sub.Input.GetValue()}
	r, results := mail.turn(other)
	if results.Response.Actions[0].GetCompleteOrchestration().GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED ||
		!strings.Contains(string(r.Outputs["mail"]), "first@example.com") || !strings.Contains(string(r.Outputs["mail"]), `\u0026lt;declined`) && !strings.Contains(string(r.Outputs["mail"]), `&lt;declined`) {
		t.Errorf("the mail: %s %v", r.Outputs, results.Response.Actions)
	}

	// The mail fails, twice; the result is kept.
	_, results = c.turn(other, `"subOrchestrationInstanceFailed":{"taskScheduledId":4}`)
	if a := results.Response.Actions; len(a) != 1 || a[0].GetCreateTimer() == nil {
		t.Fatalf("after a failed mail: %v, want a timer", a)
	}
	_, results = c.turn(other, `"timerFired":{"timerId":5}`)
	if again := results.Response.Actions[0].GetCreateSubOrchestration(); again == nil || again.InstanceId == sub.InstanceId {
		t.Fatalf("second attempt at the mail: %v", results.Response.Actions)
	}
	r, results = c.turn(other, `"subOrchestrationInstanceFailed":{"taskScheduledId":6}`)
	done := results.Response.Actions[0].GetCompleteOrchestration()
	want := `{"Total":2,"Succeeded":1,"Failed":1,"Failures":[{"RecordId":"b","ErrorMessage":"<declined>"}],"Mail":"failed"}`
	if !sameJSON(done.GetResult().GetValue(), want) || r.Outputs["mail"] != nil {
		t.Errorf("result %s, outputs %s", done.GetResult().GetValue(), r.Outputs)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

func TestNoRecipient(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	c := &conversation{t: t, id: "job-2", input: seedInput(`{"RecordIds":["a"]}`)}
	c.turn(h)
	_, results := c.turn(h, taskCompleted(0, `{"Success":false,"ErrorMessage":"`+strings.Repeat("ü", 600)+`"}`))
	var out output
	if err := json.Unmarshal([]byte(results.Response.Actions[0].GetCompleteOrchestration().GetResult().GetValue()), &out); err != nil {
		t.Fatal(err)
	}
	if out.Mail != "none" || out.Failures[0].ErrorMessage != strings.Repeat("ü", 499)+"…" || !h.out.has("AlertEmailTo") {
		t.Errorf("output %+v, stderr %s", out, h.out.String())
	}
}

func TestBadInputOfTheOrchestration(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	for _, input := range []string{`"no base64!"`, `{"Other":1}`, `17`, ``, `"AAAAQA=="`} {
		c := &conversation{t: t, id: "job-3", input: input}
		_, results := c.turn(h)
		if done := results.Response.Actions[0].GetCompleteOrchestration(); done.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED || !strings.Contains(done.FailureDetails.GetErrorMessage(), "input of MyOrchestration") {
			t.Errorf("input %q: %v", input, results.Response.Actions)
		}
	}
}

// What the real host sent to other functions, its sizes and shapes: each gets an answer that the host can end, and the
// process lives on.
func TestRecordedRequests(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	f, err := os.Open(filepath.Join("conformance", "testdata", "recordings", "conversations.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	played := 0
	for lines.Scan() {
		var line struct{ Function, Request string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		switch line.Function {
		case "Orch": // its input is none of ours: a failed orchestration, and a good answer
			r := h.post(t, "MyOrchestration", line.Request)
			results := decodeActions(t, r)
			if a := results.Response.Actions; len(a) != 1 || a[0].GetCompleteOrchestration() == nil {
				t.Errorf("answer %v", a)
			}
		case "Echo", "Fail": // nor is their record
			if r := h.post(t, "ProcessActivity", line.Request); !strings.HasPrefix(r.status, "200") && !strings.HasPrefix(r.status, "500") {
				t.Errorf("answer %s", r.status)
			}
		case "QueueStart": // there is no myQueueItem
			if r := h.post(t, clientFunction, line.Request); !strings.HasPrefix(r.status, "500") {
				t.Errorf("answer %s", r.status)
			}
		default:
			continue
		}
		played++
	}
	if played < 60 {
		t.Errorf("only %d requests were played", played)
	}
}

func TestWrongSetUpEndsBeforeListening(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	write(t, filepath.Join(empty, "host.json"), `{"version":"2.0"}`)
	broken := t.TempDir()
	write(t, filepath.Join(broken, "host.json"), `{`)
	for dir, want := range map[string]string{empty: "function.json", broken: "host.json"} {
		r := run(t, []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + freePort(t), "FUNCTIONS_APP_ROOT_PATH=" + dir}, "")
		if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("exit code %d, stderr %q; want 1 and one line with %q", r.code, r.stderr, want)
		}
	}
}

// Under the host nothing of the local mode is opened or created.
func TestHostModeCreatesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"host.json", "MyClientFunction/function.json", "MyOrchestration/function.json", "ProcessActivity/function.json"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	startHandler(t, "FUNCTIONS_APP_ROOT_PATH="+dir, "CRM_DATABASE=")
	if _, err := os.Stat(filepath.Join(dir, ".local")); !os.IsNotExist(err) {
		t.Errorf(".local: %v, want none", err)
	}
}
