package taskhub

import (
	"context"
	"testing"
	"time"
)

// TestPutOffDelay: as recorded, 2 s, 4 and so on to 512, then always 600.
func TestPutOffDelay(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]time.Duration{1: 2, 2: 4, 3: 8, 6: 64, 9: 512, 10: 600, 11: 600, 1000: 600} {
		if got := putOffDelay(times, time.Second); got != want*time.Second {
			t.Errorf("after %d times: %v, want %ds", times, got, want)
		}
	}
}

// TestUpdateSynced: only what is accepted from outside is synchronised with the disk, also when its PRAGMA runs again as a kept
// statement.
func TestUpdateSynced(t *testing.T) {
	t.Parallel()
	h, err := Open(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const normal, full = 1, 2
	for _, c := range []struct {
		update func(context.Context, func(tx) error) error
		want   int
	}{{h.update, normal}, {h.updateSynced, full}, {h.update, normal}, {h.updateSynced, full}, {h.update, normal}} {
		var got int
		err := c.update(t.Context(), func(x tx) error { return x.queryRow("PRAGMA synchronous").Scan(&got) })
		if err != nil || got != c.want {
			t.Errorf("synchronous = %d, %v; want %d", got, err, c.want)
		}
	}
}
