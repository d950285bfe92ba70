package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/go-chi/chi/v5"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/loopback"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/handler/internal/wire"
)

type server struct {
	functions map[string]*function
	settings  settings
	stdout    io.Writer
	errors    slog.Handler
	room      *room
	stopping  *atomic.Bool // turns are put off
	sessions  sessions
	versions  durable.Versions // that the app takes
	telemetry *telemetry.Telemetry
}

// call is one invocation on its way.
type call struct {
	*function
	id      string
	request wire.Request
	turn    *wire.Turn    // of an orchestrator
	session *session      // that runs the turn; nil: the turn is replayed, and has no session
	batch   *entity.Batch // of an entity
	running *entity.Run   // of the batch
	logs    *logs
	logger  *slog.Logger
	silent  bool // it logs nothing: an earlier try of the same turn has logged the same
	seen    *telemetry.Invocation
	size    int // of the request's body

	leave    func()        // gives the body's memory back
	finished chan struct{} // closed when the function has returned
}

// outcome is the result of a function's run, or its error.
type outcome struct {
	value   json.RawMessage
	outputs map[string]json.RawMessage
	err     error
	kind    wire.Kind    // of the error
	details wire.Details // of the error
	end     *end         // of the orchestration, or a failure of an entity's operations
}

// routes serves what the host asks.
func (s *server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(s.fromHost)
	r.Get("/", func(http.ResponseWriter, *http.Request) {}) // the host's question whether we are ready: any answer will do
	r.Post("/{function}", s.serve)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, "no such path: "+r.URL.Path)
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusMethodNotAllowed, "functions are invoked with POST, not "+r.Method)
	})
	return r
}

// fromHost refuses requests of a web page that a browser on this machine shows, also when the page uses a name of its own that
// resolves to this machine. The host calls 127.0.0.1 and sends no Origin.
func (s *server) fromHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || !loopback.Is(r.Host) {
			s.refuse(w, r, http.StatusForbidden, "only the Functions host may call functions, not a web page")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	f := s.functions[chi.URLParam(r, "function")]
	if f == nil {
		s.refuse(w, r, http.StatusNotFound, fmt.Sprintf("no function %q is registered and enabled", chi.URLParam(r, "function")))
		return
	}
	c := &call{function: f, id: r.Header.Get(invocationID), leave: func() {}, finished: make(chan struct{})}
	ctx, cancel := s.deadline(s.begin(r, c))
	defer cancel()
	defer c.seen.End()
	c.logs = &logs{stdout: s.stdout, function: f.name, invocation: c.id}
	c.logger = s.logger(c)
	defer s.contain(w, r, c)
	if err := s.receive(ctx, w, r, c); err != nil {
		s.answerUnread(w, r, c, err)
		return
	}
	s.observe(c)
	if c.batch != nil {
		c.running = entity.NewRun(c.batch, c.entity, s.maxPayload(), s.logger(c, slog.String("entity", c.batch.ID)))
	}
	s.answer(w, c, s.run(ctx, c))
	select {
	case <-c.finished:
		c.leave()
	default: // left behind, with the body in its hands
		go func() { <-c.finished; c.leave() }()
	}
}

// deadline bounds the time of an invocation.
func (s *server) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.settings.limit > 0 {
		return context.WithTimeout(ctx, s.settings.limit)
	}
	return ctx, func() {}
}

// answerUnread answers a request that could not be read. If it is a turn that cannot be done now, the host is asked to send it
// again; anything else fails.
func (s *server) answerUnread(w http.ResponseWriter, r *http.Request, c *call, err error) {
	var p *putOff
	if !errors.As(err, &p) {
		c.seen.Failed("refused", err.Error())
		s.refuse(w, r, statusOf(err), fmt.Sprintf("request to %s: %v", c.name, err))
		return
	}
	drain(w, r)
	c.seen.PutOff()
	if c.entity != nil {
		c.logger.Warn("operations put off, the host asks again", "reason", p.reason)
		s.answer(w, c, operations(&entity.Result{Refused: true}))
		return
	}
	c.logger.Warn("turn put off, the host asks again", "instance", p.instance, "reason", p.reason)
	s.answer(w, c, s.actions(c, replay.Result{ExecutionResults: wire.PutOff(p.instance, p.first)}))
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errNoRoom):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// contain answers a request when the handler itself has panicked: without an answer, an orchestrator would never learn why.
func (s *server) contain(w http.ResponseWriter, r *http.Request, c *call) {
	if p := recover(); p != nil {
		c.seen.Failed(string(wire.KindPanic), fmt.Sprint(p))
		c.logger.Error("the handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.refuse(w, r, http.StatusInternalServerError, fmt.Sprintf("request to %s: the handler panicked: %v", c.name, p))
		c.leave()
	}
}

func (s *server) logger(c *call, attrs ...slog.Attr) *slog.Logger {
	return slog.New(&lazy{make: func() slog.Handler {
		if c.silent {
			return slog.DiscardHandler
		}
		attrs = slices.Concat([]slog.Attr{slog.String("function", c.name), slog.String("invocation", c.id)}, c.seen.LogAttrs(), attrs)
		return newHandler(c.logs, s.settings.level, s.errors.WithAttrs(attrs))
	}})
}

// run runs the function and waits for it until the deadline. A function that has not returned by then is left running.
func (s *server) run(ctx context.Context, c *call) outcome {
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		returned := false
		defer func() {
			if p := recover(); p != nil {
				logPanic(c.logger, p)
				o = s.giveUp(c, wire.KindPanic, fmt.Sprintf("panic: %v", p))
			} else if !returned {
				c.logger.Error("function ended its goroutine")
				o = s.giveUp(c, wire.KindPanic, "the function ended its goroutine")
			}
			done <- o
			close(c.finished)
		}()
		growStack()
		o = s.execute(ctx, c)
		if o.err != nil {
			o.details, o.err = wire.DetailsOf(o.err), errors.New(errorText(o.err))
		}
		returned = true
	}()
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	select {
	case o := <-done: // in the same moment: what is done is not to be called late
		return o
	default:
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return outcome{err: errors.New("the host hung up")} // nobody reads it
	}
	message := s.leftBehind(c.name)
	c.logger.Error(message)
	return s.giveUp(c, wire.KindDeadline, message)
}

// leftBehind says that a function did not come back before the deadline.
func (s *server) leftBehind(function string) string {
	return fmt.Sprintf("function %s ran for %s, the limit, and was left behind", function, s.settings.limit)
}

// logPanic logs a function's panic, with its stack: it is called before the stack is left.
func logPanic(logger *slog.Logger, p any) {
	logger.Error("function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// errorText is an error's text. The Error method is the function's own code and may panic, most often on a nil pointer.
func errorText(err error) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("the function returned an error of type %T, whose Error method panicked: %v", err, p)
		}
	}()
	return err.Error()
}

// growStack grows a new goroutine's stack at once. A JSON decoder would make it grow step by step, and each step copies the whole
// stack: that was a fifth of an activity's time.
//
//go:noinline
func growStack() (room [8 << 10]byte) { return }

// giveUp is the outcome of a function that did not return: an error. For a turn it is a good answer that fails the
// orchestration, because with a bad one the host, and not we, would say why it failed.
func (s *server) giveUp(c *call, kind wire.Kind, message string) outcome {
	if c.turn != nil {
		errorType := replay.PanicType
		if kind == wire.KindDeadline {
			errorType = replay.DeadlineType
		}
		return s.actions(c, replay.Result{ExecutionResults: replay.Fail(c.turn.InstanceID, errorType, message)})
	}
	if c.running != nil {
		return c.giveUpBatch(kind, message)
	}
	return outcome{err: errors.New(message), kind: kind}
}

func (s *server) execute(ctx context.Context, c *call) outcome {
	if c.turn != nil {
		return s.actions(c, s.turn(c))
	}
	in := &Invocation{Function: c.name, ID: c.id, function: c.Function, request: c.request, maxPayload: s.maxPayload(), versions: s.versions}
	inv := &invocation.Invocation{Logger: c.logger, Client: in.client()}
	ctx = invocation.With(ctx, inv)
	var o outcome
	switch {
	case c.activity != nil:
		o.value, o.err = invocation.RunActivity(ctx, c.activity, wire.Unwrap(c.request.Data[c.binding]), c.outputs)
		if o.err == nil {
			o.err = s.checkResult(o.value)
		}
	case c.running != nil:
		c.running.Do(ctx)
		o = operations(c.running.Result())
	default:
		o.err = c.trigger(ctx, in)
	}
	if err := inv.Wait(); o.err == nil && err != nil {
		o.err = err
		if errors.As(err, new(*invocation.PanicError)) {
			o.kind = wire.KindPanic
		}
	}
	if c.running != nil {
		return o
	}
	o.outputs = inv.Outputs()
	if result, ok := o.outputs["$return"]; ok && c.activity == nil { // where the host looks for that one
		o.value = result
		delete(o.outputs, "$return")
	}
	return o
}

// turn runs an orchestrator's turn, in its session if it has one.
func (s *server) turn(c *call) replay.Result {
	logger := s.logger(c, slog.String("instance", c.turn.InstanceID))
	if c.session == nil {
		return replay.Run(c.turn, c.orchestrator, logger)
	}
	session := c.session
	c.session = nil // the call is kept as long as its log is, and that outlives the session
	r := session.Run(c.turn, c.orchestrator, logger, nil)
	s.sessions.keep(c.turn.InstanceID, session)
	return r
}

// actions is the outcome of a turn. If an action cannot be sent, the orchestration fails and says why.
func (s *server) actions(c *call, r replay.Result) outcome {
	if err := s.checkActions(r.ExecutionResults); err != nil {
		c.logger.Error("orchestration failed", "instance", r.Response.InstanceId, "error", err)
		r = replay.Result{ExecutionResults: replay.Fail(r.Response.InstanceId, tooLargeType, err.Error())}
	}
	wire.RenameExceptions(r.ExecutionResults)
	value, err := wire.EncodeActions(r.ExecutionResults)
	if err != nil {
		value, err = wire.EncodeActions(replay.Fail(r.Response.InstanceId, fmt.Sprintf("%T", err), err.Error()))
		r.Outputs = nil
	}
	return outcome{value: value, outputs: r.Outputs, err: err, end: endOf(r)}
}
