package crm

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// queue holds the calls of Process that wait for the next transaction. At the end of a transaction the disk confirms that it is
// written, which takes as long for many records as for one. So one call at a time processes the records of all that wait.
type queue struct {
	turn chan struct{} // holds a value while somebody processes

	mu      sync.Mutex
	waiting []*processing
}

// processing is one call.
type processing struct {
	jobID, recordID string

	done   chan struct{} // closed when there is a result:
	reason string        // why the record failed, empty when it did not
	err    error         // the store's
}

func (q *queue) add(p *processing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, p)
}

func (q *queue) take() []*processing {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting = nil
	return taken
}

// process processes a record, together with others that wait, and returns why the record failed, empty when it did not.
func (db *database) process(ctx context.Context, jobID, recordID string) (reason string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	p := &processing{jobID: jobID, recordID: recordID, done: make(chan struct{})}
	db.queue.add(p)
	select {
	case db.queue.turn <- struct{}{}:
		db.processAll(context.WithoutCancel(ctx), db.queue.take()) // the others must not end with this context
		<-db.queue.turn
	case <-p.done:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	<-p.done // by this call, or by the one that had the turn before
	return p.reason, p.err
}

// processAll processes records in one transaction, or each in its own if one of them spoils that.
func (db *database) processAll(ctx context.Context, all []*processing) {
	err := db.transact(ctx, func(tx *sql.Tx) error {
		for _, p := range all {
			if err := db.processOne(ctx, tx, p); err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range all {
		p.err = err
		if err != nil && len(all) > 1 && primaryCode(err) != sqlite3.SQLITE_BUSY {
			p.err = db.transact(ctx, func(tx *sql.Tx) error { return db.processOne(ctx, tx, p) })
		}
		close(p.done)
	}
}

func (db *database) processOne(ctx context.Context, tx *sql.Tx, p *processing) error {
	err := tx.StmtContext(ctx, db.outcome).QueryRowContext(ctx, p.jobID, p.recordID).Scan(&p.reason)
	if !errors.Is(err, sql.ErrNoRows) {
		return err // nil: processed before
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	var name, email string
	err = tx.StmtContext(ctx, db.contact).QueryRowContext(ctx, p.recordID).Scan(&name, &email)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		p.reason = "is not in the store"
	case err != nil:
		return err
	default:
		normalized, invalid := normalizeEmail(email)
		if invalid != nil {
			p.reason = invalid.Error()
			break
		}
		if _, err := tx.StmtContext(ctx, db.stamp).ExecContext(ctx, normalizeName(name), normalized, p.jobID, now, p.recordID); err != nil {
			return err
		}
	}
	_, err = tx.StmtContext(ctx, db.keep).ExecContext(ctx, p.jobID, p.recordID, p.reason, now)
	return err
}
