// Package replay runs one turn of an orchestration: it gives durabletask-go's executor a history that it can take, and
// the host a list of actions that it can take. Between the two it mends what v0.6.0 gets wrong; the comments say what.
package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/payload"
)

// MaxCustomStatus is how long a custom status may be, in bytes as UTF-16: a longer one fails the orchestration in the
// host.
const MaxCustomStatus = 16384

// Failure types of our own, as they stand in FailureDetails.ErrorType.
const (
	PanicType    = "OrchestratorPanic"
	DeadlineType = "OrchestratorDeadlineExceeded"
	nondetType   = "NonDeterministic"
)

// Result is the answer to a turn.
type Result struct {
	*backend.ExecutionResults
	Outputs map[string]json.RawMessage // of the output bindings; only when this turn completes the orchestration
}

// Run replays the orchestrator over the turn's history and returns what it wants done. It never panics, and whatever
// the orchestrator does is an answer: what it gets wrong is a completion in state FAILED.
func Run(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger) Result {
	return Observe(turn, orchestrator, logger, nil)
}

// Observe is Run for a test kit, which also wants to see what the orchestrator scheduled in this replay of the turns
// before.
func Observe(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger, all func(*backend.ExecutionResults)) Result {
	h := sortHistory(turn)
	t := &Turn{
		Logger:      logger,
		ExecutionID: h.executionID,
		Outputs:     map[string]json.RawMessage{},
		outcomes:    h.outcomes,
		ops:         make([]*Op, 0, len(h.scheduled)),
		waits:       map[string][]*Op{},
		buffered:    map[string][]string{},
	}
	if all == nil {
		t.earlier = h.earlier()
	}
	results, err := t.execute(turn.InstanceID, h, orchestrator)
	if err != nil {
		return Result{ExecutionResults: Fail(turn.InstanceID, PanicType, err.Error())}
	}
	if all != nil {
		all(results)
	}
	if err := checkDeterminism(h.scheduled, results); err != nil {
		logger.Error(err.Error())
		return Result{ExecutionResults: Fail(turn.InstanceID, nondetType, err.Error())}
	}
	completed, err := h.tidy(results)
	if err != nil {
		logger.Error(err.Error())
		return Result{ExecutionResults: Fail(turn.InstanceID, fmt.Sprintf("%T", err), err.Error())}
	}
	if t.Status != nil {
		results.Response.CustomStatus = wrapperspb.String(t.Status())
	}
	setCustomStatus(results, logger)
	r := Result{ExecutionResults: results}
	if completed {
		r.Outputs = t.Outputs
	}
	return r
}

// execute runs the SDK's executor. A panic that is not the SDK's own signal is contained here, and with it whatever
// state the SDK was left in.
func (t *Turn) execute(instanceID string, h *history, orchestrator task.Orchestrator) (results *backend.ExecutionResults, err error) {
	registry := task.NewTaskRegistry()
	_ = registry.AddOrchestratorN("*", func(ctx *task.OrchestrationContext) (any, error) {
		t.Context = ctx
		t.sequence = reflect.ValueOf(ctx).Elem().FieldByIndex(sequenceNumber)
		turns.Store(ctx, t)
		result, err := orchestrator(ctx)
		if t.blocked {
			panic(task.ErrTaskBlocked) // the orchestrator recovered the signal that it must let pass
		}
		return result, err
	})
	defer func() {
		turns.Delete(t.Context)
		if p := recover(); p != nil {
			t.Logger.Error("orchestrator panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return task.NewTaskExecutor(registry).ExecuteOrchestrator(context.Background(), api.InstanceID(instanceID), h.past, h.new)
}

// checkDeterminism compares what earlier turns scheduled with what the orchestrator scheduled now, takes it off the
// actions and sorts these. The events were kept from the SDK, which compares no names and panics at some differences.
func checkDeterminism(scheduled []*backend.HistoryEvent, results *backend.ExecutionResults) error {
	actions := byID(results.Response.Actions)
	for _, e := range scheduled {
		was, now := ofEvent(e), step{}
		if int(e.EventId) < len(actions) && e.EventId >= 0 {
			switch a := actions[e.EventId]; {
			case a.GetScheduleTask() != nil:
				now = step{"activity", a.GetScheduleTask().Name}
			case a.GetCreateSubOrchestration() != nil:
				now = step{"sub-orchestration", a.GetCreateSubOrchestration().Name}
			case a.GetCreateTimer() != nil:
				now = step{"timer", ""}
			case a.GetCompleteOrchestration() != nil:
				now = step{"the orchestration's end", a.GetCompleteOrchestration().GetFailureDetails().GetErrorMessage()}
			}
		}
		if was != now {
			return fmt.Errorf("nondeterministic orchestrator: action %d was %s in an earlier turn and is %s now; "+
				"an orchestration in flight must be replayed by code that schedules the same, in the same order", e.EventId, was, now)
		}
		actions[e.EventId] = nil
	}
	results.Response.Actions = slices.DeleteFunc(actions, isNil)
	return nil
}

// byID puts each action at the index that is its id: they come in random order, from a Go map, numbered from 0 on.
func byID[A interface{ GetId() int32 }](actions []A) []A {
	size := 0
	for _, a := range actions {
		size = max(size, int(a.GetId())+1)
	}
	sorted := make([]A, size)
	for _, a := range actions {
		sorted[a.GetId()] = a
	}
	return sorted
}

func isNil[T any](p *T) bool { return p == nil }

// step is what an orchestrator scheduled.
type step struct{ kind, name string }

func (s step) String() string {
	switch {
	case s.kind == "":
		return "nothing"
	case s.name == "":
		return s.kind
	}
	return fmt.Sprintf("%s %q", s.kind, s.name)
}

func ofEvent(e *backend.HistoryEvent) step {
	if s := e.GetTaskScheduled(); s != nil {
		return step{"activity", s.Name}
	}
	if s := e.GetSubOrchestrationInstanceCreated(); s != nil {
		return step{"sub-orchestration", s.Name}
	}
	return step{"timer", ""}
}

// tidy makes the actions fit for the host: nothing behind the first completion, ids for children, inputs that are JSON and that the host does not alter. It says whether the orchestration completed.
func (h *history) tidy(results *backend.ExecutionResults) (completed bool, err error) {
	resp := results.Response
	if h.suspended {
		// A suspended orchestration ends or does nothing; what it wants now comes again when it is resumed.
		resp.Actions = slices.DeleteFunc(resp.Actions, isNoTermination)
	}
	for i, a := range resp.Actions {
		if c := a.GetCompleteOrchestration(); c != nil {
			h.sortCarryover(c.CarryoverEvents)
			resp.Actions = resp.Actions[:i+1]
			completed = c.OrchestrationStatus == api.RUNTIME_STATUS_COMPLETED
			break
		}
	}
	for _, a := range resp.Actions {
		if d := a.GetCompleteOrchestration().GetFailureDetails(); d != nil {
			d.ErrorMessage = strings.ToValidUTF8(d.ErrorMessage, "\uFFFD") // protobuf refuses anything else
		}
		if s := a.GetScheduleTask(); s != nil {
			if s.Input, err = activityInput(s.Input); err != nil {
				return false, fmt.Errorf("the input of activity %q cannot be sent: %w", s.Name, err)
			}
		}
		if c := a.GetCreateSubOrchestration(); c != nil {
			if c.InstanceId == "" {
				c.InstanceId = fmt.Sprintf("%s:%x", h.executionID, a.Id)
			} else if err := wire.CheckInstanceID(c.InstanceId); err != nil {
				return false, fmt.Errorf("the id of sub-orchestration %q: %w", c.Name, err)
			}
			if c.Input.GetValue() == "" {
				c.Input = wrapperspb.String("null")
			}
		}
	}
	return completed, nil
}

func isNoTermination[A interface{ GetCompleteOrchestration() C }, C interface {
	GetOrchestrationStatus() api.OrchestrationStatus
}](a A) bool {
	return a.GetCompleteOrchestration().GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED
}

// sortCarryover puts the events that go along with a continue-as-new in the order in which they came: the SDK keeps
// them in a map by name.
func (h *history) sortCarryover(events []*backend.HistoryEvent) {
	if len(events) < 2 {
		return
	}
	order := map[*backend.HistoryEvent]int{}
	for i, o := range h.outcomes {
		order[o.event] = i
	}
	slices.SortFunc(events, func(a, b *backend.HistoryEvent) int { return cmp.Compare(order[a], order[b]) })
}

func activityInput(in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if in.GetValue() == "" {
		return wrapperspb.String("null"), nil
	}
	safe, err := wire.EncodeValue([]byte(in.Value))
	return wrapperspb.String(string(safe)), err
}

// setCustomStatus makes the status one that the host takes: none when none was set (the SDK always sends one, and the
// empty string would show), JSON, and not too long.
func setCustomStatus(results *backend.ExecutionResults, logger *slog.Logger) {
	resp := results.Response
	status := resp.CustomStatus.GetValue()
	if status == "" {
		resp.CustomStatus = nil
		return
	}
	status = strings.ToValidUTF8(status, "\uFFFD") // protobuf refuses anything else
	if !json.Valid([]byte(status)) {
		quoted, _ := json.Marshal(status)
		status = string(quoted)
	}
	if n := payload.UTF16Len(status); n > MaxCustomStatus {
		logger.Error("the custom status is too long and was left out", "bytes", n, "limit", MaxCustomStatus)
		status = fmt.Sprintf(`"the custom status was left out: %d bytes as UTF-16, the host takes %d"`, n, MaxCustomStatus)
	}
	resp.CustomStatus = wrapperspb.String(status)
}

// Fail answers a turn with a completion in state FAILED.
func Fail(instanceID, errorType, message string) *backend.ExecutionResults {
	registry := task.NewTaskRegistry()
	_ = registry.AddOrchestratorN("*", func(*task.OrchestrationContext) (any, error) {
		return nil, errors.New(strings.ToValidUTF8(message, "\uFFFD"))
	})
	results, _ := task.NewTaskExecutor(registry).ExecuteOrchestrator(context.Background(), api.InstanceID(instanceID), nil,
		[]*backend.HistoryEvent{wire.NewEvent("executionStarted", time.Time{})})
	results.Response.Actions[0].GetCompleteOrchestration().FailureDetails.ErrorType = errorType
	results.Response.CustomStatus = nil
	return results
}
