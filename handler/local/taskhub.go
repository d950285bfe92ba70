package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// taskHub is the engine's backend: what durabletask-go's own SQLite backend does, without what the real host does
// differently. It waits for work instead of polling, holds its locks in memory, where they cannot outlive the process,
// gives every generation of a continue-as-new a turn of its own, and drops what an earlier execution asked for.
type taskHub struct {
	*store
	log *slog.Logger
	// onInstance hears of a start, a new custom status and an end.
	onInstance func(Instance)

	queue   *queue // instances with events
	taskAdd signal // there may be more tasks

	open context.Context // while work is given out
	shut context.CancelFunc
	held chan struct{} // one for each of the engine's workers that gets no more

	mu        sync.Mutex
	turns     map[api.InstanceID]*turn
	attempts  map[api.InstanceID]int // turns given up one after the other
	retries   []*backend.ActivityWorkItem
	watchers  map[string]chan struct{}
	timer     *time.Timer
	due       time.Time // of the timer
	closed    bool
	failing   time.Time                   // since when the file cannot be used; zero: it can
	failure   error                       // set once that lasts
	stuck     int                         // writes that wait for the file
	fetched   []*backend.ActivityWorkItem // read by the activity worker only, as is lastFetch
	lastFetch int64
}

var _ backend.Backend = (*taskHub)(nil)

// turn is an orchestrator turn in flight.
type turn struct {
	execution string
	lastSeq   int64 // the events up to here, visible at the cutoff, belong to the turn
	cutoff    int64
	more      bool
	next      *generation // set when the orchestration continues as new
}

// generation is what a continue-as-new asks for.
type generation struct {
	input     *wrapperspb.StringValue
	carryover []*backend.HistoryEvent
}

const (
	maxEventsPerTurn = 1000
	tasksPerFetch    = 64
	maxRetryDelay    = time.Minute
)

// unfinished is an SQL condition, one that an index serves.
var unfinished = fmt.Sprintf("status IN (%d, %d, %d, %d)", api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING,
	api.RUNTIME_STATUS_SUSPENDED, api.RUNTIME_STATUS_CONTINUED_AS_NEW)

func newTaskHub(s *store, log *slog.Logger, onInstance func(Instance)) *taskHub {
	if onInstance == nil {
		onInstance = func(Instance) {}
	}
	open, shut := context.WithCancel(context.Background())
	return &taskHub{
		open: open, shut: shut, held: make(chan struct{}, 2),
		store: s, log: log, onInstance: onInstance, queue: newQueue(), taskAdd: newSignal(),
		turns: map[api.InstanceID]*turn{}, attempts: map[api.InstanceID]int{}, watchers: map[string]chan struct{}{},
	}
}

// Start takes up what an earlier process left.
func (h *taskHub) Start(ctx context.Context) error {
	rows, err := h.read.QueryContext(ctx, "SELECT DISTINCT instance FROM events WHERE visible = 0")
	if err == nil {
		err = eachString(rows, h.queue.add)
	}
	if err == nil {
		h.fireTimers()
	}
	return explain(h.path, err)
}

func eachString(rows *sql.Rows, f func(string)) error {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		f(s)
	}
	return rows.Err()
}

// retire gives out no more work and waits until each of the engine's two workers has come for more. Only then may the
// engine be shut down: durabletask-go v0.6.0 waits in a WaitGroup, which must not grow from zero meanwhile.
func (h *taskHub) retire() {
	h.shut()
	for range cap(h.held) {
		<-h.held
	}
}

// hold keeps a worker that gets no more work until the engine ends it.
func (h *taskHub) hold(ctx context.Context) error {
	h.held <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// Stop ends the timers.
func (h *taskHub) Stop(context.Context) error {
	h.shut()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	return nil
}

func (h *taskHub) CreateTaskHub(context.Context) error { return nil } // openStore did
func (h *taskHub) DeleteTaskHub(context.Context) error { return errors.ErrUnsupported }

// CreateOrchestrationInstance starts an instance. One that has finished is replaced, if its status is among those that
// the policy lists; without a list, whatever its status is.
func (h *taskHub) CreateOrchestrationInstance(ctx context.Context, e *backend.HistoryEvent, reuse ...backend.OrchestrationIdReusePolicyOptions) error {
	policy := &api.OrchestrationIdReusePolicy{}
	for _, option := range reuse {
		if err := option(policy); err != nil {
			return err
		}
	}
	es := e.GetExecutionStarted()
	id := es.GetOrchestrationInstance().GetInstanceId()
	visible := toNanos(es.GetScheduledStartTimestamp().AsTime())
	if visible <= time.Now().UnixNano() {
		visible = 0
	}
	err := h.update(ctx, func(t tx) error {
		var status api.OrchestrationStatus
		switch err := t.queryRow("SELECT status FROM instances WHERE id = ?", id).Scan(&status); {
		case err == nil && (!isFinished(status) || len(policy.OperationStatus) > 0 && !slices.Contains(policy.OperationStatus, status)):
			return api.ErrDuplicateInstance
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := t.exec("DELETE FROM mails WHERE root = ?", id); err != nil {
			return err
		}
		return putInstance(t, e, "", id, visible)
	})
	if err == nil {
		h.announce(id, visible)
	}
	return err
}

// putInstance writes a new instance over whatever has its id.
func putInstance(t tx, start *backend.HistoryEvent, parent, root string, visible int64) error {
	es := start.GetExecutionStarted()
	id := es.GetOrchestrationInstance().GetInstanceId()
	if err := deleteInstance(t, id); err != nil {
		return err
	}
	created := start.GetTimestamp().AsTime().UnixNano()
	err := t.exec("INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		id, executionOf(start), es.GetName(), api.RUNTIME_STATUS_PENDING, created, created, es.GetInput().GetValue(), parent, root)
	if err != nil {
		return err
	}
	return putEvent(t, id, "", visible, start)
}

func deleteInstance(t tx, id string) error {
	return errors.Join(
		t.exec("DELETE FROM instances WHERE id = ?", id),
		t.exec("DELETE FROM history WHERE instance = ?", id),
		t.exec("DELETE FROM events WHERE instance = ?", id),
	)
}

func putEvent(t tx, instance, execution string, visible int64, e *backend.HistoryEvent) error {
	payload, err := marshal(e)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload) VALUES (?, ?, ?, ?)", instance, execution, visible, payload)
}

// sendEvent puts an event that is meant for whatever execution the instance is in. It is dropped if there is none.
func sendEvent(t tx, instance string, e *backend.HistoryEvent) error {
	payload, err := marshal(e)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload) SELECT id, '', 0, ? FROM instances WHERE id = ? AND "+unfinished,
		payload, instance)
}

// answer puts the result of something that an execution asked for. It is dropped if the instance has finished or is in
// another execution by now.
func answer(t tx, instance, execution string, e *backend.HistoryEvent) error {
	payload, err := marshal(e)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO events (instance, execution, visible, payload) SELECT id, execution, 0, ? FROM instances WHERE id = ? AND execution = ? AND "+unfinished,
		payload, instance, execution)
}

// announce wakes the worker for an instance that got an event.
func (h *taskHub) announce(id string, visible int64) {
	if visible > 0 {
		h.schedule(fromNanos(visible))
	} else {
		h.queue.add(id)
	}
}

// AddNewOrchestrationEvent sends an event from outside to an instance.
func (h *taskHub) AddNewOrchestrationEvent(ctx context.Context, id api.InstanceID, e *backend.HistoryEvent) error {
	err := h.update(ctx, func(t tx) error { return sendEvent(t, string(id), e) })
	if err == nil {
		h.queue.add(string(id))
	}
	return err
}

// GetOrchestrationWorkItem waits for an instance with events.
func (h *taskHub) GetOrchestrationWorkItem(ctx context.Context) (*backend.OrchestrationWorkItem, error) {
	for {
		id, err := h.queue.take(h.open)
		if err != nil {
			return nil, h.hold(ctx)
		}
		item, err := h.beginTurn(ctx, api.InstanceID(id))
		if err != nil {
			h.cannotRead("events", err)
			time.AfterFunc(time.Second, func() { h.queue.done(id); h.queue.add(id) })
			continue
		}
		if item != nil {
			return item, nil
		}
		h.queue.done(id) // a timer's instance was replaced or purged meanwhile
	}
}

func (h *taskHub) beginTurn(ctx context.Context, id api.InstanceID) (*backend.OrchestrationWorkItem, error) {
	current := &turn{cutoff: time.Now().UnixNano()}
	err := h.read.QueryRowContext(ctx, "SELECT execution FROM instances WHERE id = ?", string(id)).Scan(&current.execution)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	rows, err := h.read.QueryContext(ctx, "SELECT seq, payload FROM events WHERE instance = ? AND visible <= ? ORDER BY seq LIMIT ?",
		string(id), current.cutoff, maxEventsPerTurn)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	item := &backend.OrchestrationWorkItem{InstanceID: id}
	for rows.Next() {
		e, err := scanEvent(rows, &current.lastSeq)
		if err != nil {
			return nil, err
		}
		item.NewEvents = append(item.NewEvents, e)
	}
	if err := rows.Err(); err != nil || len(item.NewEvents) == 0 {
		return nil, err
	}
	current.more = len(item.NewEvents) == maxEventsPerTurn
	h.mu.Lock()
	defer h.mu.Unlock()
	item.RetryCount = int32(h.attempts[id])
	h.turns[id] = current
	return item, nil
}

// scanEvent reads a row whose last column is an event.
func scanEvent(rows *sql.Rows, columns ...any) (*backend.HistoryEvent, error) {
	var payload sql.RawBytes
	if err := rows.Scan(append(columns, &payload)...); err != nil {
		return nil, err
	}
	return backend.UnmarshalHistoryEvent(payload)
}

// GetOrchestrationRuntimeState loads an instance's history.
func (h *taskHub) GetOrchestrationRuntimeState(ctx context.Context, item *backend.OrchestrationWorkItem) (*backend.OrchestrationRuntimeState, error) {
	past, err := h.history(ctx, string(item.InstanceID))
	if err != nil {
		h.fails(explain(h.path, err))
		return nil, fmt.Errorf("read the history of %s: %w", item.InstanceID, err)
	}
	h.addStuck(0) // all of a turn could be read
	return backend.NewOrchestrationRuntimeState(item.InstanceID, past), nil
}

func (h *taskHub) history(ctx context.Context, id string) (past []*backend.HistoryEvent, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT payload FROM history WHERE instance = ? ORDER BY seq", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, err
		}
		past = append(past, e)
	}
	return past, rows.Err()
}

// patience is how long the file may be unusable before whoever waits for an instance hears of it.
const patience = 10 * time.Second

// persist stores what a turn or an activity came to, however long it takes until the file can be written again: done
// anew, the work would fail at the same place. Only the end of the host ends the wait, and leaves it to the next one.
func (h *taskHub) persist(ctx context.Context, f func(tx) error) error {
	err := h.update(ctx, f)
	if err == nil || h.open.Err() == nil && !isFileError(err) {
		return err
	}
	h.addStuck(1)
	defer h.addStuck(-1)
	for wait := 50 * time.Millisecond; isFileError(err) && h.open.Err() == nil; wait = min(2*wait, 2*time.Second) {
		h.fails(err)
		_ = pause(h.open, wait)
		if h.open.Err() == nil {
			err = h.update(ctx, f)
		}
	}
	if err != nil && h.open.Err() != nil {
		return errNotStored
	}
	return err
}

// errNotStored is of no interest to the engine, which has ended: the next host does the work again.
var errNotStored = errors.New("not stored: the host was closed")

// fails notes that the file cannot be used: with one line when that begins, and once it has lasted with an error for
// those who wait for an instance.
func (h *taskHub) fails(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !isFileError(err):
	case h.failing.IsZero():
		h.failing = time.Now()
		h.log.Error("the task hub cannot be used, trying again", "error", err)
	case time.Since(h.failing) > patience:
		h.failure = err
		for id, watcher := range h.watchers {
			close(watcher)
			delete(h.watchers, id)
		}
	}
}

func (h *taskHub) cannotRead(what string, err error) {
	if err = explain(h.path, err); isFileError(err) {
		h.fails(err)
	} else {
		h.log.Error("cannot read the task hub, trying again", "what", what, "error", err)
	}
}

// addStuck counts the writes that wait for the file, which works again when there are none: on a full disk there may be
// room for a smaller one.
func (h *taskHub) addStuck(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stuck += n
	if h.stuck == 0 {
		h.failing, h.failure = time.Time{}, nil
	}
}

// continueAsNew is called within a turn whose answer asks for it. The engine would run the next generation within the
// same turn, and give up after twenty; it never hears of it.
func (h *taskHub) continueAsNew(id api.InstanceID, next *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.turns[id]; t != nil {
		t.next = next
	}
}

// CompleteOrchestrationWorkItem commits a turn.
func (h *taskHub) CompleteOrchestrationWorkItem(ctx context.Context, item *backend.OrchestrationWorkItem) error {
	h.mu.Lock()
	current := h.turns[item.InstanceID]
	h.mu.Unlock()
	if current == nil {
		return backend.ErrWorkItemLockLost
	}
	var c *commit
	err := h.persist(ctx, func(t tx) error {
		c = &commit{turn: current, id: string(item.InstanceID), state: item.State}
		return c.run(t)
	})
	switch {
	case errors.Is(err, errNotStored):
		return nil
	case err != nil:
		return fmt.Errorf("store the turn of %s: %w", item.InstanceID, err) // the engine abandons it
	}
	for _, id := range c.woken {
		h.queue.add(id)
	}
	if c.timer > 0 {
		h.schedule(fromNanos(c.timer))
	}
	if c.tasks > 0 {
		h.taskAdd.set()
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

func (h *taskHub) endTurn(id api.InstanceID, more bool) {
	h.mu.Lock()
	delete(h.turns, id)
	delete(h.attempts, id)
	h.mu.Unlock()
	if more {
		h.queue.add(string(id))
	}
	h.queue.done(string(id))
}

// AbandonOrchestrationWorkItem gives a turn up. Like the host, another tries it again, though not at once.
func (h *taskHub) AbandonOrchestrationWorkItem(_ context.Context, item *backend.OrchestrationWorkItem) error {
	id := item.InstanceID
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turns[id] == nil {
		return nil
	}
	delete(h.turns, id)
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

// GetActivityWorkItem waits for an activity to run. The tasks in flight are those that were read before.
func (h *taskHub) GetActivityWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
	for h.open.Err() == nil {
		if item := h.takeTask(); item != nil {
			return item, nil
		}
		found, err := h.fetchTasks(ctx)
		if err != nil {
			h.cannotRead("tasks", err)
			time.AfterFunc(time.Second, h.taskAdd.set)
		} else {
			h.addStuck(0) // what could not be read can be again
		}
		if !found {
			_ = h.taskAdd.wait(h.open)
		}
	}
	return nil, h.hold(ctx)
}

func (h *taskHub) takeTask() *backend.ActivityWorkItem {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range []*[]*backend.ActivityWorkItem{&h.retries, &h.fetched} {
		if len(*list) > 0 {
			item := (*list)[0]
			*list = (*list)[1:]
			return item
		}
	}
	return nil
}

func (h *taskHub) fetchTasks(ctx context.Context) (found bool, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT seq, instance, execution, payload FROM tasks WHERE seq > ? ORDER BY seq LIMIT ?", h.lastFetch, tasksPerFetch)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		item := &backend.ActivityWorkItem{}
		var instance, execution string
		if item.NewEvent, err = scanEvent(rows, &item.SequenceNumber, &instance, &execution); err != nil {
			return false, err
		}
		item.InstanceID = api.InstanceID(instance)
		item.LockedBy = execution // nobody else locks, so the field is free for whom the result is meant
		h.lastFetch = item.SequenceNumber
		h.fetched = append(h.fetched, item)
	}
	return len(h.fetched) > 0, rows.Err()
}

// CompleteActivityWorkItem hands an activity's result to its orchestration, unless that is in another execution by now.
func (h *taskHub) CompleteActivityWorkItem(ctx context.Context, item *backend.ActivityWorkItem) error {
	err := h.persist(ctx, func(t tx) error {
		n, err := t.execCount("DELETE FROM tasks WHERE seq = ?", item.SequenceNumber)
		if err != nil || n == 0 {
			return err
		}
		return answer(t, string(item.InstanceID), item.LockedBy, item.Result)
	})
	switch {
	case errors.Is(err, errNotStored):
		return nil
	case err == nil:
		h.queue.add(string(item.InstanceID))
	}
	return err
}

// AbandonActivityWorkItem lets an activity run again a little later.
func (h *taskHub) AbandonActivityWorkItem(_ context.Context, item *backend.ActivityWorkItem) error {
	item.Result = nil
	time.AfterFunc(time.Second, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.retries = append(h.retries, item)
		h.taskAdd.set()
	})
	return nil
}

// PurgeOrchestrationState deletes a finished instance.
func (h *taskHub) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	return h.update(ctx, func(t tx) error {
		var status api.OrchestrationStatus
		err := t.queryRow("SELECT status FROM instances WHERE id = ?", string(id)).Scan(&status)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return api.ErrInstanceNotFound
		case err != nil:
			return err
		case !isFinished(status):
			return &notFinishedError{id: string(id), status: status}
		}
		if err := t.exec("DELETE FROM mails WHERE root = ?", string(id)); err != nil {
			return err
		}
		return deleteInstance(t, string(id))
	})
}

// notFinishedError refuses to purge an instance.
type notFinishedError struct {
	id     string
	status api.OrchestrationStatus
}

func (e *notFinishedError) Error() string {
	return fmt.Sprintf("Only orchestrations in a terminal state can be purged, but the orchestration with instance ID %s has status %s",
		e.id, statusName(e.status))
}

func (e *notFinishedError) Is(target error) bool { return target == api.ErrNotCompleted }

// GetOrchestrationMetadata returns [api.ErrInstanceNotFound] if there is no such instance.
func (h *taskHub) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	m := &api.OrchestrationMetadata{InstanceID: id}
	var created, updated int64
	err := h.read.QueryRowContext(ctx, "SELECT name, status, created, updated, input, output, custom_status FROM instances WHERE id = ?", string(id)).
		Scan(&m.Name, &m.RuntimeStatus, &created, &updated, &m.SerializedInput, &m.SerializedOutput, &m.SerializedCustomStatus)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, api.ErrInstanceNotFound
	}
	m.CreatedAt, m.LastUpdatedAt = fromNanos(created), fromNanos(updated)
	return m, err
}

const instanceColumns = "id, name, parent, status, custom_status, output, created, updated"

func (h *taskHub) instances(ctx context.Context, where string, args ...any) ([]Instance, error) {
	rows, err := h.read.QueryContext(ctx, "SELECT "+instanceColumns+" FROM instances WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Instance
	for rows.Next() {
		var i Instance
		var created, updated int64
		if err := rows.Scan(&i.ID, &i.Name, &i.Parent, &i.Status, &i.CustomStatus, &i.Output, &created, &updated); err != nil {
			return nil, err
		}
		i.CreatedAt, i.LastUpdatedAt = fromNanos(created), fromNanos(updated)
		list = append(list, i)
	}
	return list, rows.Err()
}

func (h *taskHub) instance(ctx context.Context, id string) (Instance, error) {
	list, err := h.instances(ctx, "id = ?", id)
	if err != nil {
		return Instance{}, err
	}
	if len(list) == 0 {
		return Instance{}, fmt.Errorf("%s: %w", id, api.ErrInstanceNotFound)
	}
	return list[0], nil
}

// wait returns the instance once the condition holds.
func (h *taskHub) wait(ctx context.Context, id string, until func(Instance) bool) (Instance, error) {
	for {
		change, err := h.watch(id) // before the look, so that no change is missed
		if err != nil {
			return Instance{}, err
		}
		i, err := h.instance(ctx, id)
		if err != nil || until(i) {
			return i, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
}

// watch returns a channel that is closed at the instance's next change, or when there will be none for long.
func (h *taskHub) watch(id string) (<-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil {
		return nil, h.failure
	}
	if h.watchers[id] == nil {
		h.watchers[id] = make(chan struct{})
	}
	return h.watchers[id], nil
}

// notify wakes whoever watches the instance.
func (h *taskHub) notify(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if watcher := h.watchers[id]; watcher != nil {
		close(watcher)
		delete(h.watchers, id)
	}
}

// schedule has the timer go off at that time at the latest.
func (h *taskHub) schedule(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !h.due.IsZero() && !at.Before(h.due) {
		return
	}
	h.due = at
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(time.Until(at), h.fireTimers)
}

// fireTimers wakes the instances whose time has come and schedules the next.
func (h *taskHub) fireTimers() {
	h.mu.Lock()
	h.due = time.Time{}
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return
	}
	now := time.Now().UnixNano()
	rows, err := h.read.Query("SELECT DISTINCT instance FROM events WHERE visible > 0 AND visible <= ?", now)
	if err == nil {
		err = eachString(rows, h.queue.add)
	}
	var next sql.NullInt64
	if err == nil {
		err = h.read.QueryRow("SELECT MIN(visible) FROM events WHERE visible > ?", now).Scan(&next)
	}
	switch {
	case err != nil:
		h.log.Error("cannot read the timers, trying again", "error", err)
		h.schedule(time.Now().Add(time.Second))
	case next.Valid:
		h.schedule(fromNanos(next.Int64))
	}
}

// toNanos is the time as Unix nanoseconds, the nearest that there are: years 1970 to 2262.
func toNanos(t time.Time) int64 {
	switch {
	case t.Before(fromNanos(0)):
		return 0
	case t.After(fromNanos(math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}
