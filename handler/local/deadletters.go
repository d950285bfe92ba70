package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// DeadLetter is a message that its function did not take in MaxDeliveryCount deliveries. It is kept until it is put
// back.
type DeadLetter struct {
	Message  // SequenceNumber names it in its data directory
	Function string
	DiedAt   time.Time // its last delivery
	Reason   string    // why that failed
}

// DeadLetters returns the dead letters in a data directory, oldest first. A host may be running on the directory.
func DeadLetters(ctx context.Context, dataDir string) ([]DeadLetter, error) {
	s, err := openBeside(ctx, dataDir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rows, err := s.read.QueryContext(ctx, "SELECT seq, function, id, body, enqueued, deliveries, due, reason FROM messages WHERE dead = 1 ORDER BY due, seq")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var letters []DeadLetter
	for rows.Next() {
		var l DeadLetter
		var enqueued, died int64
		if err := rows.Scan(&l.SequenceNumber, &l.Function, &l.ID, &l.Body, &enqueued, &l.DeliveryCount, &died, &l.Reason); err != nil {
			return nil, err
		}
		l.EnqueuedAt, l.DiedAt = fromNanos(enqueued), fromNanos(died)
		letters = append(letters, l)
	}
	return letters, rows.Err()
}

// Resubmit puts dead letters back, all or none, their deliveries counted anew. A host that is running on the data
// directory delivers them within seconds, else the next one does.
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

// openBeside opens the store of a data directory that another process may hold. It makes none.
func openBeside(ctx context.Context, dataDir string) (*store, error) {
	path, err := filepath.Abs(filepath.Join(dataDir, storeFile))
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
