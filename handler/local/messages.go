package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Message is a queue message for a trigger function. An empty ID becomes a random one, a zero DeliveryCount 1, a zero
// EnqueuedAt now, a zero SequenceNumber 1; Enqueue gives the next sequence number.
type Message = taskhub.Message

// DeadLetter is a message that its function did not take in MaxDeliveryCount deliveries. It is kept until it is put
// back.
type DeadLetter = taskhub.DeadLetter

// DeadLetters returns the dead letters in a data directory, oldest first. A host may be running on the directory.
func DeadLetters(ctx context.Context, dataDir string) ([]DeadLetter, error) {
	return taskhub.DeadLetters(ctx, dataDir)
}

// WaitingMessage is a message that no function has taken yet.
type WaitingMessage = taskhub.WaitingMessage

// WaitingMessages returns the messages in a data directory that wait for their function. A host may be running on the directory.
func WaitingMessages(ctx context.Context, dataDir string) ([]WaitingMessage, error) {
	return taskhub.Waiting(ctx, dataDir)
}

// Resubmit puts dead letters back, all or none of them, and counts their deliveries from 0. A host that runs on the data directory
// delivers them within seconds; otherwise the next one does.
func Resubmit(ctx context.Context, dataDir string, sequenceNumbers ...int64) error {
	return taskhub.Resubmit(ctx, dataDir, sequenceNumbers...)
}

// Enqueue stores a message for a trigger function. It is on disk when Enqueue returns. This host, or a later one on the same data
// directory, delivers it in the background until the function takes it. After MaxDeliveryCount deliveries it is a dead letter, see
// [DeadLetters]. The error is a [*MessageSizeError] if the message is too large.
func (h *Host) Enqueue(ctx context.Context, function string, m Message) error {
	f, ok := h.deliverable(function)
	if !ok {
		return fmt.Errorf("there is no function %s with a message trigger", function)
	}
	return h.inbox.Post(ctx, f.Name, m)
}

// Delivery is what a delivered message did.
type Delivery struct {
	Instances []string // ids of the orchestrations that the function started, or tried to start and found
}

// Deliver delivers a message to a trigger function once and waits for the answer. The error is an [*InvocationError] if the
// invocation failed; even then it may have started instances.
func (h *Host) Deliver(ctx context.Context, function string, m Message) (Delivery, error) {
	f, ok := h.deliverable(function)
	if !ok {
		return Delivery{}, &InvocationError{Function: function, Status: http.StatusNotFound, Reason: "there is no such function with a message trigger"}
	}
	m = m.WithDefaults()
	_, started, err := h.invoker.Run(ctx, f, func(try funchost.Try, client funchost.Client) []byte {
		return funchost.MessageRequest(f, try, funchost.Message(m), client)
	})
	if e := (*funchost.Exception)(nil); errors.As(err, &e) {
		err = &InvocationError{Function: f.Name, Status: e.Status, Reason: e.OwnWords()}
	}
	return Delivery{Instances: started}, err
}

// deliverWaiting delivers a message of the inbox.
func (h *Host) deliverWaiting(ctx context.Context, function string, m Message) error {
	_, err := h.Deliver(ctx, function, m)
	if refusal := (*InvocationError)(nil); errors.As(err, &refusal) {
		return errors.New(refusal.Reason)
	}
	return err
}

// deliverable finds a function that a message can be delivered to: one with any trigger except the durable ones.
func (h *Host) deliverable(name string) (config.Function, bool) {
	f, ok := h.app.Function(name)
	return f, ok && !funchost.IsDurableTrigger(f.Trigger())
}
