package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// deadLetter is a line that dead-letters --json prints.
type deadLetter struct {
	Number                               int
	MessageID, Function, Reason, Message string
	EnqueuedAt, DiedAt                   time.Time
	Deliveries                           int
}

func deadLetters(t *testing.T, data string) []deadLetter {
	t.Helper()
	r := run(t, nil, "", "dead-letters", "--data", data, "--json")
	var list []deadLetter
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 {
		t.Fatalf("dead-letters: %v, %+v", err, r)
	}
	return list
}

func waitForDeadLetters(t *testing.T, data string, n int) []deadLetter {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		list := deadLetters(t, data)
		if len(list) == n {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %d dead letters within a minute: %+v", n, list)
		}
	}
}

// A poison message is given up after its last delivery and does not delay other messages. When its cause is gone and it is put
// back, it is processed. All of this works while start runs.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := startLocal(t, data, "MAX_DELIVERY_COUNT=2")
	evil := "no JSON \x1b[31m\u009b\u202e\r\n" + strings.Repeat("x", 10000)
	for _, message := range []string{`{"Batch":"later"}`, evil, `{"Batch":"2026-10"}`} {
		s.send(t, message)
	}
	s.waitFor(t, "completed: 120 records, 120 succeeded")
	byMessage := map[string]deadLetter{}
	for _, l := range waitForDeadLetters(t, data, 2) {
		byMessage[l.Message] = l
		if l.Function != clientFunction || l.Deliveries != 2 || l.MessageID == "" || time.Since(l.EnqueuedAt) > time.Hour || l.DiedAt.Before(l.EnqueuedAt) {
			t.Errorf("got %+v", l)
		}
	}
	later, bad := byMessage[`{"Batch":"later"}`], byMessage[evil]
	if !strings.Contains(later.Reason, "later") || !strings.Contains(bad.Reason, "not JSON") {
		t.Fatalf("got %+v", byMessage)
	}

	r := run(t, nil, "", "dead-letters", "--data", data)
	for _, want := range []string{"no JSON \\x1b[31m", fmt.Sprintf("(%d bytes)", len(evil)), later.MessageID, later.Reason, "2 times"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("the list does not say %q: %q", want, r.stdout)
		}
	}
	if strings.ContainsAny(r.stdout+run(t, nil, "", "dead-letters", "--data", data, "--json").stdout, "\x1b\u009b\u202e\r") {
		t.Errorf("a message's text reaches the terminal: %q", r.stdout)
	}

	file := testkit.WriteFile(t, filepath.Join(data, "later.csv"), "RecordId,Batch,Name,Email\nL-1,later,Somebody,somebody@example.com\n")
	if r := run(t, nil, "", "import", "--data", data, file); r.code != 0 {
		t.Fatalf("import beside start: %+v", r)
	}
	if r := run(t, nil, "", "dead-letters", "--data", data, "--resubmit", fmt.Sprint(later.Number)); r.code != 0 {
		t.Fatalf("resubmit: %+v", r)
	}
	s.waitFor(t, "completed: 1 records, 1 succeeded")
	if left := deadLetters(t, data); len(left) != 1 || left[0].Number != bad.Number {
		t.Errorf("left are %+v", left)
	}
	r = run(t, nil, "", "dead-letters", "--data", data, "--resubmit", fmt.Sprint(later.Number))
	if r.code != 2 || !strings.Contains(r.stderr, "no dead letter") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("put back twice: %+v", r)
	}
	if n := query(t, filepath.Join(data, "crm.db"), "SELECT processed_count FROM customers WHERE id = 'L-1'"); n != 1 {
		t.Errorf("processed %d times", n)
	}
}

func TestDeadLettersOfNothing(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"dead-letters", "--data", data}, {"dead-letters", "--data", data, "--resubmit", "1"}} {
		r := run(t, nil, "", args...)
		if r.code != 2 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, data) {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

// process prints why a function refuses its message, and keeps nothing of the message.
func TestRefusedMessageIsNotKept(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if r := run(t, nil, `{"Batch":"nowhere"}`, "process", "--data", data, "-"); r.code != 2 || !strings.Contains(r.stderr, "nowhere") {
		t.Fatalf("got %+v", r)
	}
	runs, err := filepath.Glob(filepath.Join(data, "runs", "*"))
	if err != nil || len(runs) != 0 {
		t.Errorf("runs %v, %v", runs, err)
	}
	for _, table := range []string{"messages", "instances", "events", "history", "tasks"} {
		if n := query(t, filepath.Join(data, "taskhub.db"), "SELECT COUNT(*) FROM "+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	if letters := deadLetters(t, data); len(letters) != 0 {
		t.Errorf("dead letters %+v", letters)
	}
}
