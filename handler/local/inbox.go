package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// inbox delivers the task hub's messages, each until its function takes it, or so often that it becomes a dead letter.
type inbox struct {
	hub           *taskhub.TaskHub
	log           *slog.Logger
	deliver       func(context.Context, string, Message) (Delivery, error)
	maxDeliveries int

	wake    chan struct{} // there may be a message that is due
	slots   chan struct{}
	flying  sync.Map // sequence number → struct{}
	running sync.WaitGroup
}

func newInbox(hub *taskhub.TaskHub, log *slog.Logger, parallel, maxDeliveries int, deliver func(context.Context, string, Message) (Delivery, error)) *inbox {
	return &inbox{hub: hub, log: log, deliver: deliver, maxDeliveries: maxDeliveries, wake: make(chan struct{}, 1), slots: make(chan struct{}, parallel)}
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
		if !errors.Is(err, taskhub.ErrNoMessage) && accepting.Err() == nil {
			b.log.Error("cannot read the messages, trying again", "error", err)
			due = time.Now().Add(time.Second)
		}
		b.sleep(accepting, due)
	}
}

// sleep waits for a message, or until one is due again.
func (b *inbox) sleep(ctx context.Context, due time.Time) {
	if !due.IsZero() {
		timer := time.AfterFunc(time.Until(due), b.wakeUp)
		defer timer.Stop()
	}
	select {
	case <-b.wake:
	case <-ctx.Done():
	}
}

func (b *inbox) attempt(ctx context.Context, function string, m Message) {
	defer b.running.Done()
	log := b.log.With("function", function, "id", m.ID, "number", m.SequenceNumber)
	reason, err := b.try(ctx, function, m)
	if err != nil && !errors.Is(err, taskhub.ErrNotStored) {
		log.Error("cannot record a delivery: the message will come again", "error", err)
		b.sleep(ctx, time.Now().Add(time.Second))
	} else if err == nil && reason != "" {
		log.Warn("a message was not taken", "delivery", m.DeliveryCount, "reason", reason)
	}
	if m.DeliveryCount >= b.maxDeliveries && reason != "" && ctx.Err() == nil {
		log.Error("a message is dead, and kept: it was delivered too often", "deliveries", m.DeliveryCount)
	}
	b.flying.Delete(m.SequenceNumber)
	<-b.slots
	b.wakeUp()
}

// try delivers a message once and records the outcome. The delivery is counted before it is made: a message that
// kills the process counts as well. One that is cut short because the host closes does not. The reason is empty if the
// function took the message.
func (b *inbox) try(ctx context.Context, function string, m Message) (reason string, err error) {
	if m.DeliveryCount > b.maxDeliveries { // the process died in the last one, or the limit was lowered
		return taskhub.DiedReason, b.hub.BuryMessage(ctx, m, taskhub.DiedReason)
	}
	if err := b.hub.BeginDelivery(ctx, m); err != nil {
		return "", err
	}
	_, failure := b.deliver(ctx, function, m)
	if failure == nil {
		return "", b.hub.DeleteMessage(ctx, m)
	}
	reason = failure.Error()
	if refusal := (*InvocationError)(nil); errors.As(failure, &refusal) {
		reason = refusal.Reason
	}
	switch {
	case ctx.Err() != nil, errors.Is(failure, context.Canceled):
		return reason, b.hub.CancelDelivery(ctx, m)
	case m.DeliveryCount >= b.maxDeliveries:
		return reason, b.hub.BuryMessage(ctx, m, reason)
	}
	return reason, b.hub.DelayMessage(ctx, m, time.Now().Add(redeliveryDelay(m.DeliveryCount)), reason)
}

// watch wakes the inbox when another process has changed the file: it may have put a dead letter back.
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
		version, err := b.hub.FileVersion()
		if err == nil && version != last {
			last = version
			b.wakeUp()
		}
	}
}

// Enqueue stores a message for a trigger function: it is on disk when Enqueue returns. It is delivered in the
// background, by this host or by a later one on the same data directory, until the function takes it; after
// MaxDeliveryCount deliveries it is a dead letter: see [DeadLetters]. The error is a [*MessageSizeError] if the message is too
// large.
func (h *Host) Enqueue(ctx context.Context, function string, m Message) error {
	f, ok := h.deliverable(function)
	if !ok {
		return fmt.Errorf("there is no function %s with a message trigger", function)
	}
	if limit := h.maxMessageBytes; limit > 0 && len(m.Body) > limit {
		return &MessageSizeError{Size: len(m.Body), Limit: limit}
	}
	err := h.hub.PutMessage(ctx, f.Name, m.WithDefaults())
	if err == nil {
		h.inbox.wakeUp()
	}
	return err
}

// next takes the oldest message that is due and not being delivered. With taskhub.ErrNoMessage it says when one will be
// due.
func (b *inbox) next(ctx context.Context) (function string, m Message, due time.Time, err error) {
	function, m, due, err = b.hub.NextMessage(ctx, func(number int64) bool { _, ok := b.flying.Load(number); return ok })
	if err == nil {
		b.flying.Store(m.SequenceNumber, struct{}{})
	}
	return function, m, due, err
}

// wakeUp has the inbox look for messages.
func (b *inbox) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// redeliveryDelay grows from a second to a minute.
func redeliveryDelay(delivery int) time.Duration {
	return min(time.Second<<min(delivery-1, 10), time.Minute)
}
