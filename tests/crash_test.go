package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// The process is killed again and again during a run, and the next one continues the run.
//
//	go test ./tests -run TestCrash -v -crash.kills 25 -crash.records 2000
var (
	crashKills   = flag.Int("crash.kills", 5, "how often TestCrash kills each run's process")
	crashRecords = flag.Int("crash.records", 1000, "of how many records")
)

// slowCRM is a CRM that takes a moment for each record. It processes a record before it answers, so after a kill in between the
// caller must ask again. It refuses records that end in 7.
type slowCRM struct {
	*testkit.CRM
	arrived chan struct{} // a call has arrived
}

func startSlowCRM(t *testing.T, records int, delay time.Duration) *slowCRM {
	t.Helper()
	c := &slowCRM{CRM: testkit.NewCRM(), arrived: make(chan struct{}, 1)}
	c.Answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodGet {
			return false
		}
		c.Process(r)
		select {
		case c.arrived <- struct{}{}:
		default:
		}
		time.Sleep(delay)
		if strings.HasSuffix(testkit.RecordOf(r), "7") {
			http.Error(w, "it ends in a seven", http.StatusUnprocessableEntity)
		}
		return true
	}
	c.Records = recordIDs(records)
	c.Start(t, "0")
	return c
}

// life starts the command, waits until it has asked for a record and a random moment longer, and kills it. It returns how long
// the process took to resume the work, or false if the process ended before the kill.
func (c *slowCRM) life(t *testing.T, env []string, args ...string) (time.Duration, bool) {
	t.Helper()
	for len(c.arrived) > 0 {
		<-c.arrived
	}
	begun := time.Now()
	p := startProcess(t, env, args...)
	defer p.kill()
	select {
	case <-c.arrived:
	case <-p.ended:
		return 0, false
	case <-time.After(time.Minute):
		t.Fatalf("no record was asked for in a minute: %s", p.out.String())
	}
	taken := time.Since(begun)
	select {
	case <-p.ended:
		return taken, false
	case <-time.After(rand.N(150 * time.Millisecond)):
	}
	return taken, true
}

// After kills at random moments a run has the same result as without them: each record is processed once, the totals and failures
// are right, and there is one mail. Each restart resumes the work at once.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"process":                 nil,
		"process without batches": {"BATCH_SIZE=100000"}, // one long history, whose orchestrator waits in a session
		"start":                   nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The delay makes the run longer than all lives together, so that every kill hits a running process.
			delay := time.Duration(*crashKills) * 250 * time.Millisecond * 20 / time.Duration(*crashRecords)
			crm := startSlowCRM(t, *crashRecords, delay)
			env := append(env, "CRM_BASE_URL="+crm.URL, "CRM_TOKEN=secret", "AlertEmailTo=ops@example.com")
			data := t.TempDir()
			message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
			args := []string{"process", "--data", data, "--json", message}
			if name == "start" {
				args = []string{"start", "--data", data, "--port", testkit.FreePort(t)}
				first := startLocal(t, data, env...)
				first.send(t, `{"Batch":"all"}`)
				first.kill()
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
			t.Logf("%s: %d kills, %d records, %d calls, slowest restart %s", name, kills, *crashRecords, len(crm.Requests()), slowest)
			if slowest > 10*time.Second { // a tenth of a second on an idle machine
				t.Errorf("a restart took %s to take the work up", slowest)
			}
		})
	}
}

// finish lets the run end and returns its result.
func finish(t *testing.T, env []string, data, message string, args []string) *output {
	t.Helper()
	if args[0] == "process" {
		rep := parseReport(t, run(t, env, "", args...))
		if rep.Output == nil || len(rep.Mails) != 1 {
			t.Fatalf("%+v", rep)
		}
		return rep.Output
	}
	p := startProcess(t, env, args...)
	defer p.kill()
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
	c.WantEffects(t, *crashRecords)
	failures := *crashRecords / 10
	if out.Total != *crashRecords || out.Failed != failures || out.Succeeded != *crashRecords-failures || len(out.Failures) != failures || out.Mail != "sent" {
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

// The same with the SQLite record store, which has the effects in its file. It is killed at random moments, also during the
// start.
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
	message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
	args := []string{"process", "--data", data, "--json", message}
	kills := 0
	var r result
	for r.stdout == "" {
		life := time.Duration(0)
		if kills < *crashKills {
			life = 20*time.Millisecond + rand.N(70*time.Millisecond) // from a moment before its files are open to a few records later
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

// runFor runs a command and kills it after a time; 0 means never. The exit code of a killed command is -1.
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
