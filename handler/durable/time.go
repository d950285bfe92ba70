package durable

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// maxTimer is the longest single timer. Azure Storage takes up to seven days; this stays well below.
const maxTimer = 6 * 24 * time.Hour

// formerMaxTimer is the maximum of earlier versions, whose histories are still replayed.
const formerMaxTimer = 3 * 24 * time.Hour

// Timer ends after d, or a little later. A timer of more than six days is made of several timers of the host. With a d of zero or
// less it ends at the orchestrator's next turn.
func Timer(ctx *task.OrchestrationContext, d time.Duration) *Task[struct{}] {
	t := newTask[struct{}](ctx)
	sleep(t.turn, d, nil, func() { t.end("", nil) })
	return t
}

// sleeper is a sleep of several timers, one after the other.
type sleeper struct {
	turn   *replay.Turn
	end    time.Time
	part   time.Duration // of one timer at most
	wanted func() bool   // nil: until the end
	then   func()
}

// sleep calls then after d. Once wanted returns false, nobody waits any more, and it sets no further timer; nil: always true.
func sleep(turn *replay.Turn, d time.Duration, wanted func() bool, then func()) {
	begin := turn.Context.CurrentTimeUtc
	first := turn.Timer(min(d, maxTimer))
	first.Then(func() {
		s := sleeper{turn: turn, part: maxTimer, wanted: wanted, then: then}
		if d > formerMaxTimer && first.FireAt.Sub(begin) <= formerMaxTimer {
			s.part, s.wanted = formerMaxTimer, nil // set by an earlier version, which went on in any case
		}
		s.end = first.FireAt.Add(d - min(d, s.part))
		s.fired(first)
	})
}

// fired sets the next timer. It counts from the time for which the last timer was set, and not from the time of the turn: the host
// fires timers early, and earlier versions then set one more.
func (s sleeper) fired(timer *replay.Op) {
	switch {
	case s.end.Sub(timer.FireAt) < time.Microsecond: // the host counts in tenths of that
		s.then()
	case s.wanted == nil || s.wanted():
		left := max(s.end.Sub(s.turn.Context.CurrentTimeUtc), 0)
		next := s.turn.Timer(min(left, s.part))
		next.Then(func() { s.fired(next) })
	}
}

// WaitForEvent waits for the next external event of that name (its case does not matter) and takes its payload. Each
// event goes to one wait, the oldest first; an event that came before the wait counts. After the timeout the task fails
// with ErrTimeout and takes no event any more. A timeout of zero or less waits for ever.
func WaitForEvent[T any](ctx *task.OrchestrationContext, name string, timeout time.Duration) *Task[T] {
	t := newTask[T](ctx)
	wait := t.turn.Event(name)
	t.abandon = wait.Cancel
	t.follow(wait, name)
	return WithTimeout(t, timeout)
}

// WithTimeout lets the task fail with ErrTimeout unless it ends within d from now, and returns it. After that it is not
// tried again and takes no event; an activity or sub-orchestration that runs goes on, and what becomes of it counts no
// more. A d of zero or less sets no limit.
func WithTimeout[T any](t *Task[T], d time.Duration) *Task[T] {
	if d <= 0 || t.done {
		return t
	}
	sleep(t.turn, d, func() bool { return !t.done }, func() {
		if t.done {
			return
		}
		if t.abandon != nil {
			t.abandon()
		}
		t.end("", ErrTimeout)
	})
	return t
}

// NewGUID returns a GUID that is the same in every replay and another at every call: RFC 9562 version 5 over the run of
// the instance and a count.
func NewGUID(ctx *task.OrchestrationContext) uuid.UUID {
	turn := replay.Of(ctx)
	turn.GUIDs++
	return uuid.NewSHA1(guidSpace, fmt.Appendf(nil, "%s\x00%s\x00%d", ctx.ID, turn.ExecutionID, turn.GUIDs))
}

// guidSpace is the namespace of our GUIDs, itself a random one.
var guidSpace = uuid.MustParse("5b0f2b3c-5d0e-4c7a-9e0b-6b1d7f3a9c42")
