package taskhub

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/historyevent"
)

// entitySchema: an entity's row is made with its first message and stays when its state is deleted.
const entitySchema = `
CREATE TABLE IF NOT EXISTS entities (
	id        TEXT PRIMARY KEY,         -- @name@key
	state     TEXT,                     -- JSON; NULL: there is none
	modified  INTEGER NOT NULL,
	locked_by TEXT NOT NULL DEFAULT ''  -- instance id
);
CREATE TABLE IF NOT EXISTS entity_messages (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	entity  TEXT NOT NULL,
	visible INTEGER NOT NULL, -- due time, 0: at once
	parent  TEXT NOT NULL,    -- the instance that sent it, '' for a signal from elsewhere
	name    TEXT NOT NULL,    -- entity.RequestEvent or ReleaseEvent
	payload TEXT NOT NULL     -- JSON
);
CREATE INDEX IF NOT EXISTS entity_messages_entity ON entity_messages (entity, seq);
CREATE INDEX IF NOT EXISTS entity_messages_visible ON entity_messages (visible) WHERE visible > 0;
`

// defaultBatch is how many operations an entity gets at once: the host's default on a Consumption plan.
const defaultBatch = 50

// isEntity reports whether the instance id belongs to an entity.
func isEntity(id string) bool { return strings.HasPrefix(id, "@") }

// rouse queues the instance or entity so that a worker looks at it.
func (h *TaskHub) rouse(id string) { h.queueOf(id).add(id) }

func (h *TaskHub) queueOf(id string) *queue {
	if isEntity(id) {
		return h.entities
	}
	return h.queue
}

// putEntityMessage stores an event for an entity. It returns when the event is due; 0 means at once. As on the host, a call
// without a time stamp is dropped: the entity's sorter would take it for a duplicate.
func putEntityMessage(t tx, id, name, data string) (visible int64, err error) {
	name, at, later := strings.Cut(name, "@")
	if later {
		due, err := time.Parse(time.RFC3339Nano, at)
		if err == nil {
			visible = toNanos(due)
		}
	}
	var m entity.Message
	if json.Unmarshal([]byte(data), &m) != nil || name != entity.RequestEvent && name != entity.ReleaseEvent {
		return 0, nil // the host ignores all other events
	}
	if name == entity.RequestEvent && m.Parent != "" && !m.Signal && m.Timestamp == "" && !later {
		return 0, nil
	}
	if visible <= time.Now().UnixNano() {
		visible = 0
	}
	return visible, errors.Join(
		t.exec("INSERT INTO entities (id, modified) VALUES (?, ?) ON CONFLICT DO NOTHING", id, time.Now().UnixNano()),
		t.exec("INSERT INTO entity_messages (entity, visible, parent, name, payload) VALUES (?, ?, ?, ?, ?)", id, visible, m.Parent, name, data),
	)
}

// SignalEntity sends an operation to an entity, at once or at the given time.
func (h *TaskHub) SignalEntity(ctx context.Context, id string, s entity.Signal) error {
	e := outbox{hub: h}
	err := h.update(ctx, func(t tx) error { e = outbox{hub: h}; return e.signal(t, id, s) })
	if err == nil {
		e.flush()
	}
	return err
}

// outbox notes to whom a transaction has sent something. They are woken once it is stored.
type outbox struct {
	hub     *TaskHub
	batch   int // operations at once
	woken   []string
	due     int64 // when the earliest delayed message is due; 0: there is none
	suspect bool  // the entity may still have an operation that kills the process
}

func (o *outbox) put(t tx, id, name, data string) error {
	visible, err := putEntityMessage(t, id, name, data)
	o.note(id, visible)
	return err
}

func (o *outbox) note(id string, visible int64) {
	switch {
	case visible == 0:
		o.woken = append(o.woken, id)
	case o.due == 0 || visible < o.due:
		o.due = visible
	}
}

func (o *outbox) signal(t tx, id string, s entity.Signal) error {
	name := entity.RequestEvent
	if !s.ScheduledAt.IsZero() {
		name += "@" + s.ScheduledAt.UTC().Format(entity.TimeFormat)
	}
	return o.put(t, id, name, s.Message().Encode())
}

// respond sends a result to an orchestration.
func (o *outbox) respond(t tx, m entity.Message, r entity.Response) error {
	if m.Signal || m.Parent == "" {
		return nil
	}
	e := historyevent.New("eventRaised", time.Now())
	e.GetEventRaised().Name, e.GetEventRaised().Input = m.ID, wrapperspb.String(r.Encode())
	o.woken = append(o.woken, m.Parent)
	return sendEvent(t, m.Parent, e)
}

func (o *outbox) flush() {
	for _, id := range o.woken {
		o.hub.rouse(id)
	}
	if o.due > 0 {
		o.hub.schedule(fromNanos(o.due))
	}
}

// EntityWork is a batch of operations that an entity is to run. It ends with CompleteEntity or AbandonEntity.
type EntityWork struct {
	Batch entity.Batch

	messages []entity.Message
	seqs     []int64
	deaths   int // how many processes died while the entity ran
}

// NextEntity waits for an entity that has operations to run. It handles requests for locks and their release itself.
func (h *TaskHub) NextEntity(ctx context.Context) (*EntityWork, error) {
	for {
		id, err := h.entities.take(ctx)
		if err != nil {
			return nil, err
		}
		admitted, err := h.admit(ctx, id)
		if err == nil && !admitted {
			continue
		}
		w := &EntityWork{}
		if err == nil {
			w, err = h.prepareEntity(ctx, id)
		}
		switch {
		case err != nil:
			h.log.Error("an entity's messages cannot be read, trying again", "entity", id, "error", err)
			h.interrupted(id)
			h.later(id, time.Second)
		case len(w.seqs) == 0:
			h.interrupted(id)
			h.entities.done(id)
		case w.deaths >= maxDeaths:
			h.giveUpOperation(ctx, w)
		default:
			return w, nil
		}
	}
}

func (h *TaskHub) prepareEntity(ctx context.Context, id string) (w *EntityWork, err error) {
	n := h.deathsOf(id)
	var o outbox
	err = h.update(ctx, func(t tx) (err error) {
		o = outbox{hub: h, batch: h.entityBatch}
		if n >= deathsToBeAlone {
			o.batch = 1 // so that a death shows which operation is the cause
		}
		w, err = o.prepare(t, id)
		return err
	})
	o.flush()
	if w != nil {
		w.deaths = n
	}
	return w, err
}

// giveUpOperation fails an operation because too many processes died while it was running.
func (h *TaskHub) giveUpOperation(ctx context.Context, w *EntityWork) {
	op := w.Batch.Operations[0].Name
	h.log.Error("an entity's operation is given up: every process that ran it died", "entity", w.Batch.ID, "operation", op, "deaths", w.deaths)
	err := h.RefuseEntity(ctx, w, &entity.ResponseFailure{
		ErrorType:    historyevent.OperationKilledType,
		ErrorMessage: fmt.Sprintf("operation %s was given up: %d times the process died while it was running", op, w.deaths),
	})
	if err != nil {
		h.log.Error("an operation that was given up could not be ended", "entity", w.Batch.ID, "error", err)
	}
}

// endEntity notes in the transaction that the operations did not kill the process. The operations behind them may still be suspect.
func (o *outbox) endEntity(t tx, w *EntityWork) (err error) {
	if w.deaths == 0 {
		return nil
	}
	o.suspect = false
	if w.deaths >= deathsToBeAlone {
		err = t.queryRow("SELECT EXISTS (SELECT 1 FROM entity_messages WHERE entity = ?)", w.Batch.ID).Scan(&o.suspect)
	}
	return errors.Join(err, o.hub.survived(t, w.Batch.ID, o.suspect))
}

// later queues the entity again after a delay, and keeps it out of the queue until then.
func (h *TaskHub) later(id string, wait time.Duration) {
	time.AfterFunc(wait, func() {
		h.entities.add(id)
		h.entities.done(id)
	})
}

// prepare collects the operations up to the next request for a lock.
func (o *outbox) prepare(t tx, id string) (*EntityWork, error) {
	for {
		w := &EntityWork{Batch: entity.Batch{ID: id}}
		var state sql.NullString
		var lockedBy string
		err := t.queryRow("SELECT state, locked_by FROM entities WHERE id = ?", id).Scan(&state, &lockedBy)
		if errors.Is(err, sql.ErrNoRows) {
			return w, nil // the entity was deleted meanwhile
		} else if err != nil {
			return nil, err
		}
		if state.Valid {
			w.Batch.State = []byte(state.String)
		}
		lock, err := w.collect(t, lockedBy, o.batch)
		if err != nil || lock == 0 {
			return w, err
		}
		if err := o.change(t, id, lockedBy, lock); err != nil {
			return nil, err
		}
	}
}

// collect takes operations up to the first message of another kind. If that message comes first, collect returns its number. While
// the entity is locked, it takes only the lock holder's messages.
func (w *EntityWork) collect(t tx, lockedBy string, limit int) (lock int64, err error) {
	rows, err := t.QueryContext(t.ctx, "SELECT seq, name, payload FROM entity_messages WHERE entity = ? AND visible <= ? AND (? IN ('', parent) OR name = ?) ORDER BY seq LIMIT ?",
		w.Batch.ID, time.Now().UnixNano(), lockedBy, entity.ReleaseEvent, limit)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var name, payload string
		if err := rows.Scan(&seq, &name, &payload); err != nil {
			return 0, err
		}
		var m entity.Message
		if err := json.Unmarshal([]byte(payload), &m); err != nil {
			return 0, err
		}
		if name == entity.ReleaseEvent || m.Operation == nil {
			if len(w.seqs) == 0 {
				return seq, nil
			}
			break
		}
		w.add(seq, m)
	}
	return 0, rows.Err()
}

func (w *EntityWork) add(seq int64, m entity.Message) {
	op := entity.Operation{Name: *m.Operation, RequestID: m.ID}
	if m.Input != nil {
		op.Input = []byte(*m.Input)
	}
	w.Batch.Operations = append(w.Batch.Operations, op)
	w.messages, w.seqs = append(w.messages, m), append(w.seqs, seq)
}

// change locks or unlocks the entity, as the message asks.
func (o *outbox) change(t tx, id, lockedBy string, seq int64) error {
	var name, payload string
	if err := t.queryRow("SELECT name, payload FROM entity_messages WHERE seq = ?", seq).Scan(&name, &payload); err != nil {
		return err
	}
	var m entity.Message
	if err := errors.Join(json.Unmarshal([]byte(payload), &m), t.exec("DELETE FROM entity_messages WHERE seq = ?", seq)); err != nil {
		return err
	}
	if name == entity.ReleaseEvent {
		if m.Parent != lockedBy {
			return nil
		}
		return t.exec("UPDATE entities SET locked_by = '' WHERE id = ?", id)
	}
	if err := t.exec("UPDATE entities SET locked_by = ? WHERE id = ?", m.Parent, id); err != nil {
		return err
	}
	next := 1
	if m.Position != nil {
		next += *m.Position
	}
	if next < 1 || next >= len(m.LockSet) {
		granted := entity.Granted
		return o.respond(t, m, entity.Response{Result: &granted})
	}
	m.Position = &next
	to := entity.ID{Name: m.LockSet[next].Name, Key: m.LockSet[next].Key}
	return o.put(t, to.String(), entity.RequestEvent, m.Encode())
}

// CompleteEntity stores the outcomes of the operations in one transaction. Operations without an outcome come again.
func (h *TaskHub) CompleteEntity(ctx context.Context, w *EntityWork, r *entity.Result) error {
	o := outbox{hub: h}
	err := h.persist(ctx, func(t tx) error {
		o = outbox{hub: h}
		return errors.Join(o.store(t, w, r), o.endEntity(t, w))
	})
	o.flush()
	if err != nil {
		h.interrupted(w.Batch.ID)
		h.later(w.Batch.ID, time.Second)
		return fmt.Errorf("store the operations of %s: %w", w.Batch.ID, err)
	}
	h.endedEntity(w, o)
	h.entities.add(w.Batch.ID)
	h.entities.done(w.Batch.ID)
	return nil
}

func (h *TaskHub) endedEntity(w *EntityWork, o outbox) {
	if w.deaths > 0 {
		h.forgetDeaths(w.Batch.ID, o.suspect)
	}
}

func (o *outbox) store(t tx, w *EntityWork, r *entity.Result) error {
	var state any
	if r.State != nil {
		state = string(r.State)
	}
	if err := t.exec("UPDATE entities SET state = ?, modified = ? WHERE id = ?", state, time.Now().UnixNano(), w.Batch.ID); err != nil {
		return err
	}
	for i, m := range w.messages {
		response := entity.Response{}
		switch {
		case r.Failure != nil:
			response = entity.NotDispatched(r.Failure.Response())
		case i < len(r.Outcomes):
			response = r.Outcomes[i].Response()
		default:
			continue
		}
		if err := errors.Join(t.exec("DELETE FROM entity_messages WHERE seq = ?", w.seqs[i]), o.respond(t, m, response)); err != nil {
			return err
		}
	}
	for _, a := range r.Actions {
		if err := o.act(t, w.Batch.ID, a); err != nil {
			return err
		}
	}
	return nil
}

// RefuseEntity drops operations that no code could run, and tells the callers why.
func (h *TaskHub) RefuseEntity(ctx context.Context, w *EntityWork, why *entity.ResponseFailure) error {
	o := outbox{hub: h}
	err := h.persist(ctx, func(t tx) error {
		o = outbox{hub: h}
		var errs []error
		for i, m := range w.messages {
			errs = append(errs, t.exec("DELETE FROM entity_messages WHERE seq = ?", w.seqs[i]), o.respond(t, m, entity.NotDispatched(why)))
		}
		return errors.Join(append(errs, o.endEntity(t, w))...)
	})
	o.flush()
	if err == nil {
		h.endedEntity(w, o)
	} else {
		h.interrupted(w.Batch.ID)
	}
	h.later(w.Batch.ID, 0)
	return err
}

// act carries out what an operation asks for: a signal or a new orchestration.
func (o *outbox) act(t tx, from string, a entity.Action) error {
	if !a.Starts {
		return o.signal(t, a.InstanceID, entity.Signal{ID: uuid.NewString(), Operation: a.Name, Input: a.Input, ScheduledAt: a.ScheduledAt})
	}
	visible := int64(0)
	if !a.ScheduledAt.IsZero() {
		visible = toNanos(a.ScheduledAt)
	}
	if visible <= time.Now().UnixNano() {
		visible = 0
	}
	o.note(a.InstanceID, visible)
	return putRoot(t, entityStart(from, a), visible)
}

// entityStart returns the start of an orchestration that an entity asks for, as the host records it: the entity is its parent
// but does not wait for it.
func entityStart(entityID string, a entity.Action) *backend.HistoryEvent {
	e := historyevent.New("executionStarted", time.Now())
	es := e.GetExecutionStarted()
	es.Name = a.Name
	if a.Version != "" {
		es.Version = wrapperspb.String(a.Version)
	}
	if a.Input != nil {
		es.Input = wrapperspb.String(string(a.Input))
	}
	if !a.ScheduledAt.IsZero() {
		es.ScheduledStartTimestamp = timestamppb.New(a.ScheduledAt)
	}
	m := es.ProtoReflect()
	mutable := func(m protoreflect.Message, field protoreflect.Name) protoreflect.Message {
		return m.Mutable(m.Descriptor().Fields().ByName(field)).Message()
	}
	mutable(m, "orchestrationInstance")
	es.OrchestrationInstance.InstanceId = a.InstanceID
	es.OrchestrationInstance.ExecutionId = wrapperspb.String(uuid.NewString())
	mutable(mutable(m, "parentInstance"), "orchestrationInstance")
	parent := es.ParentInstance
	parent.TaskScheduledId, parent.Name, parent.Version = a.ID, wrapperspb.String(entityID), wrapperspb.String("")
	parent.OrchestrationInstance.InstanceId, parent.OrchestrationInstance.ExecutionId = entityID, wrapperspb.String(uuid.NewString())
	tags := map[string]string{historyevent.FireAndForget: ""}
	maps.Copy(tags, a.Tags)
	historyevent.SetTags(e, tags)
	return e
}

// AbandonEntity gives the operations back. They come again after 2, 4, 8 and so on, up to 600 times [Options.PutOffUnit].
func (h *TaskHub) AbandonEntity(w *EntityWork, times int) {
	h.interrupted(w.Batch.ID)
	h.later(w.Batch.ID, min(h.putOffUnit<<min(times, 10), 600*h.putOffUnit))
}

// Entity describes an entity to those who look at it.
type Entity struct {
	ID       string // @name@key
	State    *string
	Modified time.Time
	Backlog  int // number of waiting messages
	LockedBy string
}

// EntityFilter says which entities QueryEntities returns.
type EntityFilter struct {
	Prefix    string // of the id
	From, To  time.Time
	Transient bool // also entities without a state
	PageSize  int  // 0: 100
	After     string
}

// QueryEntities returns a page of entities, ordered by id, and the id of the first entity of the next page.
func (h *TaskHub) QueryEntities(ctx context.Context, f EntityFilter) (page []Entity, next string, err error) {
	size := f.PageSize
	if size <= 0 || size > 1000 {
		size = 100
	}
	query := "SELECT id, state, modified, locked_by, (SELECT COUNT(*) FROM entity_messages WHERE entity = id) FROM entities WHERE id >= ? AND substr(id, 1, ?) = ?"
	args := []any{max(f.After, f.Prefix), len([]rune(f.Prefix)), f.Prefix}
	if !f.Transient {
		query += " AND state IS NOT NULL"
	}
	if !f.From.IsZero() {
		query, args = query+" AND modified >= ?", append(args, toNanos(f.From))
	}
	if !f.To.IsZero() {
		query, args = query+" AND modified <= ?", append(args, toNanos(f.To))
	}
	rows, err := h.read.QueryContext(ctx, query+" ORDER BY id LIMIT ?", append(args, size+1)...)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEntity(rows.Scan)
		if err != nil {
			return nil, "", err
		}
		if len(page) == size {
			return page, e.ID, nil
		}
		page = append(page, e)
	}
	return page, "", rows.Err()
}

// Entity returns the entity with that id, and whether it exists.
func (h *TaskHub) Entity(ctx context.Context, id string) (Entity, bool, error) {
	e, err := scanEntity(h.read.QueryRowContext(ctx,
		"SELECT id, state, modified, locked_by, (SELECT COUNT(*) FROM entity_messages WHERE entity = id) FROM entities WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Entity{}, false, nil
	}
	return e, err == nil && e.State != nil, err
}

func scanEntity(scan func(...any) error) (e Entity, err error) {
	var state sql.NullString
	var modified int64
	if err := scan(&e.ID, &state, &modified, &e.LockedBy, &e.Backlog); err != nil {
		return e, err
	}
	if state.Valid {
		e.State = &state.String
	}
	e.Modified = fromNanos(modified)
	return e, nil
}

// CleanEntities deletes the rows of entities that have no state, no lock and no messages. It also releases the locks of
// orchestrations that have ended. It returns how many of each there were.
func (h *TaskHub) CleanEntities(ctx context.Context, empty, locks bool) (removed, released int64, err error) {
	var woken []string
	err = h.update(ctx, func(t tx) (err error) {
		woken = nil
		if locks {
			rows, err := t.QueryContext(t.ctx, "SELECT id FROM entities WHERE locked_by <> '' AND locked_by NOT IN (SELECT id FROM instances WHERE "+unfinished+")")
			if err == nil {
				err = eachString(rows, func(id string) { woken = append(woken, id) })
			}
			for _, id := range woken {
				err = cmp.Or(err, t.exec("UPDATE entities SET locked_by = '' WHERE id = ?", id))
			}
			if err != nil {
				return err
			}
		}
		if empty {
			removed, err = t.execCount("DELETE FROM entities WHERE state IS NULL AND locked_by = '' AND id NOT IN (SELECT entity FROM entity_messages)")
		}
		return err
	})
	for _, id := range woken {
		h.rouse(id)
	}
	return removed, int64(len(woken)), err
}

// PurgeEntity deletes an entity with its state and all its waiting messages. It returns how many entities it deleted.
func (h *TaskHub) PurgeEntity(ctx context.Context, id string) (deleted int64, err error) {
	err = h.update(ctx, func(t tx) (err error) {
		if err := t.exec("DELETE FROM entity_messages WHERE entity = ?", id); err != nil {
			return err
		}
		deleted, err = t.execCount("DELETE FROM entities WHERE id = ?", id)
		return err
	})
	return deleted, err
}
