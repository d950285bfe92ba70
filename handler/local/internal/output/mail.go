package output

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	netmail "net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sendgrid/rest"
	"github.com/sendgrid/sendgrid-go"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
	"example.com/durablefunctions/internal/text"
)

// mailTimeout is how long the real host waits for SendGrid.
const mailTimeout = 100 * time.Second

// baseURLSetting is the app setting with the address to use instead of SendGrid's own, such as the EU region or a test server.
const baseURLSetting = "SENDGRID_BASE_URL"

// outgoing is what the task hub keeps about a mail.
type outgoing struct {
	to      []string
	subject string
}

// sendMail sends a mail through SendGrid if there is a key. Otherwise it writes the mail to a file.
func (s *Sender) sendMail(ctx context.Context, from Source, b config.Binding, content []byte, number int) error {
	content, err := s.withDefaults(b, content)
	if err != nil {
		return err
	}
	m, err := parseMail(content)
	if err != nil {
		return err
	}
	key := taskhub.MailKey{Instance: from.Instance, Execution: from.Execution, Turn: from.Turn, Number: number}
	path, done, err := s.Hub.ReserveMail(ctx, key, m.to, m.subject, func(taken func(string) (bool, error)) (string, error) {
		return s.freePath(from.Instance, taken)
	})
	if err != nil || done {
		return err
	}
	setting := b.Property("apiKey")
	if setting == "" {
		setting = "AzureWebJobsSendGridApiKey" // the binding's default
	}
	secret := s.Settings(setting)
	if secret == "" {
		if err := writeFile(path, content); err != nil {
			return err
		}
		return s.Hub.FinishMail(ctx, key, path, nil)
	}
	refusal := s.postMail(ctx, secret, content)
	switch {
	case refusal == nil:
		return s.Hub.FinishMail(ctx, key, "", nil)
	case s.Closing.Err() != nil:
		return s.Closing.Err() // the mail is not refused: the next host tries again
	}
	kept, _ := json.MarshalIndent(map[string]any{"reason": refusal.Error(), "mail": json.RawMessage(content)}, "", "  ")
	return errors.Join(refusal, writeFile(path, kept), s.Hub.FinishMail(ctx, key, path, refusal))
}

// withDefaults adds to a mail the parts that it leaves out, from function.json (from, to, subject, text) or host.json (from,
// to), as the binding does. A complete mail stays as it is.
func (s *Sender) withDefaults(b config.Binding, content []byte) ([]byte, error) {
	var has mailHeader
	var mail map[string]json.RawMessage
	if json.Unmarshal(content, &has) != nil || json.Unmarshal(content, &mail) != nil || mail == nil {
		return content, nil // parseMail will say what is wrong
	}
	changed := false
	put := func(name string, value any) {
		text, _ := json.Marshal(value)
		mail[name], changed = text, true
	}
	if from := config.Resolve(b.Property("from"), s.Settings); has.From.Email == "" && from != "" {
		address, err := parseDefault("From", from)
		if err != nil {
			return nil, err
		}
		put("from", address)
	}
	if to := config.Resolve(b.Property("to"), s.Settings); !has.hasRecipient() && to != "" {
		address, err := parseDefault("To", to)
		if err != nil {
			return nil, err
		}
		put("personalizations", []any{map[string]any{"to": []any{address}}})
	}
	if subject := config.Resolve(b.Property("subject"), s.Settings); has.Subject == "" && subject != "" {
		put("subject", subject)
	}
	if text := config.Resolve(b.Property("text"), s.Settings); len(has.Content) == 0 && text != "" {
		put("content", []any{map[string]string{"type": "text/plain", "value": text}})
	}
	if !changed {
		return content, nil
	}
	return json.Marshal(mail)
}

// parseDefault reads an address with or without a name: "Shop <shop@example.com>".
func parseDefault(what, text string) (map[string]string, error) {
	address, err := netmail.ParseAddress(text)
	if err != nil {
		return nil, &funchost.Exception{Message: fmt.Sprintf("Invalid '%s' address specified", what)}
	}
	m := map[string]string{"email": address.Address}
	if address.Name != "" {
		m["name"] = address.Name
	}
	return m, nil
}

func (m mailHeader) hasRecipient() bool {
	for _, p := range m.Personalizations {
		if slices.ContainsFunc(p.To, func(a mailAddress) bool { return a.Email != "" }) {
			return true
		}
	}
	return false
}

// mailHeader is the part of a SendGrid v3 mail that is checked.
type mailHeader struct {
	From             mailAddress `json:"from"`
	Subject          string      `json:"subject"`
	Personalizations []struct {
		To      []mailAddress `json:"to"`
		Subject string        `json:"subject"`
	} `json:"personalizations"`
	Content []json.RawMessage `json:"content"`
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
		return nil, &funchost.Exception{Message: "A 'To' address must be specified for the message."}
	case parsed.From.Email == "":
		return nil, &funchost.Exception{Message: "A 'From' address must be specified for the message."}
	}
	return m, nil
}

// freePath returns <instance>.json, or a name with a number if that is taken by another mail of this instance, or by a file of an
// earlier instance with this id.
func (s *Sender) freePath(instance string, taken func(path string) (bool, error)) (string, error) {
	name := filepath.Join(s.DataDir, "mails", safeName(instance))
	for n, path := 2, name+".json"; ; n, path = n+1, fmt.Sprintf("%s.%d.json", name, n) {
		isTaken, err := taken(path)
		if err != nil {
			return "", err
		}
		if _, err := os.Lstat(path); !isTaken && errors.Is(err, os.ErrNotExist) {
			return path, nil
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
}

// mailClient does not follow a redirect, because it would send the key along.
var mailClient = &rest.Client{HTTPClient: &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}}

// postMail sends the mail to SendGrid unchanged. Its errors never contain the key.
func (s *Sender) postMail(ctx context.Context, key string, content []byte) error {
	base := s.Settings(baseURLSetting)
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
	response, err := mailClient.SendWithContext(ctx, request)
	if err != nil {
		return fmt.Errorf("SendGrid did not answer: %s", strings.ReplaceAll(err.Error(), key, "(key)"))
	}
	if response.StatusCode != http.StatusAccepted {
		reason := strings.ReplaceAll(response.Body, key, "(key)")
		status := fmt.Sprintf("%d %s %s", response.StatusCode, http.StatusText(response.StatusCode), text.Shorten(strings.Join(strings.Fields(reason), " "), 300))
		return fmt.Errorf("SendGrid refused the mail: %s", strings.TrimSpace(status))
	}
	return nil
}

// checkBaseURL refuses an address that would send the key unencrypted over a network.
func checkBaseURL(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%s is not a web address: use https://…", baseURLSetting)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "https" || u.Hostname() == "localhost" || ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s is not encrypted: use https://…", baseURLSetting)
}
