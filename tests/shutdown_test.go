package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// An interrupted process prints how far it got, and the same command continues the run.
func TestProcessInterrupted(t *testing.T) {
	t.Parallel()
	const n = 2000
	data := manyRecords(t, n)
	message := testkit.WriteFile(t, filepath.Join(data, "message.json"), `{"Batch": "many"}`)
	p := startProcess(t, nil, "process", "--data", data, message)
	waitForRecords(t, data, n/10)
	p.signal(t, os.Interrupt)
	if code := p.exit(t); code != 1 || !strings.Contains(p.out.String(), "of 2000 records are done: the same command again continues instance") {
		t.Fatalf("exit code %d: %s", code, p.out.String())
	}
	if done := processed(t, data); done >= n {
		t.Fatalf("interrupted too late: all %d records were processed", done)
	}
	r := run(t, nil, "", "process", "--data", data, "--json", message)
	if rep := parseReport(t, r); r.code != 0 || rep.Output.Succeeded != n || !strings.Contains(r.stderr, "continuing") {
		t.Errorf("exit code %d, report %.300s, stderr %s", r.code, r.stdout, r.stderr)
	}
	if once := query(t, filepath.Join(data, "crm.db"), "SELECT count(*) FROM customers WHERE processed_count = 1 AND batch = 'many'"); once != n {
		t.Errorf("%d of %d records were processed once", once, n)
	}
}

// process works on its own message only. It leaves waiting messages to the next start, and says what else there is to do.
func TestProcessLeavesTheOthers(t *testing.T) {
	t.Parallel()
	crm := startHoldingCRM(t, 3)
	data := t.TempDir()
	env := "CRM_BASE_URL=" + crm.URL
	s := startLocal(t, data, env)
	s.send(t, `{"Batch":"any"}`) // the CRM does not answer for its records yet
	s.waitFor(t, "started")
	waitUntil(t, "the message is done", func() bool {
		return query(t, filepath.Join(data, "taskhub.db"), "SELECT count(*) FROM messages") == 0
	})
	s.kill()
	late := startLocal(t, data, "CRM_BASE_URL=http://127.0.0.1:1") // so that its batch cannot be read
	late.send(t, `{"Batch":"late"}`)
	late.waitFor(t, "a message was not taken")
	late.kill()

	crm.letGo()
	before := len(crm.Requests())
	r := run(t, []string{env}, `{"RecordIds":["own"]}`, "process", "--data", data, "-")
	if r.code != 0 || !strings.Contains(r.stdout, "1 in all, 1 succeeded") ||
		!strings.Contains(r.stderr, "unfinished orchestrations of earlier runs: 1, ") || !strings.Contains(r.stderr, "messages that wait here: 1, ") {
		t.Errorf("%+v", r)
	}
	for _, request := range crm.Requests()[before:] {
		if !strings.Contains(request.Path, "own") {
			t.Errorf("it works on what is another's: %+v", request)
		}
	}
	if n := crm.Calls("/batches/late/records"); n != 0 {
		t.Errorf("the other message was delivered %d times", n)
	}
}

// Before a message was accepted, one signal ends the process.
func TestInterruptedWhileReading(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	if runtime.GOOS == "windows" {
		t.Skip("no signals can be sent on Windows")
	}
	cmd := command(t.Context(), nil, "process", "--data", data, "-")
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(make([]byte, 100_000)); err != nil { // more than a pipe holds: when Write returns, the process is reading
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || t.Context().Err() != nil {
		t.Errorf("it ended with %v", err)
	}
	if files, err := os.ReadDir(data); err != nil || len(files) != 0 {
		t.Errorf("it left %v, %v", files, err)
	}
}

// A stopped start says what is left, and the next one continues it.
func TestStartStopped(t *testing.T) {
	t.Parallel()
	const n = 2000
	data := manyRecords(t, n)
	p := startLocal(t, data)
	p.send(t, `{"Batch":"unknown as yet"}`)
	p.waitFor(t, "was not taken")
	p.send(t, `{"Batch":"many"}`)
	waitForRecords(t, data, n/10)
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(t); code != 0 || !strings.Contains(p.out.String(), "Stopped: orchestrations left: 1, messages left: 1; the next start") {
		t.Fatalf("exit code %d: %s", code, p.out.String())
	}
	if done := processed(t, data); done >= n {
		t.Fatalf("stopped too late: all %d records were processed", done)
	}
	if strings.Contains(p.out.String(), "cancel") {
		t.Errorf("stopping makes noise: %s", p.out.String())
	}

	next := startLocal(t, data)
	next.waitFor(t, "completed: 2000 records, 2000 succeeded")
	if once := query(t, filepath.Join(data, "crm.db"), "SELECT count(*) FROM customers WHERE processed_count = 1"); once != n {
		t.Errorf("%d of %d records were processed once", once, n)
	}
	file := testkit.WriteFile(t, filepath.Join(data, "late.csv"), "RecordId,Batch,Name,Email\nL-1,unknown as yet,Somebody,somebody@example.com\n")
	if r := run(t, nil, "", "import", "--data", data, file); r.code != 0 {
		t.Fatal(r)
	}
	next.waitFor(t, "completed: 1 records, 1 succeeded")
	next.signal(t, os.Interrupt)
	if code := next.exit(t); code != 0 || !strings.Contains(next.out.String(), "nothing is left") {
		t.Errorf("exit code %d: %s", code, next.out.String())
	}
}

// holdingCRM processes what it is asked to, and answers only when the test lets it. Of the batches only "slow" waits.
type holdingCRM struct {
	*testkit.CRM
	waiting chan string // gets the path of each request that waits
	letGo   func()
}

func startHoldingCRM(t *testing.T, records int) *holdingCRM {
	t.Helper()
	free := make(chan struct{})
	c := &holdingCRM{CRM: testkit.NewCRM(), waiting: make(chan string, 10*records), letGo: sync.OnceFunc(func() { close(free) })}
	c.Answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		batch := r.Method == http.MethodGet
		if batch && testkit.RecordOf(r) != "slow" {
			return false
		}
		if !batch {
			c.Process(r)
		}
		c.waiting <- r.URL.Path
		select {
		case <-free:
		case <-r.Context().Done():
		}
		return !batch
	}
	c.Records = recordIDs(records)
	c.Start(t, "0")
	return c
}

// Work that does not end in time is abandoned, at once after a second signal. The next start does it. Each record is processed
// once, however the process ended.
func TestStopAbandons(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string]int{"in time": 1, "at once": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 50
			crm := startHoldingCRM(t, n)
			data, env := t.TempDir(), []string{"CRM_BASE_URL=" + crm.URL}
			p := startLocal(t, data, env...)
			p.send(t, `{"Batch":"any"}`)
			<-crm.waiting
			p.signal(t, syscall.SIGTERM)
			p.waitFor(t, "stopping: ")
			if signals == 2 {
				p.signal(t, syscall.SIGTERM)
			}
			code := p.exit(t)
			if stopped := strings.Contains(p.out.String(), "Stopped: orchestrations left: 1, messages left: 0"); stopped != (signals == 1) || (code == 0) != stopped {
				t.Errorf("exit code %d after %d signals: %s", code, signals, p.out.String())
			}
			if strings.Contains(p.out.String(), "cancel") {
				t.Errorf("stopping makes noise: %s", p.out.String())
			}
			crm.letGo()
			next := startLocal(t, data, env...)
			next.waitFor(t, fmt.Sprintf("completed: %d records, %d succeeded", n, n))
			crm.WantEffects(t, n)
		})
	}
}

// If another program locks the task hub, the process still ends in time. The same command continues when the lock is gone.
func TestStopWhileLocked(t *testing.T) {
	t.Parallel()
	data := usedData(t)
	locked := make(chan func(), 1)
	var once sync.Once
	crm := testkit.StartCRM(t, func(http.ResponseWriter, *http.Request, int) bool {
		once.Do(func() { locked <- lockFile(t, filepath.Join(data, "taskhub.db")) })
		return false
	})
	ids := make([]string, 50)
	for i := range ids {
		ids[i] = fmt.Sprintf(`"R-%d"`, i)
	}
	message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "message.json"), `{"RecordIds":[`+strings.Join(ids, ",")+`]}`)
	env, args := []string{"CRM_BASE_URL=" + crm.URL}, []string{"process", "--data", data, message}
	p := startProcess(t, env, args...)
	release := <-locked
	time.Sleep(200 * time.Millisecond) // results wait for the file
	signalled := time.Now()
	p.signal(t, syscall.SIGINT)
	if code, took := p.exit(t), time.Since(signalled); code != 1 || took > 10*time.Second {
		t.Errorf("exit code %d after %s: %s", code, took, p.out.String())
	}
	if out := p.out.String(); !strings.Contains(out, "same command again continues") || strings.Contains(out, "closed") || strings.Count(out, "\n") > 3 {
		t.Errorf("stopping makes noise: %s", out)
	}
	release()
	if r := run(t, env, "", args...); r.code != 0 || !strings.Contains(r.stdout, "50 in all, 50 succeeded") {
		t.Errorf("the same command again: %+v", r)
	}
	if effects := crm.Effects(); effects != 50 {
		t.Errorf("%d effects, want 50", effects)
	}
}

// A message whose delivery was abandoned is kept, and the abandoned delivery does not count.
func TestStopDuringDelivery(t *testing.T) {
	t.Parallel()
	const n = 3
	t.Run("start", func(t *testing.T) {
		t.Parallel()
		crm := startHoldingCRM(t, n)
		data, env := t.TempDir(), []string{"CRM_BASE_URL=" + crm.URL, "MAX_DELIVERY_COUNT=1"}
		p := startLocal(t, data, env...)
		p.send(t, `{"Batch":"slow"}`)
		<-crm.waiting
		p.signal(t, os.Interrupt)
		if code := p.exit(t); code != 0 || !strings.Contains(p.out.String(), "Stopped: orchestrations left: 0, messages left: 1") {
			t.Errorf("exit code %d: %s", code, p.out.String())
		}
		crm.letGo()
		startLocal(t, data, env...).waitFor(t, "completed: 3 records, 3 succeeded")
		crm.WantEffects(t, n)
	})
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		crm := startHoldingCRM(t, n)
		data, env := t.TempDir(), []string{"CRM_BASE_URL=" + crm.URL}
		message := testkit.WriteFile(t, filepath.Join(data, "message.json"), `{"Batch":"slow"}`)
		p := startProcess(t, env, "process", "--data", data, message)
		<-crm.waiting
		p.signal(t, os.Interrupt)
		if code := p.exit(t); code != 1 || !strings.Contains(p.out.String(), "interrupted before the message was taken: the same command again") {
			t.Errorf("exit code %d: %s", code, p.out.String())
		}
		crm.letGo()
		if r := run(t, env, "", "process", "--data", data, message); r.code != 0 || !strings.Contains(r.stdout, "3 succeeded") {
			t.Errorf("%+v", r)
		}
		crm.WantEffects(t, n)
	})
}
