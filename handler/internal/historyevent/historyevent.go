// Package historyevent makes and reads the events of an orchestration's history, which are protobuf messages.
//
//	start := historyevent.Start(turn.New, turn.Past)
//	if historyevent.Execution(start) != execution { … }
//
// durabletask-go exports the event's type and none of the types inside it; an event that New made has its inner value, whose
// fields can be set through the event's getters.
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

// Start returns the newest executionStarted of the lists, the first list's before the second's; nil if there is none.
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

// KilledType is the type in the failure details of an activity that the local host gives up because its processes died in it. It
// is the function's own doing, as a panic is.
const KilledType = "ActivityKilledTheProcess"

// OrchestratorKilledType and OperationKilledType are the same for an orchestration whose processes died in its turn, and for an
// operation of an entity.
const (
	OrchestratorKilledType = "OrchestratorKilledTheProcess"
	OperationKilledType    = "OperationKilledTheProcess"
)

// AppendPast appends an encoded event as one of the past events of a turn's request. What it makes, of one event after the
// other, is the past of that request, which so need not be encoded for each turn anew.
func AppendPast(past, event []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(past, pastEvents, protowire.BytesType), event)
}

// pastEvents is the number of the field in OrchestratorRequest.
const pastEvents = 3

// AsStored returns the event as the real host keeps it in a history and sends it: of what was scheduled neither the input nor
// the trace, of a termination not whether it is for the children too.
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
