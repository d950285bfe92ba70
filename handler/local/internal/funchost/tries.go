package funchost

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

// Try is one try at an invocation. There are several if its function has a retry policy and they fail.
type Try struct {
	InvocationID string // the same for all of them
	Count        int    // of the tries before this one
	policy       *config.Retry
	last         *Exception // how the try before this one failed
}

// FirstTry begins an invocation.
func FirstTry(f config.Function) Try { return Try{InvocationID: uuid.NewString(), policy: f.Retry} }

// Next returns the try after this one, which has failed, and how long the host waits before it. ok is false if the function has no
// retry policy, or if the policy allows no more tries.
func (t Try) Next(failure *Exception) (next Try, delay time.Duration, ok bool) {
	if t.policy == nil || t.policy.MaxRetryCount >= 0 && t.Count >= t.policy.MaxRetryCount {
		return Try{}, 0, false
	}
	delay = t.delay()
	t.Count++
	t.last = failure
	return t, delay, true
}

// delay follows the WebJobs SDK. The first delay is the minimum. To that the later ones add the minimum times 1, 2, 4 and so on,
// changed at random by up to a fifth.
func (t Try) delay() time.Duration {
	p := t.policy
	if p.Strategy == config.FixedDelay {
		return p.DelayInterval
	}
	if t.Count == 0 {
		return p.MinimumInterval
	}
	spread := 0.8 + 0.4*rand.Float64()
	factor := float64(int64(1) << min(t.Count-1, 62))
	if more := spread * factor * float64(p.MinimumInterval); more < float64(p.MaximumInterval-p.MinimumInterval) {
		return p.MinimumInterval + time.Duration(more)
	}
	return p.MaximumInterval
}

// describe adds RetryContext to the metadata, and replaces a property with that name from the input. Only a function with a retry
// policy gets it.
func (t Try) describe(metadata *newtonsoft.Object, function string) {
	if t.policy == nil {
		return
	}
	o := &newtonsoft.Object{}
	o.Set("RetryCount", number(t.Count))
	o.Set("MaxRetryCount", number(t.policy.MaxRetryCount))
	o.Set("Exception", t.last.invocationFailure(function, t.InvocationID))
	o.Set("Instance", null)
	o.Set("State", []byte("{}"))
	metadata.Set("RetryContext", o.Append(nil))
}

var null = []byte("null")

func number(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

// HResults of .NET, by exception type.
var hresults = map[string]int{invalidOperationException: -2146233079, httpIOException: -2146232800}

const defaultHResult = -2146233088

// invocationFailure returns the exception of an invocation as Newtonsoft.Json writes it, without stack traces.
func (e *Exception) invocationFailure(function, invocation string) []byte {
	if e == nil {
		return null
	}
	o := &newtonsoft.Object{}
	o.Set("InstanceId", newtonsoft.Once(invocation))
	o.Set("MethodName", newtonsoft.Once("Host.Functions."+function))
	o.Set("Handled", []byte("false"))
	e.serializable(o, "System.Private.CoreLib")
	return o.Append(nil)
}

func (e *Exception) json() []byte {
	if e == nil {
		return null
	}
	o := &newtonsoft.Object{}
	switch e.Type {
	case httpRequestException, httpIOException:
		e.ofHTTP(o)
	case orchestrationFailureException:
		e.serializable(o, "Microsoft.Azure.WebJobs.Extensions.DurableTask")
	default:
		e.serializable(o, "Microsoft.Azure.WebJobs.Host")
	}
	return o.Append(nil)
}

// serializable sets the properties of an exception that is ISerializable.
func (e *Exception) serializable(o *newtonsoft.Object, source string) {
	o.Set("ClassName", newtonsoft.Once(e.Type))
	o.Set("Message", newtonsoft.Once(e.Message))
	o.Set("Data", null)
	o.Set("InnerException", e.Inner.json())
	o.Set("HelpURL", null)
	o.Set("StackTraceString", null)
	o.Set("RemoteStackTraceString", null)
	o.Set("RemoteStackIndex", number(0))
	o.Set("ExceptionMethod", null)
	o.Set("HResult", number(e.hresult()))
	o.Set("Source", newtonsoft.Once(source))
	o.Set("WatsonBuckets", null)
	if e.Type == orchestrationFailureException {
		o.Set("Details", null)
	}
}

// ofHTTP sets the properties of an exception of System.Net.Http, which is written property by property.
func (e *Exception) ofHTTP(o *newtonsoft.Object) {
	const responseEnded = 10
	kind := 0
	if e.Type == httpIOException || e.Inner != nil {
		kind = responseEnded
	}
	o.Set("HttpRequestError", number(kind))
	if e.Type == httpRequestException {
		status := null
		if e.Status != 0 {
			status = number(e.Status)
		}
		o.Set("StatusCode", status)
	}
	o.Set("Message", newtonsoft.Once(e.Message))
	o.Set("Data", []byte("{}"))
	o.Set("InnerException", e.Inner.json())
	o.Set("HelpLink", null)
	o.Set("Source", newtonsoft.Once("System.Net.Http"))
	o.Set("HResult", number(e.hresult()))
	o.Set("StackTrace", null)
}

func (e *Exception) hresult() int {
	if e.Type == httpRequestException && e.Inner != nil {
		return e.Inner.hresult()
	}
	if result, ok := hresults[e.Type]; ok {
		return result
	}
	return defaultHResult
}

// OrchestrationFailure returns the exception of a turn whose results fail the orchestration, which the host retries like any
// other; nil for other results. If an answer ends the orchestration twice, the first end decides.
func OrchestrationFailure(f config.Function, results *TurnResults) *Exception {
	for _, action := range results.Response.Actions {
		c := action.GetCompleteOrchestration()
		if c == nil {
			continue
		}
		if c.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED {
			return nil
		}
		message := c.GetResult().GetValue()
		if details := c.GetFailureDetails(); details != nil {
			message = details.GetErrorMessage()
		}
		return Failed(f.Name, &Exception{Type: orchestrationFailureException, Message: message})
	}
	return nil
}

// IsPutOff says whether the handler refuses the turn. The host then stores nothing of it and asks again later. It does the same
// when an orchestration fails for lack of memory.
func IsPutOff(results *TurnResults) bool {
	if wire.RequiresHistory(results) {
		return true
	}
	for _, action := range results.Response.Actions {
		if ranOutOfMemory(action.GetCompleteOrchestration().GetFailureDetails()) {
			return true
		}
	}
	return false
}

func ranOutOfMemory(details *backend.TaskFailureDetails) bool {
	return details != nil && (details.GetErrorType() == "System.OutOfMemoryException" || ranOutOfMemory(details.GetInnerFailure()))
}
