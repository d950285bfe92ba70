package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/sync/semaphore"

	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
)

type server struct {
	functions map[string]*function
	settings  settings
	stdout    io.Writer
	errors    slog.Handler
	bodies    *semaphore.Weighted // bytes of large bodies in flight
}

// call is one invocation on its way.
type call struct {
	*function
	id      string
	request wire.Request
	turn    *wire.Turn // of an orchestrator
	logs    *logs
	logger  *slog.Logger
}

// outcome is what a function's run came to.
type outcome struct {
	value   json.RawMessage
	outputs map[string]json.RawMessage
	err     error
	kind    wire.Kind // of the error
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	f := s.functions[chi.URLParam(r, "function")]
	if f == nil {
		s.refuse(w, r, http.StatusNotFound, fmt.Sprintf("no function %q is registered and enabled", chi.URLParam(r, "function")))
		return
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if s.settings.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.settings.limit)
		defer cancel()
	}
	c := &call{function: f, id: r.Header.Get("X-Azure-Functions-Invocationid")}
	release, err := s.readRequest(ctx, w, r, c)
	defer release()
	if err != nil {
		s.refuse(w, r, statusOf(err), fmt.Sprintf("request to %s: %v", f.name, err))
		return
	}
	c.logs = &logs{stdout: s.stdout, function: f.name, invocation: c.id}
	c.logger = s.logger(c)
	s.answer(w, c, s.run(ctx, c))
}

func (s *server) logger(c *call, attrs ...slog.Attr) *slog.Logger {
	return slog.New(&lazy{make: func() slog.Handler {
		attrs = append([]slog.Attr{slog.String("function", c.name), slog.String("invocation", c.id)}, attrs...)
		return newHandler(c.logs, s.settings.level, s.errors.WithAttrs(attrs))
	}})
}

// run runs the function and waits for it until the deadline. A function that does not come back is left behind.
func (s *server) run(ctx context.Context, c *call) outcome {
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		returned := false
		defer func() {
			if p := recover(); p != nil {
				c.logger.Error("function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				o = giveUp(c, wire.KindPanic, fmt.Sprintf("panic: %v", p))
			} else if !returned {
				c.logger.Error("function ended its goroutine")
				o = giveUp(c, wire.KindPanic, "the function ended its goroutine")
			}
			done <- o
		}()
		growStack()
		o = s.execute(ctx, c)
		returned = true
	}()
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return outcome{err: errors.New("the host hung up")} // nobody reads it
	}
	message := fmt.Sprintf("function %s ran for %s, the limit, and was left behind", c.name, s.settings.limit)
	c.logger.Error(message)
	return giveUp(c, wire.KindDeadline, message)
}

// growStack grows a new goroutine's stack at once. It would grow all the same under a JSON decoder, step by step, each of
// which copies and mends all frames until then: a fifth of an activity's time.
//
//go:noinline
func growStack() (room [8 << 10]byte) { return }

// giveUp is the outcome of a function that did not return: an error or, as any other answer to a turn than a good one
// would have the host say, and not us, why, a failed orchestration.
func giveUp(c *call, kind wire.Kind, message string) outcome {
	if c.turn != nil {
		errorType := replay.PanicType
		if kind == wire.KindDeadline {
			errorType = replay.DeadlineType
		}
		return actions(replay.Result{ExecutionResults: replay.Fail(c.turn.InstanceID, errorType, message)})
	}
	return outcome{err: errors.New(message), kind: kind}
}

func (s *server) execute(ctx context.Context, c *call) outcome {
	inv := &invocation.Invocation{Logger: c.logger}
	ctx = invocation.With(ctx, inv)
	switch {
	case c.turn != nil:
		return actions(replay.Run(c.turn, c.orchestrator, s.logger(c, slog.String("instance", c.turn.InstanceID))))
	case c.activity != nil:
		value, err := invocation.RunActivity(ctx, c.activity, wire.Unwrap(c.request.Data[c.binding]), c.outputs)
		return outcome{value: value, outputs: inv.Outputs(), err: err}
	}
	err := c.trigger(ctx, &Invocation{
		Function:   c.name,
		ID:         c.id,
		bindings:   c.bindings,
		request:    c.request,
		maxPayload: int(s.settings.maxBody / 2), // base64 and the envelope make a turn half as large again
	})
	return outcome{outputs: inv.Outputs(), err: err}
}

// actions is the outcome of a turn. What cannot be said in protobuf fails the orchestration and says why.
func actions(r replay.Result) outcome {
	value, err := wire.EncodeActions(r.ExecutionResults)
	if err != nil {
		value, err = wire.EncodeActions(replay.Fail(r.Response.InstanceId, fmt.Sprintf("%T", err), err.Error()))
		r.Outputs = nil
	}
	return outcome{value: value, outputs: r.Outputs, err: err}
}

var errTooLarge = errors.New("the body of the request is too large")

func statusOf(err error) int {
	if errors.Is(err, errTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// readRequest reads a body that is as large as the settings allow at most. The host never says how large one is (it
// sends chunks). So any number of bodies may grow to largeBody, and one that grows beyond takes its place among bodies
// first: all that it may still need while it is read, then what it has got until release is called.
func (s *server) readRequest(ctx context.Context, w http.ResponseWriter, r *http.Request, c *call) (release func(), err error) {
	release = func() {}
	b := bodyBuffers.Get().(*bytes.Buffer)
	defer recycle(b)
	if err = copyBody(b, w, r, min(largeBody, s.settings.maxBody+1)); err == nil && s.settings.maxBody > largeBody {
		if err := s.bodies.Acquire(ctx, s.settings.maxBody); err != nil {
			return release, fmt.Errorf("too many large requests at once: %w", err)
		}
		err = copyBody(b, w, r, s.settings.maxBody+1-largeBody)
		held := min(int64(b.Len()), s.settings.maxBody)
		s.bodies.Release(s.settings.maxBody - held)
		release = func() { s.bodies.Release(held) }
	}
	switch {
	case err == nil:
		return release, fmt.Errorf("%w: the limit is %d bytes (setting HANDLER_MAX_BODY_BYTES)", errTooLarge, s.settings.maxBody)
	case !errors.Is(err, io.EOF):
		return release, fmt.Errorf("the body broke off: %w", err)
	}
	return release, c.decode(b)
}

// decode reads the request from its body. It keeps nothing of a buffer that is used again.
func (c *call) decode(b *bytes.Buffer) error {
	body := b.Bytes()
	if c.orchestrator == nil && recyclable(b) {
		body = bytes.Clone(body)
	}
	request, err := wire.DecodeRequest(body)
	switch {
	case err != nil:
		return fmt.Errorf("the body is no invocation: %w", err)
	case c.orchestrator != nil:
		c.turn, err = request.Turn(c.binding)
		return err
	}
	c.request = request
	return nil
}

var bodyBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// recycle keeps a buffer for the next body unless it is large.
func recycle(b *bytes.Buffer) {
	if recyclable(b) {
		b.Reset()
		bodyBuffers.Put(b)
	}
}

func recyclable(b *bytes.Buffer) bool { return b.Cap() <= largeBody }

// copyBody reads up to n bytes, in bodyTime; io.EOF says that there were less.
func copyBody(b *bytes.Buffer, w http.ResponseWriter, r *http.Request, n int64) error {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder has no deadlines
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	_, err := io.CopyN(b, r.Body, n)
	return err
}
