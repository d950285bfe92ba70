package replay

import (
	"fmt"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// history is what the host sent, sorted into what the SDK needs for a replay and what we need to check it.
type history struct {
	instanceID string
	name       string                  // of the orchestrator
	past, new  []*backend.HistoryEvent // for the SDK: what completes something, and the times
	scheduled  []scheduled             // what earlier turns scheduled, in order
	outcomes   []outcome               // what completes a task or raises an event, in order
	names      map[int32]string        // for nameOf: of the first named ones of scheduled
	named      int
	now        time.Time // the time of this turn to the orchestrator
	hostTime   time.Time // and to the host, which fires timers early

	executionID string
	version     string // of the orchestration
	fallback    string // the version of a child that is started without one
	parentID    string // the parent's instance id, if there is one
	suspended   bool
	terminated  bool
	reason      *wrapperspb.StringValue // of the termination
	rewind      rewind
}

// scheduled is an event of the history by which an earlier turn scheduled something.
type scheduled struct {
	*backend.HistoryEvent
	at   int // its place in the history
	turn int // the number of its turn
}

// outcome is an event of the history that completes a task (by id) or brings an external event (by name).
type outcome struct {
	event   *backend.HistoryEvent
	failure *Failure
	turn    int // the number of the turn that takes it up
}

// sorter goes through the events of a history.
type sorter struct {
	*history
	count int // of events
	turn  int
	out   *[]*backend.HistoryEvent // the past or the new events
	held  []*backend.HistoryEvent  // what arrived while the orchestration was suspended
}

// sortHistory prepares a turn's events. It leaves out what carries nothing for a replay (the SDK would fail on some of
// it), keeps what was scheduled for our own check of determinism, which also compares names, and holds back what
// arrived while the orchestration was suspended until it is resumed. It ends at a termination: the SDK sees nothing of
// that nor of what comes later.
func sortHistory(turn *wire.Turn) *sorter {
	n := len(turn.Past) + len(turn.New)
	s := &sorter{history: &history{
		instanceID: turn.InstanceID,
		scheduled:  make([]scheduled, 0, n/2),
		outcomes:   make([]outcome, 0, n/2),
		rewind:     rewind{at: -1},
	}}
	s.add(turn)
	if s.rewind.at >= 0 {
		s.findLost(append(turn.Past[:len(turn.Past):len(turn.Past)], turn.New...))
	}
	return s
}

// add sorts a turn's events behind those that were sorted before.
func (s *sorter) add(turn *wire.Turn) {
	s.fallback = turn.DefaultVersion
	s.past, s.new = make([]*backend.HistoryEvent, 0, len(turn.Past)), make([]*backend.HistoryEvent, 0, len(turn.New)+2)
	s.out = &s.past
	for _, e := range turn.Past {
		s.sort(e)
	}
	s.out = &s.new
	for _, e := range turn.New {
		s.sort(e)
	}
}

func (s *sorter) sort(e *backend.HistoryEvent) {
	i := s.count
	s.count++
	switch { // the commonest first
	case isScheduled(e):
		s.scheduled = append(s.scheduled, scheduled{e, i, s.turn})
	case s.terminated:
	case matters(e):
		if isTermination(e) {
			s.terminated, s.reason = true, e.GetEventRaised().GetInput()
		} else if s.suspended {
			s.held = append(s.held, e)
		} else {
			s.feed(e)
		}
	case e.GetExecutionSuspended() != nil:
		s.suspended = true
	case e.GetExecutionResumed() != nil:
		s.suspended = false
		for _, e := range s.held {
			s.feed(e)
		}
		s.held = nil
	case e.GetExecutionStarted() != nil:
		s.start(e)
	case e.GetExecutionTerminated() != nil:
		s.terminated, s.reason = true, e.GetExecutionTerminated().GetInput()
	case e.GetGenericEvent() != nil:
		s.rewind.add(i, e)
	}
}

// start sorts the start of the orchestration. Of a second one it keeps the execution id, which is newer, and not the event, for
// which the SDK would call the orchestrator a second time.
func (s *sorter) start(e *backend.HistoryEvent) {
	first := s.executionID == ""
	s.executionID = executionID(s.instanceID, e)
	if !first {
		return
	}
	s.name = e.GetExecutionStarted().GetName()
	s.version = e.GetExecutionStarted().GetVersion().GetValue()
	s.parentID = e.GetExecutionStarted().GetParentInstance().GetOrchestrationInstance().GetInstanceId()
	*s.out = append(*s.out, e)
}

// feed gives the event to the SDK, and makes sure that the orchestrator's time never goes back and is not before the
// time of a timer that has fired: the host fires timers up to a second early.
func (s *sorter) feed(e *backend.HistoryEvent) {
	switch {
	case e.GetOrchestratorStarted() != nil:
		s.turn++
		s.hostTime = e.GetTimestamp().AsTime()
		if t := e.GetTimestamp().AsTime(); t.Before(s.now) {
			e = historyevent.New("orchestratorStarted", s.now)
		} else {
			s.now = t
		}
	case e.GetTimerFired() != nil:
		if t := e.GetTimerFired().GetFireAt().AsTime(); t.After(s.now) {
			s.now = t
			*s.out = append(*s.out, historyevent.New("orchestratorStarted", t))
		}
	}
	*s.out = append(*s.out, s.takeOutcome(e))
}

func isScheduled(e *backend.HistoryEvent) bool {
	return e.GetTaskScheduled() != nil || e.GetSubOrchestrationInstanceCreated() != nil || e.GetTimerCreated() != nil || isEntityMessage(e)
}

// matters says whether the SDK needs the event for a replay. What is not listed (orchestratorCompleted, eventSent,
// genericEvent of a rewound orchestration, historyState, kinds yet unknown) carries nothing.
func matters(e *backend.HistoryEvent) bool {
	return e.GetTaskCompleted() != nil || e.GetOrchestratorStarted() != nil || e.GetTaskFailed() != nil ||
		e.GetSubOrchestrationInstanceCompleted() != nil || e.GetSubOrchestrationInstanceFailed() != nil ||
		e.GetTimerFired() != nil || e.GetEventRaised() != nil && e.GetEventRaised().Name != wire.AgainEvent
}

// takeOutcome lists the event if it completes something, and returns it as the SDK gets it: markers come off results, and a
// failure gets details that say in the author's terms what happened, as v0.6.0 takes a failure without details for a success. The
// event in the history stays as it is.
func (s *sorter) takeOutcome(e *backend.HistoryEvent) *backend.HistoryEvent {
	o := outcome{event: e, turn: s.turn}
	switch {
	case e.GetTaskCompleted() != nil:
		if r := e.GetTaskCompleted().Result; r != nil && strings.Contains(r.Value, wire.Marker) {
			o.event = proto.Clone(e).(*backend.HistoryEvent)
			o.event.GetTaskCompleted().Result.Value = string(wire.DecodeValue([]byte(r.Value)))
		}
	case e.GetTaskFailed() != nil:
		o.event = proto.Clone(e).(*backend.HistoryEvent)
		f := o.event.GetTaskFailed()
		o.failure, f.FailureDetails = explainActivity(s.nameOf(f.TaskScheduledId), f.FailureDetails)
	case e.GetSubOrchestrationInstanceFailed() != nil:
		o.event = proto.Clone(e).(*backend.HistoryEvent)
		f := o.event.GetSubOrchestrationInstanceFailed()
		o.failure, f.FailureDetails = explainSubOrchestration(s.nameOf(f.TaskScheduledId), f.FailureDetails)
	case e.GetSubOrchestrationInstanceCompleted() != nil, e.GetTimerFired() != nil, e.GetEventRaised() != nil:
	default:
		return e
	}
	s.outcomes = append(s.outcomes, o)
	return o.event
}

// earlier says by id what earlier turns scheduled and nobody schedules again. The ids count up from 0; any other id is ignored.
func (h *history) earlier() []bool {
	if h.rewind.at >= 0 {
		return nil
	}
	earlier := make([]bool, len(h.scheduled))
	for _, e := range h.scheduled {
		if e.EventId >= 0 && int(e.EventId) < len(earlier) {
			earlier[e.EventId] = true
		}
	}
	return earlier
}

// nameOf returns the name of the function that was scheduled under the id. Only failures ask for it, which come later in
// the history than what failed.
func (h *history) nameOf(id int32) string {
	if h.names == nil {
		h.names = map[int32]string{}
	}
	for ; h.named < len(h.scheduled); h.named++ {
		e := h.scheduled[h.named].HistoryEvent
		h.names[e.EventId] = ofEvent(e).name
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
