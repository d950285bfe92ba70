package crm

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schemaVersion is kept in the file as its user_version; 0 is a new file.
const schemaVersion = 1

// schema: a row of processings is written in the transaction that changes the customer, so that both happen or
// neither. The rows stay: a job may be repeated at any time.
const schema = `
CREATE TABLE customers (
	id               TEXT PRIMARY KEY,
	batch            TEXT NOT NULL,
	name             TEXT NOT NULL,
	email            TEXT NOT NULL,
	normalized_name  TEXT,                       -- these two: NULL until processed
	normalized_email TEXT,
	processed_by     TEXT,                       -- the last job
	processed_at     TEXT,                       -- RFC 3339, UTC
	processed_count  INTEGER NOT NULL DEFAULT 0  -- jobs that processed it with success
) WITHOUT ROWID;
CREATE INDEX customers_by_batch ON customers (batch, id);
CREATE TABLE processings (
	job_id       TEXT NOT NULL,
	record_id    TEXT NOT NULL,
	reason       TEXT NOT NULL,                  -- why it failed; empty: it did not
	processed_at TEXT NOT NULL,
	PRIMARY KEY (job_id, record_id)
) WITHOUT ROWID;
`

// A call that finds the file locked by another process asks again after lockPoll, for lockTimeout or until its context ends.
const (
	lockTimeout = 30 * time.Second
	lockPoll    = 10 * time.Millisecond
)

// SQLite is a [Store] in one SQLite file. Many goroutines and several processes may use the same file at once.
//
// A new file starts with a sample of made-up customers in the batches 2026-10 (all valid) and 2026-11 (a few with
// malformed e-mail addresses).
type SQLite struct {
	path string

	mu     sync.Mutex
	db     *database // nil before the first use
	closed bool
}

// database is an open file: its prepared statements and its one connection, because SQLite has one writer at a time.
type database struct {
	*sql.DB
	outcome, contact, stamp, keep *sql.Stmt
	queue                         queue
}

// OpenSQLite returns the store in the file at path. The file, and its directory, are opened or created on first use.
func OpenSQLite(path string) (*SQLite, error) {
	if path == "" {
		return nil, errors.New("record store: no database file is named; set CRM_DATABASE")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("record store: database %s: %w", path, err)
	}
	return &SQLite{path: abs}, nil
}

// Records returns the ids of a batch, sorted as text.
func (s *SQLite) Records(ctx context.Context, batch string) (ids []string, err error) {
	err = s.do(ctx, func(db *database) (err error) {
		ids, err = db.records(ctx, batch)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("batch %q: %w", oneLine(batch, 100), ErrNoBatch)
	}
	return ids, nil
}

func (db *database) records(ctx context.Context, batch string) ([]string, error) {
	rows, err := db.QueryContext(ctx, `SELECT id FROM customers WHERE batch = ? ORDER BY id`, batch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Process implements [Store]: it normalises the customer's name and e-mail address, and stamps the customer with the
// job and the time. A failed customer is left as it was.
func (s *SQLite) Process(ctx context.Context, jobID, recordID string) error {
	if jobID == "" {
		return errors.New("record store: the job id is empty")
	}
	var reason string
	err := s.do(ctx, func(db *database) (err error) {
		reason, err = db.process(ctx, jobID, recordID)
		return err
	})
	if err != nil {
		return err
	}
	if reason != "" {
		return &RecordError{RecordID: recordID, Reason: reason}
	}
	return nil
}

// Import reads customers from CSV and returns how many lines it read. The first line names the columns RecordId, Batch,
// Name and Email, in any case and order; other columns are ignored. Neither RecordId nor Batch may be empty; e-mail
// addresses are not checked. A known id is updated. Either all lines are imported or none; a file over 256 MiB is
// refused.
func (s *SQLite) Import(ctx context.Context, r io.Reader) (n int, err error) {
	customers, err := readCustomers(r, maxImport)
	if err != nil {
		return 0, fmt.Errorf("import: %w", err)
	}
	err = s.do(ctx, func(db *database) error {
		return db.transact(ctx, func(tx *sql.Tx) error { return upsert(ctx, tx, customers) })
	})
	if err != nil {
		return 0, err
	}
	return len(customers), nil
}

// upsert keeps the stamp of a known customer, but not what was made of the old name and address.
func upsert(ctx context.Context, tx *sql.Tx, customers []customer) error {
	stmt, err := tx.PrepareContext(ctx, `
		INSERT INTO customers (id, batch, name, email) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, name = excluded.name, email = excluded.email,
			normalized_name = NULL, normalized_email = NULL`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, c := range customers {
		if _, err := stmt.ExecContext(ctx, c.id, c.batch, c.name, c.email); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file. The store cannot be used afterwards.
func (s *SQLite) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return db.Close()
}

// do works on the file. If another process has locked it, each call waits on its own. SQLite would wait in the only connection, so
// that the calls waited one after the other.
func (s *SQLite) do(ctx context.Context, work func(*database) error) error {
	giveUp := time.Now().Add(lockTimeout)
	var locked error
	for {
		db, err := s.use(ctx)
		if err == nil {
			err = work(db)
		}
		switch {
		case err == nil:
			return nil
		case primaryCode(err) == sqlite3.SQLITE_BUSY:
			locked = err
		case locked != nil && ctx.Err() != nil: // the lock explains more than the end of the time
			return s.explain(locked)
		default:
			return s.explain(err)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return s.explain(locked)
		}
		if time.Now().After(giveUp) {
			return s.explain(locked)
		}
	}
}

// use opens the file on the first call; after an error, the next call tries again.
func (s *SQLite) use(ctx context.Context) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the store is closed")
	}
	if s.db == nil {
		db, err := openDatabase(ctx, s.path)
		if err != nil {
			return nil, err
		}
		s.db = db
	}
	return s.db, nil
}

func openDatabase(ctx context.Context, path string) (_ *database, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// The files beside it get its mode, too.
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600); err == nil {
		f.Close()
	}
	conn, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	conn.SetMaxOpenConns(1)
	db := &database{DB: conn, queue: queue{turn: make(chan struct{}, 1)}}
	if _, err := db.ExecContext(ctx, `PRAGMA journal_mode = WAL`); err != nil { // readers and the writer are independent
		return nil, err
	}
	if err := db.transact(ctx, func(tx *sql.Tx) error { return initialize(ctx, tx) }); err != nil {
		return nil, err
	}
	return db, db.prepare(ctx)
}

// dataSource returns a URI, because a plain file name must not have a question mark. A commit is on the disk (synchronous): the
// caller stores the result elsewhere, and after a power cut there must be no result whose record is missing here.
func dataSource(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	query := url.Values{
		"_pragma":   {"busy_timeout(0)", "synchronous(FULL)"},
		"_txlock":   {"immediate"}, // a transaction that begins as a reader cannot wait to become the writer
		"_error_rc": {"1"},
	}
	uri := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return uri.String()
}

// initialize makes the tables of a new file and fills them with the sample, once.
func initialize(ctx context.Context, tx *sql.Tx) error {
	var version int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	switch version {
	case schemaVersion:
		return nil
	case 0:
	default:
		return fmt.Errorf("its schema has version %d, this program knows version %d; use the program that made it, or another file",
			version, schemaVersion)
	}
	customers, err := readCustomers(bytes.NewReader(sample), maxImport)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	if err := upsert(ctx, tx, customers); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion))
	return err
}

func (db *database) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&db.outcome, `SELECT reason FROM processings WHERE job_id = ? AND record_id = ?`},
		{&db.contact, `SELECT name, email FROM customers WHERE id = ?`},
		{&db.stamp, `UPDATE customers SET normalized_name = ?, normalized_email = ?, processed_by = ?, processed_at = ?,
			processed_count = processed_count + 1 WHERE id = ?`},
		{&db.keep, `INSERT INTO processings (job_id, record_id, reason, processed_at) VALUES (?, ?, ?, ?)`},
	} {
		stmt, err := db.PrepareContext(ctx, p.text)
		if err != nil {
			return err
		}
		*p.stmt = stmt
	}
	return nil
}

// transact does work in one transaction, as the only writer of the file.
func (db *database) transact(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// explain names the file in err, and what to do where that is known.
func (s *SQLite) explain(err error) error {
	hint := ""
	_, noDirectory := errors.AsType[*fs.PathError](err)
	switch code := primaryCode(err); {
	case noDirectory, code == sqlite3.SQLITE_CANTOPEN, code == sqlite3.SQLITE_READONLY, code == sqlite3.SQLITE_PERM:
		hint = "; make the file and its directory writable, or set CRM_DATABASE to another file"
	case code == sqlite3.SQLITE_NOTADB, code == sqlite3.SQLITE_CORRUPT:
		hint = "; restore the file, move it away, or set CRM_DATABASE to another"
	case code == sqlite3.SQLITE_BUSY:
		hint = "; another process keeps it locked"
	case code == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR: // the second where a file may not grow
		hint = "; make room on the disk"
	}
	explained := fmt.Errorf("record store: database %s: %w%s", s.path, err, hint)
	if noDirectory || primaryCode(err) != 0 {
		return unavailable(explained)
	}
	return explained
}

// primaryCode is SQLite's result code without its extension, 0 for an error that is not SQLite's.
func primaryCode(err error) int {
	if failure, ok := errors.AsType[*sqlite.Error](err); ok {
		return failure.Code() & 0xff
	}
	return 0
}
