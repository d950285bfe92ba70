package replay

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// Turn is the state of the turn that an orchestrator is running in. The toolkit builds its tasks on it.
//
// Everything here happens in the order of the history, which is what makes a replay take the same course: Step moves
// the SDK to the next event that completes one of our operations, and tells that operation. What the orchestrator
// called directly on the SDK, the SDK completes itself.
type Turn struct {
	Context     *task.OrchestrationContext
	Logger      *slog.Logger
	ExecutionID string
	Version     string        // of the orchestration, empty if it was started without
	HTTPPause   time.Duration // as wire.Turn has it
	Outputs     map[string]json.RawMessage
	GUIDs       int // how many deterministic GUIDs were made
	Ended       int // how many tasks have ended

	// Status makes the custom status when the turn ends, in place of the one that was set; nil: the one that was set is shown.
	Status func() string

	history  *history
	outcomes []outcome           // of the history
	next     int                 // index into outcomes
	sdk      reflect.Value       // the SDK's context
	ops      []*Op               // by the number of what was scheduled; nil: the SDK's own, or done
	made     []int               // by that number: in which turn it was scheduled
	earlier  []bool              // by that number: what an earlier turn scheduled
	children map[int32]child     // by that number: how it was described
	waits    map[string][]*Op    // waits for an external event by upper-case name, oldest first
	buffered map[string][]string // events that nobody waits for yet

	sent     map[string]time.Time // when the last message was sent to each entity
	sections []*Section           // the locks that were asked for

	returned bool        // the orchestrator has returned
	blocked  bool        // the history ended before what the orchestrator waits for
	frozen   int32       // the number that was next then
	shown    string      // the custom status then
	strayed  atomic.Bool // another goroutine than the turn's has used it

	session  *Session // nil: the orchestrator is left at the end of the turn
	waiting  bool     // for the event never
	checked  int      // how many of history.scheduled need no check of determinism any more
	answered int32    // the actions with lower numbers are in the answers to the session's earlier turns
}

func newTurn(h *history, logger *slog.Logger) *Turn {
	return &Turn{
		Logger:      logger,
		ExecutionID: h.executionID,
		Version:     h.version,
		Outputs:     map[string]json.RawMessage{},
		history:     h,
		outcomes:    h.outcomes,
		ops:         make([]*Op, 0, len(h.scheduled)),
		made:        make([]int, 0, len(h.scheduled)),
		waits:       map[string][]*Op{},
		buffered:    map[string][]string{},
		sent:        map[string]time.Time{},
	}
}

// Op is one durable operation: an activity, a sub-orchestration, a timer or the wait for an external event.
type Op struct {
	Done     bool
	Result   string    // JSON text, empty if there is none
	FireAt   time.Time // of a timer that has fired: when it was to fire
	Failure  *Failure
	then     func()
	kind     opKind
	raw      task.Task
	canceled bool
}

type opKind int

const (
	activity opKind = iota
	subOrchestration
	timer
	event
	message
)

// Activity schedules an activity. An empty input means none.
func (t *Turn) Activity(name string, input []byte) *Op {
	id := t.claimID()
	if t.scheduledEarlier(id) {
		return t.add(id, activity, t.Context.CallActivity(name))
	}
	return t.add(id, activity, t.Context.CallActivity(name, task.WithRawActivityInput(string(input))))
}

// SubOrchestration schedules a child. An empty id is filled in after the turn.
func (t *Turn) SubOrchestration(name, instanceID string, input []byte) *Op {
	id := t.claimID()
	if t.scheduledEarlier(id) {
		return t.add(id, subOrchestration, t.Context.CallSubOrchestrator(name))
	}
	return t.add(id, subOrchestration, t.Context.CallSubOrchestrator(name, task.WithRawSubOrchestratorInput(string(input)), task.WithSubOrchestrationInstanceID(instanceID)))
}

// scheduledEarlier says whether the action is surely taken off in the end because an earlier turn had it done. Most of a
// long turn's actions are, so that nobody reads their inputs.
func (t *Turn) scheduledEarlier(id int32) bool { return int(id) < len(t.earlier) && t.earlier[id] }

// Describe sets the version and the tags of the child that is scheduled next.
func (t *Turn) Describe(version string, tags map[string]string) {
	if t.children == nil {
		t.children = map[int32]child{}
	}
	t.children[t.nextID()] = child{version, historyevent.AppendTags(nil, wire.ChildTags, tags)}
}

// Repeats says whether what is scheduled next was scheduled by an earlier turn, so that nobody reads its input.
func (t *Turn) Repeats() bool { return t.scheduledEarlier(t.nextID()) }

// Timer schedules a timer.
func (t *Turn) Timer(d time.Duration) *Op {
	id := t.claimID()
	return t.add(id, timer, t.Context.CreateTimer(d))
}

// add remembers what the SDK has scheduled under the number.
func (t *Turn) add(id int32, kind opKind, raw task.Task) *Op {
	op := &Op{kind: kind, raw: raw}
	for len(t.ops) < int(id) {
		t.ops, t.made = append(t.ops, nil), append(t.made, 0)
	}
	t.ops, t.made = append(t.ops, op), append(t.made, t.number())
	return op
}

// number is the number of the turn that the replay has reached.
func (t *Turn) number() int {
	if t.next == 0 {
		return 0
	}
	return t.outcomes[t.next-1].turn
}

// scheduledIn is the number of the turn in which the operation was scheduled; 0: one of the SDK's own, or in the first.
func (t *Turn) scheduledIn(id int32) int {
	if id < 0 || int(id) >= len(t.made) {
		return 0
	}
	return t.made[id]
}

// Event waits for the next external event of that name (its case does not matter) that no older wait takes.
func (t *Turn) Event(name string) *Op {
	t.mustOwn()
	key := strings.ToUpper(name)
	op := &Op{kind: event}
	if early := t.buffered[key]; len(early) > 0 {
		t.buffered[key] = early[1:]
		t.take(name)
		op.complete(early[0], nil)
		return op
	}
	t.waits[key] = append(t.waits[key], op)
	return op
}

// Cancel ends the wait for an event: it takes none any more.
func (op *Op) Cancel() { op.canceled = true }

// take consumes the oldest event of that name in the SDK too, which moves the SDK up to it.
func (t *Turn) take(name string) { _ = t.Context.WaitForSingleEvent(name, -1).Await(nil) }

// never is the name of an event that the host does not send. A session adds it to the history to end the wait for it.
const never = "\x00"

// Until steps through the history until done says so. If the history ends before, the turn ends here: the SDK's
// task.ErrTaskBlocked goes up through the orchestrator as a panic, which nothing may recover.
func (t *Turn) Until(done func() bool) {
	t.mustOwn()
	for !done() {
		if !t.step() {
			t.waiting = true
			t.take(never) // the SDK takes up the rest of the history, and the turn ends
			t.waiting = false
		}
	}
}

// step tells the next outcome in the history to the operation it belongs to.
func (t *Turn) step() bool {
	for t.next < len(t.outcomes) {
		o := t.outcomes[t.next]
		t.next++
		if r := o.event.GetEventRaised(); r != nil {
			if t.raise(r.Name, r.Input.GetValue()) {
				return true
			}
			continue
		}
		id, kind, result := completion(o)
		if id < 0 || int(id) >= len(t.ops) {
			continue // the SDK's own, or left over from before a continue-as-new
		}
		op := t.ops[id]
		if op == nil || op.kind != kind {
			continue // likewise
		}
		t.ops[id] = nil
		_ = op.raw.Await(nil)
		if kind == timer {
			op.FireAt = t.firedAt(o)
		}
		op.complete(result, o.failure)
		return true
	}
	return false
}

func (t *Turn) firedAt(o outcome) time.Time {
	if at := o.event.GetTimerFired().GetFireAt(); at != nil {
		return at.AsTime()
	}
	return t.Context.CurrentTimeUtc
}

func (t *Turn) raise(name, input string) bool {
	key := strings.ToUpper(name)
	for len(t.waits[key]) > 0 {
		op := t.waits[key][0]
		t.waits[key] = t.waits[key][1:]
		if op.canceled {
			continue
		}
		t.take(name)
		op.complete(input, nil)
		return true
	}
	t.buffered[key] = append(t.buffered[key], input)
	return false
}

func (op *Op) complete(result string, failure *Failure) {
	op.Done, op.Result, op.Failure = true, result, failure
	if op.then != nil {
		op.then()
	}
}

// Then calls f when the operation is done, before anything later in the history is looked at.
func (op *Op) Then(f func()) {
	op.then = f
	if op.Done {
		f()
	}
}

func completion(o outcome) (id int32, kind opKind, result string) {
	e := o.event
	switch {
	case e.GetTaskCompleted() != nil:
		return e.GetTaskCompleted().TaskScheduledId, activity, e.GetTaskCompleted().Result.GetValue()
	case e.GetTaskFailed() != nil:
		return e.GetTaskFailed().TaskScheduledId, activity, ""
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		c := e.GetSubOrchestrationInstanceCompleted()
		return c.TaskScheduledId, subOrchestration, c.Result.GetValue()
	case e.GetSubOrchestrationInstanceFailed() != nil:
		return e.GetSubOrchestrationInstanceFailed().TaskScheduledId, subOrchestration, ""
	}
	return e.GetTimerFired().GetTimerId(), timer, ""
}
