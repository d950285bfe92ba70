package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

// answerBody is the body of a good answer; the host matches the keys in any case, as encoding/json does.
type answerBody struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// exception is a failed invocation in the host's words: .NET exceptions, outermost first.
type exception struct {
	kind, message string
	inner         *exception
	status        int // of the answer, 0 if there was none
}

// reason is the innermost message: what happened.
func (e *exception) reason() string {
	for e.inner != nil {
		e = e.inner
	}
	return e.message
}

func (e *exception) Error() string {
	if e.inner == nil {
		return e.message
	}
	return strings.TrimSuffix(e.message, ":") + ": " + e.inner.Error()
}

// details are the exceptions as an orchestrator sees them.
func (e *exception) details() *backend.TaskFailureDetails {
	if e == nil {
		return nil
	}
	return &backend.TaskFailureDetails{ErrorType: e.kind, ErrorMessage: e.message, InnerFailure: e.inner.details()}
}

const (
	httpRequestException       = "System.Net.Http.HttpRequestException"
	httpIOException            = "System.Net.Http.HttpIOException"
	invalidOperationException  = "System.InvalidOperationException"
	jsonSerializationException = "Newtonsoft.Json.JsonSerializationException"
	invocationException        = "Microsoft.Azure.WebJobs.Host.FunctionInvocationException"
	timeoutException           = "Microsoft.Azure.WebJobs.Host.FunctionTimeoutException"
)

// failed wraps what went wrong in a function's invocation as the host does.
func failed(function string, inner *exception) *exception {
	return &exception{kind: invocationException, message: "Exception while executing function: Functions." + function, inner: inner, status: inner.status}
}

// errTimeout says that an invocation ran longer than functionTimeout.
var errTimeout = errors.New("functionTimeout exceeded")

// invoke posts one invocation and reads its answer. The error is an *exception, or one from the host being closed.
func (h *Host) invoke(ctx context.Context, f config.Function, body []byte) (*answerBody, error) {
	ctx, stop := h.invocationContext(ctx)
	defer stop()
	r, err := h.transport.post(ctx, f.Name, body)
	switch {
	case err == nil:
		return h.accept(f, r)
	case context.Cause(ctx) == errTimeout:
		message := fmt.Sprintf("Timeout value of %s was exceeded by function: Functions.%s", timeSpan(h.timeout), f.Name)
		h.log.Error("an invocation ran longer than functionTimeout: on the real host it kills the handler process", "function", f.Name, "functionTimeout", h.timeout)
		return nil, &exception{kind: timeoutException, message: message}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	h.log.Error("an invocation got no answer: on the real host the handler process has died", "function", f.Name, "error", err)
	return nil, failed(f.Name, &exception{
		kind: httpRequestException, message: "An error occurred while sending the request.",
		inner: &exception{kind: httpIOException, message: "The response ended prematurely. (ResponseEnded)"},
	})
}

// invocationContext ends with ctx, with the host, and at functionTimeout.
func (h *Host) invocationContext(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopHost := context.AfterFunc(h.ctx, func() { cancel(h.ctx.Err()) })
	stopTimer := func() bool { return true }
	if h.timeout > 0 {
		stopTimer = time.AfterFunc(h.timeout, func() { cancel(errTimeout) }).Stop
	}
	return ctx, func() { stopHost(); stopTimer(); cancel(nil) }
}

// timeSpan is .NET's text for a duration.
func timeSpan(d time.Duration) string {
	text := fmt.Sprintf("%02d:%02d:%02d", int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60)
	if days := int(d.Hours()) / 24; days > 0 {
		text = fmt.Sprintf("%d.%s", days, text)
	}
	if ticks := d % time.Second / 100; ticks > 0 {
		text += fmt.Sprintf(".%07d", ticks)
	}
	return text
}

// accept judges an answer as the host does.
func (h *Host) accept(f config.Function, r *reply) (*answerBody, error) {
	if r.status < 200 || r.status > 299 {
		return nil, failed(f.Name, &exception{kind: httpRequestException, message: statusMessage(r), status: r.status})
	}
	if len(bytes.TrimSpace(r.body)) == 0 || string(bytes.TrimSpace(r.body)) == "null" {
		h.log.Error("an empty answer: the real host would never end this invocation", "function", f.Name, "status", r.status)
		return nil, failed(f.Name, notUnderstood(r, "the answer is empty or null"))
	}
	if !r.isJSON() {
		return nil, failed(f.Name, notUnderstood(r, fmt.Sprintf("its Content-Type is %q, not application/json", r.contentType)))
	}
	a := &answerBody{}
	if err := json.Unmarshal(r.body, a); err != nil {
		return nil, failed(f.Name, notUnderstood(r, err.Error()))
	}
	for _, line := range a.Logs {
		h.onConsole(f.Name, line)
	}
	h.takeNamedResults(f, a)
	for name, value := range a.Outputs {
		altered, err := newtonsoft.Result(value)
		if err != nil {
			return nil, failed(f.Name, refusedValue(err))
		}
		a.Outputs[name] = altered
	}
	return a, nil
}

func notUnderstood(r *reply, why string) *exception {
	return &exception{kind: invalidOperationException, message: "Invalid HttpResponseMessage: " + why, status: r.status}
}

// refusedValue is an answer with a value that Newtonsoft.Json refuses.
func refusedValue(err error) *exception {
	inner := &exception{kind: jsonSerializationException, message: err.Error()}
	if e := (*newtonsoft.Error)(nil); errors.As(err, &e) {
		inner.kind, inner.message = e.Type, e.Message
	}
	return &exception{kind: invalidOperationException, message: "Invalid HttpResponseMessage:", status: http.StatusOK, inner: inner}
}

func statusMessage(r *reply) string {
	message := fmt.Sprintf("Response status code does not indicate success: %d", r.status)
	if r.reason != "" {
		message += " (" + r.reason + ")"
	}
	return message + "."
}

// takeNamedResults: without a $return binding, a result's property with exactly an output's name is that output, in
// place of the one in Outputs; with one, the result is the output $return.
func (h *Host) takeNamedResults(f config.Function, a *answerBody) {
	outputs := f.Outputs()
	for _, name := range outputs {
		if name == "$return" {
			a.setOutput(name, a.ReturnValue)
			return
		}
	}
	var result map[string]json.RawMessage
	if len(outputs) == 0 || json.Unmarshal(a.ReturnValue, &result) != nil {
		return
	}
	for _, name := range outputs {
		if value, ok := result[name]; ok {
			a.setOutput(name, value)
		}
	}
}

func (a *answerBody) setOutput(name string, value json.RawMessage) {
	if a.Outputs == nil {
		a.Outputs = map[string]json.RawMessage{}
	}
	a.Outputs[name] = value
}

// hasResult says whether there is a ReturnValue other than null.
func (a *answerBody) hasResult() bool {
	return len(a.ReturnValue) > 0 && string(a.ReturnValue) != "null"
}

// Invoke delivers a message to a trigger function once and waits for the answer. The error is an [*InvocationError] if
// the invocation failed.
func (h *Host) Invoke(ctx context.Context, function string, m Message) error {
	f, ok := h.messageFunction(function)
	if !ok {
		return &InvocationError{Function: function, Status: http.StatusNotFound, Reason: "there is no such function with a message trigger"}
	}
	a, err := h.invoke(ctx, f, h.messageRequest(f, m.withDefaults()))
	if err == nil {
		err = h.sendOutputs(ctx, invocation{function: f}, a.Outputs)
	}
	if e := (*exception)(nil); errors.As(err, &e) {
		return &InvocationError{Function: f.Name, Status: e.status, Reason: ownWords(e.reason())}
	}
	return err
}

// ownWords is what the function said, if it said anything, else what the host says.
func ownWords(reason string) string {
	if phrase, ok := wire.PhraseOf(reason); ok {
		if _, message, _ := wire.DecodePhrase(phrase); message != "" {
			return message
		}
	}
	return reason
}

func (h *Host) messageFunction(name string) (config.Function, bool) {
	f, ok := h.functions[strings.ToLower(name)]
	return f, ok && isMessageTrigger(f.Trigger())
}

// isMessageTrigger says whether this host can deliver messages to such a function.
func isMessageTrigger(b config.Binding) bool { return b.Is("serviceBusTrigger") }
