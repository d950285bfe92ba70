package replay

import (
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/wire"
)

// history is what the host sent, sorted into what the SDK needs for a replay and what we need to check it.
type history struct {
	past, new []*backend.HistoryEvent // for the SDK: what completes something, and the times
	scheduled []*backend.HistoryEvent // what earlier turns scheduled, in order
	outcomes  []outcome               // what completes a task or raises an event, in order
	names     map[int32]string        // for nameOf

	executionID string
	suspended   bool
}

// outcome is an event of the history that completes a task (by id) or brings an external event (by name).
type outcome struct {
	event   *backend.HistoryEvent
	failure *Failure
}

// sortHistory prepares a turn's events. It leaves out what carries nothing for a replay (the SDK would fail on some of
// it), keeps what was scheduled for our own check of determinism, which also compares names, and holds back what
// arrived while the orchestration was suspended until it is resumed, all but a termination.
func sortHistory(turn *wire.Turn) *history {
	n := len(turn.Past) + len(turn.New)
	h := &history{
		past:      make([]*backend.HistoryEvent, 0, len(turn.Past)),
		new:       make([]*backend.HistoryEvent, 0, len(turn.New)),
		scheduled: make([]*backend.HistoryEvent, 0, n/2),
		outcomes:  make([]outcome, 0, n/2),
	}
	var held []*backend.HistoryEvent
	started := false
	for i, e := range append(turn.Past[:len(turn.Past):len(turn.Past)], turn.New...) {
		out := &h.past
		if i >= len(turn.Past) {
			out = &h.new
		}
		switch { // the commonest first
		case e.GetTaskScheduled() != nil:
			h.scheduled = append(h.scheduled, e)
		case matters(e):
			if h.suspended {
				held = append(held, e)
			} else {
				*out = append(*out, e)
			}
		case e.GetExecutionSuspended() != nil:
			h.suspended = true
		case e.GetExecutionResumed() != nil:
			h.suspended = false
			*out = append(*out, held...)
			held = nil
		case e.GetExecutionStarted() != nil:
			h.executionID = executionID(turn.InstanceID, e) // the newest start's
			if started {
				continue // v0.6.0 would enter the orchestrator a second time
			}
			started = true
			*out = append(*out, e)
		case e.GetSubOrchestrationInstanceCreated() != nil:
			h.scheduled = append(h.scheduled, e)
		case e.GetTimerCreated() != nil:
			h.scheduled = append(h.scheduled, e)
		case e.GetExecutionTerminated() != nil:
			*out = append(*out, e)
		}
	}
	for _, events := range [][]*backend.HistoryEvent{h.past, h.new} {
		for _, e := range events {
			h.addOutcome(e)
		}
	}
	return h
}

// matters says whether the SDK needs the event for a replay. What is not listed (orchestratorCompleted, eventSent,
// genericEvent of a rewound orchestration, historyState, kinds yet unknown) carries nothing.
func matters(e *backend.HistoryEvent) bool {
	return e.GetTaskCompleted() != nil || e.GetOrchestratorStarted() != nil || e.GetTaskFailed() != nil ||
		e.GetSubOrchestrationInstanceCompleted() != nil || e.GetSubOrchestrationInstanceFailed() != nil ||
		e.GetTimerFired() != nil || e.GetEventRaised() != nil && e.GetEventRaised().Name != wire.AgainEvent
}

// addOutcome lists the event if it completes something. Markers come off results, and a failure gets details that say
// in the author's terms what happened: v0.6.0 takes a failure without details for a success.
func (h *history) addOutcome(e *backend.HistoryEvent) {
	o := outcome{event: e}
	switch {
	case e.GetTaskCompleted() != nil:
		if r := e.GetTaskCompleted().Result; r != nil && strings.Contains(r.Value, wire.Marker) {
			r.Value = string(wire.DecodeValue([]byte(r.Value)))
		}
	case e.GetTaskFailed() != nil:
		f := e.GetTaskFailed()
		o.failure, f.FailureDetails = explainActivity(h.nameOf(f.TaskScheduledId), f.FailureDetails)
	case e.GetSubOrchestrationInstanceFailed() != nil:
		f := e.GetSubOrchestrationInstanceFailed()
		o.failure, f.FailureDetails = explainSubOrchestration(h.nameOf(f.TaskScheduledId), f.FailureDetails)
	case e.GetSubOrchestrationInstanceCompleted() != nil, e.GetTimerFired() != nil, e.GetEventRaised() != nil:
	default:
		return
	}
	h.outcomes = append(h.outcomes, o)
}

// earlier says by id what earlier turns scheduled. The ids count up from 0; one out of line is left out.
func (h *history) earlier() []bool {
	earlier := make([]bool, len(h.scheduled))
	for _, e := range h.scheduled {
		if e.EventId >= 0 && int(e.EventId) < len(earlier) {
			earlier[e.EventId] = true
		}
	}
	return earlier
}

// nameOf returns the name of the function that was scheduled under the id. Only failures ask for it.
func (h *history) nameOf(id int32) string {
	if h.names == nil {
		h.names = make(map[int32]string, len(h.scheduled))
		for _, e := range h.scheduled {
			h.names[e.EventId] = ofEvent(e).name
		}
	}
	return h.names[id]
}

// executionID is unique to each run of an instance: a continue-as-new and a new start have another one. The second
// field of the turn, which should hold it, is empty.
func executionID(instanceID string, e *backend.HistoryEvent) string {
	if id := e.GetExecutionStarted().GetOrchestrationInstance().GetExecutionId().GetValue(); id != "" {
		return id
	}
	return fmt.Sprintf("%s@%d", instanceID, e.GetTimestamp().AsTime().UnixNano())
}
