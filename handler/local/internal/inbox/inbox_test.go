package inbox

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/durablefunctions/handler/local/internal/taskhub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// function is a function whose deliveries a test answers.
type function struct {
	mu     sync.Mutex
	seen   []taskhub.Message
	answer func(ctx context.Context, n int) error // n counts the deliveries from 1
}

func (f *function) deliver(ctx context.Context, _ string, m taskhub.Message) error {
	f.mu.Lock()
	f.seen = append(f.seen, m)
	n := len(f.seen)
	f.mu.Unlock()
	return f.answer(ctx, n)
}

func (f *function) deliveries() []taskhub.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

// opened is an inbox on a task hub of its own.
type opened struct {
	*Inbox
	data string
	end  func() // as when the process dies: what is being delivered is cut short
}

func open(t testing.TB, data string, maxDeliveries int, f *function) *opened {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub, err := taskhub.Open(t.Context(), taskhub.Options{DataDir: data, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := New(Options{Hub: hub, Log: log, Parallel: 4, MaxDeliveries: maxDeliveries, MaxBytes: 10, Deliver: f.deliver})
	b.Start(ctx, ctx)
	end := sync.OnceFunc(func() {
		cancel()
		b.Wait()
		_ = hub.Close()
	})
	t.Cleanup(end)
	return &opened{b, data, end}
}

func (o *opened) post(t testing.TB, id string) {
	t.Helper()
	if err := o.Post(t.Context(), "F", taskhub.Message{ID: id, Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
}

// empties waits until no message waits.
func (o *opened) empties(t testing.TB) {
	t.Helper()
	waitFor(t, func() bool {
		n, err := o.Hub.WaitingMessages(t.Context())
		return err == nil && n == 0
	})
}

// file is the task hub's file, opened beside it.
func (o *opened) file(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(o.data, "taskhub.db"))+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come true within a minute")
		}
	}
}

// TestRedelivery: a message comes again until it is taken.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	f := &function{answer: func(_ context.Context, n int) error {
		if n == 1 {
			return errors.New("not yet")
		}
		return nil
	}}
	b := open(t, t.TempDir(), 10, f)
	b.post(t, "again")
	b.empties(t)
	for i, m := range f.deliveries() {
		if m.DeliveryCount != i+1 || m.ID != "again" || string(m.Body) != "x" {
			t.Errorf("delivery %d: %+v", i, m)
		}
	}
}

// TestSize: what somebody sends has a limit, what the host itself finds has none.
func TestSize(t *testing.T) {
	t.Parallel()
	f := &function{answer: func(context.Context, int) error { return nil }}
	b := open(t, t.TempDir(), 10, f)
	large := taskhub.Message{Body: []byte("12345678901")}
	var size *SizeError
	if err := b.Post(t.Context(), "F", large); !errors.As(err, &size) || *size != (SizeError{Size: 11, Limit: 10}) {
		t.Errorf("got %v", err)
	}
	if err := b.Put(t.Context(), "F", large); err != nil {
		t.Error(err)
	}
	b.empties(t)
	if seen := f.deliveries(); len(seen) != 1 || seen[0].ID == "" || seen[0].EnqueuedAt.IsZero() {
		t.Errorf("delivered %+v", seen)
	}
}

// TestRecordedLater: the outcome of a delivery is stored when the file can be written again. Meanwhile the message is not
// delivered again.
func TestRecordedLater(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"taken": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			delivering, locked := make(chan struct{}), make(chan struct{})
			f := &function{answer: func(_ context.Context, n int) error {
				if n > 1 {
					return nil
				}
				delivering <- struct{}{}
				<-locked
				if refused {
					return errors.New("not yet")
				}
				return nil
			}}
			b := open(t, t.TempDir(), 10, f)
			b.post(t, "m")
			<-delivering
			lock, err := b.file(t).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if _, err := lock.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
			close(locked)
			time.Sleep(300 * time.Millisecond)
			if n := len(f.deliveries()); n != 1 {
				t.Errorf("delivered %d times while nothing can be stored", n)
			}
			if _, err := lock.ExecContext(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			b.empties(t)
			if n := len(f.deliveries()); n != 1 && !refused || n != 2 && refused {
				t.Errorf("delivered %d times", n)
			}
		})
	}
}

// TestDeadLetter: a message that was delivered too often is kept with its reason, and comes again when another process
// has put it back.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	f := &function{answer: func(_ context.Context, n int) error {
		if n <= 2 {
			return errors.New("never")
		}
		return nil
	}}
	data := t.TempDir()
	b := open(t, data, 2, f)
	b.post(t, "poison")
	l := deadLetter(t, data)
	if l.ID != "poison" || string(l.Body) != "x" || l.Function != "F" || l.DeliveryCount != 2 || l.Reason != "never" || l.DiedAt.Before(l.EnqueuedAt) {
		t.Errorf("got %+v", l)
	}
	if err := taskhub.Resubmit(t.Context(), data, l.SequenceNumber, l.SequenceNumber+1); err == nil || len(f.deliveries()) != 2 {
		t.Errorf("a dead letter that does not exist was put back: %v", err)
	}
	if letters, err := taskhub.DeadLetters(t.Context(), data); err != nil || len(letters) != 1 {
		t.Errorf("one of two was put back: %+v, %v", letters, err)
	}
	if err := taskhub.Resubmit(t.Context(), data, l.SequenceNumber); err != nil {
		t.Fatal(err)
	}
	b.empties(t)
	if seen := f.deliveries(); len(seen) != 3 || seen[2].DeliveryCount != 1 || seen[2].ID != "poison" {
		t.Errorf("the deliveries are %+v", seen)
	}
}

func deadLetter(t testing.TB, data string) taskhub.DeadLetter {
	t.Helper()
	var letters []taskhub.DeadLetter
	waitFor(t, func() bool {
		var err error
		if letters, err = taskhub.DeadLetters(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		return len(letters) == 1
	})
	return letters[0]
}

// TestDeadly: a message whose deliveries killed the process too often is not delivered again.
func TestDeadly(t *testing.T) {
	t.Parallel()
	f := &function{answer: func(context.Context, int) error { return nil }}
	data := t.TempDir()
	first := open(t, data, 10, f)
	first.end()
	if _, err := first.file(t).Exec("INSERT INTO messages (function, id, body, enqueued, deliveries, reason) VALUES ('F', 'deadly', 'x', 1, 10, ?)", taskhub.DiedReason); err != nil {
		t.Fatal(err)
	}
	open(t, data, 10, f)
	if l := deadLetter(t, data); l.DeliveryCount != 10 || !strings.Contains(l.Reason, taskhub.DiedReason) || len(f.deliveries()) != 0 {
		t.Errorf("got %+v after %d deliveries", l, len(f.deliveries()))
	}
}

// TestInterrupted: a message whose delivery was cut short comes again with the next inbox, and that delivery does not count.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	delivering := make(chan struct{})
	f := &function{answer: func(ctx context.Context, n int) error {
		if n > 1 {
			return nil
		}
		close(delivering)
		<-ctx.Done()
		return ctx.Err()
	}}
	data := t.TempDir()
	first := open(t, data, 10, f)
	first.post(t, "kept")
	<-delivering
	first.end()
	open(t, data, 10, f).empties(t)
	if seen := f.deliveries(); len(seen) != 2 || seen[1].DeliveryCount != 1 {
		t.Errorf("the deliveries are %+v", seen)
	}
}
