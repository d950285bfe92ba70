package conformance

import (
	stdcmp "cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/internal/testkit"
)

// execution is one execution of an instance, from its start or its continue-as-new, as its turns show it.
type execution struct {
	id     string
	first  []string          // the kinds of the events of the first turn
	events []string          // of the whole history in the last turn, without the ends of turns
	answer map[string]string // the answer to the last turn
	shapes []string          // the shapes of the requests
}

// executions groups a conversation's turns by instance and execution. Ids that are keys of ids are replaced by their values.
func executions(t *testing.T, conversation []record, ids map[string]string) map[string][]execution {
	t.Helper()
	byInstance := map[string][]execution{}
	for _, r := range conversation {
		if r.Function != "Orch" {
			continue
		}
		turn, err := testkit.DecodeTurn(r.Request)
		if err != nil {
			t.Fatal(err)
		}
		checkTurn(t, turn)
		all := byInstance[turn.InstanceID]
		id := executionID(turn)
		if len(all) == 0 || all[len(all)-1].id != id {
			all = append(all, execution{id: id, first: kinds(turn.History())})
		}
		last := &all[len(all)-1]
		last.events = describe(turn.History(), ids)
		last.shapes = append(last.shapes, shape(r.Request))
		last.answer = answerFields(t, r)
		byInstance[turn.InstanceID] = all
	}
	return byInstance
}

// checkTurn checks the borders of turns: each turn starts with orchestratorStarted, and a past one ends with
// orchestratorCompleted.
func checkTurn(t *testing.T, turn testkit.Turn) {
	t.Helper()
	open := false
	for i, e := range turn.History() {
		if i == len(turn.Past) && open {
			t.Errorf("%s: the past does not end with orchestratorCompleted: %q", turn.InstanceID, kinds(turn.Past))
		}
		switch {
		case e.GetOrchestratorStarted() != nil:
			if open {
				t.Errorf("%s: a turn starts within a turn: %q", turn.InstanceID, kinds(turn.History()))
			}
			open = true
		case !open:
			t.Errorf("%s: an event outside of a turn: %q", turn.InstanceID, kinds(turn.History()))
		case e.GetOrchestratorCompleted() != nil:
			open = false
		}
	}
}

func executionID(turn testkit.Turn) (id string) {
	for _, e := range turn.History() {
		if s := e.GetExecutionStarted(); s != nil {
			id = s.GetOrchestrationInstance().GetExecutionId().GetValue()
		}
	}
	return id
}

func kinds(events []*backend.HistoryEvent) (kinds []string) {
	for _, e := range events {
		kinds = append(kinds, kind(e))
	}
	return kinds
}

func kind(e *backend.HistoryEvent) string {
	m := e.ProtoReflect()
	return string(m.WhichOneof(m.Descriptor().Oneofs().ByName("eventType")).Name())
}

// completes matches the kinds of events whose order depends on which of several tasks ends first.
var completes = regexp.MustCompile(`^(task|subOrchestrationInstance)(Completed|Failed)`)

// ownPlaces matches the parts of messages that quote an answer's headers or text, or a position in it.
var ownPlaces = regexp.MustCompile(`(?s)(^Invalid HttpResponseMessage:).*| Path '[^']*', line \d+, position \d+\.$`)

// describe writes events without times and execution ids, and sorts results that follow one another.
func describe(events []*backend.HistoryEvent, ids map[string]string) (out []string) {
	run := 0 // index of the first of the results at the end
	for _, e := range events {
		if e.GetOrchestratorStarted() != nil || e.GetOrchestratorCompleted() != nil {
			continue
		}
		all := testkit.Fields(e.ProtoReflect())
		var lines []string
		for path, v := range all {
			switch {
			case path == "timestamp", strings.HasSuffix(path, "stackTrace"):
				continue
			case strings.HasSuffix(path, "executionId"), strings.HasSuffix(path, "fireAt"):
				v = "…"
			case strings.HasSuffix(path, "errorMessage"):
				v = ownPlaces.ReplaceAllString(v, "$1")
			case strings.HasSuffix(path, "instanceId") && ids[v] != "":
				v = ids[v]
			case strings.HasSuffix(path, ".input"), strings.HasSuffix(path, ".result"):
				v = jsonText(v, nil)
			}
			lines = append(lines, fmt.Sprintf("%s=%q", path, v))
		}
		slices.Sort(lines)
		out = append(out, kind(e)+" "+strings.Join(lines, " "))
		if !completes.MatchString(kind(e)) {
			run = len(out)
		}
		slices.Sort(out[run:])
	}
	return out
}

func answerFields(t *testing.T, r record) map[string]string {
	t.Helper()
	var e envelope
	if err := json.Unmarshal([]byte(r.Response), &e); err != nil {
		t.Fatalf("answer %s: %v", r.Response, err)
	}
	m, err := testkit.DecodeResponse(e.ReturnValue)
	if err != nil {
		t.Fatal(err)
	}
	turn, err := testkit.DecodeTurn(r.Request)
	if err != nil {
		t.Fatal(err)
	}
	answer := withoutSeams(turn, turnFields(m, upToError))
	for path := range answer {
		if strings.HasSuffix(path, "fireAt") {
			answer[path] = "…"
		}
	}
	for name, v := range outputs(e) {
		answer["output "+name] = v
	}
	return answer
}

// completion is the path of the action that completes the orchestration, empty if the answer has none.
func (e execution) completion() string {
	for path := range e.answer {
		if strings.HasSuffix(path, ": completeOrchestration") {
			return path
		}
	}
	return ""
}

// compareExecutions compares the executions of each instance: their requests, their histories and their last answers. It also
// compares how the instance ends.
func (h *localHost) compareExecutions(t *testing.T, recorded []record) {
	t.Helper()
	ours, want := executions(t, h.conversation(), nil), executions(t, recorded, h.ids)
	for id := range ours {
		if want[id] == nil && !slices.Contains(slices.Collect(maps.Values(h.ids)), id) {
			t.Errorf("%s: there are turns, none is recorded", id)
		}
	}
	for id, recorded := range want {
		here := stdcmp.Or(h.ids[id], id)
		if len(ours[here]) != len(recorded) {
			t.Errorf("%s: %d executions, recorded are %d", id, len(ours[here]), len(recorded))
			continue
		}
		for i, got := range ours[here] {
			for _, d := range got.compare(recorded[i], id, here) {
				t.Errorf("%s, execution %d: %s", id, i+1, d)
			}
		}
	}
}

func (e execution) compare(recorded execution, id, here string) (differences []string) {
	if !slices.Equal(e.first, recorded.first) {
		differences = append(differences, fmt.Sprintf("the first turn has %q, recorded is %q", e.first, recorded.first))
	}
	if d := cmp.Diff(recorded.events, e.events); d != "" {
		differences = append(differences, "the history differs from the recorded one (-):\n"+d)
	}
	for _, shape := range e.shapes {
		if shape != recorded.shapes[0] {
			differences = append(differences, fmt.Sprintf("the request is %s, recorded is %s", shape, recorded.shapes[0]))
		}
	}
	if recorded.answer["instanceId"] == id {
		recorded.answer["instanceId"] = here
	}
	return append(differences, compareFields("", e.answer, recorded.answer)...)
}

// unmarkInputs removes the marker from the activities' inputs in an answer to a turn.
func unmarkInputs(body []byte) []byte {
	var e map[string]json.RawMessage
	if json.Unmarshal(body, &e) != nil {
		return body
	}
	m, err := testkit.DecodeResponse(e["ReturnValue"])
	if err != nil {
		return body
	}
	actions := m.Get(m.Descriptor().Fields().ByName("actions")).List()
	for i := range actions.Len() {
		action := actions.Get(i).Message()
		task := action.Descriptor().Fields().ByName("scheduleTask")
		if !action.Has(task) {
			continue
		}
		message := action.Get(task).Message()
		if in, ok := message.Get(message.Descriptor().Fields().ByName("input")).Message().Interface().(*wrapperspb.StringValue); ok {
			in.Value = unmark(in.Value)
		}
	}
	raw, err := proto.Marshal(m.Interface())
	if err != nil {
		return body
	}
	e["ReturnValue"], _ = json.Marshal(base64.StdEncoding.EncodeToString(raw))
	changed, _ := json.Marshal(e)
	return changed
}
