package durable

import (
	"hash/fnv"
	"math"
	"time"
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

	// AttemptsFor returns how many attempts there are in all, by the error of the last one; nil: Attempts.
	AttemptsFor func(error) int
	// Spread makes each interval longer by up to this share of it, so that tasks which fail together do not come again together. How
	// much longer follows from the task's input, so that each replay finds the same.
	Spread float64
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

// attempts is a call that is tried again.
type attempts struct {
	*future
	called
	begun    time.Time
	failures int
	spread   float64 // factor of each interval
}

// retry lets f end when an attempt at the call succeeds or its policy gives up.
func retry(f *future, c called) {
	a := &attempts{future: f, called: c, begun: f.turn.Context.CurrentTimeUtc, spread: 1}
	if c.retry.Spread > 0 {
		hash := fnv.New32a()
		_, _ = hash.Write(a.json())
		a.spread += c.retry.Spread * float64(hash.Sum32()) / math.MaxUint32
	}
	a.try()
}

func (a *attempts) try() {
	a.encode(a.turn)
	op := a.schedule(a.turn, a.called)
	op.Then(func() {
		if err := taskError(a.name, op.Failure); err == nil {
			a.end(op.Result, nil)
		} else if !a.done {
			a.failed(err)
		}
	})
}

func (a *attempts) failed(err error) {
	p := a.retry
	a.failures++
	delay := time.Duration(a.spread * float64(p.interval(a.failures)))
	limit := p.Attempts
	if p.AttemptsFor != nil {
		limit = p.AttemptsFor(err)
	}
	late := p.Timeout > 0 && a.turn.Context.CurrentTimeUtc.Add(delay).Sub(a.begun) > p.Timeout
	if a.failures >= limit || late || p.Retry != nil && !p.Retry(err) {
		a.end("", err)
		return
	}
	sleep(a.turn, delay, func() bool { return !a.done }, func() {
		if !a.done {
			a.try()
		}
	})
}
