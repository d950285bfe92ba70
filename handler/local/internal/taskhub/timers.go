package taskhub

import (
	"database/sql"
	"math"
	"time"
)

// schedule makes the timer fire at that time or earlier.
func (h *TaskHub) schedule(at time.Time) {
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

// fireTimers wakes the instances whose time has come, and schedules the next call.
func (h *TaskHub) fireTimers() {
	h.mu.Lock()
	h.due = time.Time{}
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return
	}
	now := time.Now().UnixNano()
	rows, err := h.read.Query("SELECT DISTINCT instance FROM events WHERE visible > 0 AND visible <= ? UNION SELECT DISTINCT entity FROM entity_messages WHERE visible > 0 AND visible <= ?", now, now)
	if err == nil {
		err = eachString(rows, h.rouse)
	}
	var next sql.NullInt64
	if err == nil {
		err = h.read.QueryRow("SELECT MIN(due) FROM (SELECT MIN(visible) AS due FROM events WHERE visible > ? UNION ALL SELECT MIN(visible) FROM entity_messages WHERE visible > ?)", now, now).Scan(&next)
	}
	switch {
	case err != nil:
		h.log.Error("cannot read the timers, trying again", "error", err)
		h.schedule(time.Now().Add(time.Second))
	case next.Valid:
		h.schedule(fromNanos(next.Int64))
	}
}

// toNanos returns the time as Unix nanoseconds. A time outside the years 1970 to 2262 becomes the nearest possible one.
func toNanos(t time.Time) int64 {
	switch {
	case t.Before(fromNanos(0)):
		return 0
	case t.After(fromNanos(math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func fromNanos(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }
