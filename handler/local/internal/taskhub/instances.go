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
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// CreateOrchestrationInstance starts an instance. It replaces a finished instance of that id if the policy lists its status;
// without a policy, whatever the status is. A policy with an empty list replaces nothing.
func (h *TaskHub) CreateOrchestrationInstance(ctx context.Context, e *backend.HistoryEvent, reuse ...backend.OrchestrationIdReusePolicyOptions) error {
	policy := &api.OrchestrationIdReusePolicy{OperationStatus: historyevent.Ends}
	for _, option := range reuse {
		if err := option(policy); err != nil {
			return err
		}
	}
	es := e.GetExecutionStarted()
	if h.tracing {
		historyevent.JoinTrace(e)
	} else {
		es.ParentTraceContext = nil
	}
	if es.Version == nil && h.defaultVersion != "" {
		es.Version = wrapperspb.String(h.defaultVersion)
	}
	id := es.GetOrchestrationInstance().GetInstanceId()
	visible := toNanos(es.GetScheduledStartTimestamp().AsTime())
	if visible <= time.Now().UnixNano() {
		visible = 0
	}
	if err := h.takeUp(ctx, id); err != nil {
		return err
	}
	err := h.update(ctx, func(t tx) error {
		var status api.OrchestrationStatus
		switch err := t.queryRow("SELECT status FROM instances WHERE id = ?", id).Scan(&status); {
		case err == nil && (!historyevent.IsEnd(status) || !slices.Contains(policy.OperationStatus, status)):
			return api.ErrDuplicateInstance
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		return putRoot(t, e, visible)
	})
	if err == nil {
		h.announce(id, visible)
	}
	return err
}

// putRoot writes a new instance in place of any instance with its id, and forgets that instance's mails.
func putRoot(t tx, start *backend.HistoryEvent, visible int64) error {
	id := start.GetExecutionStarted().GetOrchestrationInstance().GetInstanceId()
	if err := t.exec("DELETE FROM mails WHERE root = ?", id); err != nil {
		return err
	}
	return putInstance(t, start, "", id, visible)
}

// putInstance writes a new instance in place of any instance with its id.
func putInstance(t tx, start *backend.HistoryEvent, parent, root string, visible int64) error {
	es := start.GetExecutionStarted()
	id := es.GetOrchestrationInstance().GetInstanceId()
	if err := deleteInstance(t, id); err != nil {
		return err
	}
	created := start.GetTimestamp().AsTime().UnixNano()
	err := t.exec("INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		id, historyevent.Execution(start), es.GetName(), api.RUNTIME_STATUS_PENDING, created, created, es.GetInput().GetValue(), parent, root)
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

// NotFinishedError refuses to purge an instance, or to start it again in its place.
type NotFinishedError struct {
	ID     string
	Status api.OrchestrationStatus
}

func (e *NotFinishedError) Error() string {
	return fmt.Sprintf("the instance %s has not finished: terminate it first", e.ID)
}

// Is says that the error is an [api.ErrNotCompleted].
func (e *NotFinishedError) Is(target error) bool { return target == api.ErrNotCompleted }

// statusOf returns an instance's status. The error is [api.ErrInstanceNotFound] if there is no such instance.
func statusOf(t tx, id string) (status api.OrchestrationStatus, err error) {
	err = t.queryRow("SELECT status FROM instances WHERE id = ?", id).Scan(&status)
	if errors.Is(err, sql.ErrNoRows) {
		err = api.ErrInstanceNotFound
	}
	return status, err
}

// GetOrchestrationMetadata describes an instance. The error is [api.ErrInstanceNotFound] if there is no such instance.
func (h *TaskHub) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
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

// Instance is an orchestration instance.
type Instance struct {
	ID, Name      string
	Parent        string // instance id, empty for a root
	Status        api.OrchestrationStatus
	CustomStatus  string // JSON, as the orchestrator set it
	Output        string // the result's JSON; for a failed or terminated instance, the reason in plain text
	Input         string // JSON; only if the query asks for it
	CreatedAt     time.Time
	LastUpdatedAt time.Time
}

// IsFinished says whether the instance has ended, however it ended.
func (i Instance) IsFinished() bool { return historyevent.IsEnd(i.Status) }

// RunningRoots returns the root instances that have not finished, oldest first.
func (h *TaskHub) RunningRoots(ctx context.Context) ([]Instance, error) {
	return h.instances(ctx, "''", runningRoots)
}

var runningRoots = "parent = '' AND " + unfinished + " ORDER BY created"

const instanceColumns = "id, name, parent, status, custom_status, output, created, updated"

// instances reads instances. The column input decides what their Input holds.
func (h *TaskHub) instances(ctx context.Context, input, where string, args ...any) ([]Instance, error) {
	rows, err := h.read.QueryContext(ctx, "SELECT "+instanceColumns+", "+input+" FROM instances WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Instance
	for rows.Next() {
		var i Instance
		var created, updated int64
		if err := rows.Scan(&i.ID, &i.Name, &i.Parent, &i.Status, &i.CustomStatus, &i.Output, &created, &updated, &i.Input); err != nil {
			return nil, err
		}
		i.CreatedAt, i.LastUpdatedAt = fromNanos(created), fromNanos(updated)
		list = append(list, i)
	}
	return list, rows.Err()
}

// Get returns an instance. The error is [api.ErrInstanceNotFound] if there is no such instance.
func (h *TaskHub) Get(ctx context.Context, id string) (Instance, error) {
	list, err := h.instances(ctx, "''", "id = ?", id)
	if err != nil {
		return Instance{}, err
	}
	if len(list) == 0 {
		return Instance{}, fmt.Errorf("%s: %w", id, api.ErrInstanceNotFound)
	}
	return list[0], nil
}

// Wait returns the instance once the condition holds. It hears of changes and does not poll. The error is
// [api.ErrInstanceNotFound] if there is no such instance.
func (h *TaskHub) Wait(ctx context.Context, id string, until func(Instance) bool) (Instance, error) {
	if err := h.takeUp(ctx, id); err != nil {
		return Instance{}, err
	}
	for {
		i, again, err := h.waitOnce(ctx, id, until)
		if err != nil || !again {
			return i, err
		}
	}
}

// waitOnce returns at once if the condition holds. Otherwise it waits for one change of the instance.
func (h *TaskHub) waitOnce(ctx context.Context, id string, until func(Instance) bool) (i Instance, again bool, err error) {
	w, err := h.watch(id) // before reading the instance, so that no change is missed
	if err != nil {
		return Instance{}, false, err
	}
	defer h.unwatch(id, w)
	i, err = h.Get(ctx, id)
	if err != nil || until(i) {
		return i, false, err
	}
	select {
	case <-w.changed:
		return i, true, nil
	case <-ctx.Done():
		return i, false, ctx.Err()
	}
}

// watcher is shared by all that wait for the same instance.
type watcher struct {
	changed chan struct{} // closed at the instance's next change, or when the file cannot be used for long
	waiting int
}

func (h *TaskHub) watch(id string) (*watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure != nil {
		return nil, h.failure
	}
	w := h.watchers[id]
	if w == nil {
		w = &watcher{changed: make(chan struct{})}
		h.watchers[id] = w
	}
	w.waiting++
	return w, nil
}

func (h *TaskHub) unwatch(id string, w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.waiting--; w.waiting == 0 && h.watchers[id] == w {
		delete(h.watchers, id)
	}
}

// notify wakes everybody who waits for the instance.
func (h *TaskHub) notify(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake(id)
}

// wake is notify for a caller that holds the lock.
func (h *TaskHub) wake(id string) {
	if w := h.watchers[id]; w != nil {
		close(w.changed)
		delete(h.watchers, id)
	}
}
