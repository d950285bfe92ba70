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
	"time"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/propagation"

	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
)

type server struct {
	functions map[string]*function
	settings  settings
	stdout    io.Writer
	errors    slog.Handler
	large     chan struct{} // a slot for each large body in memory
}

// call is one invocation on its way.
type call struct {
	*function
	id      string
	request wire.Request
	logs    *logs
	logger  *slog.Logger
}

// outcome is what a function's run came to.
type outcome struct {
	value   json.RawMessage
	outputs map[string]any
	err     error
	kind    wire.Kind // of the error
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	f := s.functions[chi.URLParam(r, "function")]
	if f == nil {
		s.refuse(w, r, http.StatusNotFound, fmt.Sprintf("no function %q is registered", chi.URLParam(r, "function")))
		return
	}
	c := &call{function: f, id: r.Header.Get("X-Azure-Functions-InvocationId"), logs: &logs{}}
	if err := s.readRequest(w, r, &c.request); err != nil {
		s.refuse(w, r, statusOf(err), fmt.Sprintf("request to %s: %v", f.name, err))
		return
	}
	c.logger = newLogger(c.logs, s.settings.level, s.errors, slog.String("function", f.name), slog.String("invocation", c.id))

	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if s.settings.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, begun.Add(s.settings.limit))
		defer cancel()
	}
	s.answer(w, c, s.run(ctx, c))
}

// run runs the function and waits for it until the deadline. A function that does not come back is left behind.
func (s *server) run(ctx context.Context, c *call) outcome {
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errors.New("the function ended its goroutine"), kind: wire.KindPanic}
		defer func() {
			if p := recover(); p != nil {
				c.logger.Error("function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				o = outcome{err: fmt.Errorf("panic: %v", p), kind: wire.KindPanic}
			}
			done <- o
		}()
		o = s.execute(ctx, c)
	}()
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	if c.orchestrator != nil {
		if turn, err := wire.DecodeTurn(wire.Text(c.request.Data[c.binding])); err == nil {
			return actions(replay.Result{ExecutionResults: replay.FailDeadline(turn.InstanceID, s.settings.limit)})
		}
	}
	err := fmt.Errorf("function %s ran for %s, the limit, and was left behind", c.name, s.settings.limit)
	c.logger.Error(err.Error())
	return outcome{err: err, kind: wire.KindDeadline}
}

func (s *server) execute(ctx context.Context, c *call) outcome {
	inv := &invocation.Invocation{Logger: c.logger}
	ctx = invocation.With(ctx, inv)
	switch {
	case c.orchestrator != nil:
		return s.turn(c)
	case c.activity != nil:
		value, err := c.runActivity(ctx)
		return outcome{value: value, outputs: inv.Outputs(), err: err}
	}
	err := c.trigger(ctx, &Invocation{
		Function:   c.name,
		ID:         c.id,
		data:       c.request.Data,
		metadata:   c.request.Metadata,
		maxPayload: int(s.settings.maxBody / 2), // base64 and the envelope make a turn half as large again
	})
	return outcome{outputs: inv.Outputs(), err: err}
}

func (s *server) turn(c *call) outcome {
	turn, err := wire.DecodeTurn(wire.Text(c.request.Data[c.binding]))
	if err != nil {
		return outcome{err: err, kind: wire.KindNotUnderstood}
	}
	logger := newLogger(c.logs, s.settings.level, s.errors,
		slog.String("function", c.name), slog.String("invocation", c.id), slog.String("instance", turn.InstanceID))
	return actions(replay.Run(turn, c.orchestrator, logger))
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

// activityContext is the task.ActivityContext of one activity.
type activityContext struct {
	ctx   context.Context
	input []byte
}

func (a activityContext) Context() context.Context { return a.ctx }

func (a activityContext) GetInput(v any) error {
	if len(a.input) == 0 {
		return nil
	}
	return json.Unmarshal(a.input, v)
}

func (c *call) runActivity(ctx context.Context) (json.RawMessage, error) {
	input := wire.DecodeValue([]byte(wire.Text(c.request.Data[c.binding])))
	result, err := c.activity(activityContext{ctx, input})
	if err != nil || result == nil {
		return nil, err
	}
	text, err := marshal(result)
	if err != nil {
		return nil, fmt.Errorf("the result of %s cannot be JSON: %w", c.name, err)
	}
	return wire.EncodeResult(text, c.outputs)
}

// marshal makes JSON that says what v says: json.Marshal would write < as an escape.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

var errTooLarge = errors.New("the body of the request is too large")

func statusOf(err error) int {
	if errors.Is(err, errTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// readRequest reads a body that is as large as the settings allow at most. The host never says how large one is (it sends
// chunks), so each may grow to largeBody beside any number of others, and only a few may grow beyond it at the same time.
func (s *server) readRequest(w http.ResponseWriter, r *http.Request, request *wire.Request) error {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder has no deadlines
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()

	var b bytes.Buffer
	_, err := io.CopyN(&b, r.Body, min(largeBody, s.settings.maxBody+1))
	if err == nil && s.settings.maxBody > largeBody {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-r.Context().Done():
			return r.Context().Err()
		}
		_, err = io.CopyN(&b, r.Body, s.settings.maxBody+1-largeBody)
	}
	switch {
	case err == nil:
		return fmt.Errorf("%w: the limit is %d bytes (setting HANDLER_MAX_BODY_BYTES)", errTooLarge, s.settings.maxBody)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("the body broke off: %w", err)
	}
	if err := json.Unmarshal(b.Bytes(), request); err != nil {
		return fmt.Errorf("the body is no invocation: %w", err)
	}
	return nil
}
