package funchost

import (
	"testing"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// TestDelays: fixedDelay waits the same each time; exponentialBackoff grows as in the WebJobs SDK, up to its maximum.
func TestDelays(t *testing.T) {
	t.Parallel()
	type span struct{ from, to time.Duration }
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		policy config.Retry
		want   []span
	}{
		"fixed": {config.Retry{Strategy: config.FixedDelay, MaxRetryCount: 2, DelayInterval: time.Second},
			[]span{{time.Second, time.Second}, {time.Second, time.Second}}},
		"none": {config.Retry{Strategy: config.FixedDelay, MaxRetryCount: 0}, nil},
		"growing": {config.Retry{Strategy: config.ExponentialBackoff, MaxRetryCount: 5, MinimumInterval: 500 * ms, MaximumInterval: 3 * time.Second},
			[]span{{500 * ms, 500 * ms}, {900 * ms, 1100 * ms}, {1300 * ms, 1700 * ms}, {2100 * ms, 2900 * ms}, {3000 * ms, 3000 * ms}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try := FirstTry(config.Function{Retry: &c.policy})
			for n, want := range c.want {
				next, delay, ok := try.Next(&Exception{})
				if !ok || delay < want.from || delay > want.to || next.Count != n+1 || next.InvocationID != try.InvocationID {
					t.Errorf("try %d: %v after %v, %+v", n+1, ok, delay, next)
				}
				try = next
			}
			if _, _, ok := try.Next(&Exception{}); ok {
				t.Error("there is one more try")
			}
		})
	}
	forEver := Try{policy: &config.Retry{Strategy: config.ExponentialBackoff, MaxRetryCount: -1, MinimumInterval: ms, MaximumInterval: time.Hour}, Count: 1000}
	if _, delay, ok := forEver.Next(&Exception{}); !ok || delay != time.Hour {
		t.Errorf("for ever: %v after %v", ok, delay)
	}
	if _, _, ok := FirstTry(config.Function{}).Next(&Exception{}); ok {
		t.Error("without a policy there is another try")
	}
}
