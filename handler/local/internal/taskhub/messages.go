package taskhub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// Message is a queue message for a trigger function.
type Message struct {
	ID            string
	Body          []byte
	DeliveryCount int // deliveries so far, this one included
	EnqueuedAt    time.Time

	SequenceNumber int64 // PutMessage sets it
}

// WithDefaults fills in what a message leaves out.
func (m Message) WithDefaults() Message {
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

// ErrNoMessage says that no message is due.
var ErrNoMessage = errors.New("no message is due")

// PutMessage stores a message for a function. The message is on disk when PutMessage returns.
func (h *TaskHub) PutMessage(ctx context.Context, function string, m Message) error {
	return h.updateSynced(ctx, func(t tx) error {
		return t.exec("INSERT INTO messages (function, id, body, enqueued) VALUES (?, ?, ?, ?)", function, m.ID, m.Body, m.EnqueuedAt.UnixNano())
	})
}

// NextMessage returns the oldest message that is due. It passes over the sequence numbers in skip. If no message is due, the
// error is [ErrNoMessage], and due is the time of the next one; zero if none waits.
func (h *TaskHub) NextMessage(ctx context.Context, skip func(sequenceNumber int64) bool) (function string, m Message, due time.Time, err error) {
	rows, err := h.read.QueryContext(ctx, "SELECT seq, CAST(due AS INTEGER) FROM messages WHERE dead = 0 ORDER BY due, seq")
	if err != nil {
		return "", Message{}, time.Time{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var number, dueAt int64
		if err := rows.Scan(&number, &dueAt); err != nil {
			return "", Message{}, time.Time{}, err
		}
		switch {
		case skip(number):
			continue
		case dueAt > time.Now().UnixNano():
			return "", Message{}, fromNanos(dueAt), ErrNoMessage
		}
		m, ok, err := h.Message(ctx, number)
		if err != nil {
			return "", Message{}, time.Time{}, err
		}
		if ok { // otherwise it was deleted meanwhile
			m.DeliveryCount++
			return m.Function, m.Message, time.Time{}, nil
		}
	}
	if err := rows.Err(); err != nil {
		return "", Message{}, time.Time{}, err
	}
	return "", Message{}, time.Time{}, ErrNoMessage
}

// StoredMessage is a message in the file.
type StoredMessage struct {
	Message  // DeliveryCount is the number of deliveries so far
	Function string
	Dead     bool
	Time     time.Time // of a dead letter its last delivery, of another one its next delivery; zero: at once
	Reason   string    // why the last delivery failed
}

// Message returns a message; ok is false if there is none with that number.
func (s *store) Message(ctx context.Context, sequenceNumber int64) (m StoredMessage, ok bool, err error) {
	list, err := s.messages(ctx, "seq = ?", sequenceNumber)
	if len(list) == 0 {
		return StoredMessage{}, false, err
	}
	return list[0], true, err
}

// Messages returns the dead letters, oldest first, or the messages that wait for their function, in the order of delivery.
func (s *store) Messages(ctx context.Context, dead bool) ([]StoredMessage, error) {
	return s.messages(ctx, "dead = ? ORDER BY due, seq", dead)
}

func (s *store) messages(ctx context.Context, where string, args ...any) (list []StoredMessage, err error) {
	rows, err := s.read.QueryContext(ctx, "SELECT seq, function, id, body, CAST(enqueued AS INTEGER), CAST(deliveries AS INTEGER), CAST(due AS INTEGER), dead, reason FROM messages WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m StoredMessage
		var enqueued, due int64
		if err := rows.Scan(&m.SequenceNumber, &m.Function, &m.ID, &m.Body, &enqueued, &m.DeliveryCount, &due, &m.Dead, &m.Reason); err != nil {
			return nil, err
		}
		if m.EnqueuedAt = fromNanos(enqueued); due > 0 {
			m.Time = fromNanos(due)
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// DiedReason is in the file during a delivery. If a process finds it there, the process before it died in that delivery.
const DiedReason = "the process died during this delivery"

// BeginDelivery counts a delivery before it is made, so that a message that kills the process counts as well.
func (h *TaskHub) BeginDelivery(ctx context.Context, m Message) error {
	return h.changeMessage(ctx, "deliveries = ?, reason = ? WHERE seq = ?", m.DeliveryCount, DiedReason, m.SequenceNumber)
}

// CancelDelivery takes back a delivery that was cut short because the host closes.
func (h *TaskHub) CancelDelivery(ctx context.Context, m Message) error {
	return h.changeMessage(ctx, "deliveries = deliveries - 1, reason = '' WHERE seq = ?", m.SequenceNumber)
}

// DelayMessage keeps a message that its function did not accept, for another delivery at the time due.
func (h *TaskHub) DelayMessage(ctx context.Context, m Message, due time.Time, reason string) error {
	return h.changeMessage(ctx, "due = ?, reason = ? WHERE seq = ?", due.UnixNano(), reason, m.SequenceNumber)
}

// BuryMessage makes a message a dead letter.
func (h *TaskHub) BuryMessage(ctx context.Context, m Message, reason string) error {
	return h.changeMessage(ctx, "dead = 1, due = ?, reason = ? WHERE seq = ?", time.Now().UnixNano(), reason, m.SequenceNumber)
}

func (h *TaskHub) changeMessage(ctx context.Context, set string, args ...any) error {
	return h.persist(ctx, func(t tx) error { return t.exec("UPDATE messages SET "+set, args...) })
}

// DeleteMessage deletes a message that its function has accepted.
func (h *TaskHub) DeleteMessage(ctx context.Context, m Message) error {
	return h.persist(ctx, func(t tx) error { return t.exec("DELETE FROM messages WHERE seq = ?", m.SequenceNumber) })
}

// WaitingMessages returns how many messages still wait for their function, without dead letters.
func (h *TaskHub) WaitingMessages(ctx context.Context) (n int, err error) {
	err = h.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE dead = 0").Scan(&n)
	return n, err
}

// FileVersion returns a number that changes when another process changes the file. It is read on the writing connection, whose
// own changes do not count.
func (h *TaskHub) FileVersion() (version int64, err error) {
	err = h.write.QueryRow("PRAGMA data_version").Scan(&version) // without a context: cancelling would interrupt the connection
	return version, err
}

// DeadLetter is a message that its function did not accept in any of its deliveries. It is kept until it is put back.
type DeadLetter struct {
	Message  // SequenceNumber identifies it in its data directory
	Function string
	DiedAt   time.Time // time of its last delivery
	Reason   string    // why the last delivery failed
}

// DeadLetters returns the dead letters in a data directory, oldest first. A task hub may have it open.
func DeadLetters(ctx context.Context, dataDir string) ([]DeadLetter, error) {
	s, err := openBeside(ctx, dataDir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	list, err := s.Messages(ctx, true)
	letters := make([]DeadLetter, len(list))
	for i, m := range list {
		letters[i] = DeadLetter{Message: m.Message, Function: m.Function, DiedAt: m.Time, Reason: m.Reason}
	}
	return letters, err
}

// WaitingMessage is a message that no function has accepted yet.
type WaitingMessage struct {
	Message
	Function string
	Due      time.Time // time of its next delivery; zero: at once
	Reason   string    // why the last delivery failed
}

// Waiting returns the messages in a data directory that wait for their function, in the order of delivery. A task hub may have it
// open.
func Waiting(ctx context.Context, dataDir string) ([]WaitingMessage, error) {
	s, err := openBeside(ctx, dataDir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	list, err := s.Messages(ctx, false)
	waiting := make([]WaitingMessage, len(list))
	for i, m := range list {
		waiting[i] = WaitingMessage{Message: m.Message, Function: m.Function, Due: m.Time, Reason: m.Reason}
	}
	return waiting, err
}

// Resubmit puts dead letters back, all or none of them, and counts their deliveries from 0. A task hub may have the data
// directory open.
func Resubmit(ctx context.Context, dataDir string, sequenceNumbers ...int64) error {
	s, err := openBeside(ctx, dataDir)
	if err != nil {
		return err
	}
	defer s.close()
	return s.update(ctx, func(t tx) error {
		for _, number := range sequenceNumbers {
			n, err := t.execCount("UPDATE messages SET dead = 0, deliveries = 0, due = 0, reason = '' WHERE seq = ? AND dead = 1", number)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("there is no dead letter %d in %s", number, dataDir)
			}
		}
		return nil
	})
}

// ErrNoDeadLetter reports that no dead letter has the given number.
var ErrNoDeadLetter = errors.New("there is no such dead letter: it may have been put back already")

// PutBack puts a dead letter back and counts its deliveries from 0. A body that is not nil replaces the old one. The error is
// [ErrNoDeadLetter] if no dead letter has that number.
func (h *TaskHub) PutBack(ctx context.Context, number int64, body []byte) error {
	return h.updateSynced(ctx, func(t tx) error {
		n, err := t.execCount("UPDATE messages SET dead = 0, deliveries = 0, due = 0, reason = '', body = COALESCE(?, body) WHERE seq = ? AND dead = 1", body, number)
		if err == nil && n == 0 {
			err = ErrNoDeadLetter
		}
		return err
	})
}

// openBeside opens the file in a data directory that another process may have open. It does not create a file.
func openBeside(ctx context.Context, dataDir string) (*store, error) {
	path, err := filepath.Abs(filepath.Join(dataDir, fileName))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no messages are kept in %s: there is no task hub there, name another data directory", dataDir)
	} else if err != nil {
		return nil, err
	}
	return openStore(ctx, path)
}
