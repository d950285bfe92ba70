package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Crashes: the process is killed again and again in the middle of a run, and the next one goes on.
//
//	go test ./tests -run TestCrash -v -crash.kills 25 -crash.records 2000
var (
	crashKills   = flag.Int("crash.kills", 5, "how often TestCrash kills each run's process")
	crashRecords = flag.Int("crash.records", 1000, "of how many records")
)

// slowCRM is a CRM behind REST whose records take a moment. What it does for a record is done before it answers: a kill
// in between leaves the caller to ask again.
type slowCRM struct {
	records int
	delay   time.Duration

	mu      sync.Mutex
	calls   int
	keys    map[string]map[string]bool // by record: under which Idempotency-Keys it was processed
	arrived chan struct{}              // a call
}

func (c *slowCRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(map[string]any{"RecordIds": c.ids()})
		return
	}
	record := strings.Split(r.URL.Path, "/")[2]
	c.mu.Lock()
	c.calls++
	if c.keys[record] == nil {
		c.keys[record] = map[string]bool{}
	}
	c.keys[record][r.Header.Get("Idempotency-Key")] = true
	c.mu.Unlock()
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	time.Sleep(c.delay)
	if strings.HasSuffix(record, "7") {
		http.Error(w, "it ends in a seven", http.StatusUnprocessableEntity)
	}
}

func (c *slowCRM) ids() []string {
	ids := make([]string, c.records)
	for i := range ids {
		ids[i] = fmt.Sprintf("R-%d", i)
	}
	return ids
}

// life starts the command, lets it run until it has asked for a record and a random moment longer, and kills it. It
// returns how long the process took to take the work up, or false if it came to its end before.
func (c *slowCRM) life(t *testing.T, env []string, args ...string) (time.Duration, bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := command(ctx, env, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	for len(c.arrived) > 0 {
		<-c.arrived
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	select {
	case <-c.arrived:
	case <-ended:
		return 0, false
	case <-time.After(30 * time.Second):
		t.Fatalf("no record was asked for in 30 seconds: %s", out.String())
	}
	taken := time.Since(begun)
	select {
	case <-ended:
		return taken, false
	case <-time.After(rand.N(150 * time.Millisecond)):
	}
	return taken, true
}

// Killed at random moments, a run comes to the result that it would have had: each record processed once, the totals and
// failures right, one mail; and each restart takes the work up at once.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"process", "start"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm := &slowCRM{records: *crashRecords, keys: map[string]map[string]bool{}, arrived: make(chan struct{}, 1)}
			// All records together take so long that every kill hits a running process.
			crm.delay = time.Duration(*crashKills) * 250 * time.Millisecond * 20 / time.Duration(*crashRecords)
			server := httptest.NewServer(crm)
			defer server.Close()
			env := []string{"CRM_BASE_URL=" + server.URL, "CRM_TOKEN=secret", "AlertEmailTo=ops@example.com"}
			data := t.TempDir()
			message := write(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
			args := []string{"process", "--data", data, "--json", message}
			if name == "start" {
				args = []string{"start", "--data", data, "--port", freePort(t)}
				post(t, env, message, args)
			}
			kills, slowest := 0, time.Duration(0)
			for kills < *crashKills {
				taken, killed := crm.life(t, env, args...)
				if !killed {
					t.Fatalf("the run ended after %d kills: too early for this test", kills)
				}
				kills++
				slowest = max(slowest, taken)
			}
			out := finish(t, env, data, message, args)
			crm.check(t, out, data)
			t.Logf("%s: %d kills, %d records, %d calls, slowest restart %s", name, kills, crm.records, crm.calls, slowest)
			if slowest > 2*time.Second {
				t.Errorf("a restart took %s to take the work up", slowest)
			}
		})
	}
}

// post has a start command take the message, and kills it then.
func post(t *testing.T, env []string, message string, args []string) {
	t.Helper()
	cmd := command(t.Context(), env, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	text, err := os.ReadFile(message)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]string{"input": string(text)})
	url := "http://127.0.0.1:" + args[len(args)-1] + "/admin/functions/MyClientFunction"
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		response, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusAccepted {
				t.Fatal(response.Status)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// finish lets the run come to its end and returns its result.
func finish(t *testing.T, env []string, data, message string, args []string) *output {
	t.Helper()
	if args[0] == "process" {
		rep := parseReport(t, run(t, env, "", args...))
		if rep.Output == nil || len(rep.Mails) != 1 {
			t.Fatalf("%+v", rep)
		}
		return rep.Output
	}
	cmd := command(t.Context(), env, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func(cmd *exec.Cmd) { _ = cmd.Process.Kill(); _ = cmd.Wait() }(cmd)
	hub := filepath.Join(data, "taskhub.db")
	for deadline := time.Now().Add(time.Minute); query(t, hub, "SELECT count(*) FROM instances WHERE parent = '' AND output <> ''") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the orchestration has not ended in a minute")
		}
	}
	var out output
	if err := json.Unmarshal([]byte(text(t, hub, "SELECT output FROM instances WHERE parent = ''")), &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func (c *slowCRM) check(t *testing.T, out *output, data string) {
	t.Helper()
	failures := 0
	for _, id := range c.ids() {
		if n := len(c.keys[id]); n != 1 {
			t.Errorf("record %s was processed for %d jobs", id, n)
		}
		if strings.HasSuffix(id, "7") {
			failures++
		}
	}
	if out.Total != c.records || out.Failed != failures || out.Succeeded != c.records-failures || len(out.Failures) != failures || out.Mail != "sent" {
		t.Errorf("%d in all, %d succeeded, %d failed, mail %s", out.Total, out.Succeeded, out.Failed, out.Mail)
	}
	for _, f := range out.Failures {
		if !strings.HasSuffix(f.RecordId, "7") || !strings.Contains(f.ErrorMessage, "seven") {
			t.Errorf("failure %+v", f)
		}
	}
	mails, err := filepath.Glob(filepath.Join(data, "mails", "*.json"))
	if err != nil || len(mails) != 1 {
		t.Errorf("mails %v, %v", mails, err)
	}
}

// The same with the SQLite record store, whose effects are in the file: killed at random moments, from the start on.
func TestCrashSQLite(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var csv strings.Builder
	csv.WriteString("RecordId,Batch,Name,Email\n")
	for i := range *crashRecords {
		email := "someone@example.com"
		if i%10 == 7 {
			email = "nobody"
		}
		fmt.Fprintf(&csv, "R-%d,all,Someone,%s\n", i, email)
	}
	if r := run(t, nil, csv.String(), "import", "--data", data, "-"); r.code != 0 {
		t.Fatal(r)
	}
	message := write(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
	args := []string{"process", "--data", data, "--json", message}
	kills := 0
	var r result
	for r.stdout == "" {
		life := time.Duration(0)
		if kills < *crashKills {
			life = 20*time.Millisecond + rand.N(70*time.Millisecond) // from before it has opened its files to a few records
		}
		if r = runFor(t, life, args...); r.code == -1 {
			kills++
		}
	}
	rep := parseReport(t, r)
	failed := *crashRecords / 10
	if rep.Output == nil || rep.Output.Total != *crashRecords || rep.Output.Failed != failed || rep.Output.Mail != "sent" || len(rep.Mails) != 1 {
		t.Errorf("%+v", rep)
	}
	crm := filepath.Join(data, "crm.db")
	once := query(t, crm, "SELECT count(*) FROM customers WHERE batch = 'all' AND processed_count = 1")
	twice := query(t, crm, "SELECT count(*) FROM customers WHERE processed_count > 1")
	jobs := query(t, crm, "SELECT count(DISTINCT job_id) FROM processings")
	t.Logf("%d kills, %d records, %d processed once, %d more often, %d jobs", kills, *crashRecords, once, twice, jobs)
	if kills < *crashKills {
		t.Errorf("the run ended after %d kills: too early for this test", kills)
	}
	if once != *crashRecords-failed || twice != 0 || jobs != 1 {
		t.Errorf("%d processed once, %d more often, in %d jobs", once, twice, jobs)
	}
	if mails, _ := filepath.Glob(filepath.Join(data, "mails", "*.json")); len(mails) != 1 {
		t.Errorf("mails %v", mails)
	}
}

// runFor runs a command and kills it after a time; 0: never. The code of a killed one is -1.
func runFor(t *testing.T, life time.Duration, args ...string) result {
	t.Helper()
	ctx := t.Context()
	if life > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, life)
		defer cancel()
	}
	cmd := command(ctx, nil, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
