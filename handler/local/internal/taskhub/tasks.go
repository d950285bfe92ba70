package taskhub

import (
	"context"
	"errors"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
)

// GetActivityWorkItem waits for an activity to run. The tasks in flight are those that were read before.
func (h *TaskHub) GetActivityWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
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

func (h *TaskHub) takeTask() *backend.ActivityWorkItem {
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

func (h *TaskHub) fetchTasks(ctx context.Context) (found bool, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT seq, instance, execution, payload FROM tasks WHERE seq > ? ORDER BY seq LIMIT ?", h.lastFetch, tasksPerFetch)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		item := &backend.ActivityWorkItem{}
		var instance, execution string
		if item.NewEvent, item.SequenceNumber, err = scanEvent(rows, "tasks", &instance, &execution); err != nil {
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
func (h *TaskHub) CompleteActivityWorkItem(ctx context.Context, item *backend.ActivityWorkItem) error {
	err := h.persist(ctx, func(t tx) error {
		n, err := t.execCount("DELETE FROM tasks WHERE seq = ?", item.SequenceNumber)
		if err != nil || n == 0 {
			return err
		}
		return answer(t, string(item.InstanceID), item.LockedBy, item.Result)
	})
	switch {
	case errors.Is(err, ErrNotStored):
		return nil
	case err == nil:
		h.queue.add(string(item.InstanceID))
	}
	return err
}

// AbandonActivityWorkItem lets an activity run again a little later.
func (h *TaskHub) AbandonActivityWorkItem(_ context.Context, item *backend.ActivityWorkItem) error {
	item.Result = nil
	time.AfterFunc(time.Second, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.retries = append(h.retries, item)
		h.taskAdd.set()
	})
	return nil
}
