package tests

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

// message returns the request that the host makes of a Service Bus message. address is the durable endpoint's. The value is
// encoded as MyClientFunction's function.json demands.
func message(address, body, metadata string) string {
	var f struct {
		Bindings []struct{ Type, DataType string }
	}
	text, err := os.ReadFile(filepath.Join(root, clientFunction, "function.json"))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		panic(err) // cannot happen: the binary would not have started
	}
	value := testkit.Twice(body)
	if f.Bindings[0].DataType == "binary" {
		value = `"` + base64.StdEncoding.EncodeToString([]byte(body)) + `"`
	}
	starter := testkit.ClientBinding(address, "LabHub", "MyTaskHub")
	return `{"Data":{"myQueueItem":` + value + `,"starter":` + testkit.Twice(starter) + `},"Metadata":{` + metadata + `"sys":{"MethodName":"MyClientFunction","UtcNow":"2026-11-23T01:02:03Z","RandGuid":"b0d9d43b-9160-4248-a208-c0c985db1be9"}}}`
}

// decodeInput decompresses an orchestration's input as the seed does.
func decodeInput(t *testing.T, s testkit.Start) map[string]any {
	t.Helper()
	var compressed string
	if err := json.Unmarshal([]byte(s.Input), &compressed); err != nil {
		t.Fatalf("input %.80s is not a JSON string", s.Input)
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
	h, s := startHandler(t, "AlertEmailTo=ops@example.com"), testkit.StartSidecar(t)
	body := message(s.Address, `{"RecordIds":["C-001",17,"C-001"]}`, `"MessageId":"\"m-1\"","DeliveryCount":"1",`)
	r := h.Post(t, clientFunction, body)
	starts := s.Started()
	if r.Status != 200 || len(starts) != 1 || starts[0].Name != "MyOrchestration" {
		t.Fatalf("answer %+v, started %+v", r, starts)
	}
	in := decodeInput(t, starts[0])
	if fmt.Sprint(in["RecordIds"]) != "[C-001 17]" || in["AlertEmailTo"] != "ops@example.com" {
		t.Errorf("input %v", in)
	}
	if logs := r.AllLogs(); !strings.Contains(logs, "queue trigger function received") && !strings.Contains(logs, "Queue trigger function received") || !strings.Contains(logs, starts[0].ID) {
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
		s.Set(starts[0].ID, c.state)
		if r := h.Post(t, clientFunction, body); r.Status != 200 || len(s.Started()) != c.want {
			t.Errorf("delivered again while %s: %s, %d starts, want %d", c.name, r, len(s.Started()), c.want)
		}
	}

	// Another text with the same (forged) message id, and the same text in another message, start other orchestrations.
	h.Post(t, clientFunction, message(s.Address, `{"RecordIds":["C-002"]}`, `"MessageId":"\"m-1\"",`))
	h.Post(t, clientFunction, message(s.Address, `{"RecordIds":["C-001",17,"C-001"]}`, `"MessageId":"\"m-2\"",`))
	h.Post(t, clientFunction, message(s.Address, `{"RecordIds":["C-001"]}`, ``))
	h.Post(t, clientFunction, message(s.Address, `{"RecordIds":["C-001"]}`, ``))
	ids := map[string]bool{}
	for _, st := range s.Started() {
		ids[st.ID] = true
	}
	if len(ids) != 5 {
		t.Errorf("%d ids in %+v, want 5", len(ids), s.Started())
	}
}

// A message that several workers get at the same time starts one orchestration: the host refuses the other starts.
func TestSameMessageAtOnce(t *testing.T) {
	t.Parallel()
	s := testkit.StartSidecar(t)
	body := message(s.Address, `{"RecordIds":["C-001"]}`, `"MessageId":"\"m-1\"",`)
	var wg sync.WaitGroup
	for range 3 {
		worker := startHandler(t)
		for range 10 {
			wg.Go(func() {
				if a := worker.Post(t, clientFunction, body); a.Status != 200 {
					t.Errorf("answer %s", a)
				}
			})
		}
	}
	wg.Wait()
	if n := len(s.Started()); n != 1 {
		t.Errorf("%d starts, want 1", n)
	}
	if other := s.Calls("GetInstance", "TerminateInstance", "PurgeInstances"); len(other) > 0 {
		t.Errorf("it takes more than the start: %v", other)
	}
}

func TestMessageFailsTheInvocation(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t), testkit.StartSidecar(t)
	for text, want := range map[string]string{
		"hello": "not JSON", "": "not JSON", `{"Batch":"1999-01"}`: "1999-01", `{"RecordIds":[""]}`: "empty", `{}`: "neither",
	} {
		if r := h.Post(t, clientFunction, message(s.Address, text, "")); r.Status != 500 || !strings.Contains(r.Phrase, want) {
			t.Errorf("%q: %s, want a 500 that says %q", text, r, want)
		}
	}
	if r := h.Post(t, clientFunction, message(s.Address, `{"RecordIds":[]}`, "")); r.Status != 200 || !strings.Contains(r.AllLogs(), "nothing is started") {
		t.Errorf("nothing to process: %+v", r)
	}
	if n := len(s.Started()); n != 0 {
		t.Errorf("%d starts, want none", n)
	}
	// If the host's durable endpoint does not answer, the invocation fails too, so that Service Bus keeps the message.
	if r := h.Post(t, clientFunction, message("127.0.0.1:"+testkit.FreePort(t), `{"RecordIds":["C-001"]}`, "")); r.Status != 500 {
		t.Errorf("no endpoint: %s", r)
	}
}

func TestLargeInputIsWarnedOf(t *testing.T) {
	t.Parallel()
	h, s := startHandler(t), testkit.StartSidecar(t)
	ids := make([]string, 12000)
	for i := range ids {
		ids[i] = fmt.Sprintf(`"%x"`, i*2654435761)
	}
	r := h.Post(t, clientFunction, message(s.Address, `{"RecordIds":[`+strings.Join(ids, ",")+`]}`, ""))
	if logs := r.AllLogs(); r.Status != 200 || strings.Count(logs, "level=WARN") != 1 || !strings.Contains(logs, "64 KB") {
		t.Errorf("%s, Logs %.2000q", r, logs)
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
		r := h.Post(t, "ProcessActivity", `{"Data":{"input":`+testkit.Twice(input)+`},"Metadata":{"instanceId":"\"forged\"","sys":"\"True\"","RecordId":"\"other\""}}`)
		if r.Status != 200 || !strings.Contains(string(r.ReturnValue), want) {
			t.Errorf("%s: %s, want %s", input, r, want)
		}
	}
}

// seedInput compresses an orchestration's input as the seed does.
func seedInput(text string) string {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, int32(len(text)))
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	quoted, _ := json.Marshal(base64.StdEncoding.EncodeToString(b.Bytes()))
	return string(quoted)
}

// A history that began under other settings is replayed under those settings, because they are in the input.
func TestSettingsInFlight(t *testing.T) {
	t.Parallel()
	first := startHandler(t, "AlertEmailTo=first@example.com")
	other := startHandler(t, "AlertEmailTo=", "MAIL_ATTEMPTS=1", "PROCESS_ATTEMPTS=1", "AlertEmailFrom=other@example.com")

	c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-1", Input: seedInput(`{"RecordIds":["a","b"],"AlertEmailTo":"first@example.com","MailAttempts":2,"Attempts":2}`)}
	r, results := c.Turn(t, first.Host)
	if n := len(results.Response.Actions); n != 2 {
		t.Fatalf("%d actions in the first turn, want 2", n)
	}
	if logs := r.AllLogs(); !strings.Contains(logs, "MyOrchestration has started.") || !strings.Contains(logs, "instance=job-1 records=2") {
		t.Errorf("the first turn logs %s", logs)
	}
	// The activity is lost and says nothing about its record: it is tried again, as the settings of the input say.
	lost := `"taskFailed":{"taskScheduledId":0,"failureDetails":{"errorType":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException","errorMessage":"Exception while executing function: Functions.ProcessActivity","innerFailure":{"errorType":"System.Net.Http.HttpRequestException","errorMessage":"An error occurred while sending the request.","innerFailure":{"errorType":"System.Net.Http.HttpIOException","errorMessage":"The response ended prematurely. (ResponseEnded)"}}}}`
	_, results = c.Turn(t, other.Host, lost)
	if a := results.Response.Actions; len(a) != 1 || a[0].GetCreateTimer() == nil {
		t.Fatalf("after a lost activity: %v, want a timer", a)
	}
	_, results = c.Turn(t, other.Host, `"timerFired":{"timerId":2}`, testkit.TaskCompleted(1, `{"Success":false,"ErrorMessage":"<declined>"}`))
	if a := results.Response.Actions; len(a) != 1 || a[0].GetScheduleTask().GetName() != "ProcessActivity" {
		t.Fatalf("after the delay: %v, want ProcessActivity", a)
	}
	if got, want := results.Response.CustomStatus.GetValue(), `{"Total":2,"Completed":1,"Failed":1}`; got != want {
		t.Errorf("custom status %s, want %s", got, want)
	}
	_, results = c.Turn(t, other.Host, testkit.TaskCompleted(3, `{"Success":true}`))
	sub := results.Response.Actions[0].GetCreateSubOrchestration()
	if sub.GetName() != "MyOrchestration" || !strings.HasPrefix(sub.GetInstanceId(), "job-1:") || !strings.Contains(sub.Input.GetValue(), "first@example.com") {
		t.Fatalf("after the last record: %v, want the mail's sub-orchestration", results.Response.Actions)
	}
	if !other.out.Has("1 tasks failed.") || strings.Count(other.out.String(), "1 tasks failed.") != 1 {
		t.Errorf("stderr %s", other.out.String())
	}

	// The sub-orchestration for the mail.
	mail := &testkit.Conversation{Name: "MyOrchestration", ID: sub.InstanceId, Input: sub.Input.GetValue()}
	r, results = mail.Turn(t, other.Host)
	if results.Response.Actions[0].GetCompleteOrchestration().GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED ||
		!strings.Contains(string(r.Outputs["mail"]), "first@example.com") || !strings.Contains(string(r.Outputs["mail"]), `\u0026lt;declined`) && !strings.Contains(string(r.Outputs["mail"]), `&lt;declined`) {
		t.Errorf("the mail: %s %v", r.Outputs, results.Response.Actions)
	}

	// The mail fails twice; the result stays.
	_, results = c.Turn(t, other.Host, `"subOrchestrationInstanceFailed":{"taskScheduledId":4}`)
	if a := results.Response.Actions; len(a) != 1 || a[0].GetCreateTimer() == nil {
		t.Fatalf("after a failed mail: %v, want a timer", a)
	}
	_, results = c.Turn(t, other.Host, `"timerFired":{"timerId":5}`)
	if again := results.Response.Actions[0].GetCreateSubOrchestration(); again == nil || again.InstanceId == sub.InstanceId {
		t.Fatalf("second attempt at the mail: %v", results.Response.Actions)
	}
	r, results = c.Turn(t, other.Host, `"subOrchestrationInstanceFailed":{"taskScheduledId":6}`)
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
	c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-2", Input: seedInput(`{"RecordIds":["a"]}`)}
	c.Turn(t, h.Host)
	_, results := c.Turn(t, h.Host, testkit.TaskCompleted(0, `{"Success":false,"ErrorMessage":"`+strings.Repeat("ü", 600)+`"}`))
	var out output
	if err := json.Unmarshal([]byte(results.Response.Actions[0].GetCompleteOrchestration().GetResult().GetValue()), &out); err != nil {
		t.Fatal(err)
	}
	if out.Mail != "none" || out.Failures[0].ErrorMessage != strings.Repeat("ü", 499)+"…" || !h.out.Has("AlertEmailTo") {
		t.Errorf("output %+v, stderr %s", out, h.out.String())
	}
}

func TestBadInputOfTheOrchestration(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	for _, input := range []string{`"no base64!"`, `{"Other":1}`, `17`, ``, `"AAAAQA=="`} {
		c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-3", Input: input}
		_, results := c.Turn(t, h.Host)
		if done := results.Response.Actions[0].GetCompleteOrchestration(); done.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED || !strings.Contains(done.FailureDetails.GetErrorMessage(), "input of MyOrchestration") {
			t.Errorf("input %q: %v", input, results.Response.Actions)
		}
	}
}

// The host's requests for other functions, in all sizes and shapes. The handler answers each with an answer that ends the
// invocation, and continues.
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
		case "Orch": // the input is not MyOrchestration's: the orchestration fails, in a good answer
			r := h.Post(t, "MyOrchestration", line.Request)
			results := testkit.Actions(t, r)
			if a := results.Response.Actions; len(a) != 1 || a[0].GetCompleteOrchestration() == nil {
				t.Errorf("answer %v", a)
			}
		case "Echo", "Fail": // the input is not a record of ours
			if r := h.Post(t, "ProcessActivity", line.Request); r.Status != 200 && r.Status != 500 {
				t.Errorf("answer %s", r)
			}
		case "QueueStart": // the binding has another name here
			if r := h.Post(t, clientFunction, line.Request); r.Status != 500 {
				t.Errorf("answer %s", r)
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
	testkit.WriteFile(t, filepath.Join(empty, "host.json"), `{"version":"2.0"}`)
	broken := t.TempDir()
	testkit.WriteFile(t, filepath.Join(broken, "host.json"), `{`)
	for dir, want := range map[string]string{empty: "function.json", broken: "host.json"} {
		r := run(t, []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + testkit.FreePort(t), "FUNCTIONS_APP_ROOT_PATH=" + dir}, "")
		if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("exit code %d, stderr %q; want 1 and one line with %q", r.code, r.stderr, want)
		}
	}
}
