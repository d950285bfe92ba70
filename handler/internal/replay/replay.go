// Package replay runs the turns of an orchestration. It makes the host's history fit for durabletask-go's executor, and the
// executor's actions fit for the host, and corrects what v0.6.0 of the executor gets wrong; the comments say what.
package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/payload"
)

// MaxCustomStatus is how long a custom status may be, in bytes as UTF-16: a longer one fails the orchestration in the
// host.
const MaxCustomStatus = 16384

// maxTimer is how far ahead of its turn a timer may fire: one of more than seven days has the host try to store the turn
// again and again, and hold up all other orchestrations meanwhile.
const maxTimer = 7 * 24 * time.Hour

// Failure types of our own, as they stand in FailureDetails.ErrorType.
const (
	PanicType    = "OrchestratorPanic"
	DeadlineType = "OrchestratorDeadlineExceeded"
	nondetType   = "NonDeterministic"
	invalidAct   = "InvalidAction"
)

// failure is why a turn fails the orchestration.
type failure struct{ kind, message string }

// Result is the answer to a turn.
type Result struct {
	*backend.ExecutionResults
	Outputs map[string]json.RawMessage // of the output bindings; only when this turn completes the orchestration
}

// Run replays the orchestrator over the turn's history and returns what it wants done. It does not panic: when the orchestrator
// panics, or does what it must not do, the answer is a completion in state FAILED.
func Run(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger) Result {
	return Observe(turn, orchestrator, logger, nil)
}

// Observe is Run for a test kit, which also wants to see what the orchestrator scheduled in this replay of the turns
// before.
func Observe(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger, all func(*backend.ExecutionResults)) Result {
	t := newTurn(sortHistory(turn).history, logger)
	t.HTTPPause = turn.HTTPPause
	if all == nil {
		t.earlier = t.history.earlier()
	}
	results, failed := t.execute(orchestrator)
	if all != nil && failed == nil {
		all(results)
	}
	return t.answer(results, failed)
}

// answer makes the answer to the turn of what the orchestrator scheduled, or of its failure.
func (t *Turn) answer(results *backend.ExecutionResults, failed *failure) Result {
	h := t.history
	r := Result{ExecutionResults: results}
	completed := false
	terminates := h.terminated && (h.suspended || failed != nil || !ends(results))
	if failed == nil && !terminates {
		completed, failed = h.finish(results, t)
	}
	switch {
	case terminates, h.terminated && failed != nil:
		r.ExecutionResults = h.terminate(t.nextID())
	case failed != nil:
		r.ExecutionResults = Fail(h.instanceID, failed.kind, failed.message)
		if failed.kind != PanicType { // which is in the log with its stack
			t.Logger.Error(failed.message)
		}
	}
	if terminates || failed != nil {
		t.releaseAll(r.ExecutionResults)
	}
	setCustomStatus(r.ExecutionResults, t.customStatus(), t.Logger)
	if completed {
		r.Outputs = t.Outputs
	}
	return r
}

// ends says whether the orchestrator has ended, other than to start anew.
func ends(results *backend.ExecutionResults) bool {
	for _, a := range results.Response.Actions {
		if c := a.GetCompleteOrchestration(); c != nil && c.OrchestrationStatus != api.RUNTIME_STATUS_CONTINUED_AS_NEW {
			return true
		}
	}
	return false
}

// finish makes of what the orchestrator scheduled what this turn adds, in a form that is fit for the host. It says
// whether the orchestration completed well.
func (h *history) finish(results *backend.ExecutionResults, t *Turn) (completed bool, failed *failure) {
	if err := h.checkDeterminism(results, t); err != nil {
		return false, &failure{nondetType, err.Error()}
	}
	t.describeChildren(results)
	completed, err := h.tidy(results)
	if err != nil {
		return false, &failure{invalidAct, err.Error()}
	}
	return completed, nil
}

// checkDeterminism compares what earlier turns scheduled with what the orchestrator scheduled now, takes it off the
// actions and sorts these. The events were kept from the SDK, which compares no names and panics at some differences.
//
// After a rewind the orchestrator may take another course than before, because what had failed runs again: then it is allowed that
// the orchestrator no longer schedules something, or schedules it later than before.
func (h *history) checkDeterminism(results *backend.ExecutionResults, t *Turn) error {
	actions := byID(results.Response.Actions)
	results.Response.Actions = slices.Clone(actions)
	done := make([]bool, len(actions))
	for _, e := range h.scheduled[t.checked:] {
		was, now := ofEvent(e.HistoryEvent), step{}
		known := int(e.EventId) < len(actions) && e.EventId >= 0
		if known && (!done[e.EventId] || h.rewind.at >= 0) {
			now = ofAction(results, e.EventId)
		}
		switch {
		case was == now && e.turn >= t.scheduledIn(e.EventId):
			done[e.EventId] = !h.rewind.lost[e.EventId]
		case e.at > h.rewind.at:
			return fmt.Errorf("nondeterministic orchestrator: action %d was %s in an earlier turn and is %s now; "+
				"an orchestration in flight must be replayed by code that schedules the same, in the same order", e.EventId, was, now)
		}
	}
	for id := range actions {
		if done[id] {
			actions[id] = nil
		}
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

// ofAction is the step that the answer's action at index i is.
func ofAction(results *backend.ExecutionResults, i int32) step {
	switch a := results.Response.Actions[i]; {
	case a.GetScheduleTask() != nil:
		return step{"activity", a.GetScheduleTask().Name}
	case a.GetCreateSubOrchestration() != nil:
		return step{"sub-orchestration", a.GetCreateSubOrchestration().Name}
	case a.GetCreateTimer() != nil:
		return step{"timer", ""}
	case a.GetCompleteOrchestration() != nil:
		return step{"the orchestration's end", a.GetCompleteOrchestration().GetFailureDetails().GetErrorMessage()}
	case a.GetSendEvent() != nil:
		return messageStep(a.GetSendEvent().GetInstance().GetInstanceId(), a.GetSendEvent().Name)
	case a != nil:
		if signal, ok := entity.DecodeSignal(a.ProtoReflect().GetUnknown()); ok {
			return messageStep(signal.Target, entity.RequestEvent)
		}
	}
	return step{}
}

func ofEvent(e *backend.HistoryEvent) step {
	if s := e.GetTaskScheduled(); s != nil {
		return step{"activity", s.Name}
	}
	if s := e.GetSubOrchestrationInstanceCreated(); s != nil {
		return step{"sub-orchestration", s.Name}
	}
	if s := e.GetEventSent(); s != nil {
		return messageStep(s.InstanceId, s.Name)
	}
	return step{"timer", ""}
}

// tidy makes the actions fit for the host: nothing behind the first completion, ids for children, inputs that are JSON
// and that the host does not alter. It says whether the orchestration completed well.
func (h *history) tidy(results *backend.ExecutionResults) (completed bool, err error) {
	resp := results.Response
	if h.suspended {
		resp.Actions = nil // what a suspended orchestration wants now comes again when it is resumed
	}
	for i, a := range resp.Actions {
		if c := a.GetCompleteOrchestration(); c != nil {
			h.sortCarryover(c.CarryoverEvents)
			resp.Actions = resp.Actions[:i+1]
			completed = c.OrchestrationStatus == api.RUNTIME_STATUS_COMPLETED
			break
		}
	}
	open := sync.OnceValue(func() map[string]bool {
		open := map[string]bool{}
		for _, id := range h.openChildren(h.rewind.at) {
			open[id] = true
		}
		return open
	})
	for i := range resp.Actions {
		if err := h.prepare(results, i, open); err != nil {
			return false, err
		}
	}
	return completed, nil
}

// prepare makes an action fit for the host. The ids in open are those of children that have not ended.
func (h *history) prepare(results *backend.ExecutionResults, i int, open func() map[string]bool) (err error) {
	a := results.Response.Actions[i]
	if d := a.GetCompleteOrchestration().GetFailureDetails(); d != nil {
		d.ErrorMessage = strings.ToValidUTF8(d.ErrorMessage, "\uFFFD") // protobuf refuses anything else
	}
	if s := a.GetScheduleTask(); s != nil {
		if s.Name == wire.HTTPActivity {
			return nil // it is the host's, which knows no markers
		}
		if s.Input, err = activityInput(s.Input); err != nil {
			return fmt.Errorf("the input of activity %q cannot be sent: %w", s.Name, err)
		}
	}
	if timer := a.GetCreateTimer(); timer != nil && timer.FireAt.AsTime().Sub(h.hostTime) > maxTimer {
		return fmt.Errorf("a timer until %s is longer than the seven days that the host takes: "+
			"use durable.Timer or durable.WaitForEvent, which make several of a long one", timer.FireAt.AsTime().Format(time.RFC3339))
	}
	c := a.GetCreateSubOrchestration()
	if c == nil {
		return nil
	}
	if c.Input.GetValue() == "" {
		c.Input = wrapperspb.String("null")
	}
	if id := h.again(a.Id); id != "" {
		c.InstanceId = id
	} else if c.InstanceId == "" {
		c.InstanceId = h.childID(a.Id)
	} else {
		return h.checkChild(c.Name, c.InstanceId, open())
	}
	return nil
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

// setCustomStatus puts the status into the answer in the form that the host takes: JSON, not too long, and absent if the
// orchestrator has not set it (an empty string would be shown). Every answer has it, because one without it erases it.
func setCustomStatus(results *backend.ExecutionResults, status string, logger *slog.Logger) {
	resp := results.Response
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
		[]*backend.HistoryEvent{historyevent.New("executionStarted", time.Time{})})
	results.Response.Actions[0].GetCompleteOrchestration().FailureDetails.ErrorType = errorType
	results.Response.CustomStatus = nil
	return results
}
