package trigger

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

func timerFunction(t *testing.T, schedule string, properties map[string]any) config.Function {
	t.Helper()
	s, err := config.ParseSchedule(schedule, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return config.Function{Name: "Tick", Schedule: s, Bindings: []config.Binding{{Name: "timer", Type: config.TimerTrigger, Direction: "in", Properties: properties}}}
}

// run runs a timer for a while and returns when it fired.
func run(timer *Timer, d time.Duration, takes time.Duration) (fired []time.Time, dues []Due) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	timer.Fire = func(due Due) {
		fired, dues = append(fired, time.Now()), append(dues, due)
		time.Sleep(takes)
	}
	timer.Run(ctx)
	return fired, dues
}

func TestTimer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "timers", "Tick.json")
	synctest.Test(t, func(t *testing.T) {
		timer := &Timer{Function: timerFunction(t, "0 */5 * * * *", nil), File: file}
		fired, dues := run(timer, 11*time.Minute, 0)
		if len(fired) != 2 || fired[1].Sub(fired[0]) != 5*time.Minute || fired[0].Second() != 0 {
			t.Fatalf("it fired at %v", fired)
		}
		if !dues[0].Status.Last.IsZero() || !dues[0].Status.Next.Equal(fired[0]) || !dues[1].Status.Last.Equal(fired[0]) || dues[1].IsPastDue {
			t.Errorf("due %+v, then %+v", dues[0].Status, dues[1].Status)
		}
		time.Sleep(24 * time.Hour) // the app was not running
		fired, dues = run(timer, time.Minute, 0)
		if len(fired) != 1 || !dues[0].IsPastDue {
			t.Errorf("after a day it fired at %v, %+v", fired, dues)
		}
	})
}

// TestTimerCatchesUpOnce: however many runs were missed, the timer fires once for them.
func TestTimerCatchesUpOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		timer := &Timer{Function: timerFunction(t, "*/10 * * * * *", nil)}
		fired, dues := run(timer, 10*time.Minute, 4*time.Minute+time.Second)
		if len(fired) > 3 || dues[0].Status != nil {
			t.Errorf("it fired at %v", fired)
		}
	})
}

func TestTimerRunsOnStartup(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "Tick.json")
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		timer := &Timer{Function: timerFunction(t, "01:00:00", map[string]any{"runOnStartup": true}), File: file}
		if fired, _ := run(timer, 61*time.Minute, 0); len(fired) != 2 || !fired[0].Equal(started) || fired[1].Sub(fired[0]) != time.Hour {
			t.Errorf("it fired at %v", fired)
		}
	})
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	found := map[string]int{}
	blobs := func() *Blobs {
		b := &Blobs{
			Functions: []config.Function{{Name: "In", Bindings: []config.Binding{{Name: "blob", Type: config.BlobTrigger, Direction: "in", Properties: map[string]any{"path": "samples/{name}.txt"}}}}},
			Dir:       filepath.Join(dir, "blobs"), Receipts: filepath.Join(dir, "blobs.json"), Log: slog.New(slog.DiscardHandler),
			Found: func(_ context.Context, function, name string, content []byte) error {
				found[function+" "+name+" "+string(content)]++
				return nil
			},
		}
		if err := b.Prepare(); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := blobs()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(b.Dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("samples/sub/a.txt", "one")
	write("samples/b.dat", "other")
	b.Look(t.Context())
	if len(found) > 0 {
		t.Errorf("found %v at the first look: it may not be whole yet", found)
	}
	for range 3 {
		b.Look(t.Context())
	}
	again := blobs() // the next start
	again.Look(t.Context())
	write("samples/sub/a.txt", "changed")
	again.Look(t.Context())
	again.Look(t.Context())
	if len(found) != 2 || found["In samples/sub/a.txt one"] != 1 || found["In samples/sub/a.txt changed"] != 1 {
		t.Errorf("found %v", found)
	}
}
