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
	*taskHub
	log           *slog.Logger
	deliver       func(context.Context, string, Message) error
	maxDeliveries int

	wake    signal
	slots   chan struct{}
	flying  sync.Map // sequence number → struct{}
	running sync.WaitGroup
}

func newInbox(hub *taskHub, log *slog.Logger, parallel, maxDeliveries int, deliver func(context.Context, string, Message) error) *inbox {
	return &inbox{taskHub: hub, log: log, deliver: deliver, maxDeliveries: maxDeliveries, wake: newSignal(), slots: make(chan struct{}, parallel)}
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
	log := b.log.With("function", function, "id", m.ID, "number", m.SequenceNumber)
	reason, err := b.try(ctx, function, m)
	if err != nil && !errors.Is(err, errNotStored) {
		log.Error("cannot record a delivery: the message will come again", "error", err)
		pause(b.open, time.Second)
	} else if err == nil && reason != "" {
		log.Warn("a message was not taken", "delivery", m.DeliveryCount, "reason", reason)
	}
	if m.DeliveryCount >= b.maxDeliveries && reason != "" && ctx.Err() == nil {
		log.Error("a message is dead, and kept: it was delivered too often", "deliveries", m.DeliveryCount)
	}
	b.flying.Delete(m.SequenceNumber)
	<-b.slots
	b.wake.set()
}

// diedReason stands in the store during a delivery: who finds it there is the next process.
const diedReason = "the process died during this delivery"

// try delivers a message once and records what came of it. The delivery is counted before it is made: a message that
// kills the process counts as well. One that is cut short because the host closes does not. The reason is empty if the
// function took the message.
func (b *inbox) try(ctx context.Context, function string, m Message) (reason string, err error) {
	if m.DeliveryCount > b.maxDeliveries { // the process died in the last one, or the limit was lowered
		return diedReason, b.change(ctx, "dead = 1, due = ? WHERE seq = ?", time.Now().UnixNano(), m.SequenceNumber)
	}
	if err := b.change(ctx, "deliveries = ?, reason = ? WHERE seq = ?", m.DeliveryCount, diedReason, m.SequenceNumber); err != nil {
		return "", err
	}
	failure := b.deliver(ctx, function, m)
	if failure == nil {
		return "", b.persist(ctx, func(t tx) error { return t.exec("DELETE FROM messages WHERE seq = ?", m.SequenceNumber) })
	}
	reason = failure.Error()
	if refusal := (*InvocationError)(nil); errors.As(failure, &refusal) {
		reason = refusal.Reason
	}
	switch {
	case ctx.Err() != nil:
		return reason, b.change(ctx, "deliveries = deliveries - 1, reason = '' WHERE seq = ?", m.SequenceNumber)
	case m.DeliveryCount >= b.maxDeliveries:
		return reason, b.change(ctx, "dead = 1, due = ?, reason = ? WHERE seq = ?", time.Now().UnixNano(), reason, m.SequenceNumber)
	}
	due := time.Now().Add(retryDelay(m.DeliveryCount)).UnixNano()
	return reason, b.change(ctx, "due = ?, reason = ? WHERE seq = ?", due, reason, m.SequenceNumber)
}

func (b *inbox) change(ctx context.Context, set string, args ...any) error {
	return b.persist(ctx, func(t tx) error { return t.exec("UPDATE messages SET "+set, args...) })
}

// watch wakes the inbox when another process has changed the file: it may have put a dead letter back. The version is
// that of the writing connection, whose own changes do not count.
func (b *inbox) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var last int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var version int64
		err := b.write.QueryRow("PRAGMA data_version").Scan(&version) // without ctx, which would interrupt the connection
		if err == nil && version != last {
			last = version
			b.wake.set()
		}
	}
}

// Enqueue stores a message for a trigger function: it is on disk when Enqueue returns. It is delivered in the
// background, by this host or by a later one on the same data directory, until the function takes it; after
// MaxDeliveryCount deliveries it is a dead letter: see [DeadLetters].
func (h *Host) Enqueue(ctx context.Context, function string, m Message) error {
	f, ok := h.messageFunction(function)
	if !ok {
		return fmt.Errorf("there is no function %s with a message trigger", function)
	}
	return h.inbox.put(ctx, f.Name, m.withDefaults())
}
