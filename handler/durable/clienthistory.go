package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/handler/internal/sidecar"
)

// Event is an event of an instance's history.
type Event struct {
	// Kind is the event's name in the protocol: executionStarted, taskScheduled, taskCompleted, timerFired … It is empty for
	// an event that this package does not know.
	Kind string
	At   time.Time
	ID   int // the number of what it schedules; -1 where there is none
	// Of is the number of what it is the answer to: of the activity, child or timer; -1 where there is none.
	Of         int
	Name       string    // of the activity, the orchestrator or the external event
	InstanceID string    // of the child, or of the instance that an event was sent to
	Value      string    // the input, the result, an external event's payload, or the reason; JSON where the app's values are
	Failure    string    // why the activity, the child or the instance failed: its type, a colon and the message
	FireAt     time.Time // of a timer
}

// History returns what has happened to an instance, of its newest execution. It is ErrNotFound if there is no such instance,
// ErrOldHost before extension 3.19. The Functions host leaves out the inputs of activities and children.
func (c *Client) History(ctx context.Context, id string) ([]Event, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	bounded, cancel := c.bound(ctx)
	defer cancel()
	events, err := c.history(bounded, id)
	if err != nil && bounded.Err() != nil {
		err = bounded.Err() // the caller's own reason
	}
	return events, explain("reading the history of", id, err)
}

func (c *Client) history(ctx context.Context, id string) (events []Event, err error) {
	stream, err := c.endpoint.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, sidecar.Method("StreamInstanceHistory"))
	if err != nil {
		return nil, err
	}
	// A send that fails says EOF, and the answer why.
	if err := stream.SendMsg(&sidecar.StreamInstanceHistoryRequest{InstanceId: id}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for {
		var chunk sidecar.HistoryChunk
		switch err := stream.RecvMsg(&chunk); {
		case errors.Is(err, io.EOF):
			return events, nil
		case err != nil:
			return nil, err
		}
		for _, raw := range chunk.Events {
			e, err := newEvent(raw)
			if err != nil {
				return nil, err
			}
			events = append(events, e)
		}
	}
}

// newEvent reads a HistoryEvent. The kinds of events share the names of their fields.
func newEvent(raw []byte) (Event, error) {
	var from backend.HistoryEvent
	if err := proto.Unmarshal(raw, &from); err != nil {
		return Event{}, fmt.Errorf("an event of the history cannot be read: %w", err)
	}
	e := Event{ID: int(from.EventId), At: from.Timestamp.AsTime(), Of: -1}
	message := from.ProtoReflect()
	kind := message.WhichOneof(message.Descriptor().Oneofs().Get(0))
	if kind == nil {
		return e, nil
	}
	e.Kind = string(kind.Name())
	m := message.Get(kind).Message()
	e.Name = fieldText(m, "name")
	e.InstanceID = fieldText(m, "instanceId")
	for _, name := range []protoreflect.Name{"input", "result", "data"} {
		e.Value += fieldText(m, name)
	}
	for _, name := range []protoreflect.Name{"taskScheduledId", "timerId"} {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			e.Of = int(m.Get(f).Int())
		}
	}
	if f := m.Descriptor().Fields().ByName("failureDetails"); f != nil && m.Has(f) {
		details := m.Get(f).Message()
		e.Failure = fieldText(details, "errorType") + ": " + fieldText(details, "errorMessage")
	}
	switch {
	case from.GetTimerCreated() != nil:
		e.FireAt = from.GetTimerCreated().GetFireAt().AsTime()
	case from.GetTimerFired() != nil:
		e.FireAt = from.GetTimerFired().GetFireAt().AsTime()
	}
	return e, nil
}

// fieldText is the text of a string or of a message that wraps one; empty if there is none.
func fieldText(m protoreflect.Message, name protoreflect.Name) string {
	f := m.Descriptor().Fields().ByName(name)
	switch {
	case f == nil || !m.Has(f):
		return ""
	case f.Kind() == protoreflect.StringKind:
		return m.Get(f).String()
	}
	return fieldText(m.Get(f).Message(), "value")
}
