package funchost

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/dotnet"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

// Exception is a failed invocation in the host's words: .NET exceptions, outermost first.
type Exception struct {
	Type, Message string
	Inner         *Exception
	Status        int // of the answer, 0 if there was none
}

// Reason returns the innermost message: what happened.
func (e *Exception) Reason() string {
	for e.Inner != nil {
		e = e.Inner
	}
	return e.Message
}

func (e *Exception) Error() string {
	if e.Inner == nil {
		return e.Message
	}
	return strings.TrimSuffix(e.Message, ":") + ": " + e.Inner.Error()
}

// text returns the exception as .NET writes it, without stack traces.
func (e *Exception) text() string {
	text := e.Type + ": " + e.Message
	if e.Inner != nil {
		text += innerBegins + e.Inner.text() + innerEnds
	}
	return text
}

const (
	innerBegins = "\n ---> "
	innerEnds   = "\n   --- End of inner exception stack trace ---"
)

// Output returns the output of an orchestration that the host itself fails.
func (e *Exception) Output(orchestrator string) string {
	o := &newtonsoft.Object{}
	if e.Type == "" {
		o.Set("message", newtonsoft.Once(e.Message))
		o.Set("details", null)
	} else {
		o.Set("message", newtonsoft.Once(fmt.Sprintf("Function '%s' failed with an unhandled exception.", orchestrator)))
		o.Set("details", newtonsoft.Once(e.text()))
	}
	return string(o.Append(nil))
}

// Reason returns in one line why an orchestration failed: its output or, if that is an [Exception.Output], the messages in it.
func Reason(output string) string {
	var o struct{ Message, Details *string }
	decoder := json.NewDecoder(strings.NewReader(output))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&o) != nil || o.Message == nil {
		return output
	}
	if o.Details == nil {
		return *o.Message
	}
	var reasons []string
	for _, inner := range strings.Split(*o.Details, innerBegins) {
		inner, _, _ = strings.Cut(inner, innerEnds)
		if _, message, ok := strings.Cut(inner, ": "); ok {
			inner = message
		}
		reasons = append(reasons, strings.TrimSuffix(inner, ":"))
	}
	return strings.Join(reasons, ": ")
}

// Details returns the exceptions as an orchestrator sees them.
func (e *Exception) Details() *backend.TaskFailureDetails {
	if e == nil {
		return nil
	}
	return &backend.TaskFailureDetails{ErrorType: e.Type, ErrorMessage: e.Message, InnerFailure: e.Inner.Details()}
}

const (
	httpRequestException       = "System.Net.Http.HttpRequestException"
	httpIOException            = "System.Net.Http.HttpIOException"
	invalidOperationException  = "System.InvalidOperationException"
	jsonSerializationException = "Newtonsoft.Json.JsonSerializationException"
	invocationException        = "Microsoft.Azure.WebJobs.Host.FunctionInvocationException"
	argumentException          = "System.ArgumentException"
	formatException            = "System.FormatException"
	notSupportedException      = "System.NotSupportedException"
	timeoutException           = "Microsoft.Azure.WebJobs.Host.FunctionTimeoutException"

	orchestrationFailureException = "DurableTask.Core.Exceptions.OrchestrationFailureException"
)

// IsTimeout says whether the invocation ran longer than functionTimeout.
func (e *Exception) IsTimeout() bool { return e.Type == timeoutException }

// TimedOut returns the exception of an invocation that ran longer than functionTimeout.
func TimedOut(function string, limit time.Duration) *Exception {
	return &Exception{Type: timeoutException, Message: fmt.Sprintf("Timeout value of %s was exceeded by function: Functions.%s", dotnet.FormatTimeSpan(limit), function)}
}

// NoAnswer returns the exception of an invocation whose connection ended without an answer: the handler died.
func NoAnswer(function string) *Exception {
	return Failed(function, &Exception{
		Type: httpRequestException, Message: "An error occurred while sending the request.",
		Inner: &Exception{Type: httpIOException, Message: "The response ended prematurely. (ResponseEnded)"},
	})
}

// FailedOutput returns the exception of an output that could not be sent.
func FailedOutput(function, binding string, err error) *Exception {
	return Failed(function, &Exception{
		Type: invalidOperationException, Message: "Error while handling parameter " + binding + " after function returned:",
		Inner: &Exception{Type: invalidOperationException, Message: err.Error()},
	})
}

// Failed wraps the failure of a function's invocation as the host does.
func Failed(function string, inner *Exception) *Exception {
	return &Exception{Type: invocationException, Message: "Exception while executing function: Functions." + function, Inner: inner, Status: inner.Status}
}

func notUnderstood(r *Reply, why string) *Exception {
	return &Exception{Type: invalidOperationException, Message: "Invalid HttpResponseMessage: " + why, Status: r.Status}
}

// refusedValue returns the exception of an answer with a value that Newtonsoft.Json refuses.
func refusedValue(err error) *Exception {
	inner := &Exception{Type: jsonSerializationException, Message: err.Error()}
	if e := (*newtonsoft.Error)(nil); errors.As(err, &e) {
		inner.Type, inner.Message = e.Type, e.Message
	}
	return &Exception{Type: invalidOperationException, Message: "Invalid HttpResponseMessage:", Status: http.StatusOK, Inner: inner}
}

// OwnWords returns the function's own words about a failure, or the host's words if the function said nothing.
func (e *Exception) OwnWords() string {
	reason := e.Reason()
	if phrase, ok := wire.PhraseOf(reason); ok {
		if _, message, _ := wire.DecodePhrase(phrase); message != "" {
			return message
		}
	}
	return reason
}
