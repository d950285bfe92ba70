package taskhub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
)

// GetActivityWorkItem waits for an activity to run.
func (h *TaskHub) GetActivityWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
	for h.open.Err() == nil {
		item, err := h.nextTask(ctx)
		switch {
		case err != nil:
			h.cannotRead("tasks", err)
			time.AfterFunc(time.Second, h.taskAdd.set)
		case item != nil:
			return h.begins(item), nil
		default:
			h.addStuck(0) // the file can be read again
		}
		_ = h.taskAdd.wait(h.open)
	}
	return nil, h.hold(ctx)
}

// nextTask returns nil if there is nothing to run now.
func (h *TaskHub) nextTask(ctx context.Context) (*backend.ActivityWorkItem, error) {
	h.mu.Lock()
	may := h.deaths.mayBegin()
	h.mu.Unlock()
	if !may {
		return nil, nil // TaskHub.had wakes the worker
	}
	if item := h.takeTask(); item != nil {
		return item, nil
	}
	if item, err := h.takeSuspect(ctx); item != nil || err != nil {
		return item, err
	}
	for {
		found, err := h.fetchTasks(ctx)
		if err != nil || !found {
			return nil, err
		}
		if item := h.takeTask(); item != nil {
			return item, nil
		}
		if item, err := h.takeSuspect(ctx); item != nil || err != nil {
			return item, err
		}
	}
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

// fetchTasks reads the next tasks, and notes in the file that they are running. It reports whether there were any.
func (h *TaskHub) fetchTasks(ctx context.Context) (found bool, err error) {
	left, again := h.leftTrees()
	if again {
		h.lastFetch, h.suspects = 0, nil
	}
	tasks, err := h.readTasks(ctx, left)
	if err != nil || len(tasks) == 0 {
		return false, err
	}
	first, last := tasks[0].SequenceNumber, tasks[len(tasks)-1].SequenceNumber
	err = h.update(ctx, func(t tx) error {
		return t.exec("UPDATE tasks SET running = 1 WHERE seq BETWEEN ? AND ? AND deaths < ? AND "+notLeft, first, last, deathsToBeAlone, left)
	})
	if err != nil {
		return false, err
	}
	h.lastFetch = last
	for _, task := range tasks {
		switch {
		case task.broken != nil:
			h.setAside(ctx, string(task.InstanceID), task.broken)
		case task.deaths >= maxDeaths:
			h.giveUp(ctx, task)
		case task.deaths >= deathsToBeAlone:
			h.suspects = append(h.suspects, task.suspect)
		default:
			h.fetched = append(h.fetched, task.ActivityWorkItem)
		}
	}
	slices.SortStableFunc(h.suspects, func(a, b suspect) int { return cmp.Compare(a.deaths, b.deaths) })
	return true, nil
}

// storedTask is a row of the table tasks.
type storedTask struct {
	suspect
	broken *RowError // set if the row cannot be decoded
}

func (h *TaskHub) readTasks(ctx context.Context, left string) (tasks []storedTask, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT seq, instance, execution, deaths, payload FROM tasks WHERE seq > ? AND running = 0 AND "+notLeft+" ORDER BY seq LIMIT ?", h.lastFetch, left, tasksPerFetch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		task := storedTask{suspect: suspect{ActivityWorkItem: &backend.ActivityWorkItem{}}}
		var instance, execution string
		task.NewEvent, task.SequenceNumber, err = scanEvent(rows, "tasks", &instance, &execution, &task.deaths)
		if err != nil && !errors.As(err, &task.broken) {
			return nil, err
		}
		task.InstanceID = api.InstanceID(instance)
		task.LockedBy = execution // there are no locks, so this field can say which execution gets the result
		tasks = append(tasks, task)
	}
	return tasks, rows.Err()
}

// CompleteActivityWorkItem gives an activity's result to its orchestration, unless that has another execution by now.
func (h *TaskHub) CompleteActivityWorkItem(ctx context.Context, item *backend.ActivityWorkItem) error {
	err := h.persist(ctx, func(t tx) error {
		n, err := t.execCount("DELETE FROM tasks WHERE seq = ?", item.SequenceNumber)
		if err != nil || n == 0 {
			return err
		}
		return answer(t, string(item.InstanceID), item.LockedBy, item.Result, h.startedAt(item))
	})
	switch {
	case errors.Is(err, ErrNotStored):
		return nil
	case err == nil:
		h.queue.add(string(item.InstanceID))
		h.release(lone{task: item.SequenceNumber})
		h.ends(item)
	}
	return err
}

// AbandonActivityWorkItem lets an activity run again a little later.
func (h *TaskHub) AbandonActivityWorkItem(_ context.Context, item *backend.ActivityWorkItem) error {
	item.Result = nil
	h.ends(item)
	time.AfterFunc(time.Second, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.retries = append(h.retries, item)
		h.taskAdd.set()
	})
	return nil
}
