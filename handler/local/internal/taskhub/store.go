package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schema: a sequence number is never used twice (AUTOINCREMENT), so it identifies one event, task or message for ever.
// The file does not say who works on what: only one process uses the data directory, and the work that it had in hand when it died
// is still in the file.
const schema = `
CREATE TABLE IF NOT EXISTS instances (
	id            TEXT PRIMARY KEY,
	execution     TEXT NOT NULL,    -- another one after a continue-as-new or a new start
	name          TEXT NOT NULL,
	status        INTEGER NOT NULL, -- an api.OrchestrationStatus
	created       INTEGER NOT NULL, -- Unix nanoseconds, as all times here
	updated       INTEGER NOT NULL,
	input         TEXT NOT NULL,
	output        TEXT NOT NULL DEFAULT '',
	custom_status TEXT NOT NULL DEFAULT '',
	parent        TEXT NOT NULL,    -- instance id, '' for a root
	root          TEXT NOT NULL     -- instance id
);
CREATE INDEX IF NOT EXISTS instances_status ON instances (status);
CREATE INDEX IF NOT EXISTS instances_root ON instances (root, updated, status);
CREATE TABLE IF NOT EXISTS history (
	instance TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	payload  BLOB NOT NULL, -- a protobuf HistoryEvent, as everywhere here
	input    TEXT,          -- of an activity, at the event that scheduled it; NULL: it had none, or one larger than maxKeptInput
	started  INTEGER NOT NULL DEFAULT 0, -- of an activity, at the event of its end; 0: not known
	PRIMARY KEY (instance, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events ( -- not yet seen by their orchestration
	seq       INTEGER PRIMARY KEY AUTOINCREMENT,
	instance  TEXT NOT NULL,
	execution TEXT NOT NULL, -- the one that asked for it: results and timers; '' for what comes from outside
	visible   INTEGER NOT NULL, -- due time, 0: at once
	payload   BLOB NOT NULL,
	started   INTEGER NOT NULL DEFAULT 0 -- as in history
);
CREATE INDEX IF NOT EXISTS events_instance ON events (instance, seq);
CREATE INDEX IF NOT EXISTS events_visible ON events (visible) WHERE visible > 0;
CREATE TABLE IF NOT EXISTS put_off ( -- events whose turn the handler has refused
	event INTEGER PRIMARY KEY, -- sequence number
	times INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS tasks ( -- activities that have not ended
	seq       INTEGER PRIMARY KEY AUTOINCREMENT,
	instance  TEXT NOT NULL,
	execution TEXT NOT NULL,
	payload   BLOB NOT NULL,
	running   INTEGER NOT NULL DEFAULT 0, -- 1: given out by the process that has the file, or by the one that died with it
	deaths    INTEGER NOT NULL DEFAULT 0  -- processes that died meanwhile
);
CREATE TABLE IF NOT EXISTS messages ( -- the inbox of the trigger functions
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	function   TEXT NOT NULL,
	id         TEXT NOT NULL,
	body       BLOB NOT NULL,
	enqueued   INTEGER NOT NULL,
	deliveries INTEGER NOT NULL DEFAULT 0,
	due        INTEGER NOT NULL DEFAULT 0, -- of a dead one the time of its last delivery
	dead       INTEGER NOT NULL DEFAULT 0, -- 1: delivered too often
	reason     TEXT NOT NULL DEFAULT ''    -- why the last delivery failed
);
CREATE INDEX IF NOT EXISTS messages_due ON messages (dead, due, seq);
CREATE TABLE IF NOT EXISTS mails (
	instance   TEXT NOT NULL,
	execution  TEXT NOT NULL,
	turn       INTEGER NOT NULL, -- events before it
	number     INTEGER NOT NULL, -- of the turn's mails
	root       TEXT NOT NULL,
	recipients TEXT NOT NULL, -- a JSON array
	subject    TEXT NOT NULL,
	path       TEXT NOT NULL,
	failed     INTEGER NOT NULL,
	reason     TEXT NOT NULL,
	PRIMARY KEY (instance, execution, turn, number)
);
CREATE INDEX IF NOT EXISTS mails_root ON mails (root);
`

// fileName is the file's name in the data directory.
const fileName = "taskhub.db"

// store is the SQLite file with everything that outlives the process. In WAL mode with normal synchronisation a killed
// process loses nothing. A power cut can lose the last moments, but never the file and never an accepted message.
type store struct {
	path  string
	write *sql.DB // one connection: SQLite has one writer
	read  *sql.DB
}

func openStore(ctx context.Context, path string) (*store, error) {
	// SQLite gives its files beside this one the same mode.
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600); err == nil {
		f.Close()
	}
	dsn := dataSource(path)
	write, err := openDB(dsn + "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := createSchema(ctx, path, write); err != nil {
		write.Close()
		return nil, explain(path, err)
	}
	read, err := openDB(dsn + "&_pragma=query_only(1)")
	if err != nil {
		write.Close()
		return nil, err
	}
	read.SetMaxOpenConns(4)
	return &store{path: path, write: write, read: read}, nil
}

// isFileError reports whether the file is the problem and not the work: it is locked, full or broken.
func isFileError(err error) bool {
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch failure.Code() & 0xff { // the low byte is the code without its extension
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	}
	return false
}

// explain adds the file's name to an SQLite error, and says what to do about it.
func explain(path string, err error) error {
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	hint := "make it writable"
	switch failure.Code() & 0xff { // the low byte is the code without its extension
	case sqlite3.SQLITE_BUSY:
		hint = "another program keeps it locked: end that"
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		hint = "make room on the disk"
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		hint = "restore it, or move it away to start anew"
	}
	return fmt.Errorf("%s: %w: %s", path, err, hint)
}

// schemaVersion is kept in the file, so that another version of the program never misreads it.
const schemaVersion = 3

// migrations hold, for each older version, what brings a file to the next version.
var migrations = map[int]string{
	1: "ALTER TABLE tasks ADD COLUMN running INTEGER NOT NULL DEFAULT 0; ALTER TABLE tasks ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0",
	2: `ALTER TABLE history ADD COLUMN input TEXT; ALTER TABLE history ADD COLUMN started INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE events ADD COLUMN started INTEGER NOT NULL DEFAULT 0; DROP TABLE IF EXISTS runs`,
}

func createSchema(ctx context.Context, path string, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil) // immediate: a file that cannot be written fails already here
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > schemaVersion {
		return fmt.Errorf("%s has version %d, this program needs %d: move it away to start anew", path, version, schemaVersion)
	}
	for ; version > 0 && version < schemaVersion; version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, schema+entitySchema+deathsSchema); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// dataSource returns the file as a URI, which can express any path, with the settings for every connection.
func dataSource(path string) string {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/…
	}
	uri := url.URL{Scheme: "file", Path: slashed}
	return uri.String() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
}

func (s *store) close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// update runs f in a transaction. A cancelled context does not interrupt it, because work that was done is worth keeping.
func (s *store) update(ctx context.Context, f func(tx) error) error {
	ctx = context.WithoutCancel(ctx)
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return explain(s.path, err)
	}
	return explain(s.path, finish(tx{ctx, t}, f))
}

// updateSynced is update, but returns only when not even a power cut can undo the change.
func (s *store) updateSynced(ctx context.Context, f func(tx) error) error {
	ctx = context.WithoutCancel(ctx)
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return explain(s.path, err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return explain(s.path, err)
	}
	defer conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL")
	t, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return explain(s.path, err)
	}
	return explain(s.path, finish(tx{ctx, t}, f))
}

func finish(t tx, f func(tx) error) error {
	defer t.Rollback()
	if err := f(t); err != nil {
		return err
	}
	return t.Commit()
}

// tx is a transaction with its context.
type tx struct {
	ctx context.Context
	*sql.Tx
}

func (t tx) exec(query string, args ...any) error {
	_, err := t.ExecContext(t.ctx, query, args...)
	return err
}

// execCount returns how many rows were changed.
func (t tx) execCount(query string, args ...any) (int64, error) {
	result, err := t.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t tx) queryRow(query string, args ...any) *sql.Row {
	return t.QueryRowContext(t.ctx, query, args...)
}
