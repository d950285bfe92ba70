package local

import (
	"context"

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

// Resubmit puts dead letters back, all or none, their deliveries counted anew. A host that is running on the data
// directory delivers them within seconds, else the next one does.
func Resubmit(ctx context.Context, dataDir string, sequenceNumbers ...int64) error {
	return taskhub.Resubmit(ctx, dataDir, sequenceNumbers...)
}
