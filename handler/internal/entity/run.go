package entity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Function runs one operation. The state and the input are JSON or nil, and so are the result and the state afterwards.
type Function func(ctx context.Context, state, input []byte) (result, after []byte, err error)

// Class is the code of one function's entities: its operations, by lower-case name.
type Class struct {
	Name       string // of the function, as its operations have it
	Operations map[string]Function
	Problem    error // why it cannot be used
}

// Error is an operation's error that has a type of its own.
type Error struct {
	Type string
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without its type.
func (e *Error) Unwrap() error { return e.Err }

// Run is the run of a batch. Its result so far can be read while it still runs.
type Run struct {
	batch *Batch
	class *Class
	limit int // of a result's and a state's size in bytes, 0: none
	log   *slog.Logger

	mu      sync.Mutex
	result  Result
	closed  bool
	running bool      // an operation is running
	began   time.Time // when that operation began
}

// NewRun makes a run of the batch.
func NewRun(b *Batch, c *Class, limit int, log *slog.Logger) *Run {
	return &Run{batch: b, class: c, limit: limit, log: log, result: Result{State: b.State}}
}

// Do runs the operations, each on the state that the one before left. If an operation fails, by an error or a panic, the state
// stays as it was, and the actions of the operation are dropped. When time is up, the remaining operations get no outcome, so the
// host asks for them again. The first operation always gets an outcome; otherwise the host would ask again for ever.
func (r *Run) Do(ctx context.Context) {
	for i, o := range r.batch.Operations {
		if !r.begin(ctx, i == 0) {
			return
		}
		scope := newScope(r.batch.ID, o.RequestID)
		traced, span := r.trace(ctx, o)
		result, after, err := r.operate(context.WithValue(traced, scopeKey{}, scope), o)
		if err == nil {
			err = r.check(o, result, after)
		}
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
		if !r.end(o, result, after, scope, err) {
			return
		}
	}
}

// trace begins an operation's span in the batch's trace. Without telemetry the span does nothing.
func (r *Run) trace(ctx context.Context, o Operation) (context.Context, trace.Span) {
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("example.com/durablefunctions/handler/entity")
	return tracer.Start(ctx, "entity:"+r.class.Name+":"+o.Name, trace.WithAttributes(attribute.String("durabletask.entity.operation", o.Name)))
}

// begin says whether the next operation may run, and records that it does.
func (r *Run) begin(ctx context.Context, first bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !first && ctx.Err() != nil {
		return false
	}
	r.running, r.began = true, time.Now()
	return true
}

// end records how an operation has ended, unless the run was given up in the meantime.
func (r *Run) end(o Operation, result, after []byte, scope *Scope, err error) bool {
	actions, deleted := scope.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	switch {
	case r.closed:
		return false
	case err != nil:
		f := failureOf(err)
		r.log.Error("entity operation failed", "operation", o.Name, "error", f.Message)
		r.result.Outcomes = append(r.result.Outcomes, Outcome{Failure: f, Start: r.began, End: time.Now()})
		return true
	case deleted:
		after = nil
	}
	r.result.State = after
	r.result.Actions = append(r.result.Actions, actions...)
	r.result.Outcomes = append(r.result.Outcomes, Outcome{Result: result, Start: r.began, End: time.Now()})
	return true
}

func (r *Run) operate(ctx context.Context, o Operation) (result, after []byte, err error) {
	f := r.class.Operations[strings.ToLower(o.Name)]
	if f == nil && strings.EqualFold(o.Name, DeleteOperation) {
		Current(ctx).Delete()
		return nil, nil, nil
	}
	if f == nil {
		return nil, nil, &Error{NotFoundType, fmt.Errorf("entity %s has no operation %q", r.class.Name, o.Name)}
	}
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("entity operation panicked", "operation", o.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = &Error{PanicType, fmt.Errorf("panic: %v", p)}
		}
	}()
	result, after, err = f(ctx, r.result.State, o.Input)
	if err != nil {
		err = named(err)
	}
	return result, after, err
}

// DeleteOperation is the operation that deletes an entity, unless the entity has its own operation with that name. The other SDKs
// do the same.
const DeleteOperation = "delete"

// named keeps an error's text. The Error method is the function's own code and may panic.
func named(err error) error {
	if typed := (*Error)(nil); errors.As(err, &typed) {
		return &Error{typed.Type, errors.New(err.Error())}
	}
	return errors.New(err.Error())
}

func (r *Run) check(o Operation, result, after []byte) error {
	what, size := "result", len(result)
	if len(after) > size {
		what, size = "state", len(after)
	}
	if r.limit == 0 || size <= r.limit {
		return nil
	}
	return fmt.Errorf("the %s of operation %s has %d bytes, the limit is %d (setting HANDLER_MAX_BODY_BYTES): store it elsewhere and keep where it is",
		what, o.Name, size, r.limit)
}

func failureOf(err error) *Failure {
	if typed := (*Error)(nil); errors.As(err, &typed) {
		return &Failure{Type: typed.Type, Message: err.Error()}
	}
	return &Failure{Type: FailedType, Message: err.Error()}
}

// Result ends the run and returns what it has done.
func (r *Run) Result() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return &r.result
}

// GiveUp ends the run while an operation is running: that operation fails for the reason given. The operations behind it get no
// outcome, so that the host asks for them again.
func (r *Run) GiveUp(kind, message string) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && (r.running || len(r.result.Outcomes) == 0) {
		r.result.Outcomes = append(r.result.Outcomes, Outcome{Failure: &Failure{Type: kind, Message: message}, Start: r.began, End: time.Now()})
	}
	r.closed = true
	return &r.result
}
