// Package trigger finds out when a function is due that no request calls: timers by their schedules, blobs by their files.
//
//	timer := trigger.Timer{Function: f, File: filepath.Join(dir, "timers", f.Name+".json"), Fire: fire}
//	timer.Run(ctx)
package trigger

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// Timer fires one function with a timerTrigger. However long the machine slept, it fires once for all that it missed.
type Timer struct {
	Function config.Function
	File     string // keeps the status of a schedule of a minute or more, unless useMonitor is false
	Fire     func(Due)
}

// Due is why a timer fires.
type Due struct {
	IsPastDue bool
	Status    *Status // nil: none is kept
}

// Status is what is kept of a schedule.
type Status struct{ Last, Next, LastUpdated time.Time }

const (
	nap  = 15 * time.Second // the clock of a timer may stand still while the machine sleeps
	late = time.Minute      // what is past due
)

// now is the time of day, which also passes while the machine sleeps.
func now() time.Time { return time.Now().Round(0) }

// Run fires until ctx ends.
func (t *Timer) Run(ctx context.Context) {
	schedule := t.Function.Schedule
	b := t.Function.Trigger()
	first := schedule.Next(now())
	monitored := !strings.EqualFold(b.Property("useMonitor"), "false") && schedule.Next(first).Sub(first) >= time.Minute
	var status *Status
	next := first
	if monitored {
		status = t.load()
		if !status.Next.IsZero() && status.Next.Before(next) {
			next = status.Next
		}
		status.Next = next
	}
	if strings.EqualFold(b.Property("runOnStartup"), "true") {
		next = now()
	}
	for wait(ctx, next) {
		t.Fire(Due{IsPastDue: now().Sub(next) > late, Status: status})
		fired := now()
		next = schedule.Next(fired)
		if monitored {
			status = &Status{fired, next, fired}
			t.save(status)
		}
	}
}

// wait returns true when the time has come, and false when ctx has ended before.
func wait(ctx context.Context, until time.Time) bool {
	for ctx.Err() == nil {
		left := until.Sub(now())
		if left <= 0 {
			return true
		}
		timer := time.NewTimer(min(left, nap))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return false
}

// load reads the status. A file that cannot be read counts as none.
func (t *Timer) load() *Status {
	s := &Status{}
	if text, err := os.ReadFile(t.File); err != nil || json.Unmarshal(text, s) != nil {
		return &Status{}
	}
	return s
}

// save keeps the status. If that fails, a run that is missed is not made up for.
func (t *Timer) save(s *Status) { _ = writeJSON(t.File, s) }

// writeJSON writes a whole file or none.
func writeJSON(file string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file+".tmp", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".tmp", file)
	}
	return err
}
