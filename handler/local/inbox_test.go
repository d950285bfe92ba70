package local

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/durablefunctions/handler/local/internal/taskhub"
)

func messagesLeft(t testing.TB, h *Host) int {
	t.Helper()
	n, err := h.Waiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRedelivery: a message comes again until it is taken.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	var calls atomic.Int64
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			fail(w, "not yet")
			return
		}
		answerJSON(w, map[string]any{})
	}
	h := open(t, app)
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "again", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	for i, r := range app.seen("Start") {
		if text(r.metadata["DeliveryCount"]) != []string{"1", "2"}[i] || text(r.metadata["MessageId"]) != "again" {
			t.Errorf("delivery %d: %s of %s", i, r.metadata["DeliveryCount"], r.metadata["MessageId"])
		}
	}
}

// What came of a delivery is stored when the file can be written again: the message is not delivered anew meanwhile.
func TestDeliveryIsRecordedLater(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"taken": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newTestApp(t)
			readOnly := make(chan int)
			var h *Host
			var calls atomic.Int64
			app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					readOnly <- 1
					readOnly <- 1 // done
					if refused {
						fail(w, "not yet")
						return
					}
				}
				answerJSON(w, map[string]any{})
			}
			h = open(t, app, func(o *Options) { o.Logger = nil })
			if err := h.Enqueue(t.Context(), "Start", Message{ID: "m", Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			<-readOnly
			lock, err := openFile(t, h.dataDir).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if _, err := lock.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
			<-readOnly
			time.Sleep(300 * time.Millisecond)
			if n := calls.Load(); n != 1 {
				t.Errorf("delivered %d times while nothing can be stored", n)
			}
			if _, err := lock.ExecContext(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
			if n := calls.Load(); n != 1 && !refused || n != 2 && refused {
				t.Errorf("delivered %d times", n)
			}
		})
	}
}

// TestDeadLetter: a message that was delivered too often is kept with its reason, and comes again when another process
// has put it back.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	var repaired atomic.Bool
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if repaired.Load() {
			answerJSON(w, map[string]any{})
			return
		}
		fail(w, "never")
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.MaxDeliveryCount, o.DataDir = 2, data })
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "poison", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	l := waitForDeadLetter(t, data)
	if l.ID != "poison" || string(l.Body) != "x" || l.Function != "Start" || l.DeliveryCount != 2 || !strings.Contains(l.Reason, "never") ||
		time.Since(l.EnqueuedAt) > time.Hour || l.DiedAt.Before(l.EnqueuedAt) || len(app.seen("Start")) != 2 {
		t.Errorf("got %+v after %d deliveries", l, len(app.seen("Start")))
	}
	if err := Resubmit(t.Context(), data, l.SequenceNumber, l.SequenceNumber+1); err == nil || len(app.seen("Start")) != 2 {
		t.Errorf("a dead letter that there is not was put back: %v", err)
	}
	if letters, err := DeadLetters(t.Context(), data); err != nil || len(letters) != 1 {
		t.Errorf("one of two was put back: %+v, %v", letters, err)
	}
	repaired.Store(true)
	if err := Resubmit(t.Context(), data, l.SequenceNumber); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	if seen := app.seen("Start"); len(seen) != 3 || text(seen[2].metadata["DeliveryCount"]) != "1" || text(seen[2].metadata["MessageId"]) != "poison" {
		t.Errorf("%d deliveries, the last with %v", len(seen), seen[len(seen)-1].metadata)
	}
	if err := h.Enqueue(t.Context(), "Nope", Message{}); err == nil {
		t.Error("a message for no function was taken")
	}
}

func waitForDeadLetter(t testing.TB, data string) DeadLetter {
	t.Helper()
	var letters []DeadLetter
	waitFor(t, func() bool {
		var err error
		if letters, err = DeadLetters(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		return len(letters) == 1
	})
	return letters[0]
}

// TestDeadly: a message whose delivery killed the process so often is not delivered again.
func TestDeadly(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir, o.HoldMessages = data, true }) // so that the row below is what a dead process left
	if _, err := openFile(t, data).Exec("INSERT INTO messages (function, id, body, enqueued, deliveries, reason) VALUES ('Start', 'deadly', 'x', 1, 10, ?)", taskhub.DiedReason); err != nil {
		t.Fatal(err)
	}
	closeNow(t, h)
	open(t, app, func(o *Options) { o.DataDir = data })
	if l := waitForDeadLetter(t, data); l.DeliveryCount != 10 || l.Reason != taskhub.DiedReason || len(app.seen("Start")) != 0 {
		t.Errorf("got %+v after %d deliveries", l, len(app.seen("Start")))
	}
}

func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "none")
	_, err := DeadLetters(t.Context(), data)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), data) {
		t.Errorf("got %v", err)
	}
	if err := Resubmit(t.Context(), data, 1); err == nil {
		t.Error("put back into nothing")
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

// TestInboxSurvives: a message whose delivery was cut short comes again with the next host, and that one did not count.
func TestInboxSurvives(t *testing.T) {
	t.Parallel()
	app := newTestApp(t)
	running := make(chan struct{})
	app.answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if len(app.seen("Start")) == 1 {
			close(running)
			<-r.Context().Done()
			return
		}
		answerJSON(w, map[string]any{})
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "kept", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	<-running
	closeNow(t, h)
	h = open(t, app, func(o *Options) { o.DataDir = data })
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	seen := app.seen("Start")
	if len(seen) != 2 || text(seen[1].metadata["DeliveryCount"]) != "1" {
		t.Errorf("%d deliveries, the last is number %s", len(seen), seen[len(seen)-1].metadata["DeliveryCount"])
	}
}
