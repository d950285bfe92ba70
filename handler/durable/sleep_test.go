package durable_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

// at is a moment of a history, so long after its begin.
func at(d time.Duration) string {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(time.RFC3339Nano)
}

// replayed runs an orchestrator over turns, each of which has a time and the events that wake it, and what it scheduled
// then; of the last one the outcome is returned, an action each.
func replayed(t *testing.T, o task.Orchestrator, turns ...pastTurn) string {
	t.Helper()
	turn := wire.Turn{InstanceID: "i"}
	event := func(at time.Duration, text string) *backend.HistoryEvent {
		stamp := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(at).Format(time.RFC3339Nano)
		return testkit.Event(t, fmt.Sprintf(`{"eventId":-1,"timestamp":%q,%s}`, stamp, strings.TrimPrefix(text, `"eventId":-1,`)))
	}
	for n, past := range turns {
		events := []*backend.HistoryEvent{event(past.at, `"orchestratorStarted":{}`)}
		if n == 0 {
			events = append(events, event(past.at, `"executionStarted":{"name":"O","orchestrationInstance":{"instanceId":"i","executionId":"e"}}`))
		}
		for _, text := range past.woken {
			events = append(events, event(past.at, text))
		}
		if n == len(turns)-1 {
			turn.New = events
			break
		}
		for id, text := range past.scheduled {
			e := event(past.at, text)
			e.EventId = int32(id)
			events = append(events, e)
		}
		turn.Past = append(append(turn.Past, events...), event(past.at, `"orchestratorCompleted":{}`))
	}
	r := replay.Run(&turn, o, slog.New(slog.DiscardHandler))
	var done []string
	for _, a := range r.Response.Actions {
		switch {
		case a.GetCreateTimer() != nil:
			done = append(done, fmt.Sprint(a.Id, " timer ", a.GetCreateTimer().FireAt.AsTime().Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))))
		case a.GetScheduleTask() != nil:
			done = append(done, fmt.Sprint(a.Id, " activity ", a.GetScheduleTask().Name))
		default:
			c := a.GetCompleteOrchestration()
			done = append(done, c.GetResult().GetValue()+c.GetFailureDetails().GetErrorMessage())
		}
	}
	return strings.Join(done, "; ")
}

type pastTurn struct {
	at        time.Duration
	woken     []string
	scheduled map[int]string
}

func timerCreated(d time.Duration) string { return fmt.Sprintf(`"timerCreated":{"fireAt":%q}`, at(d)) }

func timerFired(id int, d time.Duration) string {
	return fmt.Sprintf(`"timerFired":{"timerId":%d,"fireAt":%q}`, id, at(d))
}

const day = 24 * time.Hour

// Histories of earlier versions, which made a long timer of parts of three days and set the next part even when nobody
// waited any more, are replayed as they were made, whatever part was in flight at the upgrade.
func TestLongTimersOfEarlierVersions(t *testing.T) {
	t.Parallel()
	const early = 500 * time.Millisecond // by which the host fires a timer before its time
	long := durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
		if _, err := durable.Timer(ctx, 6*day).Await(); err != nil {
			return "", err
		}
		_, err := work.Call(ctx, 1).Await()
		return "done", err
	})
	wait := durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (int, error) {
		if _, err := durable.WaitForEvent[any](ctx, "Go", 8*day).Await(); err != nil {
			return 0, err
		}
		return work.Call(ctx, 1).Await()
	})
	begun := pastTurn{scheduled: map[int]string{0: timerCreated(3 * day)}}
	came := pastTurn{at: day, woken: []string{`"eventRaised":{"name":"Go"}`}, scheduled: map[int]string{1: `"taskScheduled":{"name":"Work"}`}}
	// Of the oldest: the first part fired early, so the second one ends before the end, and a third one follows.
	firedEarly := pastTurn{at: 3*day - early, woken: []string{timerFired(0, 3*day)}, scheduled: map[int]string{1: timerCreated(6*day - early)}}
	third := pastTurn{at: 6*day - early, woken: []string{timerFired(1, 6*day-early)}, scheduled: map[int]string{2: timerCreated(6 * day)}}
	firedLate := pastTurn{at: 3*day + time.Minute, woken: []string{timerFired(0, 3*day)}, scheduled: map[int]string{1: timerCreated(6 * day)}}
	goneOn := pastTurn{at: 3 * day, woken: []string{timerFired(0, 3*day)}, scheduled: map[int]string{2: timerCreated(6 * day)}}
	worked := `"taskCompleted":{"taskScheduledId":1,"result":"7"}`
	for name, c := range map[string]struct {
		o     task.Orchestrator
		turns []pastTurn
		want  string
	}{
		"first part":           {long, []pastTurn{begun, {at: 3 * day, woken: []string{timerFired(0, 3*day)}}}, "1 timer 144h0m0s"},
		"second, early":        {long, []pastTurn{begun, firedEarly, {at: 6*day - early, woken: []string{timerFired(1, 6*day-early)}}}, "2 timer 144h0m0s"},
		"third":                {long, []pastTurn{begun, firedEarly, third, {at: 6 * day, woken: []string{timerFired(2, 6*day)}}}, "3 activity Work"},
		"after the third":      {long, []pastTurn{begun, firedEarly, third, {at: 6 * day, woken: []string{timerFired(2, 6*day)}, scheduled: map[int]string{3: `"taskScheduled":{"name":"Work"}`}}, {at: 7 * day, woken: []string{`"taskCompleted":{"taskScheduledId":3}`}}}, `"done"`},
		"second, late":         {long, []pastTurn{begun, firedLate, {at: 6 * day, woken: []string{timerFired(1, 6*day)}}}, "2 activity Work"},
		"event, goes on":       {wait, []pastTurn{begun, came, {at: 3 * day, woken: []string{timerFired(0, 3*day)}}}, "2 timer 144h0m0s"},
		"event, has gone on":   {wait, []pastTurn{begun, came, goneOn, {at: 4 * day, woken: []string{worked}}}, "7"},
		"event, third part":    {wait, []pastTurn{begun, came, goneOn, {at: 6 * day, woken: []string{timerFired(2, 6*day)}}}, "3 timer 192h0m0s"},
		"of this version":      {wait, []pastTurn{{scheduled: map[int]string{0: timerCreated(6 * day)}}, came, {at: 6 * day, woken: []string{timerFired(0, 6*day)}}}, ""},
		"of this one, waiting": {wait, []pastTurn{{scheduled: map[int]string{0: timerCreated(6 * day)}}, {at: 6 * day, woken: []string{timerFired(0, 6*day)}}}, "1 timer 192h0m0s"},
		"no time":              {wait, []pastTurn{{scheduled: map[int]string{0: `"timerCreated":{}`}}, {at: 6 * day, woken: []string{`"timerFired":{"timerId":0}`}}}, "1 timer 192h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := replayed(t, c.o, c.turns...); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Once its event has come, a wait's timeout wakes the orchestration once at most, however long it is.
func TestEventEndsItsTimeout(t *testing.T) {
	t.Parallel()
	env := durabletestNew(t)
	env.RaiseAt(day, "Go", 1)
	r := run(t, env, func(ctx *task.OrchestrationContext) (int, error) {
		n, err := durable.WaitForEvent[int](ctx, "Go", 300*day).Await()
		if err != nil {
			return 0, err
		}
		_, err = durable.WaitForEvent[int](ctx, "Never", 100*day).Await()
		return n, ignore(err, durable.ErrTimeout)
	})
	want(t, r, "1")
	// The start, the event, the timer that was set, and 17 parts of 100 days.
	if r.Turns != 20 || r.Elapsed != 101*day {
		t.Errorf("%d turns in %s", r.Turns, r.Elapsed)
	}
}
