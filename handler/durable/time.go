package durable

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/replay"
)

// maxTimer is how long one timer of the host may be: storage providers limit it to six days, and other SDKs split at
// three.
const maxTimer = 3 * 24 * time.Hour

// Timer ends after d, a little late rather than early. A long one is made of several timers of the host. A d of zero or
// less ends at the orchestrator's next turn.
func Timer(ctx *task.OrchestrationContext, d time.Duration) *Task[struct{}] {
	t := newTask[struct{}](ctx)
	sleep(t.turn, d, func() { t.end("", nil) })
	return t
}

func sleep(turn *replay.Turn, d time.Duration, then func()) {
	end := turn.Context.CurrentTimeUtc.Add(d)
	turn.Timer(min(d, maxTimer)).Then(func() {
		if d <= maxTimer {
			then()
			return
		}
		sleep(turn, max(end.Sub(turn.Context.CurrentTimeUtc), 0), then)
	})
}

// WaitForEvent waits for the next external event of that name (its case does not matter) and takes its payload. Each
// event goes to one wait, the oldest first; an event that came before the wait counts. After the timeout the task fails
// with ErrTimeout and takes no event any more. A timeout of zero or less waits for ever.
func WaitForEvent[T any](ctx *task.OrchestrationContext, name string, timeout time.Duration) *Task[T] {
	t := newTask[T](ctx)
	wait := t.turn.Event(name)
	t.follow(wait, name)
	if timeout > 0 && !t.done {
		sleep(t.turn, timeout, func() {
			if !t.done {
				wait.Cancel()
				t.end("", ErrTimeout)
			}
		})
	}
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
