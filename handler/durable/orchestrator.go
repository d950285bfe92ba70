package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/replay"
)

// Activity turns a typed function into an activity that app.Activity takes. An absent input is the zero In.
func Activity[In, Out any](f func(context.Context, In) (Out, error)) task.Activity {
	return func(ctx task.ActivityContext) (any, error) {
		var in In
		if err := ctx.GetInput(&in); err != nil {
			return nil, fmt.Errorf("the activity's input is no %T: %w", in, err)
		}
		return f(ctx.Context(), in)
	}
}

// Orchestrator turns a typed function into an orchestrator that app.Orchestrator takes. An absent input is the zero In.
func Orchestrator[In, Out any](f func(*task.OrchestrationContext, In) (Out, error)) task.Orchestrator {
	return func(ctx *task.OrchestrationContext) (any, error) {
		var in In
		if err := ctx.GetInput(&in); err != nil {
			return nil, fmt.Errorf("the orchestration's input is no %T: %w", in, err)
		}
		return f(ctx, in)
	}
}

// Version returns the version that the orchestration was started in, empty if it has none: that of its start, or
// defaultVersion of host.json. It stays the same through all turns, whatever host.json says later, so that an orchestrator
// may take the course that belongs to it.
func Version(ctx *task.OrchestrationContext) string { return replay.Of(ctx).Version }

// SetCustomStatus sets what status queries show of the orchestration, as JSON, at the end of this turn. The host takes
// 16,384 bytes as UTF-16; a longer one is replaced by a note, with an error in the log. A value that cannot be JSON
// panics.
func SetCustomStatus(ctx *task.OrchestrationContext, v any) {
	replay.Of(ctx).Context.SetCustomStatus(statusText(v))
}

func statusText(v any) string {
	status, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("durable: the custom status cannot be JSON: %w", err))
	}
	return string(status)
}

// SetOutput sets the value of an output binding of the orchestrator's function. It is sent if this run of the orchestrator
// completes well. If the host cannot send an output (also one that is nested more than 64 levels deep), it fails the orchestration,
// and the result is lost: so set outputs in small sub-orchestrations whose result nobody needs. A value that cannot be JSON panics.
func SetOutput(ctx *task.OrchestrationContext, binding string, v any) {
	replay.Of(ctx).Outputs[binding] = invocation.MarshalOutput(binding, v)
}

// Log returns the invocation's log, for activities and trigger functions. Errors go to stderr, the rest to the host's
// log of the invocation.
func Log(ctx context.Context) *slog.Logger { return invocation.Of(ctx).Logger }

// ReplayLog returns a log that is quiet while the orchestrator only repeats what it did in earlier turns.
func ReplayLog(ctx *task.OrchestrationContext) *slog.Logger {
	return slog.New(replayHandler{replay.Of(ctx).Logger.Handler(), ctx})
}

type replayHandler struct {
	slog.Handler
	ctx *task.OrchestrationContext
}

func (h replayHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return !h.ctx.IsReplaying && h.Handler.Enabled(ctx, level)
}

func (h replayHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return replayHandler{h.Handler.WithAttrs(attrs), h.ctx}
}

func (h replayHandler) WithGroup(name string) slog.Handler {
	return replayHandler{h.Handler.WithGroup(name), h.ctx}
}
