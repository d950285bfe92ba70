package taskhub

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

func putEvent(t tx, instance, execution string, visible int64, e *backend.HistoryEvent) error {
	payload, err := marshal(e)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload) VALUES (?, ?, ?, ?)", instance, execution, visible, payload)
}

// sendEvent stores an event for the instance, whatever its execution. If there is no such instance, the event is dropped. Before
// a scheduled start the event stays hidden until the start is due, because no turn can run without the start.
func sendEvent(t tx, instance string, e *backend.HistoryEvent) error {
	payload, err := marshal(historyevent.AsStored(e)) // the engine would terminate the children too, the host does not
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload) SELECT id, '', "+untilStart+", ? FROM instances WHERE id = ? AND "+unfinished,
		payload, instance)
}

// untilStart returns when the scheduled start of a pending instance is due. For any other instance it returns 0.
var untilStart = fmt.Sprintf(`CASE status WHEN %d THEN COALESCE((SELECT MAX(visible) FROM events
	WHERE instance = id AND seq NOT IN (SELECT event FROM put_off)), 0) ELSE 0 END`, api.RUNTIME_STATUS_PENDING)

// answer stores the result of something that an execution asked for. The result is dropped if the instance has finished or has
// another execution by now. started is when an activity began, in nanoseconds; 0 for anything else.
func answer(t tx, instance, execution string, e *backend.HistoryEvent, started int64) error {
	payload, err := marshal(e)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload, started) SELECT id, execution, 0, ?, ? FROM instances WHERE id = ? AND execution = ? AND "+unfinished,
		payload, started, instance, execution)
}

// announce wakes the worker for an instance that has a new event.
func (h *TaskHub) announce(id string, visible int64) {
	if visible > 0 {
		h.schedule(fromNanos(visible))
	} else {
		h.queue.add(id)
	}
}

// AddNewOrchestrationEvent sends an event from outside to an instance.
func (h *TaskHub) AddNewOrchestrationEvent(ctx context.Context, id api.InstanceID, e *backend.HistoryEvent) error {
	err := h.update(ctx, func(t tx) error { return sendEvent(t, string(id), e) })
	if err == nil {
		h.queue.add(string(id))
	}
	return err
}

// eventRaised returns the event that the receiver of a sent event gets.
func eventRaised(sent *backend.HistoryEvent) *backend.HistoryEvent {
	e := historyevent.New("eventRaised", time.Now())
	e.GetEventRaised().Name = sent.GetEventSent().GetName()
	e.GetEventRaised().Input = sent.GetEventSent().GetInput()
	return e
}

// TaskCompleted returns the event with the result of the activity that has this id; nil means no result.
func TaskCompleted(id int32, result []byte) *backend.HistoryEvent {
	e := historyevent.New("taskCompleted", time.Now())
	e.GetTaskCompleted().TaskScheduledId = id
	if result != nil {
		e.GetTaskCompleted().Result = wrapperspb.String(string(result))
	}
	return e
}

// TaskFailed returns the event with the failure of the activity that has this id.
func TaskFailed(id int32, details *backend.TaskFailureDetails) *backend.HistoryEvent {
	e := historyevent.New("taskFailed", time.Now())
	e.GetTaskFailed().TaskScheduledId = id
	e.GetTaskFailed().FailureDetails = details
	return e
}

// nextGeneration returns the start of an instance that continues as new: a new execution with a new input.
func nextGeneration(start *backend.HistoryEvent, input *wrapperspb.StringValue) *backend.HistoryEvent {
	e := proto.Clone(start).(*backend.HistoryEvent)
	e.Timestamp = timestamppb.Now()
	es := e.GetExecutionStarted()
	es.Input = input
	es.ScheduledStartTimestamp = nil
	es.OrchestrationInstance.ExecutionId = wrapperspb.String(uuid.NewString())
	return e
}

func marshal(e *backend.HistoryEvent) ([]byte, error) {
	payload, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode a history event: %w", err)
	}
	return payload, nil
}
