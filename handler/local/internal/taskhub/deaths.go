package taskhub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// A process may have died because of what it was running. A task, a turn or an entity's operation that was running at
// deathsToBeAlone deaths runs alone among its kind. So the next death shows which one is the cause. After maxDeaths deaths it
// fails.
const (
	deathsToBeAlone = 2
	maxDeaths       = 5
)

// deathsSchema: an instance or entity gets its row before its first turn in a process, not before each turn. Its events show
// whether it had a turn when the process died, because the end of a turn deletes them.
const deathsSchema = `
CREATE TABLE IF NOT EXISTS turns (
	instance TEXT PRIMARY KEY,  -- or an entity's id
	running  INTEGER NOT NULL,  -- 1: it had a turn in the process that has the file, or in the one that died with it
	deaths   INTEGER NOT NULL
) WITHOUT ROWID;
`

// suspect is a task, with the number of process deaths during which it was running.
type suspect struct {
	*backend.ActivityWorkItem
	deaths int
}

// lone names what runs alone: a task by its sequence number, or the instance or entity that has a turn.
type lone struct {
	task int64
	turn string
}

// deaths counts, for each instance and entity, the process deaths during its turns. The task hub's mutex guards it.
type deaths struct {
	alone   lone            // the suspect that runs
	turns   map[string]int  // number of deaths by instance or entity, if not 0
	marked  map[string]bool // instances and entities whose row says that they run
	waiting []string        // instances and entities that wait until they can run alone
	first   map[string]bool // suspects that get a turn before any activity starts
	until   time.Time       // after this time, activities start in any case
}

// firstTime is the longest time for which activities wait for the turns of suspects.
const firstTime = 10 * time.Second

// mayBegin reports whether activities may start. If something else kills the process again and again, it mostly does so soon after
// the work starts. An innocent suspect should have had its turn by then.
func (d *deaths) mayBegin() bool { return len(d.first) == 0 || time.Now().After(d.until) }

// had notes that a suspect has had its turn or has nothing to do.
func (h *TaskHub) had(id string) {
	delete(h.deaths.first, id)
	if len(h.deaths.first) == 0 {
		h.taskAdd.set()
	}
}

// countDeaths counts a death for everything that was running when the last process ended without closing the file. It returns
// the deaths by instance and entity.
func countDeaths(ctx context.Context, s *store) (turns map[string]int, err error) {
	err = s.update(ctx, func(t tx) error {
		now := time.Now().UnixNano()
		err := errors.Join(
			t.exec("UPDATE tasks SET deaths = deaths + 1, running = 0 WHERE running = 1"),
			t.exec(`UPDATE turns SET deaths = deaths + 1 WHERE running = 1 AND
				(EXISTS (SELECT 1 FROM events e WHERE e.instance = turns.instance AND visible <= ?) OR
				EXISTS (SELECT 1 FROM entity_messages WHERE entity = turns.instance AND visible <= ?))`, now, now),
			t.exec("DELETE FROM turns WHERE deaths = 0"),
			t.exec("UPDATE turns SET running = 0"),
		)
		if err != nil {
			return err
		}
		turns, err = readDeaths(t)
		return err
	})
	return turns, err
}

func readDeaths(t tx) (map[string]int, error) {
	rows, err := t.QueryContext(t.ctx, "SELECT instance, deaths FROM turns")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	turns := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		turns[id] = n
	}
	return turns, rows.Err()
}

// forgetRunning notes in the file that the running work did not kill this process. It does not wait for a locked file.
func (h *TaskHub) forgetRunning() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := h.write.Conn(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 500"); err == nil {
		_, _ = conn.ExecContext(ctx, "UPDATE tasks SET running = 0 WHERE running = 1; UPDATE turns SET running = 0 WHERE running = 1")
	}
}

// takeSuspect returns the next task that must run alone, unless something already runs alone.
func (h *TaskHub) takeSuspect(ctx context.Context) (*backend.ActivityWorkItem, error) {
	if len(h.suspects) == 0 {
		return nil, nil
	}
	item := h.suspects[0].ActivityWorkItem
	if !h.isolate(lone{task: item.SequenceNumber}) {
		return nil, nil
	}
	err := h.update(ctx, func(t tx) error {
		return t.exec("UPDATE tasks SET running = 1 WHERE seq = ?", item.SequenceNumber)
	})
	if err != nil {
		h.release(lone{task: item.SequenceNumber})
		return nil, err
	}
	h.suspects = h.suspects[1:]
	return item, nil
}

// isolate lets one suspect run if no other one is running. Otherwise a turn has to wait.
func (h *TaskHub) isolate(l lone) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.deaths.alone == (lone{}):
		h.deaths.alone = l
		return true
	case l.turn != "":
		h.deaths.waiting = append(h.deaths.waiting, l.turn)
	}
	return false
}

// release lets the next suspect run after this one has ended.
func (h *TaskHub) release(l lone) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &h.deaths
	if d.alone != l {
		return
	}
	d.alone = lone{}
	h.taskAdd.set()
	if len(d.waiting) > 0 {
		next := d.waiting[0]
		d.waiting = d.waiting[1:]
		q := h.queueOf(next)
		q.add(next)
		q.done(next)
	}
}

// admit reports whether an instance or entity taken from its queue may have a turn now, and notes in the file that it has one.
// If it may not, it is queued again when the suspect that runs alone has ended.
func (h *TaskHub) admit(ctx context.Context, id string) (ok bool, err error) {
	h.mu.Lock()
	n, marked := h.deaths.turns[id], h.deaths.marked[id]
	h.mu.Unlock()
	switch {
	case n >= maxDeaths:
		return true, nil // the turn will be given up
	case n >= deathsToBeAlone:
		if !h.isolate(lone{turn: id}) {
			return false, nil
		}
	case marked:
		return true, nil
	}
	if err := h.mark(ctx, append(h.queueOf(id).next(marksAtOnce-1), id)); err != nil {
		h.release(lone{turn: id})
		return false, err
	}
	return true, nil
}

const (
	marksAtOnce = 64   // the next ones in the queue are marked too: cheaper than one by one
	maxMarked   = 4096 // how many the memory keeps
)

// mark notes in the file that these ids have a turn. It leaves out those that must run alone, except the last id.
func (h *TaskHub) mark(ctx context.Context, ids []string) error {
	h.mu.Lock()
	var fresh []string
	for i, id := range ids {
		if !h.deaths.marked[id] && (i == len(ids)-1 || h.deaths.turns[id] < deathsToBeAlone) {
			fresh = append(fresh, id)
		}
	}
	h.mu.Unlock()
	err := h.update(ctx, func(t tx) (err error) {
		for _, id := range fresh {
			err = errors.Join(err, t.exec("INSERT INTO turns (instance, running, deaths) VALUES (?, 1, 0) ON CONFLICT DO UPDATE SET running = 1", id))
		}
		return err
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.deaths.marked) > maxMarked {
		clear(h.deaths.marked) // they will be marked again
	}
	for _, id := range fresh {
		h.deaths.marked[id] = true
	}
	return nil
}

// deathsOf returns how many processes died during a turn of the instance or entity.
func (h *TaskHub) deathsOf(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deaths.turns[id]
}

// suspectsFirst orders the instances and entities that have work, and notes the suspects, which get their turns first. A suspect
// with fewer deaths comes earlier, so that each gets its turn alone. If the same one always came first, it would soon be given
// up, whatever killed the processes.
func (h *TaskHub) suspectsFirst(ids []string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	deaths := h.deaths.turns
	for _, id := range ids {
		if deaths[id] >= deathsToBeAlone && deaths[id] < maxDeaths {
			h.deaths.first[id] = true
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(deaths[a], deaths[b]) })
	h.deaths.until = time.Now().Add(firstTime)
	if len(h.deaths.first) > 0 {
		time.AfterFunc(firstTime, h.taskAdd.set)
	}
	return ids
}

// survived notes that the instance or entity has had its turn or is gone. It is then not a suspect any more, unless stillSuspect.
func (h *TaskHub) survived(t tx, id string, stillSuspect bool) error {
	if stillSuspect {
		return t.exec("UPDATE turns SET running = 0, deaths = ? WHERE instance = ?", deathsToBeAlone, id)
	}
	return t.exec("DELETE FROM turns WHERE instance = ?", id)
}

// forgetDeaths does in memory what survived does in the file. It is called once that is stored.
func (h *TaskHub) forgetDeaths(id string, stillSuspect bool) {
	h.mu.Lock()
	h.had(id)
	delete(h.deaths.marked, id)
	if stillSuspect {
		h.deaths.turns[id] = deathsToBeAlone
	} else {
		delete(h.deaths.turns, id)
	}
	h.mu.Unlock()
	h.release(lone{turn: id})
}

// interrupted notes that a turn has ended without an outcome while the process is alive.
func (h *TaskHub) interrupted(id string) {
	h.mu.Lock()
	h.had(id)
	suspected := h.deaths.turns[id] >= deathsToBeAlone
	delete(h.deaths.marked, id)
	h.mu.Unlock()
	if !suspected {
		return
	}
	err := h.update(h.open, func(t tx) error { return t.exec("UPDATE turns SET running = 0 WHERE instance = ?", id) })
	if err != nil {
		h.log.Warn("a turn that has ended may count as the cause when the process dies", "instance", id, "error", err)
	}
	h.release(lone{turn: id})
}

// giveUpTurn fails an instance because too many processes died during its turn.
func (h *TaskHub) giveUpTurn(ctx context.Context, id string) {
	n := h.deathsOf(id)
	reason := fmt.Sprintf("the orchestration was given up: %d times the process died in a turn of it", n)
	h.log.Error("an orchestration is given up: every process that ran its turn died", "instance", id, "deaths", n)
	details := &backend.TaskFailureDetails{ErrorType: historyevent.OrchestratorKilledType, ErrorMessage: reason}
	if h.failInstance(ctx, failing{id: id, reason: reason, details: details}, func(t tx) error { return h.survived(t, id, false) }) {
		h.forgetDeaths(id, false)
	}
}

// giveUp fails a task because too many processes died while it was running.
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
