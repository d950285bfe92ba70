package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// Turn is what the host sends of an orchestration: its whole history, divided into the events that earlier turns have seen and
// those that are new.
type Turn struct {
	InstanceID string
	Past, New  []*backend.HistoryEvent

	DefaultVersion string        // of orchestrations that are started without one, as host.json says
	HTTPPause      time.Duration // between the polls of a durable HTTP call that names none; 0: unknown
}

// ErrWithheld says that the host left the past out of a turn, as it may with extended sessions. A replay of such a turn would
// schedule everything once more.
var ErrWithheld = errors.New("the turn has neither a past nor a start: the host withheld the history (extended sessions must be off)")

// durabletask-go does not export the message type, but registers it.
var turnRequest = mustFind("OrchestratorRequest")

// orchestratorRequest is what we need of that type.
type orchestratorRequest interface {
	GetInstanceId() string
	GetPastEvents() []*backend.HistoryEvent
	GetNewEvents() []*backend.HistoryEvent
}

func mustFind(name protoreflect.FullName) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		panic(fmt.Sprintf("durabletask-go registers no message %s: %v", name, err))
	}
	return t
}

// ReadTurn decodes the orchestration trigger's value, base64 of a protobuf OrchestratorRequest, and calls read with that request,
// which is overwritten after the call.
func (r *Request) ReadTurn(binding string, read func(request []byte) error) error {
	if text, ok := plainTwice(r.Data[binding]); ok {
		return readTurn(text, read)
	}
	return readTurn(Unwrap(r.Data[binding]), read)
}

// DecodeTurn reads the text of the orchestration trigger's value.
func DecodeTurn(text string) (turn *Turn, err error) {
	err = readTurn([]byte(text), func(request []byte) error {
		turn, err = UnmarshalTurn(request)
		return err
	})
	return turn, err
}

func readTurn(text []byte, read func(request []byte) error) error {
	buffer := turnBuffers.Get().(*[]byte)
	defer turnBuffers.Put(buffer)
	raw, err := base64.StdEncoding.AppendDecode((*buffer)[:0], text)
	if err != nil {
		return fmt.Errorf("the orchestration trigger's value is not base64: %w", err)
	}
	if cap(raw) <= 1<<20 {
		*buffer = raw
	}
	return read(raw)
}

var turnBuffers = sync.Pool{New: func() any { return new([]byte) }}

// UnmarshalTurn reads an OrchestratorRequest. The turn is a copy. With the error ErrWithheld it returns a turn, too, which has only
// the instance's id.
func UnmarshalTurn(request []byte) (*Turn, error) {
	turn, err := UnmarshalRest(request)
	switch {
	case err != nil:
		return nil, err
	case turn.InstanceID == "":
		return nil, errors.New("the turn names no instance")
	case hasStart(turn.New), hasStart(turn.Past):
		return turn, nil
	case len(turn.Past) == 0:
		return turn, ErrWithheld
	}
	return nil, errors.New("the turn's history has no executionStarted")
}

// UnmarshalRest reads an OrchestratorRequest from which the first fields were cut off.
func UnmarshalRest(rest []byte) (*Turn, error) {
	m := turnRequest.New()
	if err := proto.Unmarshal(rest, m.Interface()); err != nil {
		return nil, fmt.Errorf("the orchestration trigger's value is not an OrchestratorRequest: %w", err)
	}
	request := m.Interface().(orchestratorRequest)
	turn := &Turn{InstanceID: request.GetInstanceId(), Past: request.GetPastEvents(), New: request.GetNewEvents()}
	turn.readProperties(m.GetUnknown())
	return turn, nil
}

// InstanceOf reads the instance id of an OrchestratorRequest; empty if it has none.
func InstanceOf(request []byte) string {
	for number, id := range historyevent.Fields(request) {
		if number == requestInstanceID {
			return string(id)
		}
	}
	return ""
}

// AppendSeen appends what the request of the next turn begins with, given this turn's OrchestratorRequest or the rest of one: the
// same fields, with the new events as past ones.
func AppendSeen(seen, request []byte) []byte {
	for number, value := range historyevent.Fields(request) {
		if number <= requestNewEvents {
			seen = protowire.AppendBytes(protowire.AppendTag(seen, min(number, requestPastEvents), protowire.BytesType), value)
		}
	}
	return seen
}

func hasStart(events []*backend.HistoryEvent) bool {
	for _, e := range events {
		if e.GetExecutionStarted() != nil {
			return true
		}
	}
	return false
}

// HostTurn is a turn as a host sends it.
type HostTurn struct {
	InstanceID string
	Past       []byte // made by historyevent.AppendPast
	New        []*backend.HistoryEvent

	DefaultVersion string        // of orchestrations that are started without one, as host.json says
	HTTPPause      time.Duration // as Turn has it
}

// Append appends the text of the orchestration trigger's value: the reverse of DecodeTurn. It copies the past once, into that text.
func (t *HostTurn) Append(text []byte) ([]byte, error) {
	head := protowire.AppendString(protowire.AppendTag(nil, requestInstanceID, protowire.BytesType), t.InstanceID)
	var tail []byte
	for _, e := range t.New {
		event, err := proto.Marshal(e)
		if err != nil {
			return nil, err
		}
		tail = protowire.AppendBytes(protowire.AppendTag(tail, requestNewEvents, protowire.BytesType), event)
	}
	tail, err := t.appendProperties(tail)
	if err != nil {
		return nil, err
	}
	const more = 1 << 10 // for what the request has behind the text
	w := bytes.NewBuffer(slices.Grow(text, base64.StdEncoding.EncodedLen(len(head)+len(t.Past)+len(tail))+more))
	encoder := base64.NewEncoder(base64.StdEncoding, w)
	for _, part := range [][]byte{head, t.Past, tail} {
		if _, err := encoder.Write(part); err != nil {
			return nil, err
		}
	}
	err = encoder.Close()
	return w.Bytes(), err
}

// EncodeTurn is HostTurn.Append for a turn as it was decoded.
func EncodeTurn(t *Turn) (string, error) {
	host := HostTurn{InstanceID: t.InstanceID, New: t.New, DefaultVersion: t.DefaultVersion, HTTPPause: t.HTTPPause}
	for _, e := range t.Past {
		event, err := proto.Marshal(e)
		if err != nil {
			return "", err
		}
		host.Past = historyevent.AppendPast(host.Past, event)
	}
	text, err := host.Append(nil)
	return string(text), err
}

// ChildTags is the number of CreateSubOrchestrationAction's tags, a map, which durabletask-go does not know.
const ChildTags = 6

// EncodeActions returns the answer to a turn as the JSON string that the host wants as ReturnValue.
func EncodeActions(results *backend.ExecutionResults) ([]byte, error) {
	raw, err := proto.Marshal(results.Response)
	if err != nil {
		return nil, err
	}
	n := base64.StdEncoding.EncodedLen(len(raw))
	out := make([]byte, n+2)
	out[0], out[n+1] = '"', '"'
	base64.StdEncoding.Encode(out[1:], raw)
	return out, nil
}

// RenameExceptions removes the namespace from those failure types in the answer that .NET would take for its own lack of memory:
// the host would not fail such an orchestration, but ask for its turn again for ever.
func RenameExceptions(results *backend.ExecutionResults) {
	for _, a := range results.Response.Actions {
		for d := a.GetCompleteOrchestration().GetFailureDetails(); d != nil; d = d.InnerFailure {
			for _, name := range []string{"OutOfMemoryException", "InsufficientMemoryException"} {
				d.ErrorType = strings.ReplaceAll(d.ErrorType, "System."+name, name)
			}
		}
	}
}

// DecodeActions is the reverse of EncodeActions, without the quotes, for hosts and tests.
func DecodeActions(text string) (*backend.ExecutionResults, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	results := NewResults("")
	if err := proto.Unmarshal(raw, results.Response); err != nil {
		return nil, err
	}
	return results, nil
}

// NewResults returns an answer without actions. durabletask-go does not export the type of its Response.
func NewResults(instanceID string) *backend.ExecutionResults {
	results := &backend.ExecutionResults{}
	results.Response = newOf(results.Response)
	results.Response.InstanceId = instanceID
	return results
}

// newOf makes a value of a type that durabletask-go does not export, from a nil pointer to it.
func newOf[T any](*T) *T { return new(T) }
