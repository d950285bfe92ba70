package durabletest

import (
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/entity"
)

// entityState is an entity as the host keeps it.
type entityState struct {
	state    []byte // nil: it does not exist
	lockedBy string // an instance id
	waiting  []entity.Message
}

// Entity adds an entity's code. Calls of an entity without code fail as those of one that the host does not know.
func (e *Env) Entity(name string, class *durable.EntityClass) {
	e.t.Helper()
	if class.Problem != nil {
		e.t.Fatalf("durabletest: entity %s: %v", name, class.Problem)
	}
	e.classes[strings.ToLower(name)] = class
}

// SetState lets an entity exist from the begin on.
func (e *Env) SetState(id durable.EntityID, state any) {
	e.t.Helper()
	e.entity(id.String()).state = []byte(e.marshal(state))
}

func (e *Env) entity(id string) *entityState {
	if e.entities[id] == nil {
		e.entities[id] = &entityState{}
	}
	return e.entities[id]
}

func isEntity(id string) bool { return strings.HasPrefix(id, "@") }

// states are the states of the entities that exist.
func (e *Env) states() map[string]string {
	states := map[string]string{}
	for id, s := range e.entities {
		if s.state != nil {
			states[id] = string(s.state)
		}
	}
	return states
}

// drain delivers what is on its way to entities when the orchestration has ended.
func (e *Env) drain() {
	for e.queue.Len() > 0 {
		if e.steps++; e.steps > maxTurns {
			e.t.Fatalf("the entities have not come to rest after %d steps", maxTurns)
		}
		if isEntity(e.queue[0].to) {
			e.step()
		} else {
			e.queue.drop()
		}
	}
}

// sendMessage sends what an orchestration sends to an entity, and says whether it does.
func (i *instance) sendMessage(id int32, unknown []byte, target, name, data string) bool {
	at := i.env.now
	if signal, ok := entity.DecodeSignal(unknown); ok {
		target, name, data = signal.Target, entity.RequestEvent, signal.Message().Encode()
		at = later(signal.ScheduledAt, at)
	}
	if !isEntity(target) {
		return false
	}
	sent := i.remember("eventSent", id).GetEventSent()
	sent.InstanceId, sent.Name, sent.Input = target, name, wrapperspb.String(data)
	i.env.raise(at, target, name, data)
	return true
}

// raise sends an event.
func (e *Env) raise(at time.Time, to, name, data string) {
	ev := newEvent("eventRaised", at)
	ev.GetEventRaised().Name, ev.GetEventRaised().Input = name, wrapperspb.String(data)
	e.send(at, to, ev)
}

// deliver lets the entity take up messages.
func (e *Env) deliver(id string, events []*backend.HistoryEvent) {
	s := e.entity(id)
	for _, ev := range events {
		r := ev.GetEventRaised()
		if r.GetName() == entity.ReleaseEvent {
			var release entity.Release
			if json.Unmarshal([]byte(r.Input.GetValue()), &release) == nil && release.Parent == s.lockedBy {
				s.lockedBy = ""
			}
			continue
		}
		var m entity.Message
		if err := json.Unmarshal([]byte(r.GetInput().GetValue()), &m); err != nil {
			e.t.Fatalf("durabletest: the message %s to %s: %v", r, id, err)
		}
		s.waiting = append(s.waiting, m)
	}
	for {
		batch, lock := s.next()
		switch {
		case lock != nil:
			e.grant(s, *lock)
		case len(batch) > 0:
			e.operate(id, s, batch)
		default:
			return
		}
	}
}

// next takes the operations that are to run, up to the request for a lock, or that request. While the entity is locked,
// only its holder's are to run.
func (s *entityState) next() (batch []entity.Message, lock *entity.Message) {
	var rest []entity.Message
	for n, m := range s.waiting {
		switch {
		case s.lockedBy != "" && m.Parent != s.lockedBy:
			rest = append(rest, m)
		case m.Operation != nil:
			batch = append(batch, m)
		case len(batch) == 0:
			s.waiting = append(rest, s.waiting[n+1:]...)
			return nil, &m
		default:
			s.waiting = append(rest, s.waiting[n:]...)
			return batch, nil
		}
	}
	s.waiting = rest
	return batch, nil
}

// grant gives the entity to an orchestration, which then wants the next of the set, or has them all.
func (e *Env) grant(s *entityState, m entity.Message) {
	s.lockedBy = m.Parent
	next := 1
	if m.Position != nil {
		next += *m.Position
	}
	if next < len(m.LockSet) {
		m.Position = &next
		to := entity.ID{Name: m.LockSet[next].Name, Key: m.LockSet[next].Key}
		e.raise(e.now, to.String(), entity.RequestEvent, m.Encode())
		return
	}
	granted := entity.Granted
	e.raise(e.now, m.Parent, m.ID, entity.Response{Result: &granted}.Encode())
}

// operate runs operations and does what they want done.
func (e *Env) operate(id string, s *entityState, batch []entity.Message) {
	parsed, _ := entity.ParseID(id)
	class := e.classes[parsed.Name]
	if class == nil {
		var known []string
		for _, c := range e.classes {
			known = append(known, c.Name)
		}
		for _, m := range batch {
			e.respond(m, entity.NotDispatched(entity.NoFunction(parsed.Name, known)))
		}
		return
	}
	b := &entity.Batch{ID: id, State: s.state}
	for _, m := range batch {
		o := entity.Operation{Name: *m.Operation, RequestID: m.ID}
		if m.Input != nil {
			o.Input = []byte(*m.Input)
		}
		b.Operations = append(b.Operations, o)
	}
	run := entity.NewRun(b, class, 0, slog.New(slog.DiscardHandler))
	run.Do(e.t.Context())
	result := run.Result()
	s.state = result.State
	for n, o := range result.Outcomes {
		e.respond(batch[n], o.Response())
	}
	for _, a := range result.Actions {
		e.act(a)
	}
}

func (e *Env) respond(m entity.Message, r entity.Response) {
	if !m.Signal {
		e.raise(e.now, m.Parent, m.ID, r.Encode())
	}
}

// act does what an operation wants done.
func (e *Env) act(a entity.Action) {
	if a.Starts {
		if e.orchestrators[a.Name] == nil {
			e.t.Fatalf("durabletest: an entity starts the orchestrator %s: add it with Orchestrator", a.Name)
		}
		e.start(a.InstanceID, a.Name, string(a.Input), "", nil, 0)
		return
	}
	m := entity.Signal{Operation: a.Name, Input: a.Input}.Message()
	e.raise(later(a.ScheduledAt, e.now), a.InstanceID, entity.RequestEvent, m.Encode())
}
