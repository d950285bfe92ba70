package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/payload"
)

// engine gives durabletask-go's workers to the handler: each turn and each activity is an invocation.
type engine struct {
	*Host
}

func newEngine(h *Host) backend.TaskHubWorker {
	log := engineLog{h.log}
	limits := h.app.Host
	turns := backend.NewOrchestrationWorker(h.hub, engine{h}, log, backend.WithMaxParallelism(int32(limits.MaxConcurrentOrchestrators)))
	activities := backend.NewActivityTaskWorker(h.hub, engine{h}, log, backend.WithMaxParallelism(int32(limits.MaxConcurrentActivities)))
	return backend.NewTaskHubWorker(h.hub, turns, activities, log)
}

// ExecuteOrchestrator runs a turn. It returns an error only if the turn is to be run again: at functionTimeout, and
// when the host closes. Anything else that goes wrong fails the orchestration for good, as on the real host.
func (e engine) ExecuteOrchestrator(ctx context.Context, id api.InstanceID, past, events []*backend.HistoryEvent) (*turnResults, error) {
	start := findStart(events, past)
	e.reportStart(events)
	results, err := e.turn(context.WithoutCancel(ctx), id, start, past, events)
	if failure := (*exception)(nil); errors.As(err, &failure) && failure.kind != timeoutException {
		e.log.Error("the host fails an orchestration", "instance", id, "orchestrator", start.GetExecutionStarted().GetName(), "reason", failure.Error())
		return failedTurn(failure.Error()), nil
	}
	return results, err
}

func (e engine) turn(ctx context.Context, id api.InstanceID, start *backend.HistoryEvent, past, events []*backend.HistoryEvent) (*turnResults, error) {
	f, ok := e.function(start.GetExecutionStarted().GetName(), config.OrchestrationTrigger)
	if !ok {
		return nil, &exception{message: e.noOrchestrator(start.GetExecutionStarted().GetName())}
	}
	sent := make([]*backend.HistoryEvent, len(events))
	for i, event := range events {
		sent[i] = asKept(event)
	}
	history, err := wire.EncodeTurn(&wire.Turn{InstanceID: string(id), Past: past, New: sent})
	if err != nil {
		return nil, &exception{message: fmt.Sprintf("encode the turn: %s", err)}
	}
	a, err := e.invoke(ctx, f, turnRequest(f, history))
	if err != nil {
		return nil, err
	}
	results, err := e.decodeTurn(f, a)
	if err != nil {
		return nil, failed(f.Name, &exception{kind: invalidOperationException, message: err.Error()})
	}
	if err := e.sendOutputs(ctx, invocation{f, string(id), executionOf(start), len(past)}, a.Outputs); err != nil {
		return nil, err
	}
	e.takeGeneration(id, results)
	return results, nil
}

func (e engine) noOrchestrator(name string) string {
	var known []string
	for _, f := range e.functions {
		if f.Trigger().Is(config.OrchestrationTrigger) {
			known = append(known, "'"+f.Name+"'")
		}
	}
	slices.Sort(known)
	return fmt.Sprintf("The function '%s' doesn't exist, is disabled, or is not an orchestrator function. Additional info: The following are the known orchestrator functions: %s.",
		name, strings.Join(known, ", "))
}

// function finds a function by name and trigger, in any case.
func (h *Host) function(name, trigger string) (config.Function, bool) {
	f, ok := h.functions[strings.ToLower(name)]
	return f, ok && f.Trigger().Is(trigger)
}

// reportStart tells of an instance whose first turn this is.
func (e engine) reportStart(events []*backend.HistoryEvent) {
	start := findStart(events)
	continued := slices.ContainsFunc(events, func(e *backend.HistoryEvent) bool { return e.GetOrchestratorCompleted() != nil })
	if start == nil || continued {
		return
	}
	es, created := start.GetExecutionStarted(), start.GetTimestamp().AsTime()
	e.hub.onInstance(Instance{
		ID: es.GetOrchestrationInstance().GetInstanceId(), Name: es.GetName(),
		Parent: es.GetParentInstance().GetOrchestrationInstance().GetInstanceId(),
		Status: api.RUNTIME_STATUS_RUNNING, CreatedAt: created, LastUpdatedAt: created,
	})
}

// decodeTurn reads a turn's answer and checks what the engine would not survive.
func (e engine) decodeTurn(f config.Function, a *answerBody) (*turnResults, error) {
	var text string
	if err := json.Unmarshal(a.ReturnValue, &text); err != nil || text == "" {
		return nil, fmt.Errorf("the answer's ReturnValue is not a string with an OrchestratorResponse")
	}
	results, err := wire.DecodeActions(text)
	if err != nil {
		return nil, fmt.Errorf("the answer's ReturnValue is no OrchestratorResponse: %w", err)
	}
	if size := payload.UTF16Len(results.Response.GetCustomStatus().GetValue()); size > maxCustomStatus {
		return nil, &exception{message: fmt.Sprintf("The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. The current size is %d KB.", size/1024)}
	}
	return results, checkActions(results)
}

const maxCustomStatus = 16384 // bytes of UTF-16

// checkActions refuses actions that stall the real host's task hub or that the engine cannot carry out.
func checkActions(results *turnResults) error {
	children := map[string]bool{}
	for _, action := range results.Response.Actions {
		switch {
		case action.GetCreateSubOrchestration() != nil:
			id := action.GetCreateSubOrchestration().GetInstanceId()
			if err := checkInstanceID(id); err != nil {
				return fmt.Errorf("sub-orchestration %s: %w", action.GetCreateSubOrchestration().GetName(), err)
			}
			if children[id] {
				return fmt.Errorf("two sub-orchestrations of one turn have the id %q: give each its own", id)
			}
			children[id] = true
		case action.GetSendEvent() != nil:
			if action.GetSendEvent().GetInstance() == nil {
				return fmt.Errorf("the event %q is sent to no instance", action.GetSendEvent().GetName())
			}
		case action.GetScheduleTask() == nil && action.GetCreateTimer() == nil && action.GetCompleteOrchestration() == nil &&
			action.GetTerminateOrchestration() == nil:
			return fmt.Errorf("action %d is of an unknown kind", action.GetId())
		}
	}
	return nil
}

// maxInstanceID is the longest id that the host's storage takes; one that is longer stalls the whole task hub there.
const maxInstanceID = 512

func checkInstanceID(id string) error {
	switch {
	case id == "":
		return errors.New("the instance id is empty, which stalls the real host's task hub: give it one")
	case len(id) > maxInstanceID:
		return fmt.Errorf("the instance id has %d characters, which stalls the real host's task hub: at most %d, better 100", len(id), maxInstanceID)
	case id[0] == '@':
		return fmt.Errorf("the instance id %q starts with @, which the real host takes for an entity: choose another", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }):
		return fmt.Errorf("the instance id %q holds control characters, which the real host's storage refuses: choose another", id)
	}
	return nil
}

// takeGeneration takes a continue-as-new out of a turn's actions and leaves it to the task hub.
func (e engine) takeGeneration(id api.InstanceID, results *turnResults) {
	for i, action := range results.Response.Actions {
		if c := action.GetCompleteOrchestration(); c.GetOrchestrationStatus() == api.RUNTIME_STATUS_CONTINUED_AS_NEW {
			e.hub.continueAsNew(id, &generation{input: c.GetResult(), carryover: c.GetCarryoverEvents()})
			results.Response.Actions = slices.Delete(results.Response.Actions, i, i+1)
			return
		}
	}
}

// ExecuteActivity runs an activity. It returns an error only when the host closes; a failure is a result.
func (e engine) ExecuteActivity(ctx context.Context, id api.InstanceID, scheduled *backend.HistoryEvent) (*backend.HistoryEvent, error) {
	task := scheduled.GetTaskScheduled()
	f, ok := e.function(task.GetName(), config.ActivityTrigger)
	if !ok {
		e.log.Error("an orchestration calls an activity that does not exist", "instance", id, "activity", task.GetName())
		return taskFailed(scheduled.GetEventId(), nil), nil // without details, as the host reports it
	}
	result, err := e.activity(context.WithoutCancel(ctx), f, id, task.GetInput().GetValue())
	if failure := (*exception)(nil); errors.As(err, &failure) {
		return taskFailed(scheduled.GetEventId(), failure.details()), nil
	} else if err != nil {
		return nil, err
	}
	return taskCompleted(scheduled.GetEventId(), result), nil
}

func (e engine) activity(ctx context.Context, f config.Function, id api.InstanceID, input string) ([]byte, error) {
	body, err := activityRequest(f, string(id), input)
	if err != nil {
		return nil, failed(f.Name, refusedValue(err))
	}
	a, err := e.invoke(ctx, f, body)
	if err != nil {
		return nil, err
	}
	if err := e.sendOutputs(ctx, invocation{function: f, instance: string(id)}, a.Outputs); err != nil {
		return nil, err
	}
	if !a.hasResult() {
		return nil, nil
	}
	result, err := newtonsoft.Result(a.ReturnValue)
	if err != nil {
		return nil, failed(f.Name, refusedValue(err))
	}
	if string(result) == "null" {
		return nil, nil
	}
	return result, nil
}

// engineLog passes the engine's log on: its own bookkeeping is of interest to nobody but a debugger.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Debug(v ...any)                 { l.log.Debug(fmt.Sprint(v...)) }
func (l engineLog) Info(v ...any)                  { l.log.Debug(fmt.Sprint(v...)) }
func (l engineLog) Warn(v ...any)                  { l.log.Warn(fmt.Sprint(v...)) }
func (l engineLog) Error(v ...any)                 { l.log.Error(fmt.Sprint(v...)) }
func (l engineLog) Debugf(format string, v ...any) { l.logf(slog.LevelDebug, format, v) }
func (l engineLog) Infof(format string, v ...any)  { l.logf(slog.LevelDebug, format, v) }
func (l engineLog) Errorf(format string, v ...any) { l.logf(slog.LevelError, format, v) }
func (l engineLog) Warnf(format string, v ...any)  { l.logf(slog.LevelWarn, format, v) }

// logf spares the formatting of what is not logged, which is most.
func (l engineLog) logf(level slog.Level, format string, v []any) {
	if strings.HasSuffix(format, "due to cancellation") || slices.ContainsFunc(v, isCanceled) {
		level = slog.LevelDebug // that work is abandoned when the host stops is no news
	}
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

func isCanceled(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, context.Canceled)
}
