package taskhub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/api"
)

// PutOff is called during a turn that the handler refuses and that is then abandoned. The turn's events come again later; the more
// often an event was refused, the later. Events that come meanwhile make turns of their own.
func (h *TaskHub) PutOff(id api.InstanceID) error {
	h.mu.Lock()
	current := h.turns[id]
	h.mu.Unlock()
	if current == nil {
		return nil
	}
	next := time.Time{}
	err := h.persist(context.Background(), func(t tx) (err error) {
		next, err = h.hideEvents(t, string(id), current)
		return err
	})
	switch {
	case errors.Is(err, ErrNotStored):
		return nil
	case err != nil || next.IsZero():
		return err
	}
	h.mu.Lock()
	current.putOff = true
	h.mu.Unlock()
	h.schedule(next)
	return nil
}

// hideEvents hides the turn's events and returns when the first of them is visible again.
func (h *TaskHub) hideEvents(t tx, id string, current *turn) (next time.Time, err error) {
	const ofTurn = "FROM events WHERE instance = ? AND seq <= ? AND visible <= ?"
	err = errors.Join(
		t.exec("DELETE FROM put_off WHERE event NOT IN (SELECT seq FROM events)"),
		t.exec("INSERT INTO put_off (event, times) SELECT seq, 1 "+ofTurn+" ON CONFLICT (event) DO UPDATE SET times = times + 1",
			id, current.lastSeq, current.cutoff),
	)
	if err != nil {
		return next, err
	}
	rows, err := t.QueryContext(t.ctx, "SELECT event, times FROM put_off WHERE event IN (SELECT seq "+ofTurn+")", id, current.lastSeq, current.cutoff)
	if err != nil {
		return next, fmt.Errorf("read what was put off: %w", err)
	}
	delays := map[int64]time.Duration{}
	for rows.Next() {
		var event int64
		var times int
		if err := rows.Scan(&event, &times); err != nil {
			rows.Close()
			return next, err
		}
		delays[event] = putOffDelay(times, h.putOffUnit)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return next, err
	}
	now := time.Now()
	for event, delay := range delays {
		due := now.Add(delay)
		if err := t.exec("UPDATE events SET visible = ? WHERE seq = ?", due.UnixNano(), event); err != nil {
			return next, err
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next, nil
}

// putOffDelay is how long an event is hidden after so many refusals: 2 units, 4, 8 and so on to 512, then 600.
func putOffDelay(times int, unit time.Duration) time.Duration {
	if times > 9 {
		return 600 * unit
	}
	return unit << times
}
