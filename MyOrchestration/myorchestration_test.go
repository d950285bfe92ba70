package myorchestration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/sendgrid/sendgrid-go/helpers/mail"

	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
	"example.com/durablefunctions/handler/payload"
)

// newEnv fakes ProcessActivity: records whose id starts with "bad" fail.
func newEnv(t *testing.T) *durabletest.Env {
	env := durabletest.New(t)
	env.Orchestrator(string(Name), durable.Orchestrator(Run))
	env.Activity(string(processactivity.Name), durable.Activity(func(_ context.Context, in processactivity.Input) (processactivity.Result, error) {
		switch {
		case in.JobId != durabletest.RootID:
			return processactivity.Result{}, fmt.Errorf("job %q", in.JobId)
		case strings.HasPrefix(in.RecordId, "bad"):
			return processactivity.Result{ErrorMessage: "<b>" + in.RecordId + "</b>"}, nil
		case in.RecordId == "error":
			return processactivity.Result{}, errors.New(strings.Repeat("é", 600))
		}
		return processactivity.Result{Success: true}, nil
	}))
	return env
}

func run(t *testing.T, env *durabletest.Env, in Input) (*durabletest.Result, Output) {
	t.Helper()
	compressed, err := in.Compress()
	if err != nil {
		t.Fatal(err)
	}
	r := env.Run(durable.Orchestrator(Run), compressed)
	var out Output
	if r.Status != api.RUNTIME_STATUS_COMPLETED || json.Unmarshal([]byte(r.Output), &out) != nil {
		t.Fatalf("%s %s %s", r.Status, r.Output, r.Failure)
	}
	return r, out
}

func TestAllSucceed(t *testing.T) {
	t.Parallel()
	r, _ := run(t, newEnv(t), Input{RecordIds: []string{"a", "b"}, AlertEmailTo: "ops@example.com"})
	if r.Output != `{"Total":2,"Succeeded":2,"Failed":0,"Failures":[],"Mail":"none"}` || len(r.Outputs) != 0 || strings.Contains(r.Logs, "ERROR") {
		t.Errorf("%+v", r)
	}
}

// An orchestration logs a line when it starts and one when it ends, once each however many turns it has; so do its parts.
func TestStartAndEndAreLogged(t *testing.T) {
	t.Parallel()
	env := newEnv(t)
	env.Lose(string(processactivity.Name), 1) // so that it takes some time
	r, _ := run(t, env, Input{RecordIds: []string{"a", "b", "bad"}, BatchSize: 2, RetryIntervalSeconds: 1})
	for line, want := range map[string]int{
		`msg="MyOrchestration has started."`:                                   3,
		`msg="MyOrchestration has ended."`:                                     3,
		"has started.\" instance=root records=3\n":                             1,
		`has ended." instance=root records=3 succeeded=2 failed=1 duration=1.`: 1,
		" mail=none\n": 1,
	} {
		if n := strings.Count(r.Logs, line); n != want {
			t.Errorf("%d times %q, want %d: %s", n, line, want, r.Logs)
		}
	}
}

// A record whose time was up is processed once more, under the same key.
func TestTimedOutRecords(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{}
	env := newEnv(t)
	env.Activity(string(processactivity.Name), durable.Activity(func(_ context.Context, in processactivity.Input) (processactivity.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[in.RecordId]++
		if in.RecordId == "never" || in.RecordId == "once" && calls["once"] == 1 {
			return processactivity.Result{ErrorMessage: "time is up", TimedOut: true}, nil
		}
		return processactivity.Result{Success: true}, nil
	}))
	r, out := run(t, env, Input{RecordIds: []string{"never", "a", "once"}})
	if fmt.Sprint(calls) != "map[a:1 never:2 once:2]" || fmt.Sprint(out.Failures) != "[{never time is up}]" {
		t.Errorf("calls %v, %+v", calls, out)
	}
	if last := r.CustomStatus[len(r.CustomStatus)-1]; last != `{"Total":3,"Completed":3,"Failed":1}` {
		t.Errorf("custom status %v", r.CustomStatus)
	}
}

func TestFailuresAreMailed(t *testing.T) {
	t.Parallel()
	ids := []string{"good", "error"}
	for i := range 150 {
		ids = append(ids, fmt.Sprint("bad", i))
	}
	r, out := run(t, newEnv(t), Input{RecordIds: ids, AlertEmailTo: "ops@example.com"})
	if out.Total != 152 || out.Succeeded != 1 || out.Failed != 151 || len(out.Failures) != 151 || out.Mail != MailSent {
		t.Errorf("%+v", out)
	}
	if got := out.Failures[0]; got.RecordId != "error" || got.ErrorMessage != strings.Repeat("é", 499)+"…" {
		t.Errorf("%+v", got)
	}
	if strings.Count(r.Logs, "level=ERROR msg=\"151 tasks failed.\"") != 1 {
		t.Errorf("logs %s", r.Logs)
	}
	if status := r.CustomStatus; status[0] != `{"Total":152,"Completed":0,"Failed":0}` || status[len(status)-1] != `{"Total":152,"Completed":152,"Failed":151}` {
		t.Errorf("custom status %v", status)
	}
	sent := r.Outputs["mail"]
	if len(sent) != 1 {
		t.Fatalf("%d mails", len(sent))
	}
	var m mail.SGMailV3
	if err := json.Unmarshal([]byte(sent[0]), &m); err != nil {
		t.Fatal(err)
	}
	// The parts are in the order that SendGrid wants.
	if len(m.Content) != 2 || m.Content[0].Type != "text/plain" || m.Content[1].Type != "text/html" {
		t.Fatalf("mail %s", sent[0])
	}
	plain, html := m.Content[0].Value, m.Content[1].Value
	if m.From.Address != "no-reply@mycompany.co.nz" || m.Personalizations[0].To[0].Address != "ops@example.com" ||
		m.Subject != "MyOrchestration Failure" {
		t.Errorf("mail %s", sent[0])
	}
	for _, part := range []string{"Orchestration " + durabletest.RootID, "152 records, 1 succeeded, 151 failed", "Bugger, something went wrong.", "What to do: ", "Where to look: ", "and 51 more"} {
		if !strings.Contains(html, part) || !strings.Contains(plain, part) {
			t.Errorf("the mail does not say %q: %s\n%s", part, html, plain)
		}
	}
	if !strings.Contains(html, "&lt;b&gt;bad0&lt;/b&gt;") || !strings.Contains(plain, "\nbad0: <b>bad0</b>\n") || !strings.HasPrefix(plain, "151 of 152 records failed") {
		t.Errorf("the mail says %s\n%s", html, plain)
	}
	if strings.Contains(html, "<b>bad") || strings.Count(html, "<tr><td>") != 100 {
		t.Errorf("the mail lists %d records: %s", strings.Count(html, "<tr><td>"), html)
	}
}

func TestNoRecipient(t *testing.T) {
	t.Parallel()
	r, out := run(t, newEnv(t), Input{RecordIds: []string{"bad"}})
	if out.Mail != MailNone || out.Failed != 1 || !strings.Contains(r.Logs, "AlertEmailTo") {
		t.Errorf("%+v, logs %s", out, r.Logs)
	}
}

// A mail that cannot be sent fails its sub-orchestration, without details: tried again, and never at the cost of the
// result.
func TestMailFails(t *testing.T) {
	t.Parallel()
	env := newEnv(t)
	attempts := 0
	env.Orchestrator(string(Name), nil) // the host fails it for its output binding, and says no more
	r, out := run(t, env, Input{RecordIds: []string{"bad", "good"}, AlertEmailTo: "ops@example.com", MailAttempts: 4, MailRetryIntervalSeconds: 60})
	if out.Mail != MailFailed || out.Succeeded != 1 || len(out.Failures) != 1 || r.Elapsed != 7*time.Minute {
		t.Errorf("%+v after %s, %d attempts", out, r.Elapsed, attempts)
	}
	if strings.Count(r.Logs, "the mail could not be sent") != 1 {
		t.Errorf("logs %s", r.Logs)
	}
}

// A record whose activity was lost is tried again; one that stays lost fails, and the rest go on.
func TestLostActivities(t *testing.T) {
	t.Parallel()
	env := newEnv(t)
	env.Lose(string(processactivity.Name), 2)
	r, out := run(t, env, Input{RecordIds: []string{"a", "b", "c"}})
	if out.Succeeded != 3 || r.Elapsed < 5*time.Second || r.Elapsed > 7500*time.Millisecond { // the interval is spread by up to a half
		t.Errorf("%+v after %s", out, r.Elapsed)
	}
	env = newEnv(t)
	env.Lose(string(processactivity.Name), 1000)
	r, out = run(t, env, Input{RecordIds: []string{"a", "b"}, Attempts: 4, RetryIntervalSeconds: 1})
	// One line for each record, one for all, one for the mail.
	if strings.Count(r.Logs, "level=ERROR msg=") != 4 || strings.Count(r.Logs, " record=b ") != 1 {
		t.Errorf("logs %s", r.Logs)
	}
	if out.Failed != 2 || len(env.Calls(string(processactivity.Name))) != 8 || r.Elapsed < 7*time.Second || r.Elapsed > 10500*time.Millisecond {
		t.Errorf("%+v after %s", out, r.Elapsed)
	}
}

// A record that failed is not tried again. One whose activity failed is, because its store was down, for ten minutes and
// more; not in an input of an older version, which says nothing of that.
func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	calls := func(env *durabletest.Env, record string) (n int) {
		for _, input := range env.Calls(string(processactivity.Name)) {
			if strings.Contains(input, `"`+record+`"`) {
				n++
			}
		}
		return n
	}
	env := newEnv(t)
	r, out := run(t, env, Input{RecordIds: []string{"error", "bad"}})
	if out.Failed != 2 || calls(env, "bad") != 1 || calls(env, "error") != 10 || r.Elapsed < 10*time.Minute {
		t.Errorf("%+v after %s and %d, %d calls", out, r.Elapsed, calls(env, "bad"), calls(env, "error"))
	}
	env = newEnv(t)
	old := env.Run(durable.Orchestrator(Run), payload.Compress(`{"RecordIds":["error","bad"]}`))
	if old.Status != api.RUNTIME_STATUS_COMPLETED || calls(env, "error") != 1 || old.Elapsed != 0 {
		t.Errorf("an old input: %s after %s and %d calls", old.Status, old.Elapsed, calls(env, "error"))
	}
}

// A record that ran into its deadline is not tried again here, and the result says that it may have been processed.
func TestDeadline(t *testing.T) {
	t.Parallel()
	env := newEnv(t)
	env.Expire(string(processactivity.Name), 1)
	_, out := run(t, env, Input{RecordIds: []string{"a"}})
	if n := len(env.Calls(string(processactivity.Name))); n != 1 || out.Failed != 1 || !strings.Contains(out.Failures[0].ErrorMessage, "may have been processed") {
		t.Errorf("%+v after %d calls", out, n)
	}
}

// What an input leaves out is written into it when it is made, so that a later version's defaults do not change it.
func TestDefaultsAreWrittenOut(t *testing.T) {
	t.Parallel()
	compressed, err := Input{RecordIds: []string{"a"}}.Compress()
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(compressed)
	in, err := decode(quoted)
	want := Input{RecordIds: []string{"a"}, Attempts: 3, RetryIntervalSeconds: 5, StoreAttempts: 10, AlertEmailFrom: "no-reply@mycompany.co.nz", MailAttempts: 3, MailRetryIntervalSeconds: 10}
	if err != nil || fmt.Sprint(in) != fmt.Sprint(want) || !slices.Equal(in.RecordIds, want.RecordIds) {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"": "", " ; ,": "", "a@example.com": "a@example.com", "a@example.com;b@example.com": "a@example.com b@example.com",
		" a@example.com , Ops <b@example.com>; ":                  "a@example.com b@example.com",
		"a@example.com;A@Example.com,b@example.com;a@example.com": "a@example.com b@example.com",
	} {
		if to, err := Recipients(list); err != nil || strings.Join(to, " ") != want {
			t.Errorf("%q: %v, %v", list, to, err)
		}
	}
	if _, err := Recipients("a@example.com;nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("got %v", err)
	}
	if to := message(&Alert{To: "a@example.com;b@example.com"}).Personalizations[0].To; len(to) != 2 || to[1].Address != "b@example.com" {
		t.Errorf("the mail goes to %v", to)
	}
	for from, want := range map[string][2]string{"a@example.com": {"", "a@example.com"}, "Alerts <a@example.com>": {"Alerts", "a@example.com"}, "nobody": {"", "nobody"}} {
		if got := message(&Alert{To: "b@example.com", From: from}).From; got.Name != want[0] || got.Address != want[1] {
			t.Errorf("%s: the mail comes from %+v", from, got)
		}
	}
}

// Without a key for the mail there is none, and one error line names the setting.
func TestNoSendGridKey(t *testing.T) {
	t.Parallel()
	r, out := run(t, newEnv(t), Input{RecordIds: []string{"bad"}, AlertEmailTo: "ops@example.com", NoSendGridKey: true})
	if out.Mail != MailNone || strings.Count(r.Logs, "SendGridKey") != 1 || len(r.Outputs) != 0 {
		t.Errorf("%+v, logs %s", out, r.Logs)
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	m := message(&Alert{To: "a@example.com", Failed: 1, Failures: []Failure{{"C-1\u202e", "no\u009b31m <b>\x1b\nWhat to do: pay"}}})
	for _, c := range m.Content {
		if strings.ContainsAny(c.Value, "\u202e\u009b\x1b") || !strings.Contains(c.Value, "C-1\ufffd") {
			t.Errorf("%s: %q", c.Type, c.Value)
		}
	}
	if strings.Contains(m.Content[0].Value, "\nWhat to do: pay") {
		t.Errorf("a record's error makes a line of its own: %s", m.Content[0].Value)
	}
}
