// Package invocation carries what belongs to one invocation through a context.
package invocation

import (
	"context"
	"log/slog"
	"sync"
)

// Invocation is one call of a function by the host.
type Invocation struct {
	Logger *slog.Logger

	mu      sync.Mutex
	outputs map[string]any
}

type key struct{}

// With returns a context of the invocation.
func With(ctx context.Context, i *Invocation) context.Context {
	return context.WithValue(ctx, key{}, i)
}

// Of returns the invocation of the context. Outside of one (in a unit test of an activity) it is one that logs as slog's default does.
func Of(ctx context.Context) *Invocation {
	if i, ok := ctx.Value(key{}).(*Invocation); ok {
		return i
	}
	return &Invocation{Logger: slog.Default()}
}

// SetOutput sets the value of an output binding.
func (i *Invocation) SetOutput(binding string, v any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.outputs == nil {
		i.outputs = map[string]any{}
	}
	i.outputs[binding] = v
}

// Outputs returns what was set.
func (i *Invocation) Outputs() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.outputs
}
