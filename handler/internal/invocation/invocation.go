// Package invocation carries what belongs to one invocation through a context: its log, its outputs, its durable client, and the
// goroutines that it waits for.
//
//	i := &invocation.Invocation{Logger: logger}
//	err := function(invocation.With(ctx, i)) // calls invocation.Of(ctx).SetOutput("mail", m)
//	outputs := i.Outputs()
package invocation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/plainjson"
	"example.com/durablefunctions/handler/internal/wire"
)

// Invocation is one call of a function by the host.
type Invocation struct {
	Logger *slog.Logger
	// Client makes the *durable.Client of the function's durableClient binding; nil if there is no such binding.
	Client func() (any, error)

	outside bool // no invocation: a test has called the function

	mu      sync.Mutex
	outputs map[string]json.RawMessage

	tasks   sync.WaitGroup
	failure error // of the first task that failed
}

type key struct{}

// With returns a context that carries the invocation.
func With(ctx context.Context, i *Invocation) context.Context {
	return context.WithValue(ctx, key{}, i)
}

// Of returns the invocation of the context. If there is none, as in a unit test of an activity, it returns a new one that logs to
// slog's default logger.
func Of(ctx context.Context) *Invocation {
	if i, ok := ctx.Value(key{}).(*Invocation); ok {
		return i
	}
	return &Invocation{Logger: slog.Default(), outside: true}
}

// SetOutput sets the value of an output binding. It panics if the value cannot be JSON, so that the mistake shows at the place
// where the value is set.
func (i *Invocation) SetOutput(binding string, v any) {
	value := MarshalOutput(binding, v)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.outputs == nil {
		i.outputs = map[string]json.RawMessage{}
	}
	i.outputs[binding] = value
}

// Outputs returns the values that have been set so far.
func (i *Invocation) Outputs() map[string]json.RawMessage {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.outputs)
}

// MarshalOutput returns an output's value as JSON. It panics if the value cannot be JSON.
func MarshalOutput(binding string, v any) json.RawMessage {
	value, err := plainjson.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("output %s cannot be JSON: %w", binding, err))
	}
	return value
}

// RunActivity runs an activity on its input as it was sent, and returns its result as it must be sent; nil if it has none. outputs
// are the output bindings of its function.
func RunActivity(ctx context.Context, f task.Activity, input []byte, outputs []string) (json.RawMessage, error) {
	result, err := f(activityContext{ctx, wire.DecodeValue(input)})
	if err != nil || result == nil {
		return nil, err
	}
	text, err := plainjson.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("the activity's result cannot be JSON: %w", err)
	}
	return wire.EncodeResult(text, outputs)
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
