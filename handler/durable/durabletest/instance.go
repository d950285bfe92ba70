package durabletest

import (
	"container/heap"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
)

// instance is an orchestration as the host keeps it.
type instance struct {
	env          *Env
	id           string
	name         string
	version      string
	generation   int // counts continue-as-new
	orchestrator task.Orchestrator
	parent       *instance
	parentTask   int32
	parentRun    int // the parent's generation that waits for the result

	past      []*backend.HistoryEvent
	session   *replay.Session
	taken     int            // how many events of the past the session has
	scheduled map[int32]step // what was scheduled, in full: the history does not hold inputs and times

	status  api.OrchestrationStatus
	output  string
	failure string
	shown   []string
}

// start makes an instance and sends it its start.
func (e *Env) start(id, name, input, version string, parent *instance, parentTask int32) *instance {
	i := &instance{env: e, id: id, name: name, version: version, orchestrator: e.orchestrators[name], parent: parent, parentTask: parentTask, scheduled: map[int32]step{}, session: &replay.Session{}}
	if parent != nil {
		i.parentRun = parent.generation
	}
	e.queue = slices.DeleteFunc(e.queue, func(m message) bool { return m.to == id && id != RootID }) // of an instance that is replaced
	heap.Init(&e.queue)
	if replaced := e.instances[id]; replaced != nil {
		replaced.session.Leave()
	}
	e.instances[id] = i
	e.send(e.now, id, i.started(wrapperspb.String(input)))
	return i
}

func (i *instance) started(input *wrapperspb.StringValue) *backend.HistoryEvent {
	ev := newEvent("executionStarted", i.env.now)
	es := ev.GetExecutionStarted()
	es.Name, es.Input = i.name, input
	if i.version != "" {
		es.Version = wrapperspb.String(i.version)
	}
	m := ev.ProtoReflect()
	started := m.Mutable(m.Descriptor().Fields().ByName("executionStarted")).Message()
	started.Mutable(started.Descriptor().Fields().ByName("orchestrationInstance"))
	es.OrchestrationInstance.InstanceId = i.id
	es.OrchestrationInstance.ExecutionId = wrapperspb.String(fmt.Sprintf("%s-execution-%d", i.id, i.generation))
	return ev
}

// turn gives the orchestrator its new events and does what it wants done.
func (i *instance) turn(events []*backend.HistoryEvent) {
	e := i.env
	e.t.Helper()
	news := append([]*backend.HistoryEvent{newEvent("orchestratorStarted", e.now)}, events...)
	logger := slog.New(slog.NewTextHandler(&e.logs, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	result, begins := i.run(news, logger)
	i.past = append(i.past, news...)
	if begins || len(i.past) <= alwaysReplayed || completes(result) {
		// As the turns to come may see it: as part of the past.
		again, scheduled := i.replay()
		if !proto.Equal(result.Response, again.Response) || fmt.Sprint(result.Outputs) != fmt.Sprint(again.Outputs) {
			e.t.Fatalf("durabletest: %s is not deterministic: turn %d and a replay of it differ:\n%v\n%v", i.id, e.turns, result.Response, again.Response)
		}
		i.compare(scheduled)
	}

	if status := result.Response.CustomStatus; status != nil && (len(i.shown) == 0 || i.shown[len(i.shown)-1] != status.Value) {
		i.shown = append(i.shown, status.Value)
	}
	for binding, value := range result.Outputs {
		e.result.Outputs[binding] = append(e.result.Outputs[binding], string(value))
	}
	i.act(result)
	if !historyevent.IsEnd(i.status) && len(i.past) > 0 {
		i.past = append(i.past, newEvent("orchestratorCompleted", e.now))
	}
}

// alwaysReplayed is how long a history is at most, in events, for each of its turns to be replayed. In a longer one, the last turn is
// replayed, and each that begins a session, as one does when the history has doubled.
const alwaysReplayed = 1000

func completes(r replay.Result) bool {
	for _, a := range r.Response.Actions {
		if a.GetCompleteOrchestration() != nil {
			return true
		}
	}
	return false
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// run gives the orchestrator its new events, in its session if that can continue with them; otherwise it begins another one.
func (i *instance) run(news []*backend.HistoryEvent, logger *slog.Logger) (result replay.Result, begins bool) {
	turn := &wire.Turn{InstanceID: i.id, Past: i.past[i.taken:], New: news, DefaultVersion: i.env.version}
	begins = !i.session.Follows(turn)
	if begins {
		i.session.Leave()
		i.session, turn.Past = &replay.Session{}, i.past
	}
	i.taken = len(i.past) + len(news)
	var scheduled map[int32]step
	result = i.session.Run(turn, i.orchestrator, logger, seen(&scheduled))
	for id, now := range scheduled {
		if was, ok := i.scheduled[id]; ok && was != now {
			i.differ(id, was, now)
		}
		i.scheduled[id] = now
	}
	return result, begins
}

// replay runs the orchestrator over all events once more and says what it scheduled; nil if it panicked.
func (i *instance) replay() (result replay.Result, scheduled map[int32]step) {
	turn := &wire.Turn{InstanceID: i.id, Past: i.past, DefaultVersion: i.env.version}
	result = replay.Observe(turn, i.orchestrator, slog.New(slog.DiscardHandler), seen(&scheduled))
	return result, scheduled
}

// seen fills scheduled with what an orchestrator schedules.
func seen(scheduled *map[int32]step) func(*backend.ExecutionResults) {
	return func(all *backend.ExecutionResults) {
		steps := make(map[int32]step, len(all.Response.Actions))
		for _, a := range all.Response.Actions {
			switch task, child := a.GetScheduleTask(), a.GetCreateSubOrchestration(); {
			case task != nil:
				steps[a.Id] = step{kind: "activity", name: task.Name, input: task.Input.GetValue()}
			case child != nil:
				steps[a.Id] = step{kind: "sub-orchestration", name: child.Name, id: child.InstanceId, input: child.Input.GetValue()}
			case a.GetCreateTimer() != nil:
				steps[a.Id] = step{kind: "timer", at: a.GetCreateTimer().FireAt.AsTime()}
			case a.GetCompleteOrchestration() == nil:
				steps[a.Id] = step{kind: fmt.Sprint(a)}
			}
		}
		*scheduled = steps
	}
}

// step is something that an orchestrator scheduled.
type step struct {
	kind, name, id, input string
	at                    time.Time
}

func (s step) String() string {
	switch s.kind {
	case "":
		return "nothing"
	case "timer":
		return "a timer until " + s.at.Format(time.RFC3339Nano)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s with %s", s.kind, s.name, s.id, s.input))
}

// compare holds what the orchestrator scheduled in a replay against what it scheduled in the turns.
func (i *instance) compare(scheduled map[int32]step) {
	i.env.t.Helper()
	if scheduled == nil {
		return
	}
	for id, was := range i.scheduled {
		if now := scheduled[id]; now != was {
			i.differ(id, was, now)
		}
	}
	for id, now := range scheduled {
		i.scheduled[id] = now
	}
}

func (i *instance) differ(id int32, was, now step) {
	i.env.t.Helper()
	i.env.t.Fatalf("durabletest: %s is not deterministic: action %d was\n%s\nand is in turn %d\n%s", i.id, id, was, i.env.turns, now)
}

// act does what the orchestrator wants done, as the host does.
func (i *instance) act(result replay.Result) {
	e := i.env
	for _, a := range result.Response.Actions {
		event := a.GetSendEvent()
		if i.sendMessage(a.Id, a.ProtoReflect().GetUnknown(), event.GetInstance().GetInstanceId(), event.GetName(), event.GetData().GetValue()) {
			continue
		}
		switch {
		case a.GetScheduleTask() != nil:
			s := a.GetScheduleTask()
			at, outcome := e.runActivity(a.Id, s.Name, s.Input.GetValue())
			e.send(at, i.id, outcome)
			scheduled := i.remember("taskScheduled", a.Id)
			scheduled.GetTaskScheduled().Name = s.Name
		case a.GetCreateTimer() != nil:
			at := a.GetCreateTimer().FireAt.AsTime()
			fired := newEvent("timerFired", at)
			fired.GetTimerFired().TimerId, fired.GetTimerFired().FireAt = a.Id, a.GetCreateTimer().FireAt
			e.send(later(at, e.now), i.id, fired)
			i.remember("timerCreated", a.Id).GetTimerCreated().FireAt = a.GetCreateTimer().FireAt
		case a.GetCreateSubOrchestration() != nil:
			s := a.GetCreateSubOrchestration()
			created := i.remember("subOrchestrationInstanceCreated", a.Id).GetSubOrchestrationInstanceCreated()
			created.Name, created.InstanceId = s.Name, s.InstanceId
			if child := e.activity(s.Name); e.orchestrators[s.Name] == nil || child.lose > 0 {
				child.lose--
				e.send(e.now, i.id, subOrchestrationFailed(e.now, a.Id, nil))
			} else {
				e.start(s.InstanceId, s.Name, s.Input.GetValue(), s.Version.GetValue(), i, a.Id)
			}
		case a.GetCompleteOrchestration() != nil:
			c := a.GetCompleteOrchestration()
			if c.OrchestrationStatus == api.RUNTIME_STATUS_CONTINUED_AS_NEW {
				i.continueAsNew(c.Result, c.CarryoverEvents)
				return
			}
			i.end(c.OrchestrationStatus, c.Result.GetValue(), c.FailureDetails)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (i *instance) remember(kind string, id int32) *backend.HistoryEvent {
	ev := newEvent(kind, i.env.now)
	ev.EventId = id
	i.past = append(i.past, ev)
	return ev
}

func (i *instance) continueAsNew(input *wrapperspb.StringValue, carryover []*backend.HistoryEvent) {
	i.generation++
	i.past, i.scheduled, i.taken = nil, map[int32]step{}, 0
	e := i.env
	// What the run before has scheduled does not reach the next one. Events that were raised do.
	kept := queue{}
	for _, m := range e.queue {
		if ev := m.event; m.to != i.id || ev.GetTaskCompleted() == nil && ev.GetTaskFailed() == nil && ev.GetTimerFired() == nil &&
			ev.GetSubOrchestrationInstanceCompleted() == nil && ev.GetSubOrchestrationInstanceFailed() == nil {
			kept.Push(m)
		}
	}
	e.queue = nil
	for _, ev := range append([]*backend.HistoryEvent{i.started(input)}, carryover...) {
		e.send(e.now, i.id, ev)
	}
	for _, m := range kept {
		e.send(m.at, m.to, m.event)
	}
}

func (i *instance) end(status api.OrchestrationStatus, output string, details *backend.TaskFailureDetails) {
	i.status, i.output, i.failure = status, output, details.GetErrorMessage()
	if i.parent == nil || i.parent.generation != i.parentRun {
		return // nobody waits for it any more
	}
	e := i.env
	if status == api.RUNTIME_STATUS_COMPLETED {
		completed := newEvent("subOrchestrationInstanceCompleted", e.now)
		completed.GetSubOrchestrationInstanceCompleted().TaskScheduledId = i.parentTask
		completed.GetSubOrchestrationInstanceCompleted().Result = wrapperspb.String(output)
		e.send(e.now, i.parent.id, completed)
		return
	}
	e.send(e.now, i.parent.id, subOrchestrationFailed(e.now, i.parentTask, details))
}
