package processactivity

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/crm"
)

type processor func(ctx context.Context, jobID, recordID string) error

func (p processor) Process(ctx context.Context, jobID, recordID string) error {
	return p(ctx, jobID, recordID)
}

// returns is a processor that does nothing but return an error.
func returns(err error) processor {
	return func(context.Context, string, string) error { return err }
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   Input
		p    processor
		want string // of the error message; empty: success
	}{
		"success": {in: Input{"r", "j"}, p: func(_ context.Context, job, id string) error {
			if job != "j" || id != "r" {
				t.Errorf("job %q, record %q", job, id)
			}
			return nil
		}},
		"error":     {in: Input{"r", "j"}, p: returns(errors.New("declined")), want: "declined"},
		"panic":     {in: Input{"r", "j"}, p: func(context.Context, string, string) error { panic("boom") }, want: "panic: boom"},
		"no job":    {in: Input{RecordId: "r"}, want: "JobId"},
		"no record": {in: Input{JobId: "j"}, want: "RecordId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(c.p)(t.Context(), c.in)
			if err != nil || r.Success != (c.want == "") || r.TimedOut || !strings.Contains(r.ErrorMessage, c.want) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// A record is answered before the invocation's deadline, whatever its processor does: the host would call it again.
func TestDeadline(t *testing.T) {
	t.Parallel()
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	untilTheEnd := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		p        processor
		timedOut bool
		down     bool
		want     string // of the error message
	}{
		"ignores its context":   {p: func(context.Context, string, string) error { <-forever; return nil }, timedOut: true, want: "may have been processed"},
		"ends with its context": {p: func(ctx context.Context, _, _ string) error { return fmt.Errorf("post: %w", untilTheEnd(ctx)) }, timedOut: true, want: "may have been processed"},
		"was under way":         {p: func(ctx context.Context, _, _ string) error { return &crm.UnavailableError{Err: untilTheEnd(ctx)} }, timedOut: true, want: "may have been processed"},
		"was down all the time": {p: func(ctx context.Context, _, _ string) error {
			untilTheEnd(ctx)
			return &crm.UnavailableError{Err: errors.New("503")}
		}, down: true},
		"succeeds at last":         {p: func(ctx context.Context, _, _ string) error { untilTheEnd(ctx); return nil }},
		"is refused at last":       {p: func(ctx context.Context, _, _ string) error { untilTheEnd(ctx); return errors.New("declined") }, want: "declined"},
		"ends its goroutine":       {p: func(context.Context, string, string) error { runtime.Goexit(); return nil }, want: "ended its goroutine"},
		"a timeout of its own":     {p: returns(context.DeadlineExceeded), want: "deadline exceeded"},
		"panics when time is up":   {p: func(ctx context.Context, _, _ string) error { untilTheEnd(ctx); panic("boom") }, want: "panic: boom"},
		"down with time remaining": {p: returns(&crm.UnavailableError{Err: context.DeadlineExceeded}), down: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			r, err := New(c.p)(ctx, Input{"r", "j"})
			if ctx.Err() != nil {
				t.Error("it came after the deadline")
			}
			if _, down := errors.AsType[*crm.UnavailableError](err); down != c.down || err != nil && !down {
				t.Fatalf("error %v, want the store's: %t", err, c.down)
			}
			if r.TimedOut != c.timedOut || r.Success != (c.want == "" && !c.down) || !strings.Contains(r.ErrorMessage, c.want) {
				t.Errorf("%+v, want %q", r, c.want)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	for limit, want := range map[time.Duration]time.Duration{
		time.Second: 100 * time.Millisecond, 3 * time.Second: 300 * time.Millisecond, 9500 * time.Millisecond: 475 * time.Millisecond,
		5 * time.Minute: time.Second, 24 * time.Hour: time.Second,
	} {
		if got := reserve(limit); got != want {
			t.Errorf("%s: %s, want %s", limit, got, want)
		}
	}
}
