// Package historyevent makes and reads the events of an orchestration's history, which are protobuf messages.
//
//	start := historyevent.Start(turn.New, turn.Past)
//	if historyevent.Execution(start) != execution { … }
//
// durabletask-go exports the type of an event, but not the types inside it. An event from New already has its inner value, whose
// fields can be set through the getters of the event.
package historyevent

import (
	"slices"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// New makes an event of the named kind, for example "taskCompleted", with the event id -1.
func New(kind protoreflect.Name, at time.Time) *backend.HistoryEvent {
	e := &backend.HistoryEvent{EventId: -1, Timestamp: timestamppb.New(at)}
	m := e.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName(kind))
	return e
}

// Start returns the newest executionStarted of the first list that has one; nil if no list has one.
func Start(lists ...[]*backend.HistoryEvent) *backend.HistoryEvent {
	for _, events := range lists {
		for i := len(events) - 1; i >= 0; i-- {
			if events[i].GetExecutionStarted() != nil {
				return events[i]
			}
		}
	}
	return nil
}

// Execution returns the id of the execution that an executionStarted begins.
func Execution(start *backend.HistoryEvent) string {
	return start.GetExecutionStarted().GetOrchestrationInstance().GetExecutionId().GetValue()
}

// Ends are the statuses of an instance that has ended.
var Ends = []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED}

// IsEnd says whether the status is one of Ends.
func IsEnd(status api.OrchestrationStatus) bool { return slices.Contains(Ends, status) }

// KilledType is the failure type of an activity that the local host gives up because processes died while it was running. It is
// the function's own failure, as a panic is.
const KilledType = "ActivityKilledTheProcess"

// OrchestratorKilledType and OperationKilledType are the same for an orchestration's turn and for an operation of an entity.
const (
	OrchestratorKilledType = "OrchestratorKilledTheProcess"
	OperationKilledType    = "OperationKilledTheProcess"
)

// AppendPast appends an encoded event to the encoded past events of a turn's request. The result for one event after the other is
// the past of that request, which need not be encoded again for each turn.
func AppendPast(past, event []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(past, pastEvents, protowire.BytesType), event)
}

// pastEvents is the field number of the past events in OrchestratorRequest.
const pastEvents = 3

// AsStored returns the event as the real host stores and sends it: without the input and the trace of what it schedules, and for a
// termination without the mark that it is for the children too.
func AsStored(e *backend.HistoryEvent) *backend.HistoryEvent {
	if e.GetTaskScheduled() == nil && e.GetSubOrchestrationInstanceCreated() == nil && e.GetExecutionTerminated() == nil {
		return e
	}
	e = proto.Clone(e).(*backend.HistoryEvent)
	switch {
	case e.GetTaskScheduled() != nil:
		e.GetTaskScheduled().Input, e.GetTaskScheduled().ParentTraceContext = nil, nil
	case e.GetSubOrchestrationInstanceCreated() != nil:
		e.GetSubOrchestrationInstanceCreated().Input, e.GetSubOrchestrationInstanceCreated().ParentTraceContext = nil, nil
	default:
		e.GetExecutionTerminated().Recurse = false
	}
	return e
}
