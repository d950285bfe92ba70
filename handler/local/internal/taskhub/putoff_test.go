package taskhub

import (
	"testing"
	"time"
)

// TestPutOffDelay: as recorded, 2 s, 4 and so on to 512, then 600 for ever.
func TestPutOffDelay(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]time.Duration{1: 2, 2: 4, 3: 8, 6: 64, 9: 512, 10: 600, 11: 600, 1000: 600} {
		if got := putOffDelay(times, time.Second); got != want*time.Second {
			t.Errorf("after %d times: %v, want %ds", times, got, want)
		}
	}
}
