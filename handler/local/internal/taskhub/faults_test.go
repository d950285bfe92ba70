package taskhub

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// syncBuffer collects the log lines of several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// TestDamagedRow: a row that cannot be decoded fails its instance, logs one line that names the row, and tells the parent. All
// other work goes on.
func TestDamagedRow(t *testing.T) {
	t.Parallel()
	for table, damage := range map[string]string{
		"events":  "UPDATE events SET payload = x'ff' WHERE instance = 'k'",
		"history": "UPDATE history SET payload = x'ff' WHERE instance = 'k' AND seq = 1",
		"tasks":   "UPDATE tasks SET payload = x'ff' WHERE instance = 'k'",
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			dir, log := t.TempDir(), &syncBuffer{}
			prepareDamage(t, dir, damage)
			var ends []string
			h, err := Open(t.Context(), Options{DataDir: dir, Log: slog.New(slog.NewTextHandler(log, nil)), OnInstance: func(i Instance) { ends = append(ends, i.ID+" "+i.Status.String()) }})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if err := h.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			seen := map[string]string{}
			task, err := h.GetActivityWorkItem(t.Context()) // the task after the damaged one
			if err != nil || task.InstanceID != "well" && table == "tasks" {
				t.Fatal(task, err)
			}
			for len(seen) < 2 {
				item := take(t, h)
				if _, err := h.GetOrchestrationRuntimeState(t.Context(), item); err != nil {
					if !errors.As(err, new(*RowError)) {
						t.Fatal(err)
					}
					continue
				}
				seen[string(item.InstanceID)] = kindsOf(item.NewEvents)
				answerTurn(t, h, item, newActions())
				if seen["well"] == "" {
					raise(t, h, "well", "news")
				}
			}
			if fmt.Sprint(seen) != "map[p:SubOrchestrationInstanceFailed well:news]" {
				t.Errorf("the turns are %v", seen)
			}
			i, err := h.Get(t.Context(), "k")
			if err != nil || i.Status != api.RUNTIME_STATUS_FAILED || !strings.Contains(i.Output, "of table "+table+" cannot be decoded") {
				t.Errorf("%+v, %v", i, err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "table="+table) || fmt.Sprint(ends) != "[k ORCHESTRATION_STATUS_FAILED]" {
				t.Errorf("the log is %s, the ends are %v", got, ends)
			}
		})
	}
}

// prepareDamage makes a damaged task hub. It has a parent p, its child k with an event and a task, and another instance with a
// task.
func prepareDamage(t *testing.T, dir, damage string) {
	t.Helper()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	create(t, h, "p")
	answerTurn(t, h, take(t, h), newActions().child("k"))
	answerTurn(t, h, take(t, h), newActions().activity("One"))
	create(t, h, "well")
	answerTurn(t, h, take(t, h), newActions().activity("Two"))
	raise(t, h, "k", "news")
	if _, err := h.write.Exec(damage); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(damage, "tasks") {
		_, err = h.write.Exec("DELETE FROM events")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kill leaves the file as a dying process does.
func kill(t testing.TB, h *TaskHub) {
	t.Helper()
	_ = h.Stop(t.Context())
	if err := h.store.close(); err != nil {
		t.Fatal(err)
	}
}

// taskNames returns the activities that a hub gives out over time, without ending them.
func taskNames(t testing.TB, h *TaskHub) (items []*backend.ActivityWorkItem, names string) {
	t.Helper()
	var list []string
	for {
		item, err := h.nextTask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if item == nil {
			return items, strings.Join(list, " ")
		}
		items, list = append(items, item), append(list, item.NewEvent.GetTaskScheduled().GetName())
	}
}

// TestDeadlyTask: processes die again and again while one task runs. After two deaths it runs alone, after five it fails. The tasks
// that ran beside it do not fail, and a closed host counts as no death.
func TestDeadlyTask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *TaskHub {
		h, err := Open(t.Context(), Options{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open()
	create(t, h, "a")
	answerTurn(t, h, take(t, h), newActions().activity("Deadly").activity("Slow"))
	for range 10 { // these hosts are closed normally
		if _, names := taskNames(t, h); names != "Deadly Slow" {
			t.Fatalf("given out are %s", names)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h = open()
	}
	for deaths, want := range []string{"Deadly Slow", "Deadly Slow", "Deadly", "Slow", "Deadly"} {
		items, names := taskNames(t, h)
		if names != want {
			t.Fatalf("after %d deaths %s are given out, want %s", deaths, names, want)
		}
		if want == "Slow" { // this one ends, so the other one runs alone
			items[0].Result = TaskCompleted(1, []byte("1"))
			mustBe(t, h.CompleteActivityWorkItem(t.Context(), items[0]), nil)
			if _, names := taskNames(t, h); names != "Deadly" {
				t.Fatalf("%s are given out", names)
			}
		}
		kill(t, h)
		h = open()
	}
	defer h.Close()
	if _, names := taskNames(t, h); names != "" {
		t.Fatalf("%s are given out", names)
	}
	mustBe(t, h.Start(t.Context()), nil)
	item := take(t, h)
	if kindsOf(item.NewEvents) != "TaskCompleted TaskFailed" {
		t.Fatalf("the turn is %v", item.NewEvents)
	}
	if f := item.NewEvents[1].GetTaskFailed(); f.GetTaskScheduledId() != 0 ||
		f.GetFailureDetails().GetErrorMessage() != "activity Deadly was given up: 5 times the process died while it was running" {
		t.Errorf("it failed with %v", f)
	}
}

// TestSuspectsOneByOne: the next suspect runs when the one before has ended, in whatever way.
func TestSuspectsOneByOne(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	answerTurn(t, h, take(t, h), newActions().activity("One").activity("Two").activity("Well"))
	if _, err := h.write.Exec("UPDATE tasks SET deaths = 2 WHERE seq < 3"); err != nil {
		t.Fatal(err)
	}
	items, names := taskNames(t, h)
	if names != "Well One" {
		t.Fatalf("given out are %s", names)
	}
	items[1].Result = TaskCompleted(0, nil)
	if err := h.CompleteActivityWorkItem(t.Context(), items[1]); err != nil {
		t.Fatal(err)
	}
	if _, names := taskNames(t, h); names != "Two" {
		t.Errorf("given out are %s", names)
	}
}

// TestCancelledWaits: a cancelled wait for an instance leaves nothing behind.
func TestCancelledWaits(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	never := func(Instance) bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		_, err := h.Wait(ctx, "a", never)
		mustBe(t, err, context.Canceled)
		_, err = h.Wait(t.Context(), "nobody", never)
		mustBe(t, err, api.ErrInstanceNotFound)
		_, err = h.Wait(t.Context(), "a", func(Instance) bool { return true })
		mustBe(t, err, nil)
	}
	if len(h.watchers) != 0 {
		t.Errorf("%d watchers are left", len(h.watchers))
	}
	waits := make(chan error)
	for range 2 {
		go func() { _, err := h.Wait(t.Context(), "a", Instance.IsFinished); waits <- err }()
	}
	answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_COMPLETED, "1"))
	for range 2 {
		mustBe(t, <-waits, nil)
	}
}

// TestStartIsReportedOnce: a start is reported once, even if the first turn is abandoned and comes again, or the instance is
// rewound.
func TestStartIsReportedOnce(t *testing.T) {
	t.Parallel()
	var reports []string
	h, err := Open(t.Context(), Options{DataDir: t.TempDir(), OnInstance: func(i Instance) { reports = append(reports, i.ID+" "+i.Status.String()[len("ORCHESTRATION_STATUS_"):]) }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	create(t, h, "a")
	mustBe(t, h.AbandonOrchestrationWorkItem(t.Context(), take(t, h)), nil)
	item := take(t, h)
	h.ContinueAsNew("a", Generation{})
	answerTurn(t, h, item, newActions())
	item = take(t, h)
	item.NewEvents = item.NewEvents[:1]
	answerTurn(t, h, item, newActions().complete(api.RUNTIME_STATUS_FAILED, ""))
	mustBe(t, h.Rewind(t.Context(), "a", ""), nil)
	answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_COMPLETED, ""))
	if got := strings.Join(reports, ", "); got != "a RUNNING, a FAILED, a COMPLETED" {
		t.Errorf("the reports are %s", got)
	}
}

// TestTermination: as recorded, a termination counts even if the turn's answer does not end the orchestration; no parent is told
// then. It never reaches the children, whatever the client asks for.
func TestTermination(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "p")
	answerTurn(t, h, take(t, h), newActions().child("k"))
	answerTurn(t, h, take(t, h), newActions())
	for _, id := range []string{"k", "p"} {
		e := historyevent.New("executionTerminated", time.Now())
		e.GetExecutionTerminated().Recurse = true
		mustBe(t, h.AddNewOrchestrationEvent(t.Context(), api.InstanceID(id), e), nil)
		item := take(t, h)
		if string(item.InstanceID) != id || kindsOf(item.NewEvents) != "ExecutionTerminated" || item.NewEvents[0].GetExecutionTerminated().GetRecurse() {
			t.Errorf("%s gets %v, want %s", item.InstanceID, item.NewEvents, id)
		}
		answerTurn(t, h, item, newActions())
		if s := status(t, h, id); s != api.RUNTIME_STATUS_TERMINATED {
			t.Errorf("%s is %s", id, s)
		}
	}
}

// TestChildWithItsParentsID: as recorded, a child with its parent's id replaces the parent, whose turn is void.
func TestChildWithItsParentsID(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	answerTurn(t, h, take(t, h), newActions().child("a").activity("Void"))
	item := take(t, h)
	start := item.NewEvents[0].GetExecutionStarted()
	if kindsOf(item.NewEvents) != "ExecutionStarted" || start.GetName() != "Child" || start.GetParentInstance().GetOrchestrationInstance().GetInstanceId() != "a" {
		t.Errorf("the turn is %v", item.NewEvents)
	}
	answerTurn(t, h, item, newActions().complete(api.RUNTIME_STATUS_COMPLETED, "1"))
	if i, err := h.Get(t.Context(), "a"); err != nil || i.Status != api.RUNTIME_STATUS_COMPLETED || i.Parent != "a" {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestOlderFile: a file of an older version gets the columns of a new one, and keeps everything that is in it.
func TestOlderFile(t *testing.T) {
	t.Parallel()
	const (
		to2 = `CREATE TABLE runs (instance TEXT, task INTEGER, started INTEGER, input TEXT); ALTER TABLE history DROP COLUMN input;
			ALTER TABLE history DROP COLUMN started; ALTER TABLE events DROP COLUMN started; PRAGMA user_version = 2;`
		to1 = "DROP TABLE runs; ALTER TABLE tasks DROP COLUMN deaths; ALTER TABLE tasks DROP COLUMN running; PRAGMA user_version = 1"
	)
	for name, changes := range map[string]string{"version 1": to2 + to1, "version 2": to2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h, err := Open(t.Context(), Options{DataDir: dir})
			mustBe(t, err, nil)
			create(t, h, "a")
			answerTurn(t, h, take(t, h), newActions().activity("Old"))
			want := columns(t, h)
			kill(t, h)
			db, err := sql.Open("sqlite", dataSource(filepath.Join(dir, fileName)))
			mustBe(t, err, nil)
			_, err = db.Exec(changes)
			mustBe(t, errors.Join(err, db.Close()), nil)
			for range 2 {
				h = openHub(t, dir)
				if got := columns(t, h); got != want {
					t.Errorf("the file has %s\nwant %s", got, want)
				}
				if _, names := taskNames(t, h); names != "Old" {
					t.Errorf("given out are %s", names)
				}
				if events, err := h.History(t.Context(), "a"); err != nil || len(events) != 4 {
					t.Errorf("the history is %v, %v", events, err)
				}
			}
		})
	}
}

// columns lists the columns of all tables.
func columns(t testing.TB, h *TaskHub) string {
	t.Helper()
	list, err := h.strings(t.Context(), `SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || COALESCE(c.dflt_value, '')
		FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1`)
	mustBe(t, err, nil)
	return strings.Join(list, ", ")
}
