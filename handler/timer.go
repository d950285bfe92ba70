package handler

import (
	"context"
	"encoding/json"
	"time"
)

// Timer is why a function with a timerTrigger runs.
type Timer struct {
	IsPastDue bool            // later than the schedule says, because the app was not running
	Status    *ScheduleStatus // nil: the host keeps none, as for schedules of less than a minute
}

// ScheduleStatus is what the host keeps of a schedule. A time that it does not know is zero.
type ScheduleStatus struct {
	Last        time.Time // when it last fired
	Next        time.Time // when this run was due
	LastUpdated time.Time
}

// Timer registers a function with a timerTrigger. An error is logged by the host; the timer fires again when it is due.
func (a *App) Timer(name string, f func(ctx context.Context, t Timer) error) {
	r := &function{name: name, kind: timerKind}
	if f != nil {
		r.trigger = func(ctx context.Context, in *Invocation) error { return f(ctx, in.timer()) }
	}
	a.register(r)
}

// timer reads the trigger's value. What is not understood is left out.
func (in *Invocation) timer() Timer {
	var isPastDue struct{ IsPastDue bool }
	var status struct {
		ScheduleStatus *struct{ Last, Next, LastUpdated string }
	}
	value := []byte(in.Text(in.function.Trigger().Name))
	_ = json.Unmarshal(value, &isPastDue)
	t := Timer{IsPastDue: isPastDue.IsPastDue}
	if json.Unmarshal(value, &status) == nil && status.ScheduleStatus != nil {
		s := status.ScheduleStatus
		t.Status = &ScheduleStatus{hostTime(s.Last), hostTime(s.Next), hostTime(s.LastUpdated)}
	}
	return t
}
