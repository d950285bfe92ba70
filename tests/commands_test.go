package tests

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

func TestProcessSucceeds(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r := run(t, nil, "", "process", "--data", data, "--json", "samples/october.json")
	rep := parseReport(t, r)
	if r.code != 0 || *rep.RuntimeStatus != "Completed" || rep.Output.Total != 120 || rep.Output.Succeeded != 120 ||
		rep.Output.Failed != 0 || len(rep.Output.Failures) != 0 || rep.Output.Mail != "none" || len(rep.Mails) != 0 || rep.ElapsedMs == nil {
		t.Errorf("exit code %d, report %s, stderr %s", r.code, r.stdout, r.stderr)
	}
	progress := regexp.MustCompile(`(?m)^\d+ of 120, 0 failed.*\n`) // a slow machine prints these
	if rest := progress.ReplaceAllString(r.stderr, ""); !strings.Contains(r.stdout, `"Failures":[]`) || rest != "" {
		t.Errorf("stdout %s, stderr %q", r.stdout, r.stderr)
	}
	if n := query(t, filepath.Join(data, "crm.db"), "SELECT count(*) FROM customers WHERE batch = '2026-10' AND processed_count = 1"); n != 120 {
		t.Errorf("%d records were processed once, want 120", n)
	}
}

func TestProcessMailsFailures(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r := run(t, nil, "", "process", "--data", data, "--json", "samples/november.json")
	rep := parseReport(t, r)
	if r.code != 0 || rep.Output.Total != 120 || rep.Output.Failed != len(rep.Output.Failures) || rep.Output.Failed < 3 ||
		rep.Output.Succeeded+rep.Output.Failed != 120 || rep.Output.Mail != "sent" || len(rep.Mails) != 1 {
		t.Fatalf("exit code %d, report %s, stderr %s", r.code, r.stdout, r.stderr)
	}
	if want := fmt.Sprintf("%d tasks failed.", rep.Output.Failed); strings.Count(r.stderr, want) != 1 {
		t.Errorf("stderr has not once %q: %s", want, r.stderr)
	}
	m := rep.Mails[0]
	if m.To != "ops@example.com" || m.Subject != "MyOrchestration Failure" || m.Path == nil {
		t.Fatalf("mail %+v", m)
	}
	text, err := os.ReadFile(filepath.Join(root, *m.Path))
	if filepath.IsAbs(*m.Path) {
		text, err = os.ReadFile(*m.Path)
	}
	if err != nil {
		t.Fatal(err)
	}
	var mail struct {
		From             struct{ Email string }
		Subject          string
		Personalizations []struct{ To []struct{ Email string } }
		Content          []struct{ Type, Value string }
	}
	if err := json.Unmarshal(text, &mail); err != nil {
		t.Fatal(err)
	}
	if mail.From.Email != "no-reply@mycompany.co.nz" || len(mail.Content) != 2 || mail.Content[1].Type != "text/html" {
		t.Errorf("mail %s", text)
	}
	for _, want := range append([]string{*rep.InstanceID, "120 records"}, rep.Output.Failures[0].RecordId) {
		if !strings.Contains(mail.Content[1].Value, want) {
			t.Errorf("the mail does not say %q: %s", want, mail.Content[1].Value)
		}
	}
	// The same file given again is a new run, with a new instance and its own mail.
	again := parseReport(t, run(t, nil, "", "process", "--data", data, "--json", "samples/november.json"))
	if *again.InstanceID == *rep.InstanceID || len(again.Mails) != 1 || *again.Mails[0].Path == *m.Path {
		t.Errorf("second run: %+v", again)
	}
}

func TestProcessSummary(t *testing.T) {
	t.Parallel()
	r := run(t, nil, `{"recordids": ["C-001", "C-001", 17, "<nobody>\u001b[31m"], "RecordId": 1, "sys": {}, "MessageId": "forged"}`,
		"process", "--data", t.TempDir(), "-")
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	for _, want := range []string{"Instance", "Completed", "3 in all, 1 succeeded, 2 failed", "17: ", "<nobody>", "written to ", "Elapsed"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the summary does not say %q:\n%s", want, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "\x1b") {
		t.Errorf("a record's text colours the terminal: %q", r.stdout)
	}
}

func TestNothingToProcess(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r := run(t, nil, `{"RecordIds": []}`, "process", "--data", data, "--json", "-")
	rep := parseReport(t, r)
	if r.code != 0 || rep.InstanceID != nil || rep.Output == nil || rep.Output.Total != 0 || rep.Output.Failed != 0 || len(rep.Mails) != 0 {
		t.Errorf("exit code %d, report %s", r.code, r.stdout)
	}
	if r := run(t, nil, `{"RecordIds": []}`, "process", "--data", data, "-"); r.code != 0 || !strings.Contains(r.stdout, "Nothing to process") {
		t.Errorf("exit code %d, stdout %q", r.code, r.stdout)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	unwritable := testkit.WriteFile(t, filepath.Join(t.TempDir(), "a file"), "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // the parallel subtests have ended then
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	csv := testkit.WriteFile(t, filepath.Join(t.TempDir(), "bad.csv"), "RecordId,Batch,Name\nX,Y,Z\n")

	for name, c := range map[string]struct {
		args  []string
		env   []string
		stdin string
		want  string
	}{
		"not JSON":         {args: []string{"process", "-"}, stdin: "hello", want: "not JSON"},
		"empty":            {args: []string{"process", "-"}, want: "not JSON"},
		"array":            {args: []string{"process", "-"}, stdin: "[1]", want: "array"},
		"neither":          {args: []string{"process", "-"}, stdin: `{"RecordIds":null}`, want: "neither"},
		"both":             {args: []string{"process", "-"}, stdin: `{"RecordIds":[1],"batch":"2026-10"}`, want: "both"},
		"empty id":         {args: []string{"process", "-"}, stdin: `{"RecordIds":["C-001",""]}`, want: "RecordIds[1] is empty"},
		"fraction":         {args: []string{"process", "-"}, stdin: `{"RecordIds":[1.5]}`, want: "RecordIds[0] is 1.5"},
		"null id":          {args: []string{"process", "-"}, stdin: `{"RecordIds":[null]}`, want: "RecordIds[0] is null"},
		"ids no array":     {args: []string{"process", "-"}, stdin: `{"RecordIds":"C-001"}`, want: "array"},
		"empty batch":      {args: []string{"process", "-"}, stdin: `{"Batch":""}`, want: "non-empty string"},
		"batch no string":  {args: []string{"process", "-"}, stdin: `{"Batch":{}}`, want: "non-empty string"},
		"too large":        {args: []string{"process", "-"}, stdin: `{"RecordIds":["` + strings.Repeat("x", 256<<10) + `"]}`, want: "limit is 262144"},
		"setting":          {args: []string{"process", "-"}, stdin: `{"RecordIds":[1,2,3]}`, env: []string{"MESSAGE_MAX_BYTES=10"}, want: "limit is 10 bytes"},
		"bad setting":      {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"MAIL_ATTEMPTS=many"}, want: "MAIL_ATTEMPTS"},
		"bad deliveries":   {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"MAX_DELIVERY_COUNT=0"}, want: "MAX_DELIVERY_COUNT"},
		"bad number":       {args: []string{"dead-letters", "--resubmit", "first"}, want: "resubmit"},
		"bad retention":    {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"LOCAL_RETENTION=1s"}, want: "LOCAL_RETENTION"},
		"vault":            {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"SendGridKey=@Microsoft.KeyVault(SecretUri=x)", "BATCH_SIZE=@Microsoft.KeyVault(SecretUri=y)"}, want: "settings SendGridKey, BATCH_SIZE"},
		"line break":       {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"SendGridKey=SG.x\n"}, want: "SendGridKey has a blank or a line break"},
		"blank":            {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"SendGridKey= "}, want: "SendGridKey has a blank"},
		"unknown batch":    {args: []string{"process", "-"}, stdin: `{"Batch":"1999-01"}`, want: "1999-01"},
		"no file":          {args: []string{"process", "no such file"}, want: "no such file"},
		"no argument":      {args: []string{"process"}, want: "<file>"},
		"unknown command":  {args: []string{"frobnicate"}, want: "frobnicate"},
		"data directory":   {args: []string{"process", "--data", unwritable, "-"}, stdin: `{"RecordIds":[1]}`, want: unwritable},
		"port in use":      {args: []string{"start", "--port", port}, want: port},
		"no port":          {args: []string{"start", "--port", "99999"}, want: "99999"},
		"bad CSV":          {args: []string{"import", csv}, want: "mail"},
		"CRM elsewhere":    {args: []string{"import", csv}, env: []string{"CRM_BASE_URL=https://crm.example.com"}, want: "CRM_BASE_URL"},
		"CRM no URL":       {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"CRM_BASE_URL=crm.example.com"}, want: "CRM_BASE_URL"},
		"extended session": {args: []string{"process", "-"}, stdin: `{"RecordIds":[1]}`, env: []string{"AzureFunctionsJobHost__extensions__durableTask__extendedSessionsEnabled=true"}, want: "extendedSessionsEnabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := c.args
			if !strings.Contains(strings.Join(args, " "), "--data") && len(args) > 1 {
				args = append([]string{args[0], "--data", t.TempDir()}, args[1:]...)
			}
			r := run(t, c.env, c.stdin, args...)
			if r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit code %d, stdout %q, stderr %q; want 2, nothing, and %q", r.code, r.stdout, r.stderr, c.want)
			}
			usage := strings.HasPrefix(r.stderr, "Usage: ")
			if strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 != usage {
				t.Errorf("stderr is neither one line nor the usage: %q", r.stderr)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	r := run(t, nil, "", "--help")
	for _, want := range []string{"process", "start", "import", "dead-letters"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("exit code %d, no %q in %s", r.code, want, r.stdout)
		}
	}
}

// manyRecords imports n records of batch "many" and returns the data directory.
func manyRecords(t *testing.T, n int) string {
	t.Helper()
	data := t.TempDir()
	var csv strings.Builder
	csv.WriteString("RecordId,Batch,Name,Email\n")
	for i := range n {
		fmt.Fprintf(&csv, "M-%d,many,Somebody,somebody%d@example.com\n", i, i)
	}
	file := testkit.WriteFile(t, filepath.Join(data, "many.csv"), csv.String())
	if r := run(t, nil, "", "import", "--data", data, file); r.code != 0 || !strings.Contains(r.stdout, fmt.Sprint(n)) {
		t.Fatalf("import: %+v", r)
	}
	return data
}

func TestKilledRunIsContinued(t *testing.T) {
	t.Parallel()
	const n = 2000
	data := manyRecords(t, n)
	message := testkit.WriteFile(t, filepath.Join(data, "message.json"), `{"Batch": "many"}`)

	cmd := command(context.Background(), nil, "process", "--data", data, message)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForRecords(t, data, n/10)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	done := processed(t, data)
	if done >= n {
		t.Fatalf("killed too late: all %d records were processed", done)
	}

	r := run(t, nil, "", "process", "--data", data, "--json", message)
	rep := parseReport(t, r)
	if r.code != 0 || rep.Output.Total != n || rep.Output.Succeeded != n || !strings.Contains(r.stderr, "continuing") {
		t.Errorf("exit code %d, report %.300s, stderr %s", r.code, r.stdout, r.stderr)
	}
	if once := query(t, filepath.Join(data, "crm.db"), "SELECT count(*) FROM customers WHERE batch = 'many' AND processed_count = 1"); once != n {
		t.Errorf("%d of %d records were processed once", once, n)
	}
	// A run that has ended and was printed is not continued.
	if r := run(t, nil, "", "process", "--data", data, "--json", message); strings.Contains(r.stderr, "continuing") {
		t.Errorf("a finished run is continued: %s", r.stderr)
	}
}

func processed(t *testing.T, data string) int {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "crm.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("SELECT count(*) FROM customers WHERE processed_count > 0").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func waitForRecords(t *testing.T, data string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); processed(t, data) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %d records were processed within a minute", n)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	s := startLocal(t, t.TempDir())
	for _, want := range []string{"MyClientFunction: serviceBusTrigger", "MyOrchestration: orchestrationTrigger", "ProcessActivity: activityTrigger"} {
		s.waitFor(t, want)
	}
	for _, c := range []struct {
		function, contentType, body string
		want                        int
	}{
		{clientFunction, "application/json", `{"input":"{\"Batch\":\"2026-10\"}"}`, 202},
		{clientFunction, "application/json", `{"input":{"Batch":"2026-10"}}`, 400},
		{clientFunction, "application/json", `[]`, 400},
		{clientFunction, "application/json", `nonsense`, 400},
		{clientFunction, "", `{"input":"x"}`, 415},
		{"Nope", "application/json", `{"input":"x"}`, 404},
	} {
		if got := s.post(t, c.function, c.contentType, c.body); got != c.want {
			t.Errorf("POST %s %q: %d, want %d", c.function, c.body, got, c.want)
		}
	}
	s.waitFor(t, "completed: 120 records, 120 succeeded, 0 failed, mail none")
	ended := regexp.MustCompile(`(?m)^MyOrchestration [0-9a-f]{32} [0-9.]+m?s completed: 120 records, 120 succeeded`)
	if n := len(ended.FindAllString(s.out.String(), -1)); n != 1 {
		t.Errorf("%d lines, want one for the orchestration: %s", n, s.out.String())
	}
}

const clientFunction = "MyClientFunction"

// A mail that SendGrid refuses is tried again, by the host and by the orchestration. In the end it is kept with the reason, and
// the result stays the same. The key is shown nowhere.
func TestMailThroughSendGrid(t *testing.T) {
	t.Parallel()
	const key = "SG.planted-key"
	for status, want := range map[int]string{202: "sent", 401: "failed", 429: "failed", 500: "failed"} {
		t.Run(want+fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			sendGrid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if r.URL.Path != "/v3/mail/send" || r.Header.Get("Authorization") != "Bearer "+key {
					t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(sendGrid.Close)
			data := t.TempDir()
			r := run(t, []string{"SendGridKey=" + key, "SENDGRID_BASE_URL=" + sendGrid.URL, "MAIL_RETRY_INTERVAL=10ms"}, "",
				"process", "--data", data, "--json", "samples/ids.json")
			rep := parseReport(t, r)
			if r.code != 0 || rep.Output.Mail != want || rep.Output.Succeeded != 2 || rep.Output.Failed != 1 {
				t.Errorf("exit code %d, report %s", r.code, r.stdout)
			}
			kept, err := filepath.Glob(filepath.Join(data, "mails", "*.json"))
			if err != nil {
				t.Fatal(err)
			}
			attempts, files := int32(3*5), 3 // three attempts, and for each the five tries of the host's retry policy
			if want == "sent" {
				attempts, files = 1, 0
				if len(rep.Mails) != 1 || rep.Mails[0].Path != nil {
					t.Errorf("mails %s", r.stdout)
				}
			}
			if requests.Load() != attempts || len(kept) != files {
				t.Errorf("%d requests and %d files, want %d and %d", requests.Load(), len(kept), attempts, files)
			}
			for _, file := range kept {
				text, err := os.ReadFile(file)
				if err != nil || !strings.Contains(string(text), fmt.Sprint(status)) || strings.Contains(string(text), key) {
					t.Errorf("%s: %s %v", file, text, err)
				}
			}
			if strings.Contains(r.stdout+r.stderr, key) {
				t.Error("the key shows in the output")
			}
		})
	}
}

// A run has ended when its result was printed. Until then the next call prints that result and processes nothing again.
func TestUnprintedResultIsPrinted(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this system")
	}
	defer full.Close()
	data := t.TempDir()
	cmd := command(t.Context(), nil, "process", "--data", data, "--json", "samples/november.json")
	cmd.Stdout = full
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("printing to a full device: %v", err)
	}
	r := run(t, nil, "", "process", "--data", data, "--json", "samples/november.json")
	rep := parseReport(t, r)
	if rep.Output.Total != 120 || len(rep.Mails) != 1 || !strings.Contains(r.stderr, "continuing") {
		t.Errorf("report %s, stderr %s", r.stdout, r.stderr)
	}
	if n := query(t, filepath.Join(data, "crm.db"), "SELECT max(processed_count) FROM customers"); n != 1 {
		t.Errorf("a record was processed %d times", n)
	}
}

// Failed records are a result; with --strict they are an error.
func TestStrict(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
	}{{nil, 0}, {[]string{"--strict"}, 3}, {[]string{"--strict", "--json"}, 3}} {
		args := append(append([]string{"process", "--data", data}, c.args...), "samples/ids.json")
		if r := run(t, nil, "", args...); r.code != c.code || !strings.Contains(r.stdout, "record 17 is not in the store") {
			t.Errorf("%v: exit code %d, want %d; stdout %s", args, r.code, c.code, r.stdout)
		}
	}
	if r := run(t, nil, `{"Batch":"2026-10"}`, "process", "--data", data, "--strict", "-"); r.code != 0 {
		t.Errorf("exit code %d without a failed record: %s", r.code, r.stdout)
	}
}

// Without --data everything is in one directory outside the app root, for the commands and for the handler. Data that an older
// version kept in the app root is moved there.
func TestDataDirectory(t *testing.T) {
	t.Parallel()
	home, appRoot := t.TempDir(), t.TempDir()
	copyRoot(t, appRoot)
	message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "m.json"), `{"RecordIds":["X-1"]}`)
	csv := testkit.WriteFile(t, filepath.Join(t.TempDir(), "x.csv"), "RecordId,Batch,Name,Email\nX-1,b,X,x@example.com\n")
	in := func(dir string, args ...string) string {
		cmd := command(t.Context(), []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "FUNCTIONS_CUSTOMHANDLER_PORT=1"}, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	in(appRoot, "import", "--data", filepath.Join(appRoot, ".local"), csv) // where an older version kept its data
	if out := in(appRoot, "process", message); !strings.Contains(out, "1 succeeded") || !strings.Contains(out, home) {
		t.Errorf("the records of .local were not taken over: %s", out)
	}
	if _, err := os.Stat(filepath.Join(appRoot, ".local")); !os.IsNotExist(err) {
		t.Errorf(".local: %v, want none", err)
	}
	if dirs, err := filepath.Glob(filepath.Join(home, "durablefunctions", "*", "crm.db")); err != nil || len(dirs) != 1 {
		t.Errorf("record stores %v, %v; want one", dirs, err)
	}
}
