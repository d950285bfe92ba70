// Package inbox delivers messages to functions. It delivers a message again and again until its function takes it, or until it
// becomes a dead letter after too many deliveries. The task hub keeps the messages.
//
//	b := inbox.New(inbox.Options{Hub: hub, Log: log, Parallel: 16, MaxDeliveries: 10, Deliver: deliver})
//	b.Start(ctx, accepting)
//	err := b.Post(ctx, "MyClientFunction", taskhub.Message{Body: text}) // on disk, and delivered in the background
//	…
//	b.Wait() // once accepting has ended
package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Options configure an inbox. Only MaxBytes is optional.
type Options struct {
	Hub           *taskhub.TaskHub
	Log           *slog.Logger
	Parallel      int // deliveries at a time
	MaxDeliveries int // of one message, before it becomes a dead letter
	MaxBytes      int // of the largest message that Post takes; 0: no limit

	// Deliver gives a message to a function. The text of its error is kept as the reason why the function did not take the
	// message.
	Deliver func(ctx context.Context, function string, m taskhub.Message) error
}

// SizeError says that a message was refused because it is too large.
type SizeError struct {
	Size, Limit int // bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the message is too large: it has %d bytes, the limit is %d", e.Size, e.Limit)
}

// Inbox delivers the task hub's messages.
type Inbox struct {
	Options
	wake    chan struct{} // there may be a message that is due
	slots   chan struct{}
	flying  sync.Map // sequence numbers of the messages that are being delivered
	running sync.WaitGroup
}

// New returns an inbox that takes messages, but delivers none before Start.
func New(o Options) *Inbox {
	return &Inbox{Options: o, wake: make(chan struct{}, 1), slots: make(chan struct{}, o.Parallel)}
}

// Start delivers messages until accepting ends. Each delivery gets the context ctx.
func (b *Inbox) Start(ctx, accepting context.Context) {
	b.running.Go(func() { b.run(ctx, accepting) })
	b.running.Go(func() { b.watch(accepting) })
}

// Wait waits for the running deliveries. Call it after accepting has ended.
func (b *Inbox) Wait() { b.running.Wait() }

func (b *Inbox) run(ctx, accepting context.Context) {
	for accepting.Err() == nil {
		select {
		case b.slots <- struct{}{}:
		case <-accepting.Done():
			return
		}
		function, m, due, err := b.next(accepting)
		if err == nil {
			b.running.Go(func() { b.attempt(ctx, function, m) })
			continue
		}
		<-b.slots
		if !errors.Is(err, taskhub.ErrNoMessage) && accepting.Err() == nil {
			b.Log.Error("cannot read the messages, trying again", "error", err)
			due = time.Now().Add(time.Second)
		}
		b.sleep(accepting, due)
	}
}

// sleep waits until a message comes, or until one is due.
func (b *Inbox) sleep(ctx context.Context, due time.Time) {
	if !due.IsZero() {
		timer := time.AfterFunc(time.Until(due), b.wakeUp)
		defer timer.Stop()
	}
	select {
	case <-b.wake:
	case <-ctx.Done():
	}
}

func (b *Inbox) attempt(ctx context.Context, function string, m taskhub.Message) {
	log := b.Log.With("function", function, "id", m.ID, "number", m.SequenceNumber)
	reason, err := b.try(ctx, function, m)
	if err != nil && !errors.Is(err, taskhub.ErrNotStored) {
		log.Error("cannot record a delivery: the message will come again", "error", err)
		b.sleep(ctx, time.Now().Add(time.Second))
	} else if err == nil && reason != "" {
		log.Warn("a message was not taken", "delivery", m.DeliveryCount, "reason", reason)
	}
	if m.DeliveryCount >= b.MaxDeliveries && reason != "" && ctx.Err() == nil {
		log.Error("a message is dead, and kept: it was delivered too often", "deliveries", m.DeliveryCount)
	}
	b.flying.Delete(m.SequenceNumber)
	<-b.slots
	b.wakeUp()
}

// try delivers a message once and records the outcome. It counts the delivery before it makes it, so that a message that kills the
// process counts as well. A delivery that is cut short because the host closes does not count. The reason is empty if the function
// took the message.
func (b *Inbox) try(ctx context.Context, function string, m taskhub.Message) (reason string, err error) {
	if m.DeliveryCount > b.MaxDeliveries { // the process died in the last delivery, or the limit was lowered
		return taskhub.DiedReason, b.Hub.BuryMessage(ctx, m, taskhub.DiedReason)
	}
	if err := b.Hub.BeginDelivery(ctx, m); err != nil {
		return "", err
	}
	failure := b.Deliver(ctx, function, m)
	if failure == nil {
		return "", b.Hub.DeleteMessage(ctx, m)
	}
	reason = failure.Error()
	switch {
	case ctx.Err() != nil, errors.Is(failure, context.Canceled):
		return reason, b.Hub.CancelDelivery(ctx, m)
	case m.DeliveryCount >= b.MaxDeliveries:
		return reason, b.Hub.BuryMessage(ctx, m, reason)
	}
	return reason, b.Hub.DelayMessage(ctx, m, time.Now().Add(redeliveryDelay(m.DeliveryCount)), reason)
}

// watch wakes the inbox when another process has changed the file, because it may have put a dead letter back.
func (b *Inbox) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var last int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		version, err := b.Hub.FileVersion()
		if err == nil && version != last {
			last = version
			b.wakeUp()
		}
	}
}

// Post stores a message from outside. It is on disk when Post returns. The error is a [*SizeError] if the message is too large.
func (b *Inbox) Post(ctx context.Context, function string, m taskhub.Message) error {
	if b.MaxBytes > 0 && len(m.Body) > b.MaxBytes {
		return &SizeError{Size: len(m.Body), Limit: b.MaxBytes}
	}
	return b.Put(ctx, function, m)
}

// Put stores a message that the host itself makes, of any size. It is on disk when Put returns.
func (b *Inbox) Put(ctx context.Context, function string, m taskhub.Message) error {
	err := b.Hub.PutMessage(ctx, function, m.WithDefaults())
	if err == nil {
		b.wakeUp()
	}
	return err
}

// PutBack puts a dead letter back, with another body unless body is nil. The error is a [*SizeError] if the body is too large, or
// [taskhub.ErrNoDeadLetter] if no dead letter has that number.
func (b *Inbox) PutBack(ctx context.Context, number int64, body []byte) error {
	if b.MaxBytes > 0 && len(body) > b.MaxBytes {
		return &SizeError{Size: len(body), Limit: b.MaxBytes}
	}
	err := b.Hub.PutBack(ctx, number, body)
	if err == nil {
		b.wakeUp()
	}
	return err
}

// next takes the oldest message that is due and is not being delivered. If the error is taskhub.ErrNoMessage, due says when the
// next one is due.
func (b *Inbox) next(ctx context.Context) (function string, m taskhub.Message, due time.Time, err error) {
	function, m, due, err = b.Hub.NextMessage(ctx, func(number int64) bool { _, ok := b.flying.Load(number); return ok })
	if err == nil {
		b.flying.Store(m.SequenceNumber, struct{}{})
	}
	return function, m, due, err
}

// wakeUp makes the inbox look for messages.
func (b *Inbox) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// redeliveryDelay grows from a second to a minute.
func redeliveryDelay(delivery int) time.Duration {
	return min(time.Second<<min(delivery-1, 10), time.Minute)
}
