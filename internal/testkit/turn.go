package testkit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Turn is what the host sends an orchestrator in one invocation.
type Turn struct {
	InstanceID string
	Past, New  []*backend.HistoryEvent
}

// History returns the whole history, with the new events at the end.
func (t Turn) History() []*backend.HistoryEvent { return slices.Concat(t.Past, t.New) }

// DecodeTurn reads the body of an orchestrator's invocation.
func DecodeTurn(body string) (Turn, error) {
	i, err := ParseInvocation(body)
	if err != nil {
		return Turn{}, err
	}
	m, err := DecodeMessage("OrchestratorRequest", Text(i.Data["context"]))
	if err != nil {
		return Turn{}, fmt.Errorf("the request: %w", err)
	}
	field := func(name protoreflect.Name) protoreflect.Value { return m.Get(m.Descriptor().Fields().ByName(name)) }
	events := func(name protoreflect.Name) (events []*backend.HistoryEvent) {
		for list, i := field(name).List(), 0; i < list.Len(); i++ {
			events = append(events, list.Get(i).Message().Interface().(*backend.HistoryEvent))
		}
		return events
	}
	return Turn{InstanceID: field("instanceId").String(), Past: events("pastEvents"), New: events("newEvents")}, nil
}

// Body returns the turn as the body of an invocation.
func (t Turn) Body() string {
	var request []byte
	request = protowire.AppendTag(request, 1, protowire.BytesType)
	request = protowire.AppendString(request, t.InstanceID)
	for i, e := range t.History() {
		raw, err := proto.Marshal(e)
		if err != nil {
			panic(err) // cannot happen: Event made it, or it was decoded
		}
		field := protowire.Number(3) // pastEvents
		if i >= len(t.Past) {
			field = 4 // newEvents
		}
		request = protowire.AppendTag(request, field, protowire.BytesType)
		request = protowire.AppendBytes(request, raw)
	}
	return `{"Data":{"context":` + Twice(base64.StdEncoding.EncodeToString(request)) + `},"Metadata":{"sys":{"MethodName":"Orchestrator","UtcNow":"2026-11-23T01:02:03Z","RandGuid":"b0d9d43b-9160-4248-a208-c0c985db1be9"}}}`
}

// Event makes a history event from protobuf JSON.
func Event(t testing.TB, text string) *backend.HistoryEvent {
	t.Helper()
	e := &backend.HistoryEvent{}
	if err := protojson.Unmarshal([]byte(text), e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return e
}

// DecodeMessage reads the base64 text of a message whose type durabletask-go registers but does not export.
func DecodeMessage(name protoreflect.FullName, text string) (protoreflect.Message, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("not base64: %w", err)
	}
	if len(raw) == 0 {
		return nil, errors.New("empty")
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, err
	}
	m := t.New()
	if err := proto.Unmarshal(raw, m.Interface()); err != nil {
		return nil, fmt.Errorf("not an %s: %w", name, err)
	}
	return m, nil
}

// DecodeResponse reads an orchestrator's answer.
func DecodeResponse(returnValue json.RawMessage) (protoreflect.Message, error) {
	var s string
	if err := json.Unmarshal(returnValue, &s); err != nil {
		return nil, fmt.Errorf("not a JSON string: %w", err)
	}
	return DecodeMessage("OrchestratorResponse", s)
}

// Actions reads an orchestrator's answer into durabletask-go's types.
func Actions(t testing.TB, a Answer) *backend.ExecutionResults {
	t.Helper()
	m, err := DecodeResponse(a.ReturnValue)
	if err != nil {
		t.Fatalf("answer %s: %v", a, err)
	}
	results := &backend.ExecutionResults{}
	set(&results.Response, m.Interface())
	return results
}

// set assigns a message to a field whose type durabletask-go does not export.
func set[T any](field *T, m any) { *field = m.(T) }

// Conversation is an orchestration as the host sees it: its history grows turn by turn.
type Conversation struct {
	Name  string // of the orchestrator
	ID    string
	Input string

	past  []*backend.HistoryEvent
	turns int
}

// Turn sends the new events, each as protobuf JSON without id and time, and returns the actions that the orchestrator answers.
// What it schedules is added to the history.
func (c *Conversation) Turn(t testing.TB, h Host, news ...string) (Answer, *backend.ExecutionResults) {
	t.Helper()
	event := c.nextTurn(t)
	turn := Turn{InstanceID: c.ID, Past: c.past, New: []*backend.HistoryEvent{event(-1, `"orchestratorStarted":{}`)}}
	if c.turns == 1 {
		input, _ := json.Marshal(c.Input)
		turn.New = append(turn.New, event(-1, `"executionStarted":{"name":%q,"input":%s,"orchestrationInstance":{"instanceId":%q,"executionId":"exec-1"}}`, c.Name, input, c.ID))
	}
	for _, n := range news {
		turn.New = append(turn.New, event(-1, "%s", n))
	}
	answer := h.Post(t, c.Name, turn.Body())
	results := Actions(t, answer)
	c.past = turn.History()
	for _, a := range results.Response.Actions {
		if s := a.GetScheduleTask(); s != nil {
			c.past = append(c.past, event(a.Id, `"taskScheduled":{"name":%q}`, s.Name))
		}
		if s := a.GetCreateSubOrchestration(); s != nil {
			c.past = append(c.past, event(a.Id, `"subOrchestrationInstanceCreated":{"name":%q,"instanceId":%q}`, s.Name, s.InstanceId))
		}
		if s := a.GetCreateTimer(); s != nil {
			c.past = append(c.past, event(a.Id, `"timerCreated":{}`))
		}
	}
	c.past = append(c.past, event(-1, `"orchestratorCompleted":{}`))
	return answer, results
}

// nextTurn returns a function that makes the events of the next turn.
func (c *Conversation) nextTurn(t testing.TB) func(id int32, format string, args ...any) *backend.HistoryEvent {
	c.turns++
	turn := c.turns
	return func(id int32, format string, args ...any) *backend.HistoryEvent {
		t.Helper()
		return Event(t, fmt.Sprintf(`{"eventId":%d,"timestamp":"2026-11-23T01:02:%02dZ",%s}`, id, turn, fmt.Sprintf(format, args...)))
	}
}

// Lose plays a turn that got no answer and a rewind after it: the orchestration has failed, and the rewind turned its failure
// into a genericEvent. Send Rewound in the next turn.
func (c *Conversation) Lose(t testing.TB, news ...string) {
	t.Helper()
	event := c.nextTurn(t)
	c.past = append(c.past, event(-1, `"orchestratorStarted":{}`))
	for _, n := range news {
		c.past = append(c.past, event(-1, "%s", n))
	}
	c.past = append(c.past, event(0, `"genericEvent":{}`), event(-1, `"orchestratorCompleted":{}`))
}

// Rewound is the event of a rewound turn, for Conversation.Turn.
const Rewound = `"genericEvent":{"data":"rewound"}`

// RequiresHistory says whether the answer asks the host to send the turn again.
func RequiresHistory(t testing.TB, a Answer) bool {
	t.Helper()
	m, err := DecodeResponse(a.ReturnValue)
	if err != nil {
		t.Fatalf("answer %s: %v", a, err)
	}
	return Fields(m)["unknown fields"] == "3801" // field 7 of a newer OrchestratorResponse: true
}

// TaskCompleted is the event of an activity's result, for Conversation.Turn.
func TaskCompleted(id int, result string) string {
	quoted, _ := json.Marshal(result)
	return fmt.Sprintf(`"taskCompleted":{"taskScheduledId":%d,"result":%s}`, id, quoted)
}
