package taskhub

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
)

// MailKey identifies a mail, so that it stays one mail however often its turn runs.
type MailKey struct {
	Instance, Execution string
	Turn                int // number of events before the turn
	Number              int // which of the turn's mails
}

func (k MailKey) columns() []any { return []any{k.Instance, k.Execution, k.Turn, k.Number} }

// Mail is a mail that an instance has sent.
type Mail struct {
	InstanceID string // id of the root instance
	To         []string
	Subject    string
	Path       string // the file that holds it; empty if it was sent
	Failed     bool   // it was refused or could not be handed over
	Reason     string // why it failed
}

// States of a mail.
const (
	mailDone = iota
	mailFailed
	mailPending
)

// ReserveMail gives a mail its row and its file: choose gets the paths that other mails of the instance have, and returns a free
// path. The mail is done if an earlier run of the same turn has sent it.
func (h *TaskHub) ReserveMail(ctx context.Context, key MailKey, to []string, subject string,
	choose func(taken func(path string) (bool, error)) (string, error)) (path string, done bool, err error) {
	recipients, err := json.Marshal(to)
	if err != nil {
		return "", false, err
	}
	err = h.update(ctx, func(t tx) error {
		var state int
		err := t.queryRow("SELECT path, failed FROM mails WHERE instance = ? AND execution = ? AND turn = ? AND number = ?", key.columns()...).Scan(&path, &state)
		if err == nil && state == mailDone {
			done = true
			return nil
		} else if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if path == "" {
			path, err = choose(func(path string) (taken bool, err error) {
				err = t.queryRow("SELECT EXISTS (SELECT 1 FROM mails WHERE instance = ? AND path = ?)", key.Instance, path).Scan(&taken)
				return taken, err
			})
			if err != nil {
				return err
			}
		}
		return t.exec(`INSERT OR REPLACE INTO mails (instance, execution, turn, number, root, recipients, subject, path, failed, reason)
			VALUES (?, ?, ?, ?, COALESCE((SELECT root FROM instances WHERE id = ?), ''), ?, ?, ?, ?, '')`,
			append(key.columns(), key.Instance, string(recipients), subject, path, mailPending)...)
	})
	return path, done, err
}

// FinishMail records that a mail was sent or written to path, or why it was refused.
func (h *TaskHub) FinishMail(ctx context.Context, key MailKey, path string, refusal error) error {
	state, reason := mailDone, ""
	if refusal != nil {
		state, reason = mailFailed, refusal.Error()
	}
	return h.update(ctx, func(t tx) error {
		return t.exec("UPDATE mails SET path = ?, failed = ?, reason = ? WHERE instance = ? AND execution = ? AND turn = ? AND number = ?",
			append([]any{path, state, reason}, key.columns()...)...)
	})
}

// Mails returns the mails of a root instance and of all instances below it, in the order of sending.
func (h *TaskHub) Mails(ctx context.Context, rootID string) ([]Mail, error) {
	rows, err := h.read.QueryContext(ctx, "SELECT root, recipients, subject, path, failed, reason FROM mails WHERE root = ? AND failed <> ? ORDER BY rowid", rootID, mailPending)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var mails []Mail
	for rows.Next() {
		var m Mail
		var recipients string
		if err := rows.Scan(&m.InstanceID, &recipients, &m.Subject, &m.Path, &m.Failed, &m.Reason); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(recipients), &m.To); err != nil {
			return nil, err
		}
		mails = append(mails, m)
	}
	return mails, rows.Err()
}
