package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// unplayable are recordings of the scripted handler that the local host cannot play as a whole. Each is named by an instance in
// it. TestRecordedHistories plays their turns all the same.
var unplayable = map[string]string{
	"can1":   "an event that comes before or after a first turn",
	"k1":     "a handler that is killed",
	"ver0":   "a host.json that is changed between the experiments",
	"empty1": "a task hub that stalls: here what would stall it is refused",
	"tr1":    "an activity and a child that end in either order",
	"tm7":    "timers of a week and of ten years, of which the real host's task hub stalls",
	"val1":   "many results that come in one turn or in several",
	"to1":    "functions that run until functionTimeout",
	"bind1":  "client bindings, without an orchestration",
}

// scriptedCalls reads the calls and turns of a recording of the scripted handler. reason says why the local host cannot play
// them; it is empty if it can.
func (f recording) scriptedCalls(t *testing.T) (lines []scriptedLine, reason string) {
	t.Helper()
	starts := false
	for _, text := range f.lines {
		var l scriptedLine
		switch err := json.Unmarshal(text, &l); {
		case err != nil:
			t.Fatalf("%s: %v", f.name, err)
		case l.RPC == "SignalEntity":
			return nil, "entities, which TestLocalHostEntities plays"
		case l.RPC == "StartInstance":
			starts = true
			reason = cmp.Or(unplayable[l.root()], reason)
		}
		lines = append(lines, l)
	}
	if !starts {
		return nil, "no call that starts an orchestration"
	}
	return lines, reason
}

// gaps are the orchestrations, by the id of their root, for which the local host is known to differ, each with the reason.
var gaps = map[string]string{
	"cs6":          "a custom status that is the empty string shows as none",
	"rew":          "an action that durabletask-go cannot write",
	"par5":         "a child that is started again while it runs",
	"dupid":        "two results come in one turn or in two",
	"neg":          "two results come in one turn or in two",
	"nofire":       "the reason, which the local host tells",
	"http3":        "the host's own HTTP activity",
	"http6":        "the host's own HTTP activity",
	"http7":        "the host's own HTTP activity",
	"http9":        "the host's own HTTP activity",
	"control\x01x": "ids with control characters are refused here",
	"orr4":         "an output that the queue refuses",
	"ret2":         "an output that the queue refuses",
	"ob1":          "an output that the queue refuses",
	"tw3":          "a parent that is told of two ends",
	"zi2":          "the app was changed meanwhile",
	"slotx":        "it waits for others that are not in the recording",
	"par4":         "results come in one turn or in two",
	"ft1":          "a pending instance that is terminated has no more turns here",
	"tw1":          "its history has one of the two ends only",
	"rh2":          "it takes nine minutes",
	"rh5":          "a generation whose turn is refused takes the one before it along",
	"rhlong":       "it takes seventeen minutes",
	"race1":        "ten starts at once, in the order of their answers",
	"race2":        "ten starts at once, in the order of their answers",
	"nosuch":       "its reason names the functions of the app",
	"chp":          "a purge takes the tree along",
	"ea1":          "an empty answer fails here at once; the real host waits until its handler starts again",
	"ea2":          "an empty answer fails here at once; the real host waits until its handler starts again",
	"ea3":          "an empty answer fails here at once; the real host waits until its handler starts again",
	"ta8":          "what .NET says of an answer that it does not understand",
	"ta9":          "what .NET says of an answer that it does not understand",
	"ta13":         "what .NET says of an answer that it does not understand",
	"tab\tx":       "ids with control characters are refused here",
	"rd3":          "a 302, which the real host follows with a GET",
	"np1":          "a text in which the real host sees an error of its own, so that it asks again",
	"noinput":      "its input is not a script",
	"noname":       "its input is not a script",
}

// retries are the retry policies of the scripted orchestrators. While the recording was made the policies changed, so some
// instances have a function with another name here.
var (
	retries = map[string]string{
		"OrchRetry":    `{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:01"}`,
		"OrchRetry4":   `{"strategy":"fixedDelay","maxRetryCount":4,"delayInterval":"00:00:01"}`,
		"OrchRetry5":   `{"strategy":"fixedDelay","maxRetryCount":5,"delayInterval":"00:00:02"}`,
		"OrchRetry0":   `{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:00"}`,
		"OrchRetryInf": `{"strategy":"fixedDelay","maxRetryCount":-1,"delayInterval":"00:00:01"}`,
		"EchoRetry":    `{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:01"}`,
	}
	renamed = map[string]string{"ff1": "OrchRetry4", "tw2": "OrchRetry5", "rhr1": "OrchRetry5", "hj1": "OrchRetry"}
)

func isGap(instance string) bool {
	root, _, _ := strings.Cut(instance, ":")
	return gaps[root] != ""
}

// TestLocalHostScripted makes the recorded calls to the local host's durable endpoint, with the scripted handler. Each instance
// must get the turns that it got on the real host, and must end as it did there.
func TestLocalHostScripted(t *testing.T) {
	t.Parallel()
	played := 0
	for _, file := range readRecordings(t) {
		if !file.isScripted() {
			continue
		}
		lines, reason := file.scriptedCalls(t)
		if reason != "" {
			t.Logf("%s is not played: %s", file.name, reason)
			continue
		}
		played++
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			openScripted(t).playCalls(t, file.name, lines)
		})
	}
	if played < 10 && *recordings == ownRecordings {
		t.Errorf("%d recordings were played", played)
	}
}

func (h *scriptedHost) playCalls(t *testing.T, file string, lines []scriptedLine) {
	t.Helper()
	made, skipped := 0, 0
	for i, l := range lines {
		switch {
		case l.RPC == "":
		case l.root() == "" || isGap(l.root()) || len(l.Metadata) > 0:
			skipped++
		default:
			h.settle(t, beforeCall(t, lines, i))
			h.compareCall(t, fmt.Sprintf("%s:%d", file, i+1), l)
			made++
		}
	}
	h.settle(t, lines)
	h.compareTurns(t, lines)
	t.Logf("%d calls made, %d skipped: of orchestrations that are known to differ, or of other task hubs", made, skipped)
	if made == 0 {
		t.Error("no call was compared")
	}
}

// scriptedLine is a call of a client, or a request that reached the scripted handler.
type scriptedLine struct {
	RPC               string
	Request, Response json.RawMessage
	Stream            []struct{ Events []json.RawMessage }
	Error             struct{ Name, Details string }
	Metadata          map[string]string // names a task hub and a connection that the app here does not have

	Function string
	Decoded  struct{ InstanceID string }
}

// instance returns the id of the orchestration if the line is a turn, otherwise "".
func (l scriptedLine) instance() string {
	if strings.HasPrefix(l.Function, "Orch") {
		return l.Decoded.InstanceID
	}
	return ""
}

// turn decodes an orchestrator's request.
func (l scriptedLine) turn(t *testing.T) testkit.Turn {
	t.Helper()
	var request string
	if err := json.Unmarshal(l.Request, &request); err != nil {
		t.Fatal(err)
	}
	turn, err := testkit.DecodeTurn(request)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// makes says whether a turn gets this event because of this call.
func (l scriptedLine) makes(e *backend.HistoryEvent) bool {
	var request struct{ Name string }
	_ = json.Unmarshal(l.Request, &request)
	switch l.RPC {
	case "RaiseEvent":
		return e.GetEventRaised() != nil && e.GetEventRaised().GetName() == request.Name
	case "SuspendInstance":
		return e.GetExecutionSuspended() != nil
	case "ResumeInstance":
		return e.GetExecutionResumed() != nil
	case "TerminateInstance":
		return e.GetExecutionTerminated() != nil
	}
	return false
}

// root returns the id of the line's orchestration, or of its root if it is a child.
func (l scriptedLine) root() string {
	id := l.instance()
	if l.RPC != "" {
		var request struct {
			InstanceID string
			Query      struct{ InstanceIDPrefix string }
		}
		_ = json.Unmarshal(l.Request, &request)
		id = cmp.Or(request.InstanceID, request.Query.InstanceIDPrefix)
	}
	root, _, _ := strings.Cut(id, ":")
	return root
}

// scriptedHost is a local host with a handler that follows the scripts in the orchestrations' inputs.
type scriptedHost struct {
	*local.Host
	endpoint string

	mu    sync.Mutex
	turns map[string][]string // the kinds of events of each request, by instance
	tries map[string]int      // the attempts of activities, by the key in their input

	operations map[string][]string // the operations of entities, by instance id
}

func openScripted(t *testing.T) *scriptedHost {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0","extensions":{"durableTask":{"hubName":"ProtoA20"}}}`)
	const (
		orchestrator = `{"type":"orchestrationTrigger","direction":"in","name":"context"},{"type":"queue","direction":"out","name":"mail","queueName":"mails"}`
		activity     = `{"type":"activityTrigger","direction":"in","name":"input"}`
		trigger      = `{"type":"serviceBusTrigger","direction":"in","name":"item","queueName":"q"},{"type":"durableClient","direction":"in","name":"starter"}`
	)
	bindings := map[string]string{"Orch": orchestrator, "Echo": activity, "QueueStart": trigger}
	for name := range retries {
		bindings[name] = orchestrator
	}
	bindings["EchoRetry"] = activity
	bindings["Entity"] = `{"type":"entityTrigger","direction":"in","name":"context"}`
	for name, binding := range bindings {
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), `{"bindings":[`+binding+`],"retry":`+cmp.Or(retries[name], "null")+`}`)
	}
	testkit.WriteFile(t, filepath.Join(root, "EntityRetry", "function.json"), `{"bindings":[`+bindings["Entity"]+`],"retry":{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:01"}}`)
	h := &scriptedHost{turns: map[string][]string{}, tries: map[string]int{}, operations: map[string][]string{}}
	var err error
	h.Host, err = local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: h, Environ: []string{}, Settings: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = h.Close(ctx)
	})
	if _, err := h.Deliver(t.Context(), "QueueStart", local.Message{Body: []byte("x")}); err != nil || h.endpoint == "" {
		t.Fatalf("no durable endpoint: %v", err)
	}
	return h
}

// ServeHTTP plays the scripted handler.
func (h *scriptedHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the host was closed
	}
	invocation, err := testkit.ParseInvocation(string(body))
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	switch function := r.URL.Path[1:]; function {
	case "QueueStart":
		var client struct{ RPCBaseURL string }
		_ = json.Unmarshal([]byte(testkit.Text(invocation.Data["starter"])), &client)
		h.endpoint = client.RPCBaseURL
		_, _ = io.WriteString(w, `{}`)
	case "Entity", "EntityRetry":
		h.answerBatch(w, invocation)
	case "Echo", "EchoRetry":
		h.answerActivity(w, testkit.Text(invocation.Data["input"]))
	default:
		h.answerTurn(w, string(body))
	}
}

// reply is the part of a scripted answer that deviates from the handler's usual form.
type reply struct {
	Status  int
	Reason  string
	Headers map[string]*string // nil: this header is left out
	Raw     *string            // the body
	Destroy bool               // the connection is closed without an answer
	SleepMs int
}

// answer sends the answer if it deviates from the usual form, and returns whether it did.
func (a reply) answer(w http.ResponseWriter) bool {
	time.Sleep(time.Duration(a.SleepMs) * time.Millisecond)
	for name, value := range a.Headers {
		w.Header()[name] = nil
		if value != nil {
			w.Header().Set(name, *value)
		}
	}
	switch code := cmp.Or(a.Status, http.StatusOK); {
	case a.Destroy:
		testkit.AnswerRaw(w, "")
	case a.Raw != nil || code == http.StatusNoContent:
		w.WriteHeader(code)
		if a.Raw != nil {
			_, _ = io.WriteString(w, *a.Raw)
		}
	case code != http.StatusOK:
		testkit.AnswerStatus(w, code, asLatin1(cmp.Or(a.Reason, http.StatusText(code))))
	default:
		return false
	}
	return true
}

// asLatin1 turns each character into one byte, as the recorded handler wrote its reason phrases.
func asLatin1(text string) string {
	var raw []byte
	for _, r := range text {
		raw = append(raw, byte(r))
	}
	return string(raw)
}

// answerActivity answers with the input, or as the input says.
func (h *scriptedHost) answerActivity(w http.ResponseWriter, input string) {
	type answer struct {
		reply
		ReturnValue json.RawMessage
	}
	var order struct {
		Answer *struct {
			answer
			Key   string
			Tries []answer
		}
	}
	if json.Unmarshal([]byte(input), &order) == nil && order.Answer != nil {
		a := order.Answer.answer
		if tries := order.Answer.Tries; len(tries) > 0 {
			h.mu.Lock()
			a = tries[min(h.tries[order.Answer.Key], len(tries)-1)]
			h.tries[order.Answer.Key]++
			h.mu.Unlock()
		}
		if a.reply.answer(w) {
			return
		}
		input = string(a.ReturnValue)
	}
	_, _ = io.WriteString(w, `{"ReturnValue":`+input+`}`)
}

// scriptedTurn is the part of a script about one turn.
type scriptedTurn struct {
	reply
	ReturnValue  json.RawMessage // used in place of the response that the other fields describe
	Actions      []json.RawMessage
	CustomStatus *string
	Response     struct{ RequiresHistory bool }
	Outputs      json.RawMessage
}

var (
	inSeconds = regexp.MustCompile(`\$NOW\+(\d+)s`)
	letters   = regexp.MustCompile(`\$X(\d+)`)
)

// soon returns the time that the text stands for, such as $NOW+4s.
func soon(text string) string {
	seconds, _ := strconv.Atoi(text[len("$NOW+") : len(text)-1])
	return time.Now().Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339Nano)
}

func (h *scriptedHost) answerTurn(w http.ResponseWriter, body string) {
	turn, err := testkit.DecodeTurn(body)
	if err != nil {
		panic(err)
	}
	var script struct {
		Turns []json.RawMessage
		Tries bool
	}
	begun := 0
	for _, e := range turn.History() {
		if start := e.GetExecutionStarted(); start != nil {
			_ = json.Unmarshal([]byte(start.Input.GetValue()), &script)
		}
		if e.GetOrchestratorStarted() != nil {
			begun++
		}
	}
	h.mu.Lock()
	h.turns[turn.InstanceID] = append(h.turns[turn.InstanceID], kindsOfTurn(turn))
	tried := len(h.turns[turn.InstanceID])
	h.mu.Unlock()
	n := begun - 1
	if script.Tries {
		n = tried - 1
	}
	text := string(script.Turns[min(n, len(script.Turns)-1)])
	text = strings.ReplaceAll(text, "$ID", turn.InstanceID)
	text = inSeconds.ReplaceAllStringFunc(text, soon)
	text = strings.ReplaceAll(text, "$EXEC", executionOf(turn))
	text = letters.ReplaceAllStringFunc(text, func(s string) string {
		count, _ := strconv.Atoi(s[len("$X"):])
		return strings.Repeat("x", count)
	})
	var answer scriptedTurn
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		panic(err)
	}
	if answer.reply.answer(w) {
		return
	}
	value := cmp.Or(string(answer.ReturnValue), `"`+answer.encode(turn.InstanceID)+`"`)
	fmt.Fprintf(w, `{"Outputs":%s,"ReturnValue":%s}`, cmp.Or(string(answer.Outputs), "null"), value)
}

// encode returns the OrchestratorResponse in base64.
func (a scriptedTurn) encode(instance string) string {
	fields := map[string]any{"instanceId": instance, "actions": a.Actions}
	if a.CustomStatus != nil {
		fields["customStatus"] = *a.CustomStatus
	}
	text, _ := json.Marshal(fields)
	kind, err := protoregistry.GlobalTypes.FindMessageByName("OrchestratorResponse")
	if err != nil {
		panic(err)
	}
	m := kind.New().Interface()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
		panic(err)
	}
	addEntityMessages(m.ProtoReflect(), a.Actions)
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	if a.Response.RequiresHistory {
		raw = protowire.AppendVarint(protowire.AppendTag(raw, 7, protowire.VarintType), 1)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// kindsOfTurn returns the kinds of the events in a request. The order within a turn does not count.
func kindsOfTurn(turn testkit.Turn) string {
	var parts []string
	var open []string
	for _, e := range turn.History() {
		switch {
		case e.GetOrchestratorStarted() != nil:
			open = nil
		case e.GetOrchestratorCompleted() != nil:
			slices.Sort(open)
			parts = append(parts, strings.Join(open, "+"))
			open = nil
		default:
			open = append(open, kind(e))
		}
	}
	slices.Sort(open)
	return strings.Join(append(parts, strings.Join(open, "+")), " | ")
}

// wantTurns returns the kinds of the events in each recorded request, by instance.
func wantTurns(t *testing.T, lines []scriptedLine) map[string][]string {
	t.Helper()
	want, started := map[string][]string{}, map[string]bool{}
	for _, l := range lines {
		if l.RPC == "StartInstance" {
			started[l.root()] = true
		}
	}
	for _, l := range lines {
		if id := l.instance(); id != "" && started[l.root()] && !isGap(id) {
			want[id] = append(want[id], kindsOfTurn(l.turn(t)))
		}
	}
	return want
}

// beforeCall returns the lines whose turns must have begun before the call in line i is made: those before it, and those that
// were recorded between the call and the turn that gets its event. If the call did not wait for them, a slow local host could put
// two events into one turn.
func beforeCall(t *testing.T, lines []scriptedLine, i int) []scriptedLine {
	t.Helper()
	var request struct{ InstanceID string }
	_ = json.Unmarshal(lines[i].Request, &request)
	before := slices.Clone(lines[:i])
	for _, l := range lines[i+1:] {
		switch {
		case l.RPC != "":
			return lines[:i]
		case l.instance() != request.InstanceID:
		case slices.ContainsFunc(l.turn(t).New, lines[i].makes):
			return before
		default:
			before = append(before, l)
		}
	}
	return lines[:i]
}

// settle waits until each instance has had as many requests as in the lines.
func (h *scriptedHost) settle(t *testing.T, lines []scriptedLine) {
	t.Helper()
	want := wantTurns(t, lines)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		missing := ""
		h.mu.Lock()
		for id, turns := range want {
			if len(h.turns[id]) < len(turns) {
				missing = fmt.Sprintf("%s has had %d turns, recorded are %d", id, len(h.turns[id]), len(turns))
			}
		}
		h.mu.Unlock()
		if missing == "" {
			time.Sleep(50 * time.Millisecond) // until the last answers are stored
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
	}
}

func (h *scriptedHost) compareTurns(t *testing.T, lines []scriptedLine) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, want := range wantTurns(t, lines) {
		if got := h.turns[id]; !slices.Equal(got, want) {
			t.Errorf("%s: the requests were\n  %s\nrecorded are\n  %s", id, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

// compareCall makes a call and compares its outcome: the error, or what it shows about instances.
func (h *scriptedHost) compareCall(t *testing.T, where string, l scriptedLine) {
	t.Helper()
	request := l.Request
	if function := renamed[l.root()]; function != "" && l.RPC == "StartInstance" {
		request = bytes.Replace(request, []byte(`"OrchRetry"`), []byte(`"`+function+`"`), 1)
		request = bytes.Replace(request, []byte(`"Orch"`), []byte(`"`+function+`"`), 1)
	}
	request = inSeconds.ReplaceAllFunc(request, func(text []byte) []byte { return []byte(soon(string(text))) })
	ctx := t.Context()
	if l.Error.Name == "DEADLINE_EXCEEDED" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	}
	reply, err := rpc(ctx, t, h.endpoint, l.RPC, request)
	if want := shownStatus(l.Response); l.RPC == "GetInstance" && want != "" {
		// The handler has answered the last turn, but the answer may not be stored yet.
		for deadline := time.Now().Add(time.Minute); err == nil && shownStatus(reply) != want && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			reply, err = rpc(ctx, t, h.endpoint, l.RPC, request)
		}
	}
	if l.Error.Name == "DEADLINE_EXCEEDED" && string(reply) == "{}" {
		return // a wait for an instance that does not exist ends at once here
	}
	if got := status.Code(err).String(); got != cmp.Or(l.Error.Name, "OK") && !strings.EqualFold(strings.ReplaceAll(l.Error.Name, "_", ""), got) {
		t.Errorf("%s: %s: %v, recorded is %+v", where, l.RPC, err, l.Error)
	}
	switch {
	case err != nil:
		if got := status.Convert(err).Message(); got != l.Error.Details && l.Error.Name != "DEADLINE_EXCEEDED" {
			t.Errorf("%s: %s: the error is %q, recorded is %q", where, l.RPC, got, l.Error.Details)
		}
	case l.RPC == "QueryInstances":
		compareList(t, where, reply, l.Response)
	case l.RPC == "StreamInstanceHistory":
		compareHistory(t, where, reply, l)
	case l.RPC == "PurgeInstances" && string(reply) != string(compact(l.Response)):
		t.Errorf("%s: %s: got %s, recorded is %s", where, l.RPC, reply, l.Response)
	}
	if l.RPC == "GetInstance" && err == nil {
		compareInstance(t, where, reply, l)
	}
}

// shownStatus is the status in the reply to GetInstance, empty if there is no such instance.
func shownStatus(reply json.RawMessage) string {
	var shown struct{ OrchestrationState shownState }
	_ = json.Unmarshal(reply, &shown)
	return shown.OrchestrationState.OrchestrationStatus
}

func compareInstance(t *testing.T, where string, reply json.RawMessage, l scriptedLine) {
	t.Helper()
	var got, want struct {
		Exists             bool
		OrchestrationState shownState
	}
	bad := json.Unmarshal(reply, &got) != nil || json.Unmarshal(l.Response, &want) != nil
	if !want.Exists && got.Exists {
		return // a call that is not in the recording purged it
	}
	want.OrchestrationState.Output = withoutStack(want.OrchestrationState.Output)
	got.OrchestrationState.Output = asFunction(got.OrchestrationState.Output, l.root())
	got.OrchestrationState.Name, want.OrchestrationState.Name = "", "" // some are renamed
	for _, s := range []*shownState{&got.OrchestrationState, &want.OrchestrationState} {
		s.Input = string(compact([]byte(s.Input))) // a restart on the real host removes the blanks
		if s.ParentInstanceID != "" {
			s.Tags = nil // here, children do not get their parent's tags
		}
	}
	if bad || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %s shows %+v,\nrecorded is %+v", where, l.Request, got, want)
	}
}

// shownState has the fields of an instance that are compared.
type shownState struct {
	InstanceID, Name, OrchestrationStatus, Input, Output, CustomStatus, ParentInstanceID string
	Tags                                                                                 map[string]string
}

// compareList compares a page with the recorded one: its instances, and the token, which is the id of the next instance.
func compareList(t *testing.T, where string, reply, recorded json.RawMessage) {
	t.Helper()
	var got, want struct {
		OrchestrationState []shownState
		ContinuationToken  string
	}
	if err := errors.Join(json.Unmarshal(reply, &got), json.Unmarshal(recorded, &want)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: the page is\n%+v, %v, recorded is\n%+v", where, got, err, want)
	}
}

// compareHistory compares the kinds of the events, in order.
func compareHistory(t *testing.T, where string, reply json.RawMessage, l scriptedLine) {
	t.Helper()
	var chunk struct{ Events [][]byte }
	if err := json.Unmarshal(reply, &chunk); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, raw := range chunk.Events {
		var e backend.HistoryEvent
		if err := proto.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, kind(&e))
	}
	for _, c := range l.Stream {
		for _, text := range c.Events {
			var e backend.HistoryEvent
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &e); err != nil {
				t.Fatal(err)
			}
			want = append(want, kind(&e))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the history is\n%q, recorded is\n%q", where, got, want)
	}
}

func compact(text json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Compact(&out, text) != nil {
		return text
	}
	return out.Bytes()
}

// stackLine matches a line of a .NET stack trace within JSON. The local host's errors have no stack trace.
var stackLine = regexp.MustCompile(`\\n(   at |--- End of stack trace from previous location ---)([^\\"]|\\[^n])*`)

func withoutStack(output string) string { return stackLine.ReplaceAllString(output, "") }

// asFunction replaces the name of a renamed function in an output by the recorded name.
func asFunction(output, root string) string {
	if function := renamed[root]; function != "" {
		output = strings.ReplaceAll(output, function, "OrchRetry")
	}
	return output
}
