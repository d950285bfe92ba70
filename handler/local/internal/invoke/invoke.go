// Package invoke makes invocations as the Functions host makes them: it posts a request to the handler, stops waiting at
// functionTimeout, tries again as the function's retry policy says, and sends the outputs of the answer.
//
//	invoker := invoke.New(invoke.Options{Handler: handler, Host: app.Host, Sidecar: sidecar, Outputs: sender, …})
//	defer invoker.Close()
//	answer, started, err := invoker.Run(ctx, function, func(try funchost.Try, client funchost.Client) []byte {
//		return funchost.MessageRequest(function, try, message, client)
//	})
//
// [Invoker.Run] is for all triggers except the durable ones. The engine makes its own requests, and calls the steps of Run one by
// one: [Invoker.Retry], [Invoker.Post], [Invoker.SendOutputs].
package invoke

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/manage"
	"example.com/durablefunctions/handler/local/internal/output"
)

// Options configure an invoker. Only URL is optional.
type Options struct {
	Handler http.Handler
	Host    config.Host
	URL     string // where the local host is served; empty if it is not
	Sidecar *manage.Sidecar
	Outputs *output.Sender
	Log     *slog.Logger

	// OnConsole is called with each line of Logs of a 2xx answer.
	OnConsole func(function, line string)
	// Stopping ends when the host starts nothing new, Closing when everything that runs must end too.
	Stopping, Closing context.Context
}

// Invoker makes invocations. Its methods may be called by several goroutines.
type Invoker struct {
	Options
	transport *funchost.Transport
	timeout   time.Duration // functionTimeout, 0: none
}

const defaultFunctionTimeout = 30 * time.Minute

// New returns an invoker that keeps as many idle connections as host.json allows invocations at a time.
func New(o Options) *Invoker {
	i := &Invoker{Options: o, timeout: o.Host.FunctionTimeout}
	if !o.Host.TimeoutSet {
		i.timeout = defaultFunctionTimeout
	}
	i.transport = funchost.NewTransport(o.Handler, o.Log, 2*o.Host.MaxConcurrentActivities+o.Host.MaxConcurrentOrchestrators+o.Host.MaxConcurrentCalls)
	return i
}

// Close ends the connections to the handler.
func (i *Invoker) Close() { i.transport.Close() }

// Run invokes a function that is not durable, and sends its outputs. The error is an [*funchost.Exception] or a context's error.
// started are the ids of the orchestrations that the function started, or tried to start and found.
func (i *Invoker) Run(ctx context.Context, f config.Function, request func(funchost.Try, funchost.Client) []byte) (answer *funchost.Answer, started []string, err error) {
	caller := i.Sidecar.NewCaller()
	defer i.Sidecar.Forget(caller)
	client := funchost.Client{TaskHub: i.Host.HubName, Address: i.Sidecar.Address, Token: caller.Token, URL: i.URL}
	err = i.Retry(f, func(try funchost.Try) (err error) {
		if answer, err = i.Post(ctx, f, try, request(try, client)); err != nil {
			return err
		}
		return i.SendOutputs(ctx, output.Source{Function: f}, answer)
	})
	return answer, caller.Instances(), err
}

// Forward passes a client's request on to a function unchanged, and the function's answer back, as the host does with
// enableForwardingHttpRequest.
func (i *Invoker) Forward(w http.ResponseWriter, r *http.Request, f config.Function) {
	ctx, stop := i.Limit(r.Context())
	defer stop()
	i.transport.Forward(w, r.WithContext(ctx), funchost.FirstTry(f).InvocationID, func(err error) {
		i.Log.Error("a forwarded request got no answer", "function", f.Name, "error", err)
	})
}

// errTimeout says that an invocation ran longer than functionTimeout.
var errTimeout = errors.New("functionTimeout exceeded")

// Retry calls attempt until it succeeds, until its error is not an [*funchost.Exception], or until the function's retry policy
// allows no more. As on the real host, the worker stays busy meanwhile. When the host stops, Retry does not wait for another try.
func (i *Invoker) Retry(f config.Function, attempt func(funchost.Try) error) error {
	for try := funchost.FirstTry(f); ; {
		err := attempt(try)
		failure := (*funchost.Exception)(nil)
		if !errors.As(err, &failure) {
			return err
		}
		next, delay, ok := try.Next(failure)
		if !ok {
			return err
		}
		i.Log.Warn("an invocation failed and is tried again", "function", f.Name, "try", next.Count, "after", delay, "reason", failure.Reason())
		select {
		case <-time.After(delay):
		case <-i.Stopping.Done():
			return i.Stopping.Err()
		}
		try = next
	}
}

// Post posts one invocation and reads its answer. The error is an [*funchost.Exception] or a context's error.
func (i *Invoker) Post(ctx context.Context, f config.Function, try funchost.Try, body []byte) (*funchost.Answer, error) {
	ctx, stop := i.Limit(ctx)
	defer stop()
	reply, err := i.transport.Post(ctx, f.Name, try.InvocationID, body)
	switch {
	case err == nil:
		return i.accept(f, reply)
	case context.Cause(ctx) == errTimeout:
		i.Log.Error("an invocation ran longer than functionTimeout: on the real host it kills the handler process", "function", f.Name, "functionTimeout", i.timeout)
		return nil, funchost.TimedOut(f.Name, i.timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	i.Log.Error("an invocation got no answer: on the real host the handler process has died", "function", f.Name, "error", err)
	return nil, funchost.NoAnswer(f.Name)
}

// accept judges an answer, and prints its Logs.
func (i *Invoker) accept(f config.Function, reply *funchost.Reply) (*funchost.Answer, error) {
	if reply.IsEmpty() {
		i.Log.Error("an empty answer: the real host would never end this invocation", "function", f.Name, "status", reply.Status)
	}
	a, err := funchost.ReadAnswer(f, reply)
	if a != nil {
		for _, line := range a.Logs {
			i.OnConsole(f.Name, line)
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// SendOutputs sends the outputs of an answer. The error is an [*funchost.Exception] or a context's error.
func (i *Invoker) SendOutputs(ctx context.Context, from output.Source, a *funchost.Answer) error {
	ctx, stop := i.Limit(ctx)
	defer stop()
	return i.Outputs.Send(ctx, from, a.Outputs)
}

// Limit returns a context that ends with ctx, when the host closes, and at functionTimeout.
func (i *Invoker) Limit(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopHost := context.AfterFunc(i.Closing, func() { cancel(i.Closing.Err()) })
	stopTimer := func() bool { return true }
	if i.timeout > 0 {
		stopTimer = time.AfterFunc(i.timeout, func() { cancel(errTimeout) }).Stop
	}
	return ctx, func() { stopHost(); stopTimer(); cancel(nil) }
}
