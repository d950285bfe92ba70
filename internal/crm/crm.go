// Package crm is the record store: which records a batch holds, and the processing of one record.
//
// [Open] chooses a store by the app's settings: a CRM behind REST when CRM_BASE_URL is set ([REST]), else a SQLite file
// with a sample of made-up customers ([SQLite]). To connect another system, implement [Store]: three methods.
//
//	store, err := crm.Open(os.Getenv, filepath.Join(dataDir, "crm.db"))
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	ids, err := store.Records(ctx, "2026-11")
//	if err != nil {
//		return err
//	}
//	for _, id := range ids {
//		err := store.Process(ctx, jobID, id)
//		if down, ok := errors.AsType[*crm.UnavailableError](err); ok {
//			return down // the store cannot do it now: try again later
//		} else if err != nil {
//			log.Print(err) // this record failed, the rest go on
//		}
//	}
package crm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"example.com/durablefunctions/internal/text"
)

// Store is what the functions need of a CRM; implement it to connect another system. Its methods are called by many
// goroutines at once.
type Store interface {
	// Records returns the ids of a batch in a stable order. If there is no such batch, the error wraps [ErrNoBatch] and names the
	// batch. It is an [*UnavailableError] if the store cannot answer now.
	Records(ctx context.Context, batch string) ([]string, error)

	// Process validates, normalises and stamps one record, once per job. A second call with the same record and job, even at the
	// same time, changes nothing and returns the same outcome.
	//
	// An [*UnavailableError] says that the store cannot do it now: it is down, overloaded, locked, or its disk is full. The
	// same call comes again later, for ten minutes and more. Any other error is this record's failure, and goes into the
	// result at once.
	Process(ctx context.Context, jobID, recordID string) error

	// Close releases what the store holds.
	Close() error
}

// ErrNoBatch is wrapped by the error of [Store.Records] for a batch that the store does not know.
var ErrNoBatch = errors.New("no such batch")

// UnavailableError says that the store cannot be reached, or cannot serve now. Nothing is wrong with the record.
type UnavailableError struct {
	Err error // what happened, and where
}

func (e *UnavailableError) Error() string { return e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// unavailable wraps err in an [*UnavailableError].
func unavailable(err error) error { return &UnavailableError{err} }

// RecordError says why one record could not be processed. Processing it again in the same job does not help.
type RecordError struct {
	RecordID string
	Reason   string // a predicate, such as "is not in the store"
}

// Error returns the id and the reason as one line.
func (e *RecordError) Error() string {
	return "record " + oneLine(e.RecordID, 100) + " " + e.Reason
}

// Open returns the store that the settings name. With CRM_BASE_URL that is [REST] at this URL, with CRM_TOKEN as the bearer token
// and CRM_TIMEOUT for each attempt. Otherwise it is [SQLite] in the file CRM_DATABASE, or in defaultPath. getenv is [os.Getenv] or
// a function of a test.
func Open(getenv func(string) string, defaultPath string) (Store, error) {
	if base := strings.TrimSpace(getenv("CRM_BASE_URL")); base != "" {
		token := getenv("CRM_TOKEN")
		timeout, err := readTimeout(getenv("CRM_TIMEOUT"))
		if err != nil {
			return nil, err
		}
		store, err := NewREST(base, token, timeout)
		if err != nil {
			return nil, fmt.Errorf("settings CRM_BASE_URL and CRM_TOKEN: %w", err)
		}
		return store, nil
	}
	path := getenv("CRM_DATABASE")
	if path == "" {
		path = defaultPath
	}
	store, err := OpenSQLite(path)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// readTimeout reads CRM_TIMEOUT; 0 if it is not set.
func readTimeout(setting string) (time.Duration, error) {
	if setting == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(setting)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("setting CRM_TIMEOUT is %q: it must be a duration above 0, such as 30s", setting)
	}
	return d, nil
}

// oneLine makes text from outside fit for an error: one line, no control characters, at most limit characters.
func oneLine(s string, limit int) string {
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	return text.Shorten(strings.Join(strings.Fields(printable), " "), limit)
}
