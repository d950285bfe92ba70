package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/internal/testkit"
)

// entityGaps are the instances and entities for which the local host differs on purpose, each with the reason.
var entityGaps = map[string]string{
	"lock2":      "an action that the real host loses: here it fails the orchestration",
	"@entity@s1": "the start of an orchestration without an id, which stalls the real host",
	"@entity@s5": "refused for ever",
	"@entity@s8": "an answer without results, upon which the real host asks without end",
	"@entity@s2": "signalled by s1",
	"@name@key":  "an orchestration with an entity's id is refused here",
	"@entity":    "an orchestration with an entity's id is refused here",
	"@@":         "an orchestration with an entity's id is refused here",
	"@orchlike":  "an orchestration with an entity's id is refused here",
}

type entityLine struct {
	RPC, Function     string
	Request, Response json.RawMessage
	Error             struct{ Name string }
}

func (l entityLine) target() string {
	var request struct{ InstanceID string }
	_ = json.Unmarshal(l.Request, &request)
	return request.InstanceID
}

// TestLocalHostEntities makes the recorded calls about entities to the local host, with the entity of the recorded handler. The
// entities must get the operations that they got on the real host, and must end in the same states.
func TestLocalHostEntities(t *testing.T) {
	t.Parallel()
	played := 0
	for _, file := range readRecordings(t) {
		if file.isEntities() {
			played++
			t.Run(file.name, func(t *testing.T) {
				t.Parallel()
				openScripted(t).playEntities(t, file)
			})
		}
	}
	if played == 0 && *recordings == ownRecordings {
		t.Error("no recording of entities was played")
	}
}

func (h *scriptedHost) playEntities(t *testing.T, file recording) {
	t.Helper()
	made := tally{}
	want := map[string][]string{}
	for _, line := range file.lines {
		var l entityLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(l.Function, "Entity") {
			id, operations := recordedOperations(t, l)
			want[id] = append(want[id], operations...)
			continue
		}
		switch {
		case l.RPC == "" || l.RPC == "GetInstance" || l.RPC == "CleanEntityStorage" || entityGaps[l.target()] != "":
			continue
		case l.RPC == "GetEntity", l.RPC == "QueryEntities":
			h.awaitReply(t, l)
		default:
			h.settleOperations(want)
			h.callEntity(t, l)
		}
		made[l.RPC]++
	}
	if operations := want[signalledOverHTTP]; operations != nil {
		h.playHTTPSignal(t, operations)
		delete(want, signalledOverHTTP)
	}
	t.Logf("calls made: %s", made)
	h.compareOperations(t, want)
}

// signalledOverHTTP is the entity that was signalled through the Durable HTTP API, in a call that is not in the recording.
const signalledOverHTTP = "@entity@k9"

func (h *scriptedHost) playHTTPSignal(t *testing.T, operations []string) {
	t.Helper()
	fields := strings.Fields(operations[0]) // the operation, a random id, the input
	api := func(method, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://127.0.0.1:7071/runtime/webhooks/durabletask/entities/Entity/k9?op="+fields[0], strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		return w
	}
	if w := api(http.MethodPost, fields[2]); w.Code != http.StatusAccepted {
		t.Errorf("the signal is answered %d %s", w.Code, w.Body)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		w := api(http.MethodGet, "")
		if w.Code == http.StatusOK && w.Body.String() == fields[2] {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("the entity shows %d %s, want %s", w.Code, w.Body, fields[2])
			return
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.operations[signalledOverHTTP]
	if len(got) != 1 || guid.ReplaceAllString(got[0], "GUID") != guid.ReplaceAllString(operations[0], "GUID") {
		t.Errorf("the entity had the operations %q, recorded are %q", got, operations)
	}
}

func (h *scriptedHost) callEntity(t *testing.T, l entityLine) {
	t.Helper()
	request := string(l.Request)
	if l.RPC != "StartInstance" { // the script in its input has such times too
		request = inSeconds.ReplaceAllStringFunc(request, soon)
	}
	_, err := rpc(t.Context(), t, h.endpoint, l.RPC, json.RawMessage(request))
	if (err != nil) != (l.Error.Name != "") || err != nil && !strings.EqualFold(status.Code(err).String(), l.Error.Name) {
		t.Errorf("%s %s: %v, recorded is %q", l.RPC, l.Request, err, l.Error.Name)
	}
}

// settleOperations waits until each entity has had as many operations as in the recording so far: a lock does not hold up a
// signal that comes before it. Some operations come later than on the real host, so the wait is short; compareOperations compares
// them at the end.
func (h *scriptedHost) settleOperations(want map[string][]string) {
	deadline := time.Now().Add(5 * time.Second)
	for id, operations := range want {
		if entityGaps[id] != "" || id == signalledOverHTTP {
			continue
		}
		for h.countOperations(id) < len(slices.Compact(slices.Clone(operations))) && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (h *scriptedHost) countOperations(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(slices.Compact(slices.Clone(h.operations[id])))
}

// compareOperations waits until each entity has had its operations, and compares them.
func (h *scriptedHost) compareOperations(t *testing.T, want map[string][]string) {
	t.Helper()
	for id, operations := range want {
		if entityGaps[id] != "" {
			continue
		}
		operations = slices.Compact(operations)
		var got []string
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			h.mu.Lock()
			got = slices.Compact(slices.Clone(h.operations[id]))
			h.mu.Unlock()
			if slices.Equal(got, operations) || time.Now().After(deadline) {
				break
			}
		}
		if !slices.Equal(got, operations) {
			t.Errorf("%s had the operations\n  %s\nrecorded are\n  %s", id, strings.Join(got, "\n  "), strings.Join(operations, "\n  "))
		}
	}
}

// awaitReply repeats the call until the reply is the recorded one, except for times.
func (h *scriptedHost) awaitReply(t *testing.T, l entityLine) {
	t.Helper()
	var got string
	want := canonicalReply(l.Response)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		reply, err := rpc(t.Context(), t, h.endpoint, l.RPC, l.Request)
		if err != nil {
			t.Fatalf("%s %s: %v", l.RPC, l.Request, err)
		}
		if got = canonicalReply(reply); got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s %s:\n%s\nrecorded is\n%s", l.RPC, l.Request, got, want)
			return
		}
	}
}

func canonicalReply(text []byte) string {
	var reply any
	_ = json.Unmarshal(text, &reply)
	var strip func(any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "lastModifiedTime")
			for _, inner := range v {
				strip(inner)
			}
		case []any:
			for _, inner := range v {
				strip(inner)
			}
		}
	}
	strip(reply)
	canonical, _ := json.Marshal(reply)
	return string(canonical)
}

// batch is the request for a batch of an entity's operations.
type batch struct {
	InstanceID  string
	EntityState *string
	Operations  []struct {
		Operation, RequestID string
		Input                *string
	}
}

func decodeBatch(invocation testkit.Invocation) (b batch, err error) {
	m, err := testkit.DecodeMessage("EntityBatchRequest", testkit.Text(invocation.Data["context"]))
	if err != nil {
		return b, err
	}
	text, err := protojson.Marshal(m.Interface())
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	return b, err
}

func (b batch) lines() (lines []string) {
	for _, o := range b.Operations {
		input := "none"
		if o.Input != nil {
			input = *o.Input
		}
		lines = append(lines, fmt.Sprint(o.Operation, " ", o.RequestID, " ", input))
	}
	return lines
}

func recordedOperations(t *testing.T, l entityLine) (string, []string) {
	t.Helper()
	var text string
	if err := json.Unmarshal(l.Request, &text); err != nil {
		t.Fatal(err)
	}
	invocation, err := testkit.ParseInvocation(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := decodeBatch(invocation)
	if err != nil {
		t.Fatal(err)
	}
	return b.InstanceID, b.lines()
}

// entityScript is the part of an operation's input that says how to answer.
type entityScript struct {
	N      int
	Result *struct {
		Status         int
		Reason         string
		Times          *int
		Results        json.RawMessage
		ReturnValue    *string
		FailureDetails json.RawMessage
		EntityState    *string
	}
}

// answerBatch plays the entity of the recorded handler.
func (h *scriptedHost) answerBatch(w http.ResponseWriter, invocation testkit.Invocation) {
	b, err := decodeBatch(invocation)
	if err != nil {
		panic(err)
	}
	h.mu.Lock()
	h.operations[b.InstanceID] = append(h.operations[b.InstanceID], b.lines()...)
	tries := len(h.operations[b.InstanceID])
	h.mu.Unlock()
	state, exists := 0, b.EntityState != nil
	if exists {
		state, _ = strconv.Atoi(*b.EntityState)
	}
	var results []any
	for _, o := range b.Operations {
		var script entityScript
		if o.Input != nil && json.Unmarshal([]byte(*o.Input), &script.N) != nil {
			_ = json.Unmarshal([]byte(*o.Input), &script)
		}
		if r := script.Result; r != nil && (r.Times == nil || tries <= *r.Times) {
			answer := map[string]any{"results": r.Results, "failureDetails": r.FailureDetails, "entityState": r.EntityState}
			writeBatch(w, r.Status, r.ReturnValue, answer)
			return
		}
		result := map[string]any{"result": strconv.Itoa(state)}
		switch o.Operation {
		case "add":
			state, exists = state+script.N, true
			result["result"] = strconv.Itoa(state)
		case "delete":
			state, exists = 0, false
			result = map[string]any{}
		case "fail":
			results = append(results, map[string]any{"failure": map[string]any{"failureDetails": map[string]any{"errorType": "E", "errorMessage": "entity says no"}}})
			continue
		case "obj":
			exists = true
		}
		results = append(results, map[string]any{"success": result})
	}
	answer := map[string]any{"results": results}
	if exists {
		answer["entityState"] = strconv.Itoa(state)
	}
	writeBatch(w, 0, nil, answer)
}

func writeBatch(w http.ResponseWriter, code int, value *string, answer map[string]any) {
	if code != 0 && code != http.StatusOK {
		w.WriteHeader(code)
		return
	}
	if value == nil {
		for name, v := range answer {
			if text, _ := json.Marshal(v); string(text) == "null" {
				delete(answer, name)
			}
		}
		text, _ := json.Marshal(answer)
		kind, err := protoregistry.GlobalTypes.FindMessageByName("EntityBatchResult")
		if err != nil {
			panic(err)
		}
		m := kind.New().Interface()
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
			panic(err)
		}
		raw, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		encoded := base64.StdEncoding.EncodeToString(raw)
		value = &encoded
	}
	_, _ = io.WriteString(w, `{"Outputs":null,"ReturnValue":"`+*value+`"}`)
}

// executionOf returns the id of the execution that the turn belongs to.
func executionOf(turn testkit.Turn) string {
	for _, e := range turn.History() {
		if start := e.GetExecutionStarted(); start != nil {
			return start.GetOrchestrationInstance().GetExecutionId().GetValue()
		}
	}
	return ""
}

// addEntityMessages adds the messages to entities to the actions: durabletask-go's types do not have these fields.
func addEntityMessages(response protoreflect.Message, actions []json.RawMessage) {
	list := response.Get(response.Descriptor().Fields().ByName("actions")).List()
	for i, text := range actions {
		var action struct {
			SendEntityMessage struct {
				EntityOperationSignaled, EntityOperationCalled *struct {
					RequestID, Operation, Input, TargetInstanceID, ParentInstanceID, ParentExecutionID string
					ScheduledTime                                                                      time.Time
				}
			}
		}
		if json.Unmarshal(text, &action) != nil {
			continue
		}
		field := func(m []byte, number protowire.Number, content []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), content)
		}
		value := func(text string) []byte { return field(nil, 1, []byte(text)) }
		var message []byte
		if s, c := action.SendEntityMessage.EntityOperationSignaled, action.SendEntityMessage.EntityOperationCalled; s != nil || c != nil {
			kind, last := protowire.Number(1), protowire.Number(5)
			if s == nil {
				s, kind, last = c, 2, 7
			}
			m := field(field(nil, 1, []byte(s.RequestID)), 2, []byte(s.Operation))
			if !s.ScheduledTime.IsZero() {
				seconds := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(s.ScheduledTime.Unix()))
				m = field(m, 3, protowire.AppendVarint(protowire.AppendTag(seconds, 2, protowire.VarintType), uint64(s.ScheduledTime.Nanosecond())))
			}
			m = field(m, 4, value(s.Input))
			if kind == 2 {
				m = field(field(m, 5, value(s.ParentInstanceID)), 6, value(s.ParentExecutionID))
			}
			message = field(nil, 8, field(nil, kind, field(m, last, value(s.TargetInstanceID))))
			list.Get(i).Message().SetUnknown(message)
		}
	}
}
