package local

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/wire"
)

func newEvent(kind protoreflect.Name) *backend.HistoryEvent { return wire.NewEvent(kind, time.Now()) }

func taskCompleted(id int32, result []byte) *backend.HistoryEvent {
	e := newEvent("taskCompleted")
	e.GetTaskCompleted().TaskScheduledId = id
	if result != nil {
		e.GetTaskCompleted().Result = wrapperspb.String(string(result))
	}
	return e
}

func taskFailed(id int32, details *backend.TaskFailureDetails) *backend.HistoryEvent {
	e := newEvent("taskFailed")
	e.GetTaskFailed().TaskScheduledId = id
	e.GetTaskFailed().FailureDetails = details
	return e
}

// eventRaised is what the receiver of a sent event gets.
func eventRaised(sent *backend.HistoryEvent) *backend.HistoryEvent {
	e := newEvent("eventRaised")
	e.GetEventRaised().Name = sent.GetEventSent().GetName()
	e.GetEventRaised().Input = sent.GetEventSent().GetInput()
	return e
}

// nextGeneration is the start of an instance that continues as new: another execution with another input.
func nextGeneration(start *backend.HistoryEvent, input *wrapperspb.StringValue) *backend.HistoryEvent {
	e := proto.Clone(start).(*backend.HistoryEvent)
	e.Timestamp = timestamppb.Now()
	es := e.GetExecutionStarted()
	es.Input = input
	es.ScheduledStartTimestamp = nil
	es.OrchestrationInstance.ExecutionId = wrapperspb.String(uuid.NewString())
	return e
}

// asKept is the event as the host keeps it in a history: what was scheduled, not with which input, and not that a
// termination is for the children too.
func asKept(e *backend.HistoryEvent) *backend.HistoryEvent {
	if e.GetTaskScheduled() == nil && e.GetSubOrchestrationInstanceCreated() == nil && e.GetExecutionTerminated() == nil {
		return e
	}
	e = proto.Clone(e).(*backend.HistoryEvent)
	switch {
	case e.GetTaskScheduled() != nil:
		e.GetTaskScheduled().Input = nil
	case e.GetSubOrchestrationInstanceCreated() != nil:
		e.GetSubOrchestrationInstanceCreated().Input = nil
	default:
		e.GetExecutionTerminated().Recurse = false
	}
	return e
}

// findStart returns the newest executionStarted, nil if there is none.
func findStart(lists ...[]*backend.HistoryEvent) *backend.HistoryEvent {
	for _, events := range lists {
		for i := len(events) - 1; i >= 0; i-- {
			if events[i].GetExecutionStarted() != nil {
				return events[i]
			}
		}
	}
	return nil
}

// executionOf returns the execution that a start event begins.
func executionOf(start *backend.HistoryEvent) string {
	return start.GetExecutionStarted().GetOrchestrationInstance().GetExecutionId().GetValue()
}

func marshal(e *backend.HistoryEvent) ([]byte, error) {
	payload, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode a history event: %w", err)
	}
	return payload, nil
}

// turnResults are what an orchestrator turn came to, as the engine takes it.
type turnResults = backend.ExecutionResults

func newTurnResults() *turnResults {
	results := &turnResults{}
	results.Response = newOf(results.Response)
	return results
}

// failedTurn is a turn that the host fails for good: the instance's output is the reason, its custom status is gone,
// and a parent gets no details.
func failedTurn(reason string) *turnResults {
	results := newTurnResults()
	action := newElement(results.Response.Actions)
	m := action.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("completeOrchestration"))
	action.GetCompleteOrchestration().OrchestrationStatus = api.RUNTIME_STATUS_FAILED
	action.GetCompleteOrchestration().Result = wrapperspb.String(reason)
	results.Response.Actions = append(results.Response.Actions, action)
	results.Response.CustomStatus = wrapperspb.String("")
	return results
}

// newOf and newElement make values of types that cannot be named here.
func newOf[T any](*T) *T        { return new(T) }
func newElement[T any]([]*T) *T { return new(T) }

func isFinished(status api.OrchestrationStatus) bool {
	switch status {
	case api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED:
		return true
	}
	return false
}

// statusName is the host's word for a status: "Running", "Completed", …
func statusName(status api.OrchestrationStatus) string {
	switch status {
	case api.RUNTIME_STATUS_RUNNING:
		return "Running"
	case api.RUNTIME_STATUS_COMPLETED:
		return "Completed"
	case api.RUNTIME_STATUS_FAILED:
		return "Failed"
	case api.RUNTIME_STATUS_TERMINATED:
		return "Terminated"
	case api.RUNTIME_STATUS_SUSPENDED:
		return "Suspended"
	case api.RUNTIME_STATUS_PENDING:
		return "Pending"
	}
	return status.String()
}

func fromNanos(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }
