// Package durabletest runs an orchestrator in a unit test: with activities faked by Go functions, on a virtual clock
// that makes timers of days fire at once, and turn by turn as the Functions host does.
//
//	func TestHello(t *testing.T) {
//		env := durabletest.New(t)
//		env.Activity("SayHello", durable.Activity(func(_ context.Context, city string) (string, error) {
//			return "Hello, " + city + "!", nil
//		}))
//		r := env.Run(durable.Orchestrator(Hello), []string{"Tokyo"})
//		if r.Output != `["Hello, Tokyo!"]` {
//			t.Error(r.Output, r.Failure)
//		}
//	}
//
// Each turn goes on where the turn before has ended, and is then replayed from the start, as it is when another process has it. The
// two must schedule the same: id, kind, name, input and time. A difference fails the test; the host would only see a part of it,
// and later. In a history of more than 1,000 events, only one turn each time that it has doubled, and the last one, are replayed.
//
// Inputs, results and errors of activities are sent as they are through the host, which alters some values and wraps
// every error (see package durable).
package durabletest

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

// RootID is the instance id of the orchestration that Run runs.
const RootID = "root"

// maxTurns is how many turns a run may take: one that takes more never ends.
const maxTurns = 5_000

// Begin is when each run begins on the virtual clock.
var Begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Env is what an orchestrator runs in. It serves one Run.
type Env struct {
	t             testing.TB
	activities    map[string]*activity
	orchestrators map[string]task.Orchestrator
	classes       map[string]*durable.EntityClass // by lower-case name
	entities      map[string]*entityState         // by instance id
	instances     map[string]*instance
	queue         queue
	sent          int // messages
	now           time.Time
	steps, turns  int
	version       string
	logs          strings.Builder
	result        *Result
}

type activity struct {
	f      task.Activity
	takes  func(call int) time.Duration
	lose   int
	expire int
	calls  []string
}

// Result is how an orchestration ended, and what it did.
type Result struct {
	Status       api.OrchestrationStatus // RUNNING if it waits for something that never comes
	Output       string                  // JSON, empty if there is none
	Failure      string                  // why it failed
	CustomStatus []string                // each one that was shown, JSON
	Outputs      map[string][]string     // what was sent to each output binding, by all orchestrations, JSON
	Elapsed      time.Duration           // on the virtual clock
	Turns        int                     // of all orchestrations
	Scheduled    map[string]int          // activities, timers and children in the history of each orchestration, by instance id
	Logs         string                  // lines of ReplayLog, by all orchestrations
	Entities     map[string]string       // the states of the entities in the end, JSON, by instance id: @name@key
}

// New returns an environment without activities.
func New(t testing.TB) *Env {
	return &Env{
		t:             t,
		activities:    map[string]*activity{},
		orchestrators: map[string]task.Orchestrator{},
		classes:       map[string]*durable.EntityClass{},
		entities:      map[string]*entityState{},
		instances:     map[string]*instance{},
		now:           Begin,
		result:        &Result{Outputs: map[string][]string{}},
	}
}

// Activity fakes the activity of that name. An activity that is not faked fails as one that the host does not know.
func (e *Env) Activity(name string, f task.Activity) { e.activity(name).f = f }

// Takes lets each call (0 is the first) of the activity take some time on the virtual clock; otherwise it takes none.
func (e *Env) Takes(name string, takes func(call int) time.Duration) { e.activity(name).takes = takes }

// Lose lets the first n calls of the activity or sub-orchestration be lost, as when the handler's process dies under
// them. A sub-orchestration is lost in its first turn, with nothing done.
func (e *Env) Lose(name string, n int) { e.activity(name).lose = n }

// Expire lets n calls of the activity, the first ones that are not lost, run past the deadline.
func (e *Env) Expire(name string, n int) { e.activity(name).expire = n }

func (e *Env) activity(name string) *activity {
	if e.activities[name] == nil {
		e.activities[name] = &activity{takes: func(int) time.Duration { return 0 }}
	}
	return e.activities[name]
}

// Orchestrator adds an orchestrator that can be called as a sub-orchestration.
func (e *Env) Orchestrator(name string, o task.Orchestrator) { e.orchestrators[name] = o }

// Version sets defaultVersion of host.json, the version of what is started without one.
func (e *Env) Version(version string) { e.version = version }

// HTTP answers the calls that orchestrators make with durable.CallHTTP. An error is a call that failed, for whatever
// reason: the host does not say.
func (e *Env) HTTP(f func(durable.HTTPRequest) (durable.HTTPResponse, error)) {
	e.Activity(wire.HTTPActivity, durable.Activity(func(_ context.Context, in []durable.HTTPRequest) (durable.HTTPResponse, error) {
		return f(in[0])
	}))
}

// RaiseAt sends the orchestration an external event, so long after its begin.
func (e *Env) RaiseAt(after time.Duration, name string, payload any) {
	ev := e.event("eventRaised", after)
	ev.GetEventRaised().Name = name
	ev.GetEventRaised().Input = wrapperspb.String(e.marshal(payload))
}

// TerminateAt ends the orchestration.
func (e *Env) TerminateAt(after time.Duration, output any) {
	e.event("executionTerminated", after).GetExecutionTerminated().Input = wrapperspb.String(e.marshal(output))
}

// SuspendAt suspends the orchestration.
func (e *Env) SuspendAt(after time.Duration) { e.event("executionSuspended", after) }

// ResumeAt lets the suspended orchestration go on.
func (e *Env) ResumeAt(after time.Duration) { e.event("executionResumed", after) }

func (e *Env) event(kind string, after time.Duration) *backend.HistoryEvent {
	at := Begin.Add(after)
	ev := newEvent(kind, at)
	e.send(at, RootID, ev)
	return ev
}

// Calls returns the inputs of the activity's calls, JSON, in the order in which they began.
func (e *Env) Calls(name string) []string { return e.activity(name).calls }

// Run runs the orchestrator until it has ended, or nothing can happen any more.
func (e *Env) Run(o task.Orchestrator, input any) *Result {
	e.t.Helper()
	defer func() {
		for _, i := range e.instances {
			i.session.Leave()
		}
	}()
	const name = "\x00root"
	e.orchestrators[name] = o
	root := e.start(RootID, name, e.marshal(input), e.version, nil, 0)
	for e.queue.Len() > 0 && !historyevent.IsEnd(root.status) {
		if e.steps++; e.steps > maxTurns {
			e.t.Fatalf("the orchestration has not ended after %d turns", maxTurns)
		}
		e.step()
	}
	r := e.result
	r.Status, r.Output, r.Failure, r.CustomStatus = root.status, root.output, root.failure, root.shown
	r.Scheduled = map[string]int{}
	for id, i := range e.instances {
		r.Scheduled[id] = len(i.scheduled)
	}
	r.Elapsed, r.Turns, r.Logs = e.now.Sub(Begin), e.turns, e.logs.String()
	e.drain()
	r.Entities = e.states()
	return r
}

func (e *Env) marshal(v any) string {
	e.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		e.t.Fatalf("durabletest: %v", err)
	}
	return string(text)
}

// step lets the clock go to the next thing that happens, and its orchestration take a turn over all that happens then.
func (e *Env) step() {
	e.t.Helper()
	first := heap.Pop(&e.queue).(message)
	e.now = first.at
	events := []*backend.HistoryEvent{first.event}
	for e.queue.Len() > 0 && e.queue[0].at.Equal(first.at) && e.queue[0].to == first.to {
		events = append(events, heap.Pop(&e.queue).(message).event)
	}
	if isEntity(first.to) {
		e.deliver(first.to, events)
		return
	}
	e.turns++
	slices.SortStableFunc(events, func(a, b *backend.HistoryEvent) int { return cmp.Compare(rank(a), rank(b)) })
	if i := e.instances[first.to]; i != nil && !historyevent.IsEnd(i.status) {
		i.turn(events)
	}
}

// rank puts a start before the events that were raised early.
func rank(e *backend.HistoryEvent) int {
	if e.GetExecutionStarted() != nil {
		return 0
	}
	return 1
}

// message is an event on its way.
type message struct {
	at    time.Time
	order int
	to    string
	event *backend.HistoryEvent
}

func (e *Env) send(at time.Time, to string, event *backend.HistoryEvent) {
	e.sent++
	heap.Push(&e.queue, message{at, e.sent, to, event})
}

// runActivity calls a fake and returns the event that tells its outcome, and when.
func (e *Env) runActivity(id int32, name, input string) (time.Time, *backend.HistoryEvent) {
	a := e.activity(name)
	call := len(a.calls)
	a.calls = append(a.calls, string(wire.DecodeValue([]byte(input))))
	at := e.now.Add(a.takes(call))
	if a.f == nil {
		return at, taskFailed(at, id, nil)
	}
	if call < a.lose {
		return at, taskFailed(at, id, lost(name))
	}
	if call < a.lose+a.expire {
		return at, taskFailed(at, id, (&failure{activity: name, kind: wire.KindDeadline, message: "function " + name + " ran past its deadline"}).details())
	}
	if name == wire.HTTPActivity {
		return at, e.runHTTP(at, id, a.f, input)
	}
	text, err := newtonsoft.Input([]byte(input))
	if err != nil {
		e.t.Fatalf("durabletest: the input of %s: %v", name, err)
	}
	value, failed := e.call(a.f, name, string(text))
	if failed != nil {
		return at, taskFailed(at, id, failed.details())
	}
	completed := newEvent("taskCompleted", at)
	completed.GetTaskCompleted().TaskScheduledId = id
	if value != nil {
		result, err := newtonsoft.Result(value)
		if err != nil {
			e.t.Fatalf("durabletest: the result of %s: %v", name, err)
		}
		completed.GetTaskCompleted().Result = wrapperspb.String(string(result))
	}
	return at, completed
}

// runHTTP runs the host's own activity, whose input and result it does not alter, and whose failure it does not explain.
func (e *Env) runHTTP(at time.Time, id int32, f task.Activity, input string) *backend.HistoryEvent {
	value, failed := e.call(f, wire.HTTPActivity, input)
	if failed != nil {
		return taskFailed(at, id, nil)
	}
	completed := newEvent("taskCompleted", at)
	completed.GetTaskCompleted().TaskScheduledId = id
	completed.GetTaskCompleted().Result = wrapperspb.String(string(wire.DecodeValue(value)))
	return completed
}

func (e *Env) call(f task.Activity, name, input string) (value json.RawMessage, failed *failure) {
	defer func() {
		if p := recover(); p != nil {
			failed = &failure{activity: name, kind: wire.KindPanic, message: fmt.Sprintf("panic: %v", p)}
		}
	}()
	ctx := invocation.With(e.t.Context(), &invocation.Invocation{Logger: slog.New(slog.DiscardHandler)})
	value, err := invocation.RunActivity(ctx, f, []byte(input), nil)
	if err != nil {
		failed = &failure{name, wire.KindFailed, err.Error(), wire.DetailsOf(err)}
	}
	return value, failed
}

// queue is a heap of messages by time, then by the order in which they were sent.
type queue []message

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].order, q[j].order)) < 0
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *queue) Push(m any) { *q = append(*q, m.(message)) }

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// drop takes the first message away.
func (q *queue) drop() { heap.Pop(q) }
