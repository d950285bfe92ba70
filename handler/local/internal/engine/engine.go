// Package engine gives an app's durable functions to durabletask-go's engine: each turn, each activity and each batch of an
// entity's operations is an invocation of the handler. The host itself runs one activity: the HTTP call of an orchestrator.
//
//	e := engine.New(app, hub, invoker, log)
//	if err := e.Start(ctx); err != nil {
//		return err
//	}
//	…
//	err := e.Shutdown(ctx) // once the invoker's Stopping has ended
package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/invoke"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Engine runs the work that the task hub holds.
type Engine struct {
	app      *config.App
	hub      *taskhub.TaskHub
	invoker  *invoke.Invoker
	log      *slog.Logger
	worker   backend.TaskHubWorker
	entities sync.WaitGroup
}

// New returns an engine that runs as much at a time as host.json allows.
func New(app *config.App, hub *taskhub.TaskHub, invoker *invoke.Invoker, log *slog.Logger) *Engine {
	e := &Engine{app: app, hub: hub, invoker: invoker, log: log}
	logger := taskhub.NewLogger(log)
	turns := backend.NewOrchestrationWorker(hub, e, logger, backend.WithMaxParallelism(int32(app.Host.MaxConcurrentOrchestrators)))
	activities := backend.NewActivityTaskWorker(hub, e, logger, backend.WithMaxParallelism(int32(app.Host.MaxConcurrentActivities)))
	e.worker = backend.NewTaskHubWorker(hub, turns, activities, logger)
	return e
}

// Start starts the engine. Cancelling ctx afterwards has no effect.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.worker.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	e.entities.Go(e.runEntities)
	return nil
}

// Shutdown waits until everything that runs has ended, even if ctx ends first.
func (e *Engine) Shutdown(ctx context.Context) error {
	err := e.worker.Shutdown(context.WithoutCancel(ctx))
	e.entities.Wait()
	return err
}

// ExecuteOrchestrator runs a turn. It returns an error only if the turn must run again: after functionTimeout, when the handler
// puts it off, or when the host closes. Any other failure fails the orchestration for good, as on the real host. past has only the
// events that the engine looks at; the task hub has all of them.
func (e *Engine) ExecuteOrchestrator(ctx context.Context, id api.InstanceID, past, added []*backend.HistoryEvent) (*funchost.TurnResults, error) {
	start := historyevent.Start(added, past)
	ctx = e.traced(ctx, start.GetExecutionStarted().GetParentTraceContext())
	results, err := e.turn(context.WithoutCancel(ctx), id, start, added)
	if failure := (*funchost.Exception)(nil); errors.As(err, &failure) && !failure.IsTimeout() {
		name := start.GetExecutionStarted().GetName()
		e.log.Error("the host fails an orchestration", "instance", id, "orchestrator", name, "reason", failure.Error())
		return funchost.FailedTurn(name, failure), nil
	}
	return results, err
}

// traceContext is a TraceContext, whose type durabletask-go does not export.
type traceContext interface {
	GetTraceParent() string
	GetTraceState() *wrapperspb.StringValue
}

// traced returns ctx with the trace that an invocation's header names. It names one only if host.json turns tracing on.
func (e *Engine) traced(ctx context.Context, c traceContext) context.Context {
	ctx = trace.ContextWithSpan(ctx, nil) // without durabletask-go's span
	if !e.app.Host.Tracing {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": c.GetTraceParent(), "tracestate": c.GetTraceState().GetValue()})
}

func (e *Engine) turn(ctx context.Context, id api.InstanceID, start *backend.HistoryEvent, added []*backend.HistoryEvent) (*funchost.TurnResults, error) {
	f, ok := e.function(start.GetExecutionStarted().GetName(), config.OrchestrationTrigger)
	if !ok {
		return nil, funchost.NoOrchestrator(start.GetExecutionStarted().GetName(), e.app.Functions)
	}
	var results *funchost.TurnResults
	err := e.invoker.Retry(f, func(try funchost.Try) (err error) {
		results, err = e.tryTurn(ctx, f, try, id, start, added)
		return err
	})
	if failure := (*funchost.Exception)(nil); results == nil || err != nil && !errors.As(err, &failure) {
		return nil, err
	}
	funchost.KeepLastEnd(results)
	e.takeGeneration(id, results)
	e.takeTags(id, results)
	return results, nil
}

// tryTurn returns results beside the error if they say that the orchestration has failed.
func (e *Engine) tryTurn(ctx context.Context, f config.Function, try funchost.Try, id api.InstanceID, start *backend.HistoryEvent, added []*backend.HistoryEvent) (*funchost.TurnResults, error) {
	past, events := e.hub.Past(string(id))
	body, err := funchost.TurnRequest(f, try, wire.HostTurn{
		InstanceID: string(id), Past: past, New: added,
		DefaultVersion: e.app.Host.DefaultVersion,
	})
	if err != nil {
		return nil, &funchost.Exception{Message: err.Error()}
	}
	a, err := e.invoker.Post(ctx, f, try, body)
	if err != nil {
		return nil, err
	}
	results, err := a.Turn(f)
	if err != nil {
		return nil, err
	}
	putOff := funchost.IsPutOff(results)
	from := output.Source{Function: f, Instance: string(id)}
	if !putOff { // a refused turn comes again, and sends its outputs then
		from.Execution, from.Turn = historyevent.Execution(start), events
	}
	if err := e.invoker.SendOutputs(ctx, from, a); err != nil {
		return nil, err
	}
	if putOff {
		e.putOff(id, events == 0)
		return nil, errPutOff
	}
	if failure := funchost.OrchestrationFailure(f, results); failure != nil {
		return results, failure
	}
	return results, nil
}

// errPutOff says that the handler has refused a turn, and will be asked again.
var errPutOff = errors.New("the handler put the turn off")

func (e *Engine) putOff(id api.InstanceID, first bool) {
	log := e.log.With("instance", id)
	if first {
		log.Warn("the handler put off a first turn: until it comes again, the host loses every event that is raised for the instance")
	}
	if err := e.hub.PutOff(id); err != nil {
		log.Error("a turn that the handler put off could not be delayed: it comes again at once", "error", err)
	}
}

// function finds a function by name and trigger, in any case.
func (e *Engine) function(name, trigger string) (config.Function, bool) {
	f, ok := e.app.Function(name)
	return f, ok && f.Trigger().Is(trigger)
}

// takeTags hands the tags of children to the task hub, because durabletask-go does not know them.
func (e *Engine) takeTags(id api.InstanceID, results *funchost.TurnResults) {
	tags := map[int32]map[string]string{}
	for _, action := range results.Response.Actions {
		if child := action.GetCreateSubOrchestration(); child != nil {
			if found := historyevent.TagsIn(child.ProtoReflect().GetUnknown(), wire.ChildTags); found != nil {
				tags[action.Id] = found
			}
		}
	}
	e.hub.TagChildren(id, tags)
}

// takeGeneration removes a continue-as-new from a turn's actions and hands it to the task hub.
func (e *Engine) takeGeneration(id api.InstanceID, results *funchost.TurnResults) {
	for i, action := range results.Response.Actions {
		if c := action.GetCompleteOrchestration(); c.GetOrchestrationStatus() == api.RUNTIME_STATUS_CONTINUED_AS_NEW {
			e.hub.ContinueAsNew(id, taskhub.Generation{Input: c.GetResult(), Carryover: c.GetCarryoverEvents()})
			results.Response.Actions = slices.Delete(results.Response.Actions, i, i+1)
			return
		}
	}
}

// ExecuteActivity runs an activity. It returns an error only when the host closes; a failure is a result.
func (e *Engine) ExecuteActivity(ctx context.Context, id api.InstanceID, scheduled *backend.HistoryEvent) (*backend.HistoryEvent, error) {
	task := scheduled.GetTaskScheduled()
	if task.GetName() == wire.HTTPActivity {
		return e.runHTTPActivity(context.WithoutCancel(ctx), id, scheduled)
	}
	f, ok := e.function(task.GetName(), config.ActivityTrigger)
	if !ok {
		e.log.Error("an orchestration calls an activity that does not exist", "instance", id, "activity", task.GetName())
		return taskhub.TaskFailed(scheduled.GetEventId(), nil), nil // without details, as the host reports it
	}
	ctx = e.traced(ctx, task.GetParentTraceContext())
	result, err := e.activity(context.WithoutCancel(ctx), f, id, task.GetInput().GetValue())
	if failure := (*funchost.Exception)(nil); errors.As(err, &failure) {
		return taskhub.TaskFailed(scheduled.GetEventId(), failure.Details()), nil
	} else if err != nil {
		return nil, err
	}
	return taskhub.TaskCompleted(scheduled.GetEventId(), result), nil
}

func (e *Engine) activity(ctx context.Context, f config.Function, id api.InstanceID, input string) ([]byte, error) {
	var result []byte
	err := e.invoker.Retry(f, func(try funchost.Try) (err error) {
		result, err = e.tryActivity(ctx, f, try, id, input)
		return err
	})
	return result, err
}

func (e *Engine) tryActivity(ctx context.Context, f config.Function, try funchost.Try, id api.InstanceID, input string) ([]byte, error) {
	body, err := funchost.ActivityRequest(f, try, string(id), input)
	if err != nil {
		return nil, err
	}
	a, err := e.invoker.Post(ctx, f, try, body)
	if err != nil {
		return nil, err
	}
	if err := e.invoker.SendOutputs(ctx, output.Source{Function: f, Instance: string(id)}, a); err != nil {
		return nil, err
	}
	return a.Result(f)
}
