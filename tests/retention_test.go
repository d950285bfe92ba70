package tests

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// Thousands of ended orchestrations cause no work in an idle process.
func TestIdle(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if r := run(t, nil, "", "process", "--data", data, "samples/october.json"); r.code != 0 {
		t.Fatal(r)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "taskhub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
		INSERT INTO instances (id, execution, name, status, created, updated, input, output, parent, root)
		SELECT 'f' || i, execution, name, status, created, updated, input, output, '', 'f' || i FROM instances, n WHERE parent = ''`); err != nil {
		t.Fatal(err)
	}
	p := startLocal(t, data)
	time.Sleep(4 * time.Second) // the test measures that nothing happens
	p.signal(t, os.Interrupt)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d: %s", code, p.out.String())
	}
	used := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	t.Log("with start and stop it took", used)
	if used > 2*time.Second {
		t.Errorf("start took %s of a processor while it had nothing to do for 4s", used)
	}
}

// start removes what ended more than a week ago, and the file of a run that nobody continued. What has not ended stays, and if
// the setting says so, everything stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		kept string // the files of runs
	}{
		"a week":   {nil, "left unfinished, yesterday"},
		"a month":  {[]string{"LOCAL_RETENTION=720h"}, "ended, left unfinished, yesterday"},
		"for ever": {[]string{"LOCAL_RETENTION=0"}, "ended, left unfinished, yesterday"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := agedData(t, 8*24*time.Hour)
			taskhub := filepath.Join(data, "taskhub.db")
			s := startLocal(t, data, c.env...)
			s.send(t, `{"Batch":"2026-10"}`)
			s.waitFor(t, "completed: 120 records, 120 succeeded")
			const ended = "SELECT COUNT(*) FROM instances WHERE id <> 'unfinished' AND updated < (SELECT updated + 1 FROM instances WHERE id = 'unfinished')"
			if c.env == nil {
				for deadline := time.Now().Add(time.Minute); query(t, taskhub, ended) > 0; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("nothing was purged within a minute")
					}
				}
			} else if query(t, taskhub, ended) == 0 {
				t.Error("it was purged all the same")
			}
			if n := query(t, taskhub, "SELECT COUNT(*) FROM instances WHERE id = 'unfinished'"); n != 1 {
				t.Error("an unfinished orchestration was purged")
			}
			files, err := os.ReadDir(filepath.Join(data, "runs"))
			var names []string
			for _, f := range files {
				names = append(names, f.Name())
			}
			if got := strings.Join(names, ", "); err != nil || got != c.kept {
				t.Errorf("files of runs: %s, %v; want %s", got, err, c.kept)
			}
		})
	}
}

// agedData returns a data directory whose orchestrations ended that long ago, except for one that has not ended. It also has
// files of runs that nobody continued.
func agedData(t *testing.T, age time.Duration) string {
	t.Helper()
	data := t.TempDir()
	if r := run(t, nil, "", "process", "--data", data, "samples/ids.json"); !strings.Contains(r.stdout, "Completed") {
		t.Fatal(r)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "taskhub.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	old := time.Now().Add(-age)
	for _, statement := range []string{
		"UPDATE instances SET updated = ?",
		"INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root) VALUES ('unfinished', 'e', 'MyOrchestration', 0, 1, ?, '', '', 'unfinished')",
	} {
		if _, err := db.Exec(statement, old.UnixNano()); err != nil {
			t.Fatal(err)
		}
	}
	for file, f := range map[string]struct {
		instance string
		last     time.Time
	}{"left unfinished": {"unfinished", old}, "ended": {"gone", old}, "yesterday": {"gone", old.Add(age - 24*time.Hour)}} {
		path := testkit.WriteFile(t, filepath.Join(data, "runs", file), "message id\n"+f.instance+"\n")
		if err := os.Chtimes(path, f.last, f.last); err != nil {
			t.Fatal(err)
		}
	}
	return data
}
