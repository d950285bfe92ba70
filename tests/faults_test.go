package tests

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// What the app depends on fails. Each fault ends in bounded time with one clear line, no record, message or mail is lost, and
// everything else continues.

// slowFaults adds the faults that take minutes: a CRM that is down for a minute, and a SendGrid that never answers.
var slowFaults = flag.Bool("slow-faults", false, "run the tests of faults that last for minutes")

// shortLimits let an invocation run for two seconds. The host waits a second longer for it.
var shortLimits = []string{"AzureFunctionsJobHost__functionTimeout=00:00:03", "HANDLER_DEADLINE_MARGIN=1s"}

const threeRecords = `{"RecordIds":["a","b","c"]}`

const cutAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"RecordIds\":[\"a\","

// If the CRM fails for a record, at most that record fails, with a reason in one line. A fault that passes has no effect on the
// result.
func TestFaultyCRM(t *testing.T) {
	t.Parallel()
	faults := map[string]struct { // by record
		times  int // how many calls fail first; 0: all
		answer http.HandlerFunc
		want   string // why the record fails; empty if it succeeds
		calls  int    // the store makes four attempts in each of the five tries of the host's retry policy
	}{
		"good":         {calls: 1, times: -1},
		"slow":         {calls: 1, times: -1},
		"429-once":     {times: 1, answer: testkit.Status(429, "Retry-After: 1"), calls: 2},
		"429":          {answer: testkit.Status(429, "Retry-After: 0"), want: "429 Too Many Requests", calls: 20},
		"500-twice":    {times: 2, answer: testkit.Status(500), calls: 3},
		"500":          {answer: testkit.Status(500), want: "500 Internal Server Error", calls: 20},
		"garbage-once": {times: 1, answer: testkit.Sends("\x00\x01garbage\r\n\r\n"), calls: 2},
		"garbage":      {answer: testkit.Sends("\x00\x01garbage\r\n\r\n"), want: "malformed HTTP", calls: 20},
		"cut-once":     {times: 1, answer: testkit.Sends(cutAnswer), calls: 2},
		"cut":          {answer: testkit.Sends(cutAnswer), want: "unexpected EOF", calls: 20},
		"hangs-up":     {answer: testkit.Sends(""), want: "EOF", calls: 20},
		"refused":      {answer: testkit.Status(422), want: "422 Unprocessable Entity", calls: 1},
	}
	path := func(id string) string { return "/records/" + id + "/process" }
	crm := testkit.StartCRM(t, func(w http.ResponseWriter, r *http.Request, n int) bool {
		id := testkit.RecordOf(r)
		if id == "slow" {
			time.Sleep(time.Second)
		}
		f := faults[id]
		if f.times != 0 && n > f.times {
			return false
		}
		f.answer(w, r)
		return true
	})
	ids := slices.Sorted(maps.Keys(faults))
	message, _ := json.Marshal(map[string]any{"RecordIds": ids})
	r := run(t, []string{"CRM_BASE_URL=" + crm.URL, "STORE_ATTEMPTS=1"}, string(message), "process", "--data", t.TempDir(), "--json", "-")
	rep := parseReport(t, r)
	if rep.Output == nil || rep.Output.Total != len(ids) {
		t.Fatalf("report %s, stderr %s", r.stdout, r.stderr)
	}
	reasons := map[string]string{}
	for _, f := range rep.Output.Failures {
		reasons[f.RecordId] = f.ErrorMessage
	}
	succeeded := 0
	for id, f := range faults {
		t.Run(id, func(t *testing.T) {
			if calls := crm.Calls(path(id)); f.calls != 0 && calls != f.calls {
				t.Errorf("%d calls, want %d", calls, f.calls)
			}
			reason, failed := reasons[id]
			switch {
			case f.want != "":
				checkReason(t, reason, f.want)
			case failed:
				t.Errorf("failed: %s", reason)
			default:
				succeeded++
			}
		})
	}
	if effects := crm.Effects(); effects != succeeded || rep.Output.Succeeded != succeeded {
		t.Errorf("%d records have been processed and %d are reported, want %d", effects, rep.Output.Succeeded, succeeded)
	}
}

// A record for which the CRM never answers gets an answer before the deadline, and is tried once more with the same key. Then it
// is in the result, which says that it may have been processed.
func TestCRMThatNeverAnswers(t *testing.T) {
	t.Parallel()
	crm := testkit.StartCRM(t, testkit.Always("/records/b/", testkit.Silent))
	r := run(t, append(shortLimits, "CRM_BASE_URL="+crm.URL), threeRecords, "process", "--data", t.TempDir(), "--json", "-")
	rep := parseReport(t, r)
	if r.code != 0 || rep.Output == nil || rep.Output.Succeeded != 2 || len(rep.Output.Failures) != 1 || rep.Output.Failures[0].RecordId != "b" {
		t.Fatalf("exit code %d, report %s, stderr %s", r.code, r.stdout, r.stderr)
	}
	checkReason(t, rep.Output.Failures[0].ErrorMessage, "may have been processed")
	if calls, effects := crm.Calls("/records/b/process"), crm.Effects(); calls != 2 || effects != 2 {
		t.Errorf("%d calls, %d effects; want 2 and 2", calls, effects)
	}
}

// checkReason checks that there is one line with one of the texts.
func checkReason(t *testing.T, reason, want string) {
	t.Helper()
	for text := range strings.SplitSeq(want, "|") {
		if strings.Contains(reason, text) && !strings.Contains(reason, "\n") {
			return
		}
	}
	t.Errorf("reason %q, want one line with %q", reason, want)
}

// If the CRM does not return the records of a batch, the message fails, with one line.
func TestFaultyCRMBatch(t *testing.T) {
	t.Parallel()
	const batch = "/batches/"
	for name, c := range map[string]struct {
		fault testkit.Fault
		env   []string
		want  string // empty: the message is accepted
	}{
		"500 twice":     {fault: testkit.First(2, batch, testkit.Status(500))},
		"cut half-way":  {fault: testkit.First(1, batch, testkit.Sends(cutAnswer))},
		"401":           {fault: testkit.Always(batch, testkit.Status(401)), want: "check CRM_TOKEN"},
		"500":           {fault: testkit.Always(batch, testkit.Status(500)), want: "500 Internal Server Error"},
		"a web page":    {fault: testkit.Always(batch, testkit.Sends("HTTP/1.1 200 OK\r\n\r\n<html>\n<p>Welcome")), want: "it is not {"},
		"never answers": {fault: testkit.Always(batch, testkit.Silent), env: shortLimits, want: "limit|deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm, data := testkit.StartCRM(t, c.fault), t.TempDir()
			r := run(t, append(c.env, "CRM_BASE_URL="+crm.URL), `{"Batch":"x"}`, "process", "--data", data, "-")
			if c.want == "" {
				if r.code != 0 || !strings.Contains(r.stdout, "3 in all, 3 succeeded") {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.code != 2 || r.stdout != "" {
				t.Errorf("exit code %d, stdout %q; want 2 and nothing", r.code, r.stdout)
			}
			last := strings.TrimSpace(r.stderr)
			last = last[strings.LastIndex(last, "\n")+1:] // a function that was left behind logs another line
			checkReason(t, last, c.want)
			if left, _ := os.ReadDir(filepath.Join(data, "runs")); len(left) > 0 {
				t.Errorf("%d runs are kept of a message that was not taken", len(left))
			}
		})
	}
}

// A CRM that is down for a moment has no effect on the result.
func TestCRMDownForAMoment(t *testing.T) {
	t.Parallel()
	port := testkit.FreePort(t)
	done := make(chan result)
	go func() {
		done <- run(t, []string{"CRM_BASE_URL=http://127.0.0.1:" + port}, threeRecords, "process", "--data", t.TempDir(), "-")
	}()
	time.Sleep(time.Second) // the CRM is down: two of the four attempts, which take 3.5 seconds, fail
	crm := testkit.NewCRM()
	crm.Start(t, port)
	r := <-done
	if effects := crm.Effects(); r.code != 0 || effects != 3 || !strings.Contains(r.stdout, "3 succeeded") {
		t.Errorf("%d effects, %+v", effects, r)
	}
}

// If the CRM is down for longer than STORE_ATTEMPTS take, the records fail, each with its reason.
func TestCRMDown(t *testing.T) {
	t.Parallel()
	r := run(t, []string{"CRM_BASE_URL=http://127.0.0.1:1"}, threeRecords, "process", "--data", t.TempDir(), "--json", "-")
	rep := parseReport(t, r)
	if r.code != 0 || rep.Output == nil || rep.Output.Failed != 3 {
		t.Fatalf("exit code %d, report %s, stderr %s", r.code, r.stdout, r.stderr)
	}
	for _, f := range rep.Output.Failures {
		checkReason(t, f.ErrorMessage, "connection refused|actively refused")
	}
}

// A message whose batch cannot be read while the CRM is down is delivered again until it can.
func TestMessageOutlivesCRMDown(t *testing.T) {
	t.Parallel()
	port := testkit.FreePort(t)
	s := startLocal(t, t.TempDir(), "CRM_BASE_URL=http://127.0.0.1:"+port)
	s.send(t, `{"Batch":"x"}`)
	s.waitFor(t, "a message was not taken")
	if *slowFaults {
		time.Sleep(time.Minute) // the CRM is down
	}
	testkit.NewCRM().Start(t, port)
	s.waitFor(t, "completed: 3 records, 3 succeeded, 0 failed")
}

// A mail that SendGrid does not accept is tried again and then kept with the reason. Its path is printed, and the result stays
// the same.
func TestFaultySendGrid(t *testing.T) {
	t.Parallel()
	const key = "SG.fake-planted-key"
	for name, c := range map[string]struct {
		answer   http.HandlerFunc // nil: nothing listens
		attempts int
		want     string
		slow     bool
	}{
		"401":           {answer: testkit.Status(401), attempts: 3, want: "401 Unauthorized"},
		"429":           {answer: testkit.Status(429), attempts: 2, want: "429 Too Many Requests"},
		"500":           {answer: testkit.Status(500), attempts: 1, want: "500 Internal Server Error"},
		"garbage":       {answer: testkit.Sends("garbage\r\n\r\n"), attempts: 2, want: "malformed HTTP"},
		"hangs up":      {answer: testkit.Sends(""), attempts: 2, want: "EOF"},
		"not there":     {attempts: 2, want: "connection refused|actively refused"},
		"never answers": {answer: testkit.Silent, attempts: 1, want: "deadline exceeded", slow: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.slow && !*slowFaults {
				t.Skip("takes 100 seconds: -slow-faults")
			}
			url := "http://127.0.0.1:" + testkit.FreePort(t)
			if c.answer != nil {
				server := httptest.NewServer(c.answer)
				t.Cleanup(server.Close)
				url = server.URL
			}
			data := t.TempDir()
			r := run(t, []string{"SendGridKey=" + key, "SENDGRID_BASE_URL=" + url, "MAIL_RETRY_INTERVAL=10ms", fmt.Sprint("MAIL_ATTEMPTS=", c.attempts)},
				"", "process", "--data", data, "samples/ids.json")
			if r.code != 0 || !strings.Contains(r.stdout, "3 in all, 2 succeeded, 1 failed") || strings.Count(r.stderr, "the mail could not be sent") != 1 {
				t.Errorf("exit code %d, stdout %s, stderr %s", r.code, r.stdout, r.stderr)
			}
			kept, err := filepath.Glob(filepath.Join(data, "mails", "*.json"))
			if err != nil || len(kept) != c.attempts || strings.Count(r.stdout, "Mail failed") != c.attempts {
				t.Fatalf("%d mails are kept, want %d: %s", len(kept), c.attempts, r.stdout)
			}
			for _, path := range kept {
				var file struct {
					Reason string
					Mail   struct{ Content []struct{ Value string } }
				}
				text, err := os.ReadFile(path)
				if err != nil || json.Unmarshal(text, &file) != nil || len(file.Mail.Content) != 2 || !strings.Contains(file.Mail.Content[1].Value, "<td>17</td>") {
					t.Errorf("%s: %s %v", path, text, err)
				}
				checkReason(t, file.Reason, c.want)
				if !strings.Contains(r.stdout, path) {
					t.Errorf("the path %s is not printed: %s", path, r.stdout)
				}
				if strings.Contains(string(text)+r.stdout+r.stderr, key) {
					t.Error("the key shows")
				}
			}
		})
	}
}

// lockFile holds a SQLite file's write lock until the test ends or release is called.
func lockFile(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Error(err)
		return func() {}
	}
	conn, err := db.Conn(context.Background())
	if err == nil {
		_, err = conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Error(err)
		return func() {}
	}
	release = sync.OnceFunc(func() {
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
		_ = conn.Close()
		_ = db.Close()
	})
	t.Cleanup(release)
	return release
}

// usedData returns a data directory in which something was processed.
func usedData(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	if r := run(t, nil, "", "process", "--data", data, "samples/october.json"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	return data
}

// The app waits while another process locks a file. If the lock does not end, it gives up at the deadline, or after ten seconds.
func TestLockedFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file    string
		forGood bool
		env     []string
		code    int
		want    string // on stdout or stderr
	}{
		"records, a while":    {file: "crm.db", want: "2 succeeded, 0 failed"},
		"records, for good":   {file: "crm.db", forGood: true, env: shortLimits, code: 0, want: "another process keeps it locked"},
		"task hub, a while":   {file: "taskhub.db", want: "2 succeeded, 0 failed"},
		"task hub, for good":  {file: "taskhub.db", forGood: true, code: 2, want: "taskhub.db: database is locked"},
		"task hub, in flight": {file: "taskhub.db in flight", want: "2 succeeded, 0 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := usedData(t)
			file, inFlight := strings.CutSuffix(c.file, " in flight")
			var release func()
			lock := sync.OnceFunc(func() {
				release = lockFile(t, filepath.Join(data, file))
				if !c.forGood {
					time.AfterFunc(1500*time.Millisecond, release)
				}
			})
			env := c.env
			if inFlight { // the lock begins during the first record, so that its result cannot be stored
				crm := testkit.StartCRM(t, func(http.ResponseWriter, *http.Request, int) bool { lock(); return false })
				env = append(env, "CRM_BASE_URL="+crm.URL)
			} else {
				lock()
			}
			r := run(t, env, `{"RecordIds":["C-001","C-002"]}`, "process", "--data", data, "-")
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
				t.Errorf("exit code %d, stdout %s, stderr %s; want %d and %q", r.code, r.stdout, r.stderr, c.code, c.want)
			}
			if r.code == 2 && strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("more than one line: %s", r.stderr)
			}
		})
	}
}

// scramble overwrites a part of a file with garbage.
func scramble(t *testing.T, path string, from, to int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, min(to, info.Size())-from)
	_, _ = rand.Read(garbage)
	if _, err := f.WriteAt(garbage, from); err != nil {
		t.Fatal(err)
	}
}

// The error names a corrupted file and says what to do about it. No new file takes its place.
func TestCorruptedFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file     string
		from, to int64
		code     int
		want     string
	}{
		"head of the records":    {"crm.db", 0, 100, 0, "restore the file"},
		"middle of the records":  {"crm.db", 4096, 1 << 30, 0, "restore the file"},
		"head of the task hub":   {"taskhub.db", 0, 100, 2, "restore it, or move it away"},
		"middle of the task hub": {"taskhub.db", 4096, 1 << 30, 2, "restore it, or move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := usedData(t)
			scramble(t, filepath.Join(data, c.file), c.from, c.to)
			r := run(t, nil, "", "process", "--data", data, "samples/ids.json")
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
				t.Errorf("exit code %d, stdout %s, stderr %s; want %d and %q", r.code, r.stdout, r.stderr, c.code, c.want)
			}
			if r.code == 0 && !strings.Contains(r.stdout, "3 in all, 0 succeeded, 3 failed") {
				t.Errorf("stdout %s, want three failed records", r.stdout)
			}
			if lines := strings.Count(r.stderr, "\n"); r.code == 2 && lines > 2 {
				t.Errorf("%d lines: %s", lines, r.stderr)
			}
		})
	}
}

// A task hub that gets corrupted during a run ends the run, after a while and with one more line.
func TestCorruptedInFlight(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	corrupt := sync.OnceFunc(func() { // from now on the table seems to begin behind the end of the file
		db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "taskhub.db")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Error(err)
			return
		}
		defer db.Close()
		if _, err := db.Exec("PRAGMA writable_schema = 1; UPDATE sqlite_master SET rootpage = 100000 WHERE name = 'tasks'; PRAGMA schema_version = 1000"); err != nil {
			t.Error(err)
		}
	})
	crm := testkit.StartCRM(t, func(http.ResponseWriter, *http.Request, int) bool { corrupt(); return false })
	r := run(t, []string{"CRM_BASE_URL=" + crm.URL}, threeRecords, "process", "--data", data, "-")
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	last := lines[len(lines)-1]
	if r.code != 1 || !strings.Contains(last, "taskhub.db: ") || !strings.Contains(last, "restore it, or move it away") {
		t.Errorf("exit code %d, stderr %s", r.code, r.stderr)
	}
	if len(lines) > 10 {
		t.Errorf("%d lines: %s", len(lines), r.stderr)
	}
}

// Processing that ignores its context gets an answer before the host's functionTimeout, and the other records continue.
func TestProcessingThatNeverReturns(t *testing.T) {
	t.Parallel()
	release, ended := make(chan struct{}), make(chan struct{})
	app := handler.New()
	app.Trigger("MyClientFunction", func(ctx context.Context, in *handler.Invocation) error {
		c, err := in.DurableClient("starter")
		if err == nil {
			_, err = c.Start(ctx, "MyOrchestration", "the-job", []string{"a", "stuck", "c"})
		}
		return err
	})
	process := durable.ActivityName[string, string]("ProcessActivity")
	app.Activity("ProcessActivity", durable.Activity(func(_ context.Context, id string) (string, error) {
		if id == "stuck" {
			defer close(ended)
			<-release
		}
		return id, nil
	}))
	app.Orchestrator("MyOrchestration", durable.Orchestrator(func(ctx *task.OrchestrationContext, ids []string) ([]string, error) {
		results := []string{}
		for _, o := range durable.FanOut(ctx, process, ids, nil) {
			var failure *durable.TaskError
			switch {
			case errors.As(o.Err, &failure) && failure.Kind == durable.DeadlineExceeded:
				results = append(results, "deadline: "+failure.Message)
			default:
				results = append(results, o.Value)
			}
		}
		return results, nil
	}))
	environ := []string{shortLimits[0]}
	h, err := app.Handler(handler.Options{Root: root, Stdout: io.Discard, Stderr: io.Discard, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	log := &testkit.Buffer{}
	host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: h, Environ: environ, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { close(release); <-ended }()
	defer host.Close(context.Background())
	if _, err := host.Deliver(t.Context(), "MyClientFunction", local.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	i, err := host.Wait(t.Context(), "the-job")
	want := `["a","deadline: function ProcessActivity ran for 2.5s, the limit, and was left behind","c"]`
	if err != nil || i.Output != want {
		t.Errorf("%+v, %v; want %s", i, err, want)
	}
	if strings.Contains(log.String(), "functionTimeout") { // at the host's own timeout the real host would kill the process
		t.Errorf("the host's timeout came first: %s", log.String())
	}
}
