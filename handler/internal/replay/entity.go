package replay

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/entity"
)

// Operation is an entity's operation that an orchestrator asks for, under a GUID.
type Operation struct {
	Target string // the entity's instance id
	Name   string
	GUID   string
	Input  []byte // JSON
}

// CallEntity asks for the operation and for its outcome, which comes as an event that has the GUID for a name. The host
// has an action for it, which it loses: what it does not lose is an event to the entity.
func (t *Turn) CallEntity(o Operation) *Op {
	t.sendMessage(o.Target, o.message())
	return t.Event(o.GUID)
}

// SignalEntity asks for the operation, and for no outcome: at once, behind the messages to this entity so far, or at that
// time.
func (t *Turn) SignalEntity(o Operation, at time.Time) {
	if at.IsZero() {
		m := o.message()
		m.Signal = true
		t.sendMessage(o.Target, m)
		return
	}
	action := t.newAction()
	action.ProtoReflect().SetUnknown(entity.Signal{ID: o.GUID, Operation: o.Name, Input: o.Input, Target: o.Target, ScheduledAt: at}.Encode())
	t.schedule(action)
}

func (o Operation) message() entity.Message {
	input := string(o.Input)
	return entity.Message{Operation: &o.Name, ID: o.GUID, Input: &input}
}

// reorderWindow is how long the host waits for a message's predecessor.
const reorderWindow = 30 * time.Minute

// sendMessage labels the message for the entity's sorter, which takes one with a time stamp that does not grow for a
// duplicate and drops it, and holds one back until its predecessor has come.
func (t *Turn) sendMessage(target string, m entity.Message) {
	now := t.Context.CurrentTimeUtc.UTC().Truncate(entity.Tick)
	if last, ok := t.sent[target]; ok {
		if !now.After(last) {
			now = last.Add(entity.Tick)
		}
		if now.Sub(last) < reorderWindow {
			m.Predecessor = last.Format(entity.TimeFormat)
		}
	}
	t.sent[target] = now
	m.Timestamp = now.Format(entity.TimeFormat)
	m.Parent, m.ParentExecution = t.history.instanceID, t.ExecutionID
	t.sendEvent(target, entity.RequestEvent, m.Encode())
}

func (t *Turn) sendEvent(target, name, data string) {
	action := t.newAction()
	fillEvent(action, target, name, data)
	t.schedule(action)
}

// newAction makes an action. Its Go type cannot be named here.
func (t *Turn) newAction() proto.Message {
	return reflect.New(t.field(pendingActions).Type().Elem().Elem()).Interface().(proto.Message)
}

// schedule gives the action the next number and puts it to those that the SDK has scheduled.
func (t *Turn) schedule(action proto.Message) {
	id := t.claimID()
	m := action.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("id"), protoreflect.ValueOfInt32(id))
	t.field(pendingActions).SetMapIndex(reflect.ValueOf(id), reflect.ValueOf(action))
	t.field(sequenceNumber).SetInt(int64(id) + 1)
	t.add(id, message, nil)
	t.ops[id] = nil
}

// Section is the lock on a set of entities that an orchestrator has asked for.
type Section struct {
	turn    *Turn
	id      string
	targets []string
	done    bool // given back
}

// Lock asks for a lock on the entities, which are sorted, under a GUID. The host grants it by an event of that name.
func (t *Turn) Lock(ids []entity.ID, guid string) (*Section, *Op) {
	s := &Section{turn: t, id: guid}
	set := make([]entity.LockedID, len(ids))
	for i, id := range ids {
		set[i] = entity.LockedID(id)
		s.targets = append(s.targets, id.String())
	}
	if !t.blocked { // what a deferred function asks for then is dropped
		t.sections = append(t.sections, s)
	}
	first := 0
	t.sendMessage(s.targets[0], entity.Message{ID: guid, LockSet: set, Position: &first})
	return s, t.Event(guid)
}

// Held returns the lock that the orchestrator holds or waits for, nil if there is none.
func (t *Turn) Held() *Section {
	for _, s := range t.sections {
		if !s.done {
			return s
		}
	}
	return nil
}

// Has says whether the entity of that instance id is in the set.
func (s *Section) Has(target string) bool {
	for _, t := range s.targets {
		if t == target {
			return true
		}
	}
	return false
}

// Release gives the lock back. It does nothing while the orchestrator is left because it has to wait: a deferred function
// runs then, too.
func (s *Section) Release() {
	s.turn.mustOwn()
	if s.done || s.turn.blocked {
		return
	}
	s.done = true
	for _, target := range s.targets {
		s.turn.sendEvent(target, entity.ReleaseEvent, s.release())
	}
}

func (s *Section) release() string {
	return entity.Release{Parent: s.turn.history.instanceID, ID: s.id}.Encode()
}

// releaseHeld gives back what an orchestrator that returns still holds.
func (t *Turn) releaseHeld() {
	if s := t.Held(); s != nil {
		s.Release()
	}
}

// releaseAll puts into an answer that ends the orchestration, in place of what it scheduled, that its locks are given
// back: the host would leave the entities locked for ever. One too many does no harm.
func (t *Turn) releaseAll(results *backend.ExecutionResults) {
	given := map[[2]string]bool{}
	for _, e := range t.history.scheduled {
		if s := e.GetEventSent(); s != nil && s.Name == entity.ReleaseEvent {
			given[[2]string{s.InstanceId, s.Input.GetValue()}] = true
		}
	}
	ends := results.Response.Actions
	results.Response.Actions = nil
	next := t.nextID()
	for _, a := range ends {
		next = max(next, a.Id+1)
	}
	for _, s := range t.sections {
		for _, target := range s.targets {
			if given[[2]string{target, s.release()}] {
				continue
			}
			addAction(results, next, "sendEvent")
			fillEvent(last(results.Response.Actions), target, entity.ReleaseEvent, s.release())
			next++
		}
	}
	results.Response.Actions = append(results.Response.Actions, ends...)
}

// isEntityMessage says whether the event is the trace of a message to an entity.
func isEntityMessage(e *backend.HistoryEvent) bool {
	s := e.GetEventSent()
	if s == nil || e.EventId < 0 || !strings.HasPrefix(s.InstanceId, "@") {
		return false
	}
	name, _, _ := strings.Cut(s.Name, "@")
	return name == entity.RequestEvent || name == entity.ReleaseEvent
}

// messageStep is the step of a message. The host writes the time of one that comes later behind its name.
func messageStep(target, name string) step {
	name, _, _ = strings.Cut(name, "@")
	return step{"message " + name + " to", target}
}

// EntityOutcome reads an entity's response to a call: its result, empty if there is none, or why it failed.
func EntityOutcome(text string) (result string, failure *Failure) {
	var r entity.Response
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return "", &Failure{Kind: NotUnderstood, Message: fmt.Sprintf("the entity's response is not what the host sends: %v", err)}
	}
	if r.Result != nil {
		result = *r.Result
	}
	switch {
	case r.FailureDetails != nil:
		return "", classifyEntity(r.FailureDetails)
	case r.ExceptionType != "":
		return "", &Failure{Kind: Lost, Message: result}
	}
	return result, nil
}

func classifyEntity(f *entity.ResponseFailure) *Failure {
	switch f.ErrorType {
	case entity.PanicType:
		return &Failure{Kind: Panicked, Message: f.ErrorMessage}
	case entity.DeadlineType:
		return &Failure{Kind: DeadlineExceeded, Message: f.ErrorMessage}
	case entity.NotUnderstoodType:
		return &Failure{Kind: NotUnderstood, Message: f.ErrorMessage}
	case entity.NotFoundType, "EntityFunctionNotFound":
		return &Failure{Kind: NotFound, Message: f.ErrorMessage}
	case "FunctionInvocationFailed":
		if f.InnerFailure != nil {
			return classify(detailsOf(f.InnerFailure))
		}
		return &Failure{Kind: Lost, Message: f.ErrorMessage}
	}
	return &Failure{Kind: Failed, Message: f.ErrorMessage}
}

func detailsOf(f *entity.ResponseFailure) *backend.TaskFailureDetails {
	d := &backend.TaskFailureDetails{ErrorType: f.ErrorType, ErrorMessage: f.ErrorMessage}
	if f.InnerFailure != nil {
		d.InnerFailure = detailsOf(f.InnerFailure)
	}
	return d
}

// fillEvent makes the action the sending of an event.
func fillEvent(action proto.Message, target, name, data string) {
	m := action.ProtoReflect()
	event := m.Mutable(m.Descriptor().Fields().ByName("sendEvent")).Message()
	fields := event.Descriptor().Fields()
	instance := event.Mutable(fields.ByName("instance")).Message()
	instance.Set(instance.Descriptor().Fields().ByName("instanceId"), protoreflect.ValueOfString(target))
	event.Set(fields.ByName("name"), protoreflect.ValueOfString(name))
	event.Set(fields.ByName("data"), protoreflect.ValueOfMessage(wrapperspb.String(data).ProtoReflect()))
}
