package myorchestration

import (
	"embed"
	"fmt"
	html "html/template"
	"io"
	netmail "net/mail"
	"slices"
	"strings"
	text "text/template"
	"unicode"

	"github.com/microsoft/durabletask-go/task"
	"github.com/sendgrid/sendgrid-go/helpers/mail"

	"example.com/durablefunctions/handler/durable"
)

// mailBinding is the sendGrid output in function.json.
const mailBinding = "mail"

// The texts of the mail, for programs that show HTML and for those that do not. Replace them as you like; their data is an
// Alert.
//
//go:embed mail.html.tmpl mail.txt.tmpl
var templates embed.FS

var (
	htmlBody = html.Must(html.New("mail.html.tmpl").Funcs(html.FuncMap{"visible": visible}).ParseFS(templates, "mail.html.tmpl"))
	textBody = text.Must(text.New("mail.txt.tmpl").Funcs(text.FuncMap{"line": line}).ParseFS(templates, "mail.txt.tmpl"))
)

// maxMailed is how many failed records a mail lists.
const maxMailed = 100

// Alert is what a mail says, and to whom.
type Alert struct {
	To, From                 string
	InstanceId               string
	Total, Succeeded, Failed int
	Failures                 []Failure // the first of them
}

// alert mails the failures and returns MailSent, MailFailed or MailNone.
func alert(ctx *task.OrchestrationContext, in Input, out *Output) string {
	log := durable.ReplayLog(ctx)
	if in.AlertEmailTo == "" {
		log.Error("no mail is sent: the setting AlertEmailTo was empty when the orchestration was started")
		return MailNone
	}
	if in.NoSendGridKey {
		log.Error("no mail is sent: the setting SendGridKey was empty when the orchestration was started")
		return MailNone
	}
	a := &Alert{
		To: in.AlertEmailTo, From: in.AlertEmailFrom,
		InstanceId: string(ctx.ID),
		Total:      out.Total, Succeeded: out.Succeeded, Failed: out.Failed,
		Failures: out.Failures[:min(maxMailed, len(out.Failures))],
	}
	_, err := Name.Call(ctx, part{Alert: a}, durable.WithRetry(durable.RetryPolicy{
		Attempts:      in.MailAttempts,
		FirstInterval: seconds(in.MailRetryIntervalSeconds),
		Backoff:       2,
	})).Await()
	if err != nil {
		log.Error("the mail could not be sent", "attempts", in.MailAttempts, "error", err.Error())
		return MailFailed
	}
	return MailSent
}

// Recipients returns the addresses of a list that has ; or , between them, each once: SendGrid refuses a mail that names one
// twice. The error names the part that is not an address.
func Recipients(list string) ([]string, error) {
	var to []string
	for part := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ';' || r == ',' }) {
		if strings.TrimSpace(part) == "" {
			continue
		}
		address, err := netmail.ParseAddress(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not an e-mail address: write ops@example.com, and a ; between several", strings.TrimSpace(part))
		}
		if !slices.ContainsFunc(to, func(known string) bool { return strings.EqualFold(known, address.Address) }) {
			to = append(to, address.Address)
		}
	}
	return to, nil
}

// message builds the mail, the JSON that SendGrid's v3 API takes.
func message(a *Alert) *mail.SGMailV3 {
	m := mail.NewV3Mail()
	m.SetFrom(sender(a.From))
	m.Subject = "MyOrchestration Failure"
	p := mail.NewPersonalization()
	to, err := Recipients(a.To)
	if err != nil {
		to = []string{a.To} // of an input that nobody checked: SendGrid will say what it thinks of it
	}
	for _, address := range to {
		p.AddTos(mail.NewEmail("", address))
	}
	m.AddPersonalizations(p)
	m.AddContent(mail.NewContent("text/plain", execute(textBody, a)), mail.NewContent("text/html", execute(htmlBody, a)))
	return m
}

// sender is the address of the setting, which may have a name before it: "Alerts <alerts@example.com>".
func sender(from string) *mail.Email {
	if address, err := netmail.ParseAddress(from); err == nil {
		return mail.NewEmail(address.Name, address.Address)
	}
	return mail.NewEmail("", from)
}

// execute fills in a template. A template that uses a field which an Alert does not have panics; that fails the mail only.
func execute(t interface{ Execute(io.Writer, any) error }, a *Alert) string {
	var b strings.Builder
	if err := t.Execute(&b, a); err != nil {
		panic(err)
	}
	return b.String()
}

// line is visible text on one line.
func line(text string) string { return strings.Join(strings.Fields(visible(text)), " ") }

// visible replaces the characters that nobody sees. Some of them reverse the text around them, or control a terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// More is how many failed records the mail does not list.
func (a *Alert) More() int { return a.Failed - len(a.Failures) }
