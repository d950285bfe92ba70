package taskhub

import (
	"context"
	"time"

	"github.com/microsoft/durabletask-go/backend"
)

// runsSchema keeps what the history does not say about a finished activity: when it started and with what input.
const runsSchema = `
CREATE TABLE IF NOT EXISTS runs (
	instance TEXT NOT NULL,
	task     INTEGER NOT NULL, -- the event id with which it was scheduled
	started  INTEGER NOT NULL, -- 0: not known
	input    TEXT,             -- NULL: it had none, or one larger than maxKeptInput
	PRIMARY KEY (instance, task)
) WITHOUT ROWID;
`

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
	rows, err := h.read.QueryContext(ctx, "SELECT task, started, input FROM runs WHERE instance = ?", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var task int32
		var started int64
		var run Run
		if err := rows.Scan(&task, &started, &run.Input); err != nil {
			return nil, err
		}
		if started > 0 {
			run.Started = fromNanos(started)
		}
		runs[task] = run
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return runs, h.addOpenRuns(ctx, id, runs)
}

// addOpenRuns adds the activities that have not finished.
func (h *TaskHub) addOpenRuns(ctx context.Context, id string, runs map[int32]Run) error {
	rows, err := h.read.QueryContext(ctx, "SELECT seq, payload FROM tasks WHERE instance = ? AND execution = (SELECT execution FROM instances WHERE id = ?)", id, id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, seq, err := scanEvent(rows, "tasks")
		if err != nil {
			return err
		}
		h.mu.Lock()
		started := h.began[seq]
		h.mu.Unlock()
		runs[e.GetEventId()] = Run{Started: started, Input: keptInput(e)}
	}
	return rows.Err()
}

func keptInput(scheduled *backend.HistoryEvent) *string {
	input := scheduled.GetTaskScheduled().GetInput()
	if input == nil || len(input.GetValue()) > maxKeptInput {
		return nil
	}
	return &input.Value
}

// keepRun notes a finished run, if the instance still has the execution that scheduled it.
func (h *TaskHub) keepRun(t tx, item *backend.ActivityWorkItem) error {
	h.mu.Lock()
	started := h.began[item.SequenceNumber]
	h.mu.Unlock()
	return t.exec("INSERT OR REPLACE INTO runs (instance, task, started, input) SELECT id, ?, ?, ? FROM instances WHERE id = ? AND execution = ?",
		item.NewEvent.GetEventId(), toNanos(started), keptInput(item.NewEvent), string(item.InstanceID), item.LockedBy)
}

// begins notes when an activity is given to a worker.
func (h *TaskHub) begins(item *backend.ActivityWorkItem) *backend.ActivityWorkItem {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began[item.SequenceNumber] = time.Now()
	return item
}

// ends forgets that start time.
func (h *TaskHub) ends(item *backend.ActivityWorkItem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.began, item.SequenceNumber)
}
