package local

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/output"
)

// errTimeout says that an invocation ran longer than functionTimeout.
var errTimeout = errors.New("functionTimeout exceeded")

// tryUntilDone tries an invocation until a try succeeds, fails without an *funchost.Exception, or the function's retry policy allows
// no more. As on the real host, it keeps its worker meanwhile. When the host stops, it does not wait for another try.
func (h *Host) tryUntilDone(f config.Function, attempt func(funchost.Try) error) error {
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
		h.log.Warn("an invocation failed and is tried again", "function", f.Name, "try", next.Count, "after", delay, "reason", failure.Reason())
		select {
		case <-time.After(delay):
		case <-h.accepting.Done():
			return h.accepting.Err()
		}
		try = next
	}
}

// invoke posts one invocation and reads its answer. The error is an *funchost.Exception, or one from the host being closed.
func (h *Host) invoke(ctx context.Context, f config.Function, try funchost.Try, body []byte) (*funchost.Answer, error) {
	ctx, stop := h.invocationContext(ctx)
	defer stop()
	reply, err := h.transport.Post(ctx, f.Name, try.InvocationID, body)
	switch {
	case err == nil:
		return h.accept(f, reply)
	case context.Cause(ctx) == errTimeout:
		h.log.Error("an invocation ran longer than functionTimeout: on the real host it kills the handler process", "function", f.Name, "functionTimeout", h.timeout)
		return nil, funchost.TimedOut(f.Name, h.timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	h.log.Error("an invocation got no answer: on the real host the handler process has died", "function", f.Name, "error", err)
	return nil, funchost.NoAnswer(f.Name)
}

// accept judges an answer, and prints its Logs.
func (h *Host) accept(f config.Function, reply *funchost.Reply) (*funchost.Answer, error) {
	if reply.IsEmpty() {
		h.log.Error("an empty answer: the real host would never end this invocation", "function", f.Name, "status", reply.Status)
	}
	a, err := funchost.ReadAnswer(f, reply)
	if a != nil {
		for _, line := range a.Logs {
			h.onConsole(f.Name, line)
		}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// sendOutputs sends the outputs of an answer. The error is an *funchost.Exception, or one from the host being closed.
func (h *Host) sendOutputs(ctx context.Context, from output.Source, a *funchost.Answer) error {
	ctx, stop := h.invocationContext(ctx)
	defer stop()
	return h.outputs.Send(ctx, from, a.Outputs)
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

// Delivery is what a delivered message did.
type Delivery struct {
	Instances []string // the ids of the orchestrations that the function started, or found when it was to start them
}

// Deliver delivers a message to a trigger function once and waits for the answer. The error is an [*InvocationError] if
// the invocation failed; it may have started instances all the same.
func (h *Host) Deliver(ctx context.Context, function string, m Message) (Delivery, error) {
	f, ok := h.deliverable(function)
	if !ok {
		return Delivery{}, &InvocationError{Function: function, Status: http.StatusNotFound, Reason: "there is no such function with a message trigger"}
	}
	m = m.WithDefaults()
	_, started, err := h.run(ctx, f, func(try funchost.Try, client funchost.Client) []byte {
		return funchost.MessageRequest(f, try, funchost.Message(m), client)
	})
	if e := (*funchost.Exception)(nil); errors.As(err, &e) {
		err = &InvocationError{Function: f.Name, Status: e.Status, Reason: e.OwnWords()}
	}
	return Delivery{Instances: started}, err
}

// deliverable finds a function that a message can be delivered to: one with any trigger but the durable ones.
func (h *Host) deliverable(name string) (config.Function, bool) {
	f, ok := h.functions[strings.ToLower(name)]
	return f, ok && !funchost.IsDurableTrigger(f.Trigger())
}
