package taskhub

import (
	"context"
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// What a process was running when it died may have killed it. A task that was running at so many deaths is run alone among those
// like it, so that at the next death it is known which one it was; with so many more it fails.
const (
	deathsToBeAlone = 2
	maxDeaths       = 5
)

// suspect is a task, and at how many processes' deaths it was running.
type suspect struct {
	*backend.ActivityWorkItem
	deaths int
}

// countDeaths notes which tasks were running when the last process ended without closing the file.
func countDeaths(ctx context.Context, s *store) error {
	return s.update(ctx, func(t tx) error {
		return t.exec("UPDATE tasks SET deaths = deaths + 1, running = 0 WHERE running = 1")
	})
}

// forgetRunning says that what was running did not kill this process. It does not wait for a file that is locked.
func (h *TaskHub) forgetRunning() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := h.write.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 500"); err == nil {
		_, _ = conn.ExecContext(ctx, "UPDATE tasks SET running = 0 WHERE running = 1")
	}
}

// takeSuspect returns the next task that has to run alone, unless one runs.
func (h *TaskHub) takeSuspect(ctx context.Context) (*backend.ActivityWorkItem, error) {
	h.mu.Lock()
	busy := h.alone != 0
	h.mu.Unlock()
	if busy || len(h.suspects) == 0 {
		return nil, nil
	}
	item := h.suspects[0].ActivityWorkItem
	err := h.update(ctx, func(t tx) error {
		return t.exec("UPDATE tasks SET running = 1 WHERE seq = ?", item.SequenceNumber)
	})
	if err != nil {
		return nil, err
	}
	h.suspects = h.suspects[1:]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alone = item.SequenceNumber
	return item, nil
}

// clear lets the next suspect run when this task is one and has ended.
func (h *TaskHub) clear(item *backend.ActivityWorkItem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alone == item.SequenceNumber {
		h.alone = 0
		h.taskAdd.set()
	}
}

// giveUp fails a task that was running at too many deaths.
func (h *TaskHub) giveUp(ctx context.Context, task storedTask) {
	name := task.NewEvent.GetTaskScheduled().GetName()
	h.log.Error("an activity is given up: every process that ran it died", "activity", name, "instance", task.InstanceID, "deaths", task.deaths)
	task.Result = TaskFailed(task.NewEvent.GetEventId(), &backend.TaskFailureDetails{
		ErrorType:    historyevent.KilledType,
		ErrorMessage: fmt.Sprintf("activity %s was given up: %d times the process died while it was running", name, task.deaths),
	})
	if err := h.CompleteActivityWorkItem(ctx, task.ActivityWorkItem); err != nil {
		h.log.Error("an activity that was given up could not be ended", "activity", name, "instance", task.InstanceID, "error", err)
	}
}
