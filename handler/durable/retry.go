package durable

import (
	"math"
	"time"

	"example.com/durablefunctions/handler/internal/replay"
)

// RetryPolicy says when a task that failed is tried again. Each task of a fan-out waits on its own schedule, on durable
// timers.
type RetryPolicy struct {
	Attempts      int              // in all; 1 or less: no retry
	FirstInterval time.Duration    // before the second attempt
	Backoff       float64          // each interval is so many times the one before; 1 or less: all are the same
	MaxInterval   time.Duration    // 0: no maximum
	Timeout       time.Duration    // no attempt starts later than this after the first; 0: no limit
	Retry         func(error) bool // which errors; nil: all
}

// WithRetry tries the activity or sub-orchestration again when it fails. Each task waits on its own timer, whether or
// not it is being awaited.
func WithRetry(p RetryPolicy) CallOption { return func(o *callOptions) { o.retry = &p } }

func (p RetryPolicy) interval(failures int) time.Duration {
	limit := p.MaxInterval
	if limit <= 0 {
		limit = 365 * 24 * time.Hour
	}
	d := float64(p.FirstInterval) * math.Pow(max(p.Backoff, 1), float64(failures-1))
	return time.Duration(min(d, float64(limit)))
}

// retry lets f end when an attempt succeeds or the policy gives up.
func (f *future) retry(p RetryPolicy, name string, attempt func() *replay.Op) {
	begun := f.turn.Context.CurrentTimeUtc
	var try func(failures int)
	try = func(failures int) {
		op := attempt()
		op.Then(func() {
			err := taskError(name, op.Failure)
			if err == nil {
				f.end(op.Result, nil)
				return
			}
			failures++
			delay := p.interval(failures)
			late := p.Timeout > 0 && f.turn.Context.CurrentTimeUtc.Add(delay).Sub(begun) > p.Timeout
			if failures >= p.Attempts || late || p.Retry != nil && !p.Retry(err) {
				f.end(op.Result, err)
				return
			}
			sleep(f.turn, delay, func() { try(failures) })
		})
	}
	try(0)
}
