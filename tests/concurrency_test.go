package tests

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// Only one local host at a time can use a data directory. The others print one line that says where that host is, while it runs.
// After a kill the directory is free.
func TestOneHostPerDataDirectory(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := startLocal(t, data)
	refused := func(r result, want, unwanted string) {
		t.Helper()
		if r.code != 2 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, unwanted) {
			t.Errorf("exit code %d, stdout %q, stderr %q; want one line with %q", r.code, r.stdout, r.stderr, want)
		}
	}
	refused(run(t, nil, "", "start", "--data", data, "--port", testkit.FreePort(t)), "already, at "+first.URL, "curl")
	refused(run(t, nil, `{"Batch":"2026-10"}`, "process", "--data", data, "-"), "curl -i "+first.URL+"/admin", "jq")

	first.kill()
	crm := startHoldingCRM(t, 1)
	holder := startProcess(t, []string{"CRM_BASE_URL=" + crm.URL}, "process", "--data", data, "samples/ids.json")
	<-crm.waiting
	if _, err := os.Stat(filepath.Join(data, "address")); err == nil {
		t.Error("the address of the killed start is still there")
	}
	refused(run(t, nil, `{"Batch":"2026-10"}`, "process", "--data", data, "-"), "in use by another process", "curl")
	crm.letGo()
	if code := holder.exit(t); code != 0 {
		t.Errorf("exit code %d: %s", code, holder.out.String())
	}
	startLocal(t, data).waitFor(t, "Messages go to")
}

// The command that process prints while start runs can be pasted into a shell as it is.
func TestPastedCommand(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the line is for a POSIX shell")
	}
	s := startLocal(t, t.TempDir())
	r := run(t, nil, `{"RecordIds":["C-001","it's \"$HOME\" `+"`id`"+` \u001b"]}`, "process", "--data", s.data, "-")
	_, line, found := strings.Cut(strings.TrimSpace(r.stderr), "post the message to it: ")
	if !found {
		t.Fatalf("no command in %q", r.stderr)
	}
	bin := t.TempDir() // for a curl that prints its arguments
	testkit.WriteFile(t, filepath.Join(bin, "curl"), "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
	if err := os.Chmod(filepath.Join(bin, "curl"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.Output()
	args := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || len(args) != 6 || args[1] != s.URL+"/admin/functions/"+clientFunction || args[2] != "-H" || args[4] != "-d" {
		t.Fatalf("%v: %q", err, args)
	}
	if code := s.post(t, clientFunction, strings.TrimPrefix(args[3], "Content-Type: "), args[5]); code != 202 {
		t.Errorf("%q: %d", args[5], code)
	}
	s.waitFor(t, "completed: 2 records, 1 succeeded, 1 failed")
}

// Fifty messages at once, with records that were imported while start runs: each record is processed once.
func TestFiftyMessagesAtOnce(t *testing.T) {
	t.Parallel()
	const n = 50
	s := startLocal(t, t.TempDir())
	var csv strings.Builder
	csv.WriteString("RecordId,Batch,Name,Email\n")
	for i := range n {
		fmt.Fprintf(&csv, "A-%d,all,Somebody,a%d@example.com\nB-%d,all,Somebody,b%d@example.com\n", i, i, i, i)
	}
	if r := run(t, nil, csv.String(), "import", "--data", s.data, "-"); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
	var posts sync.WaitGroup
	for i := range n {
		posts.Go(func() {
			if code := s.post(t, clientFunction, "application/json", admin(fmt.Sprintf(`{"RecordIds":["A-%d","B-%d"]}`, i, i))); code != 202 {
				t.Errorf("message %d: %d", i, code)
			}
		})
	}
	posts.Wait()
	s.waitForCount(t, " completed: ", n)
	if got := strings.Count(s.out.String(), "completed: 2 records, 2 succeeded, 0 failed"); got != n {
		t.Errorf("%d orchestrations succeeded: %s", got, s.out.String())
	}
	if once := query(t, filepath.Join(s.data, "crm.db"), "SELECT COUNT(*) FROM customers WHERE batch = 'all' AND processed_count = 1"); once != 2*n {
		t.Errorf("%d of %d records were processed once", once, 2*n)
	}
	noMessages(t, s.data)
}

// The same message, delivered twenty times at once, starts one orchestration. The admin endpoint gives each message a new id, so
// the test delivers to the inbox behind it.
func TestSameMessageTwentyTimes(t *testing.T) {
	t.Parallel()
	s := startLocal(t, t.TempDir())
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, "taskhub.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for range 20 {
		if _, err := tx.Exec(`INSERT INTO messages (function, id, body, enqueued) VALUES (?, 'the same', '{"Batch":"2026-10"}', ?)`, clientFunction, time.Now().UnixNano()); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, "completed: 120 records, 120 succeeded")
	noMessages(t, s.data)
	if n := query(t, filepath.Join(s.data, "taskhub.db"), "SELECT COUNT(*) FROM instances WHERE parent = ''"); n != 1 {
		t.Errorf("%d orchestrations", n)
	}
	if n := strings.Count(s.out.String(), " completed: "); n != 1 {
		t.Errorf("%d orchestrations ended: %s", n, s.out.String())
	}
	if once := query(t, filepath.Join(s.data, "crm.db"), "SELECT COUNT(*) FROM processings"); once != 120 {
		t.Errorf("%d processings of 120 records", once)
	}
}

// noMessages waits until the inbox is empty: the last delivery may end after its orchestration.
func noMessages(t *testing.T, data string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); query(t, filepath.Join(data, "taskhub.db"), "SELECT COUNT(*) FROM messages") > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("messages are left after a minute")
		}
	}
}
