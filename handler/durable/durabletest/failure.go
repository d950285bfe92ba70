package durabletest

import (
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

func newEvent(kind string, at time.Time) *backend.HistoryEvent {
	return historyevent.New(protoreflect.Name(kind), at)
}

func taskFailed(at time.Time, id int32, details *backend.TaskFailureDetails) *backend.HistoryEvent {
	ev := newEvent("taskFailed", at)
	ev.GetTaskFailed().TaskScheduledId, ev.GetTaskFailed().FailureDetails = id, details
	return ev
}

func subOrchestrationFailed(at time.Time, id int32, details *backend.TaskFailureDetails) *backend.HistoryEvent {
	ev := newEvent("subOrchestrationInstanceFailed", at)
	f := ev.GetSubOrchestrationInstanceFailed()
	f.TaskScheduledId, f.FailureDetails = id, details
	return ev
}

// failure is an activity's error on its way through the host.
type failure struct {
	activity string
	kind     wire.Kind
	message  string
	extra    wire.Details
}

func (f *failure) details() *backend.TaskFailureDetails {
	phrase := wire.Latin1(wire.EncodePhrase(f.kind, f.message) + f.extra.Phrase())
	return nested(f.activity, fmt.Sprintf("Response status code does not indicate success: 500 (%s).", phrase), nil)
}

// lost are the details of an activity whose process died.
func lost(activity string) *backend.TaskFailureDetails {
	return nested(activity, "An error occurred while sending the request.",
		&backend.TaskFailureDetails{ErrorType: "System.Net.Http.HttpIOException", ErrorMessage: "The response ended prematurely. (ResponseEnded)"})
}

func nested(activity, message string, inner *backend.TaskFailureDetails) *backend.TaskFailureDetails {
	return &backend.TaskFailureDetails{
		ErrorType:    "Microsoft.Azure.WebJobs.Host.FunctionInvocationException",
		ErrorMessage: "Exception while executing function: Functions." + activity,
		InnerFailure: &backend.TaskFailureDetails{ErrorType: "System.Net.Http.HttpRequestException", ErrorMessage: message, InnerFailure: inner},
	}
}
