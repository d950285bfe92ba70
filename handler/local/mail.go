package local

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sendgrid/sendgrid-go"

	"example.com/durablefunctions/handler/internal/config"
)

// mailTimeout is how long the real host waits for SendGrid.
const mailTimeout = 100 * time.Second

// baseURLSetting names the app setting with another address than SendGrid's own: the EU's, or a stand-in's.
const baseURLSetting = "SENDGRID_BASE_URL"

// States of a mail.
const (
	mailDone = iota
	mailFailed
	mailPending
)

// outgoing is a mail on its way: its row in the store names it, so that it is one mail however often its turn is run.
type outgoing struct {
	key     []any // instance, execution, turn, number
	to      []string
	subject string
	path    string
}

// sendMail sends a mail through SendGrid if there is a key, else it writes it to a file.
func (h *Host) sendMail(ctx context.Context, from invocation, b config.Binding, content []byte, number int) error {
	m, err := parseMail(content)
	if err != nil {
		return err
	}
	m.key = []any{from.instance, from.execution, from.turn, number}
	done, err := h.reserveMail(ctx, m, from.instance)
	if err != nil || done {
		return err
	}
	setting := b.Property("apiKey")
	if setting == "" {
		setting = "AzureWebJobsSendGridApiKey" // the binding's default
	}
	key := h.settings(setting)
	if key == "" {
		if err := writeFile(m.path, content); err != nil {
			return err
		}
		return h.finishMail(ctx, m, m.path, nil)
	}
	refusal := h.postMail(ctx, key, content)
	switch {
	case refusal == nil:
		return h.finishMail(ctx, m, "", nil)
	case h.ctx.Err() != nil:
		return h.ctx.Err() // not refused: the next host tries again
	}
	kept, _ := json.MarshalIndent(map[string]any{"reason": refusal.Error(), "mail": json.RawMessage(content)}, "", "  ")
	return errors.Join(refusal, writeFile(m.path, kept), h.finishMail(ctx, m, m.path, refusal))
}

// mailHeader is what of a SendGrid v3 mail matters here.
type mailHeader struct {
	From             mailAddress `json:"from"`
	Subject          string      `json:"subject"`
	Personalizations []struct {
		To      []mailAddress `json:"to"`
		Subject string        `json:"subject"`
	} `json:"personalizations"`
}

type mailAddress struct {
	Email string `json:"email"`
}

// parseMail checks a mail as the binding does.
func parseMail(content []byte) (*outgoing, error) {
	var parsed mailHeader
	if err := json.Unmarshal(content, &parsed); err != nil {
		return nil, fmt.Errorf("the output is no SendGrid v3 mail: %w", err)
	}
	m := &outgoing{subject: parsed.Subject}
	for _, p := range parsed.Personalizations {
		for _, to := range p.To {
			if to.Email != "" {
				m.to = append(m.to, to.Email)
			}
		}
		if m.subject == "" {
			m.subject = p.Subject
		}
	}
	switch {
	case len(m.to) == 0:
		return nil, &exception{message: "A 'To' address must be specified for the message."}
	case parsed.From.Email == "":
		return nil, &exception{message: "A 'From' address must be specified for the message."}
	}
	return m, nil
}

// reserveMail gives the mail its row and its file name. It is done if an earlier run of the same turn sent it.
func (h *Host) reserveMail(ctx context.Context, m *outgoing, instance string) (done bool, err error) {
	recipients, _ := json.Marshal(m.to)
	err = h.store.update(ctx, func(t tx) error {
		var state int
		err := t.queryRow("SELECT path, failed FROM mails WHERE instance = ? AND execution = ? AND turn = ? AND number = ?", m.key...).Scan(&m.path, &state)
		if err == nil && state == mailDone {
			done = true
			return nil
		} else if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if m.path == "" {
			if m.path, err = h.freeMailPath(t, instance); err != nil {
				return err
			}
		}
		return t.exec(`INSERT OR REPLACE INTO mails (instance, execution, turn, number, root, recipients, subject, path, failed, reason)
			VALUES (?, ?, ?, ?, COALESCE((SELECT root FROM instances WHERE id = ?), ''), ?, ?, ?, ?, '')`,
			append(m.key, instance, string(recipients), m.subject, m.path, mailPending)...)
	})
	return done, err
}

// freeMailPath is <instance>.json, or with a number if there is such a mail: of this instance, or a file that an earlier
// one of that id left.
func (h *Host) freeMailPath(t tx, instance string) (string, error) {
	name := filepath.Join(h.dataDir, "mails", safeName(instance))
	for n, path := 2, name+".json"; ; n, path = n+1, fmt.Sprintf("%s.%d.json", name, n) {
		var taken bool
		if err := t.queryRow("SELECT EXISTS (SELECT 1 FROM mails WHERE instance = ? AND path = ?)", instance, path).Scan(&taken); err != nil {
			return "", err
		}
		if _, err := os.Lstat(path); !taken && errors.Is(err, os.ErrNotExist) {
			return path, nil
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
}

// finishMail records what became of the mail; path is empty if it was sent.
func (h *Host) finishMail(ctx context.Context, m *outgoing, path string, refusal error) error {
	state, reason := mailDone, ""
	if refusal != nil {
		state, reason = mailFailed, refusal.Error()
	}
	return h.store.update(ctx, func(t tx) error {
		return t.exec("UPDATE mails SET path = ?, failed = ?, reason = ? WHERE instance = ? AND execution = ? AND turn = ? AND number = ?",
			append([]any{path, state, reason}, m.key...)...)
	})
}

// postMail hands the mail to SendGrid as it was given. Its errors never hold the key.
func (h *Host) postMail(ctx context.Context, key string, content []byte) error {
	base := h.settings(baseURLSetting)
	if base == "" {
		base = "https://api.sendgrid.com"
	}
	if err := checkBaseURL(base); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	request := sendgrid.GetRequest(key, "/v3/mail/send", strings.TrimSuffix(base, "/"))
	request.Method = http.MethodPost
	request.Body = content
	response, err := sendgrid.MakeRequestWithContext(ctx, request)
	if err != nil {
		return fmt.Errorf("SendGrid did not answer: %s", strings.ReplaceAll(err.Error(), key, "(key)"))
	}
	if response.StatusCode != http.StatusAccepted {
		reason := strings.ReplaceAll(response.Body, key, "(key)")
		status := fmt.Sprintf("%d %s %s", response.StatusCode, http.StatusText(response.StatusCode), cut(reason, 300))
		return fmt.Errorf("SendGrid refused the mail: %s", strings.TrimSpace(status))
	}
	return nil
}

// checkBaseURL: the key must not cross a network in the clear.
func checkBaseURL(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%s is no web address: use https://…", baseURLSetting)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "https" || u.Hostname() == "localhost" || ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s is not encrypted: use https://…", baseURLSetting)
}

// cut shortens a text to one line of so many bytes.
func cut(text string, size int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > size {
		return strings.ToValidUTF8(text[:size], "") + "…"
	}
	return text
}

// Mails returns the mails of a root instance and of all below it, in the order in which they were sent.
func (h *Host) Mails(ctx context.Context, rootID string) ([]Mail, error) {
	rows, err := h.store.read.QueryContext(ctx, "SELECT root, recipients, subject, path, failed, reason FROM mails WHERE root = ? AND failed <> ? ORDER BY rowid", rootID, mailPending)
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
