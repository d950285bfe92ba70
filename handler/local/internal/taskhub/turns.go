package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
)

// GetOrchestrationWorkItem waits for an instance that has events.
func (h *TaskHub) GetOrchestrationWorkItem(ctx context.Context) (*backend.OrchestrationWorkItem, error) {
	for {
		id, err := h.queue.take(h.open)
		if err != nil {
			return nil, h.hold(ctx)
		}
		if item := h.turnOf(ctx, id); item != nil {
			return item, nil
		}
	}
}

// turnOf returns the turn of an instance taken from the queue; nil if it has no work now.
func (h *TaskHub) turnOf(ctx context.Context, id string) (item *backend.OrchestrationWorkItem) {
	if h.isLeft(ctx, id) {
		h.queue.done(id)
		return nil
	}
	admitted, err := h.admit(ctx, id)
	switch {
	case err != nil:
	case !admitted:
		return nil
	case h.deathsOf(id) >= maxDeaths:
		h.giveUpTurn(ctx, id)
	default:
		item, err = h.beginTurn(ctx, api.InstanceID(id))
	}
	if broken := (*RowError)(nil); errors.As(err, &broken) {
		h.setAside(ctx, id, broken)
		err = nil
	}
	switch {
	case err != nil:
		h.interrupted(id)
		h.cannotRead("events", err)
		time.AfterFunc(time.Second, func() { h.queue.done(id); h.queue.add(id) })
	case item == nil: // for example, the instance of a timer was purged meanwhile
		h.mu.Lock()
		delete(h.attempts, api.InstanceID(id))
		h.mu.Unlock()
		h.interrupted(id)
		h.queue.done(id)
	}
	return item
}

func (h *TaskHub) beginTurn(ctx context.Context, id api.InstanceID) (*backend.OrchestrationWorkItem, error) {
	current := &turn{cutoff: time.Now().UnixNano(), started: map[int32]int64{}}
	err := h.read.QueryRowContext(ctx, "SELECT execution FROM instances WHERE id = ?", string(id)).Scan(&current.execution)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	rows, err := h.read.QueryContext(ctx, "SELECT seq, started, payload FROM events WHERE instance = ? AND visible <= ? ORDER BY seq LIMIT ?",
		string(id), current.cutoff, maxEventsPerTurn)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	item := &backend.OrchestrationWorkItem{InstanceID: id}
	for rows.Next() {
		var started int64
		e, seq, err := scanEvent(rows, "events", &started)
		if err != nil {
			return nil, err
		}
		if started > 0 {
			current.started[endedTask(e)] = started
		}
		current.lastSeq = seq
		item.NewEvents = append(item.NewEvents, e)
	}
	if err := rows.Err(); err != nil || len(item.NewEvents) == 0 {
		return nil, err
	}
	if lost, err := h.dropUnstarted(ctx, item, current); lost || err != nil {
		return nil, err
	}
	current.more = len(item.NewEvents) == maxEventsPerTurn
	h.mu.Lock()
	defer h.mu.Unlock()
	item.RetryCount = int32(h.attempts[id])
	h.turns[id] = current
	return item, nil
}

// dropUnstarted drops the events of an instance whose start is still hidden, as the host does. It keeps a termination.
func (h *TaskHub) dropUnstarted(ctx context.Context, item *backend.OrchestrationWorkItem, current *turn) (dropped bool, err error) {
	for _, e := range item.NewEvents {
		if e.GetExecutionStarted() != nil || e.GetExecutionTerminated() != nil {
			return false, nil
		}
	}
	id := string(item.InstanceID)
	var begun bool
	err = h.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM history WHERE instance = ?)", id).Scan(&begun)
	if begun || err != nil {
		return false, err
	}
	h.log.Warn("events are dropped: their instance has not had its first turn", "instance", id, "events", len(item.NewEvents))
	return true, h.persist(ctx, func(t tx) error {
		return t.exec("DELETE FROM events WHERE instance = ? AND seq <= ? AND visible <= ?", id, current.lastSeq, current.cutoff)
	})
}

// RowError reports that a row of the file cannot be decoded.
type RowError struct {
	Table string
	Row   int64 // its sequence number
	Err   error
}

func (e *RowError) Error() string {
	return fmt.Sprintf("row %d of table %s cannot be decoded: %v", e.Row, e.Table, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// querier is the store or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// queryEvents runs a query whose columns are a sequence number and an event. The error is a [*RowError] if a row cannot be decoded.
func queryEvents(ctx context.Context, q querier, table, query string, args ...any) (events []*backend.HistoryEvent, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e, _, err := scanEvent(rows, table)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// scanEvent reads a row whose first column is its sequence number and whose last one is an event. The error is a [*RowError]
// if it cannot be decoded.
func scanEvent(rows *sql.Rows, table string, columns ...any) (e *backend.HistoryEvent, seq int64, err error) {
	e, seq, _, err = scanPayload(rows, table, columns...)
	return e, seq, err
}

// scanPayload is scanEvent, and also returns the event's protobuf, which is valid until the next row.
func scanPayload(rows *sql.Rows, table string, columns ...any) (e *backend.HistoryEvent, seq int64, payload sql.RawBytes, err error) {
	if err := rows.Scan(slices.Concat([]any{&seq}, columns, []any{&payload})...); err != nil {
		return nil, seq, nil, err
	}
	e, err = backend.UnmarshalHistoryEvent(payload)
	if err != nil {
		return nil, seq, nil, &RowError{Table: table, Row: seq, Err: err}
	}
	return e, seq, payload, nil
}

// GetOrchestrationRuntimeState loads an instance's history. The state holds only the events that the engine looks at: see
// [TaskHub.Past].
func (h *TaskHub) GetOrchestrationRuntimeState(ctx context.Context, item *backend.OrchestrationWorkItem) (*backend.OrchestrationRuntimeState, error) {
	h.mu.Lock()
	current := h.turns[item.InstanceID]
	h.mu.Unlock()
	if current == nil {
		return nil, backend.ErrWorkItemLockLost
	}
	past, err := h.pastFor(ctx, string(item.InstanceID), current.execution)
	if broken := (*RowError)(nil); errors.As(err, &broken) {
		h.setAside(ctx, string(item.InstanceID), broken)
	}
	if err != nil {
		h.fails(explain(h.path, err))
		return nil, fmt.Errorf("read the history of %s: %w", item.InstanceID, err)
	}
	h.addStuck(0) // the whole turn could be read
	h.mu.Lock()
	current.past = past
	h.mu.Unlock()
	return backend.NewOrchestrationRuntimeState(item.InstanceID, past.state), nil
}

const pastQuery = "SELECT seq, payload FROM history WHERE instance = ? ORDER BY seq"

func pastOf(ctx context.Context, q querier, id string) ([]*backend.HistoryEvent, error) {
	return queryEvents(ctx, q, "history", pastQuery, id)
}

// ContinueAsNew is called during a turn whose answer continues as new. The engine must not get that action: it would run the next
// execution within the same turn, and give up after twenty.
func (h *TaskHub) ContinueAsNew(id api.InstanceID, next Generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.turns[id]; t != nil {
		t.next = &next
	}
}

// TagChildren is called during a turn whose answer starts children. It gets the tags of the children, by the ids of the actions.
func (h *TaskHub) TagChildren(id api.InstanceID, tags map[int32]map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.turns[id]; t != nil {
		t.tags = tags
	}
}

// CompleteOrchestrationWorkItem stores a turn.
func (h *TaskHub) CompleteOrchestrationWorkItem(ctx context.Context, item *backend.OrchestrationWorkItem) error {
	h.mu.Lock()
	current := h.turns[item.InstanceID]
	h.mu.Unlock()
	if current == nil {
		return backend.ErrWorkItemLockLost
	}
	var c *commit
	suspected := h.deathsOf(string(item.InstanceID)) > 0
	err := h.persist(ctx, func(t tx) error {
		c = &commit{turn: current, id: string(item.InstanceID), state: item.State}
		err := c.run(t)
		if err == nil && (suspected || c.changed != nil && c.changed.IsFinished()) {
			err = h.survived(t, c.id, false)
		}
		return err
	})
	switch {
	case errors.Is(err, ErrNotStored):
		return nil
	case err != nil:
		return fmt.Errorf("store the turn of %s: %w", item.InstanceID, err) // the engine then abandons the turn
	}
	if suspected || c.changed != nil && c.changed.IsFinished() {
		h.forgetDeaths(c.id, false)
	}
	if c.past.events > 0 {
		h.histories.put(c.id, c.past)
	}
	for _, id := range c.woken {
		h.rouse(id)
	}
	if c.timer > 0 {
		h.schedule(fromNanos(c.timer))
	}
	if c.tasks > 0 {
		h.taskAdd.set()
	}
	if c.started != nil {
		h.onInstance(*c.started)
	}
	if c.report {
		h.onInstance(*c.changed)
	}
	if c.changed != nil {
		h.notify(c.id)
	}
	h.endTurn(item.InstanceID, current.more)
	return nil
}

func (h *TaskHub) endTurn(id api.InstanceID, more bool) {
	h.mu.Lock()
	delete(h.turns, id)
	delete(h.attempts, id)
	h.mu.Unlock()
	if more {
		h.queue.add(string(id))
	}
	h.queue.done(string(id))
}

// AbandonOrchestrationWorkItem gives up a turn. It comes again after a delay, as on the real host.
func (h *TaskHub) AbandonOrchestrationWorkItem(_ context.Context, item *backend.OrchestrationWorkItem) error {
	id := item.InstanceID
	h.interrupted(string(id))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turns[id] == nil {
		return nil
	}
	again := h.turns[id].putOff
	delete(h.turns, id)
	if again { // for the events that came meanwhile; those of this turn are hidden
		h.queue.add(string(id))
		h.queue.done(string(id))
		return nil
	}
	h.attempts[id]++
	time.AfterFunc(retryDelay(h.attempts[id]), func() {
		h.queue.add(string(id))
		h.queue.done(string(id))
	})
	return nil
}

// retryDelay grows from a second to a minute.
func retryDelay(attempt int) time.Duration {
	return min(time.Second<<min(attempt-1, 10), maxRetryDelay)
}
