package myorchestration

import (
	"fmt"
	"html/template"
	netmail "net/mail"
	"strings"
	"unicode"

	"github.com/microsoft/durabletask-go/task"
	"github.com/sendgrid/sendgrid-go/helpers/mail"

	"example.com/durablefunctions/handler/durable"
)

// mailBinding is the sendGrid output in function.json.
const mailBinding = "mail"

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

// Recipients returns the addresses of a list that has ; or , between them. The error names the one that is none.
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
		to = append(to, address.Address)
	}
	return to, nil
}

// message builds the mail, the JSON that SendGrid's v3 API takes.
func message(a *Alert) *mail.SGMailV3 {
	var html strings.Builder
	if err := body.Execute(&html, a); err != nil {
		panic(err) // the template and its data are ours
	}
	m := mail.NewV3Mail()
	m.SetFrom(mail.NewEmail("", a.From))
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
	m.AddContent(mail.NewContent("text/html", html.String()))
	return m
}

// visible replaces the characters that are not seen, some of which turn the text around them or steer a terminal.
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

var body = template.Must(template.New("mail").Funcs(template.FuncMap{"visible": visible}).Parse(`<p>Bugger, something went wrong.</p>
<p>Orchestration {{.InstanceId}}: {{.Total}} records, {{.Succeeded}} succeeded, {{.Failed}} failed.</p>
<table>
<tr><th>Record</th><th>Error</th></tr>
{{range .Failures}}<tr><td>{{visible .RecordId}}</td><td>{{visible .ErrorMessage}}</td></tr>
{{end}}</table>
{{with .More}}<p>… and {{.}} more.</p>
{{end}}`))
