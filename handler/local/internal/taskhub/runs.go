package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/microsoft/durabletask-go/backend"
)

// maxKeptInput is the largest input that is kept for those who look at an instance.
const maxKeptInput = 64 << 10

// Run describes one run of an activity.
type Run struct {
	Started time.Time // zero: it waits for a worker, or the time is unknown
	Input   *string   // nil: there is none, or it is larger than 64 KB
}

// Runs returns the activities of an instance's current execution. The key is the event id of the event that scheduled the activity.
func (h *TaskHub) Runs(ctx context.Context, id string) (map[int32]Run, error) {
	runs := map[int32]Run{}
	rows, err := h.read.QueryContext(ctx, `SELECT seq, input, started, payload FROM history WHERE instance = ? AND (input IS NOT NULL OR started > 0)
		UNION ALL SELECT seq, NULL, started, payload FROM events WHERE instance = ? AND started > 0`, id, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var input *string
		var started int64
		e, _, err := scanEvent(rows, "history", &input, &started)
		if err != nil {
			return nil, err
		}
		if e.GetTaskScheduled() != nil {
			runs[e.GetEventId()] = Run{Input: input}
		} else if task := endedTask(e); task >= 0 { // a rewind makes both events generic ones
			runs[task] = Run{Started: fromNanos(started), Input: runs[task].Input}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return runs, h.addRunning(ctx, id, runs)
}

// addRunning adds when the activities began that are running now.
func (h *TaskHub) addRunning(ctx context.Context, id string, runs map[int32]Run) error {
	var execution string
	err := h.read.QueryRowContext(ctx, "SELECT execution FROM instances WHERE id = ?", id).Scan(&execution)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for item, started := range h.began {
		if task := item.NewEvent.GetEventId(); string(item.InstanceID) == id && item.LockedBy == execution {
			runs[task] = Run{Started: started, Input: runs[task].Input}
		}
	}
	return nil
}

// keptInput returns the input that the history keeps of a scheduled activity; nil for any other event.
func keptInput(e *backend.HistoryEvent) *string {
	input := e.GetTaskScheduled().GetInput()
	if input == nil || len(input.GetValue()) > maxKeptInput {
		return nil
	}
	return &input.Value
}

// endedTask returns the event id of the activity whose end the event is; -1 for any other event.
func endedTask(e *backend.HistoryEvent) int32 {
	switch {
	case e.GetTaskCompleted() != nil:
		return e.GetTaskCompleted().GetTaskScheduledId()
	case e.GetTaskFailed() != nil:
		return e.GetTaskFailed().GetTaskScheduledId()
	}
	return -1
}

// begins notes when an activity is given to a worker.
func (h *TaskHub) begins(item *backend.ActivityWorkItem) *backend.ActivityWorkItem {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began[item] = time.Now()
	return item
}

// startedAt returns that time; 0 if the activity was not given to a worker.
func (h *TaskHub) startedAt(item *backend.ActivityWorkItem) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return toNanos(h.began[item])
}

// ends forgets that time.
func (h *TaskHub) ends(item *backend.ActivityWorkItem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.began, item)
}
