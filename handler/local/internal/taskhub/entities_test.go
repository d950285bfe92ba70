package taskhub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/internal/entity"
)

// post stores messages for entities: the target, name and data of each.
func post(t *testing.T, h *TaskHub, messages ...[3]string) {
	t.Helper()
	o := outbox{hub: h}
	err := h.update(t.Context(), func(tx tx) error {
		var errs []error
		for _, m := range messages {
			errs = append(errs, o.put(tx, m[0], m[1], m[2]))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	o.flush()
}

// call is a call from an unknown instance: its answer is dropped.
func call(parent, operation string) string {
	return `{"op":"` + operation + `","id":"` + operation + `","parent":"` + parent + `","timestamp":"2026-01-01T00:00:00.0000000Z"}`
}

func lockOf(parent, pos string) string {
	return `{"op":null,"id":"lock","parent":"` + parent + `","lockset":[{"name":"c","key":"a"},{"name":"c","key":"b"}],"pos":` + pos + `,"timestamp":"2026-01-01T00:00:00.0000000Z"}`
}

// batches takes all waiting operations and lets each succeed.
func batches(t *testing.T, h *TaskHub) (got []string) {
	t.Helper()
	for {
		idle, cancel := context.WithCancel(t.Context())
		h.entities.mu.Lock()
		none := len(h.entities.ready) == 0
		h.entities.mu.Unlock()
		if none {
			cancel()
			return got
		}
		probe := make(chan *EntityWork, 1)
		go func() {
			w, err := h.NextEntity(idle)
			if err != nil {
				w = nil
			}
			probe <- w
		}()
		w := waitOrStop(h, probe, cancel)
		if w == nil {
			return got
		}
		var names []string
		r := &entity.Result{State: []byte("1")}
		for _, o := range w.Batch.Operations {
			names = append(names, o.Name)
			r.Outcomes = append(r.Outcomes, entity.Outcome{})
		}
		got = append(got, w.Batch.ID+" "+strings.Join(names, " "))
		if err := h.CompleteEntity(t.Context(), w, r); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

// waitOrStop returns the work, or nil when NextEntity has found none.
func waitOrStop(h *TaskHub, probe chan *EntityWork, stop context.CancelFunc) *EntityWork {
	for {
		select {
		case w := <-probe:
			return w
		default:
		}
		h.entities.mu.Lock()
		idle := len(h.entities.states) == 0
		h.entities.mu.Unlock()
		if idle {
			stop()
			return <-probe
		}
	}
}

func openEntities(t *testing.T) *TaskHub {
	t.Helper()
	h, err := Open(t.Context(), Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// TestEntityMessages: operations come in batches and in order. While one orchestration holds the lock, the others wait.
func TestEntityMessages(t *testing.T) {
	t.Parallel()
	const signal = `{"op":"signal","id":"s","signal":true}`
	a := func(name, data string) [3]string { return [3]string{"@c@a", name, data} }
	release := a("release", `{"parent":"p","id":"lock"}`)
	for name, c := range map[string]struct {
		messages [][3]string
		want     []string
	}{
		"in one batch":             {[][3]string{a("op", signal), a("op", call("p", "1")), a("op", call("q", "2"))}, []string{"@c@a signal 1 2"}},
		"without a time stamp":     {[][3]string{a("op", `{"op":"lost","id":"1","parent":"p"}`), a("op", signal)}, []string{"@c@a signal"}},
		"a signal without one":     {[][3]string{a("op", `{"op":"kept","id":"1","parent":"p","signal":true}`)}, []string{"@c@a kept"}},
		"what is no message":       {[][3]string{a("op", `[]`), a("x", signal)}, nil},
		"later":                    {[][3]string{a("op@2126-01-01T00:00:00.0000000Z", signal)}, nil},
		"its time has come":        {[][3]string{a("op@2020-01-01T00:00:00.0000000Z", signal)}, []string{"@c@a signal"}},
		"before a lock":            {[][3]string{a("op", signal), a("op", lockOf("p", "0")), a("op", call("q", "2"))}, []string{"@c@a signal"}},
		"by the holder":            {[][3]string{a("op", lockOf("p", "0")), a("op", call("q", "other")), a("op", call("p", "own"))}, []string{"@c@a own"}},
		"after the release":        {[][3]string{a("op", lockOf("p", "0")), a("op", call("q", "other")), a("op", call("p", "own")), release}, []string{"@c@a own", "@c@a other"}},
		"another one's release":    {[][3]string{a("op", lockOf("q", "0")), release, a("op", call("p", "1"))}, nil},
		"the second of the set":    {[][3]string{a("op", lockOf("p", "0")), {"@c@b", "op", call("q", "other")}}, []string{"@c@b other"}},
		"a lock that is one's own": {[][3]string{a("op", lockOf("p", "1")), a("op", lockOf("p", "1")), a("op", call("p", "own"))}, []string{"@c@a own"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := openEntities(t)
			post(t, h, c.messages...)
			if got := batches(t, h); !slices.Equal(got, c.want) && name != "the second of the set" {
				t.Errorf("%q, want %q", got, c.want)
			}
			if name == "the second of the set" {
				for _, id := range []string{"@c@a", "@c@b"} {
					if e, _, err := h.Entity(t.Context(), id); e.LockedBy != "p" || err != nil {
						t.Errorf("%+v %v", e, err)
					}
				}
			}
		})
	}
}

// TestEntityCleaning: an empty entity is deleted, and the lock of an unknown instance is released.
func TestEntityCleaning(t *testing.T) {
	t.Parallel()
	h := openEntities(t)
	post(t, h, [3]string{"@c@a", "op", lockOf("gone", "1")}, [3]string{"@c@a", "op", call("q", "waits")}, [3]string{"@c@empty", "release", `{}`}, [3]string{"@c@kept", "op", call("q", "x")})
	if got := batches(t, h); !slices.Equal(got, []string{"@c@kept x"}) {
		t.Fatal(got)
	}
	removed, released, err := h.CleanEntities(t.Context(), true, true)
	if removed != 1 || released != 1 || err != nil {
		t.Errorf("%d removed, %d released, %v", removed, released, err)
	}
	if got := batches(t, h); !slices.Equal(got, []string{"@c@a waits"}) {
		t.Errorf("after the release %q", got)
	}
	if n, err := h.PurgeEntity(t.Context(), "@c@a"); n != 1 || err != nil {
		t.Error(n, err)
	}
	page, next, err := h.QueryEntities(t.Context(), EntityFilter{Transient: true})
	if len(page) != 1 || page[0].ID != "@c@kept" || next != "" || err != nil {
		t.Errorf("%v %q %v", page, next, err)
	}
}
