// Package trigger finds out when to run a function that no request calls: timers by their schedules, blobs by their files.
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

// Timer fires one function with a timerTrigger. After a sleep of the machine it fires once, however many times it has missed.
type Timer struct {
	Function config.Function
	File     string // keeps the status if the interval is a minute or more, unless useMonitor is false
	Fire     func(Due)
}

// Due says why a timer fires.
type Due struct {
	IsPastDue bool
	Status    *Status // nil: no status is kept
}

// Status is what the file keeps about a schedule.
type Status struct{ Last, Next, LastUpdated time.Time }

const (
	nap  = 15 * time.Second // longest wait: a timer's clock may stop while the machine sleeps
	late = time.Minute      // a run that is this late is past due
)

// now returns the time of day, which continues while the machine sleeps.
func now() time.Time { return time.Now().Round(0) }

// Run fires the timer until ctx ends.
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

// wait returns true when the time has come, and false if ctx ends first.
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

// load reads the status. A file that cannot be read counts as missing.
func (t *Timer) load() *Status {
	s := &Status{}
	if text, err := os.ReadFile(t.File); err != nil || json.Unmarshal(text, s) != nil {
		return &Status{}
	}
	return s
}

// save writes the status. If that fails, a missed run is not made up for.
func (t *Timer) save(s *Status) { _ = writeJSON(t.File, s) }

// writeJSON writes the whole file or nothing.
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
