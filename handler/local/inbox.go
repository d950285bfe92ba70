package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Message is a queue message for a trigger function. An empty ID becomes a random one, a zero DeliveryCount 1, a zero
// EnqueuedAt now.
type Message struct {
	ID            string
	Body          []byte
	DeliveryCount int
	EnqueuedAt    time.Time

	SequenceNumber int64 // Enqueue gives the next one; 0: 1
}

func (m Message) withDefaults() Message {
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	if m.DeliveryCount == 0 {
		m.DeliveryCount = 1
	}
	if m.EnqueuedAt.IsZero() {
		m.EnqueuedAt = time.Now().UTC()
	}
	if m.SequenceNumber == 0 {
		m.SequenceNumber = 1
	}
	return m
}

// inbox keeps messages in the store and delivers each until its function takes it, or so often that it is put aside as
// dead.
type inbox struct {
	*store
	log           *slog.Logger
	deliver       func(context.Context, string, Message) error
	maxDeliveries int

	wake    signal
	slots   chan struct{}
	flying  sync.Map // sequence number → struct{}
	running sync.WaitGroup
}

func newInbox(s *store, log *slog.Logger, parallel, maxDeliveries int, deliver func(context.Context, string, Message) error) *inbox {
	return &inbox{store: s, log: log, deliver: deliver, maxDeliveries: maxDeliveries, wake: newSignal(), slots: make(chan struct{}, parallel)}
}

func (b *inbox) put(ctx context.Context, function string, m Message) error {
	err := b.update(ctx, func(t tx) error {
		return t.exec("INSERT INTO messages (function, id, body, enqueued) VALUES (?, ?, ?, ?)", function, m.ID, m.Body, m.EnqueuedAt.UnixNano())
	})
	if err == nil {
		b.wake.set()
	}
	return err
}

// run delivers until accepting ends; deliveries that have begun get the context ctx and are waited for by drain.
func (b *inbox) run(ctx, accepting context.Context) {
	for accepting.Err() == nil {
		select {
		case b.slots <- struct{}{}:
		case <-accepting.Done():
			return
		}
		function, m, due, err := b.next(accepting)
		if err == nil {
			b.running.Add(1)
			go b.attempt(ctx, function, m)
			continue
		}
		<-b.slots
		if !errors.Is(err, sql.ErrNoRows) && accepting.Err() == nil {
			b.log.Error("cannot read the messages, trying again", "error", err)
			due = time.Now().Add(time.Second)
		}
		b.sleep(accepting, due)
	}
}

// sleep waits for a message, or until one is due again.
func (b *inbox) sleep(ctx context.Context, due time.Time) {
	if !due.IsZero() {
		timer := time.AfterFunc(time.Until(due), b.wake.set)
		defer timer.Stop()
	}
	_ = b.wake.wait(ctx)
}

// next finds the oldest message that is due and not being delivered. With sql.ErrNoRows it says when one will be due.
func (b *inbox) next(ctx context.Context) (function string, m Message, due time.Time, err error) {
	rows, err := b.read.QueryContext(ctx, "SELECT seq, due FROM messages WHERE dead = 0 ORDER BY due, seq")
	if err != nil {
		return "", Message{}, time.Time{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, dueAt int64
		if err := rows.Scan(&seq, &dueAt); err != nil {
			return "", Message{}, time.Time{}, err
		}
		if _, ok := b.flying.Load(seq); ok {
			continue
		}
		if dueAt > time.Now().UnixNano() {
			return "", Message{}, fromNanos(dueAt), sql.ErrNoRows
		}
		b.flying.Store(seq, struct{}{})
		function, m, err := b.load(ctx, seq)
		if err != nil {
			b.flying.Delete(seq)
		}
		return function, m, time.Time{}, err
	}
	if err := rows.Err(); err != nil {
		return "", Message{}, time.Time{}, err
	}
	return "", Message{}, time.Time{}, sql.ErrNoRows
}

func (b *inbox) load(ctx context.Context, seq int64) (function string, m Message, err error) {
	m.SequenceNumber = seq
	var enqueued int64
	err = b.read.QueryRowContext(ctx, "SELECT function, id, body, enqueued, deliveries + 1 FROM messages WHERE seq = ?", seq).
		Scan(&function, &m.ID, &m.Body, &enqueued, &m.DeliveryCount)
	m.EnqueuedAt = fromNanos(enqueued)
	return function, m, err
}

func (b *inbox) attempt(ctx context.Context, function string, m Message) {
	defer b.running.Done()
	err := b.begin(ctx, m)
	if err == nil {
		err = b.deliver(ctx, function, m)
	}
	if err == nil || ctx.Err() == nil {
		if storeErr := b.record(ctx, m, err); storeErr != nil {
			b.log.Error("cannot record a delivery: the message will come again", "id", m.ID, "error", storeErr)
		}
	}
	if err != nil {
		b.log.Warn("a message was not taken", "function", function, "id", m.ID, "delivery", m.DeliveryCount, "error", err)
	}
	if err != nil && m.DeliveryCount >= b.maxDeliveries {
		b.log.Error("a message is dead: it was delivered too often", "function", function, "id", m.ID, "deliveries", m.DeliveryCount, "error", err)
	}
	b.flying.Delete(m.SequenceNumber)
	<-b.slots
	b.wake.set()
}

// begin counts the delivery before it is made: a message that kills the process counts as well.
func (b *inbox) begin(ctx context.Context, m Message) error {
	if m.DeliveryCount > b.maxDeliveries {
		return errors.New("the process died during its last delivery")
	}
	return b.update(ctx, func(t tx) error {
		return t.exec("UPDATE messages SET deliveries = ? WHERE seq = ?", m.DeliveryCount, m.SequenceNumber)
	})
}

func (b *inbox) record(ctx context.Context, m Message, failure error) error {
	return b.update(ctx, func(t tx) error {
		if failure == nil {
			return t.exec("DELETE FROM messages WHERE seq = ?", m.SequenceNumber)
		}
		due := time.Now().Add(retryDelay(m.DeliveryCount)).UnixNano()
		return t.exec("UPDATE messages SET deliveries = ?, due = ?, dead = ?, reason = ? WHERE seq = ?",
			m.DeliveryCount, due, m.DeliveryCount >= b.maxDeliveries, failure.Error(), m.SequenceNumber)
	})
}

// Enqueue stores a message for a trigger function: it is on disk when Enqueue returns. It is delivered in the
// background, by this host or by a later one on the same data directory, until the function takes it; after
// MaxDeliveryCount deliveries it is kept with its reason, and an error line says so.
func (h *Host) Enqueue(ctx context.Context, function string, m Message) error {
	f, ok := h.messageFunction(function)
	if !ok {
		return fmt.Errorf("there is no function %s with a message trigger", function)
	}
	return h.inbox.put(ctx, f.Name, m.withDefaults())
}
