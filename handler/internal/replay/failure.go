package replay

import (
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// Kind says why a task failed.
type Kind int

// The kinds of failure. Failed and Panicked are the function's own; the others are those of what runs it.
const (
	Failed           Kind = iota // the function returned an error
	Panicked                     // the function panicked
	DeadlineExceeded             // the function ran past our deadline or the host's functionTimeout
	Lost                         // the handler died, was not there, or the host gave no details
	NotUnderstood                // the host could not read the answer, or the handler the request
	NotFound                     // the host knows no function of that name
)

// Failure is why a task failed, in the author's terms.
type Failure struct {
	Kind    Kind
	Message string
	Details wire.Details
}

const (
	invocationType = "Microsoft.Azure.WebJobs.Host.FunctionInvocationException"
	timeoutType    = "Microsoft.Azure.WebJobs.Host.FunctionTimeoutException"
	requestType    = "System.Net.Http.HttpRequestException"
	invalidType    = "System.InvalidOperationException"
	newtonPrefix   = "Newtonsoft.Json."
)

// explainActivity finds the activity's own words in the host's nested failure details, and returns details that carry
// them on top, where the SDK's Await reads them.
func explainActivity(name string, d *backend.TaskFailureDetails) (*Failure, *backend.TaskFailureDetails) {
	if d == nil && name == wire.HTTPActivity {
		f := &Failure{Kind: Lost, Message: "the host could not make the HTTP call: it was refused, broke off or took too long"}
		return f, &backend.TaskFailureDetails{ErrorType: "HTTPCallFailed", ErrorMessage: f.Message}
	}
	if d == nil {
		f := &Failure{Kind: NotFound, Message: fmt.Sprintf("activity %q failed in the host without details: it knows no activity of that name", name)}
		return f, &backend.TaskFailureDetails{ErrorType: "ActivityNotFound", ErrorMessage: f.Message}
	}
	f := classify(d)
	d.ErrorMessage = f.Message
	return f, d
}

func classify(d *backend.TaskFailureDetails) *Failure {
	inner := d
	for inner.InnerFailure != nil && inner.ErrorType != timeoutType && inner.ErrorType != requestType {
		inner = inner.InnerFailure
	}
	switch {
	case d.ErrorType == historyevent.KilledType:
		return &Failure{Kind: Panicked, Message: d.ErrorMessage}
	case inner.ErrorType == timeoutType:
		return &Failure{Kind: DeadlineExceeded, Message: inner.ErrorMessage}
	case inner.ErrorType == requestType:
		return classifyRequest(inner)
	case inner.ErrorType == invalidType, strings.HasPrefix(inner.ErrorType, newtonPrefix):
		return &Failure{Kind: NotUnderstood, Message: inner.ErrorMessage}
	}
	if d.ErrorType == invocationType {
		return &Failure{Kind: Lost, Message: inner.ErrorMessage} // an error of the function itself comes in a reason phrase
	}
	return &Failure{Kind: Failed, Message: inner.ErrorMessage}
}

func classifyRequest(d *backend.TaskFailureDetails) *Failure {
	phrase, ok := wire.PhraseOf(d.ErrorMessage)
	if !ok {
		message := d.ErrorMessage
		if d.InnerFailure != nil {
			message += ": " + d.InnerFailure.ErrorMessage
		}
		return &Failure{Kind: Lost, Message: message}
	}
	kind, message, details, _ := wire.DecodeFailure(phrase)
	if message == "" {
		message = "the activity failed and gave no reason"
	}
	return &Failure{kindOf(kind), message, details}
}

func kindOf(k wire.Kind) Kind {
	switch k {
	case wire.KindPanic:
		return Panicked
	case wire.KindDeadline:
		return DeadlineExceeded
	case wire.KindNotUnderstood:
		return NotUnderstood
	}
	return Failed
}

// explainSubOrchestration does the same for a child. What failed inside an orchestrator arrives as it was; what failed
// in the host (an unknown name, a lost turn, an output binding) arrives without details.
func explainSubOrchestration(name string, d *backend.TaskFailureDetails) (*Failure, *backend.TaskFailureDetails) {
	if d == nil {
		f := &Failure{Kind: Lost, Message: fmt.Sprintf("sub-orchestration %q failed in the host without details: "+
			"the host knows no orchestrator of that name, lost one of its turns, or could not send its output", name)}
		return f, &backend.TaskFailureDetails{ErrorType: "SubOrchestrationFailed", ErrorMessage: f.Message}
	}
	switch d.ErrorType {
	case PanicType, historyevent.OrchestratorKilledType:
		return &Failure{Kind: Panicked, Message: d.ErrorMessage}, d
	case DeadlineType:
		return &Failure{Kind: DeadlineExceeded, Message: d.ErrorMessage}, d
	}
	return &Failure{Kind: Failed, Message: d.ErrorMessage}, d
}
