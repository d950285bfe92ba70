package durabletest

import (
	"errors"
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

func newEvent(kind string, at time.Time) *backend.HistoryEvent {
	return wire.NewEvent(protoreflect.Name(kind), at)
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
}

func (f *failure) Error() string { return f.message }

func (f *failure) details() *backend.TaskFailureDetails {
	phrase := wire.Latin1(wire.EncodePhrase(f.kind, f.message))
	return nested("System.Net.Http.HttpRequestException", fmt.Sprintf("Response status code does not indicate success: 500 (%s).", phrase), nil)
}

// lost are the details of an activity whose process died.
func lost() *backend.TaskFailureDetails {
	return nested("System.Net.Http.HttpRequestException", "An error occurred while sending the request.",
		&backend.TaskFailureDetails{ErrorType: "System.Net.Http.HttpIOException", ErrorMessage: "The response ended prematurely. (ResponseEnded)"})
}

// refused are the details of an activity with a value that the host cannot take.
func refused(err error) *backend.TaskFailureDetails {
	inner := &backend.TaskFailureDetails{ErrorMessage: err.Error()}
	if e := (*newtonsoft.Error)(nil); errors.As(err, &e) {
		inner.ErrorType, inner.ErrorMessage = e.Type, e.Message
	}
	return nested("System.InvalidOperationException", "Invalid HttpResponseMessage:", inner)
}

func nested(errorType, message string, inner *backend.TaskFailureDetails) *backend.TaskFailureDetails {
	return &backend.TaskFailureDetails{
		ErrorType:    "Microsoft.Azure.WebJobs.Host.FunctionInvocationException",
		ErrorMessage: "Exception while executing function",
		InnerFailure: &backend.TaskFailureDetails{ErrorType: errorType, ErrorMessage: message, InnerFailure: inner},
	}
}
