package taskhub

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
)

// row is an instance in the store.
type row struct {
	id, parent, root string
	status           api.OrchestrationStatus
	age              time.Duration // time since its last change
	events           int           // number of events in its history
}

const (
	runningStatus = api.RUNTIME_STATUS_RUNNING
	endedStatus   = api.RUNTIME_STATUS_COMPLETED
	old, young    = 3 * time.Hour, time.Minute
)

// fill puts instances into a new store.
func fill(t testing.TB, data string, rows []row) {
	t.Helper()
	s, err := openStore(t.Context(), filepath.Join(data, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	err = s.update(t.Context(), func(x tx) error {
		for _, r := range rows {
			updated := time.Now().Add(-r.age).UnixNano()
			if err := x.exec("INSERT INTO instances (id, execution, name, status, created, updated, input, output, custom_status, parent, root) VALUES (?, 'e', 'Orch', ?, ?, ?, '1', '2', '3', ?, ?)",
				r.id, r.status, updated, updated, r.parent, r.root); err != nil {
				return err
			}
			for seq := range r.events {
				if err := x.exec("INSERT INTO history (instance, seq, payload) VALUES (?, ?, zeroblob(300))", r.id, seq); err != nil {
					return err
				}
			}
			if err := x.exec("INSERT INTO mails VALUES (?, 'e', 1, 1, ?, '[]', '', '', 0, '')", r.id, r.root); err != nil {
				return err
			}
		}
		// Thousands of young instances.
		if err := x.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
			INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root)
			SELECT 'new-' || i, 'e', 'Orch', ?, 1, ?, '', '', 'new-' || i FROM n`, endedStatus, time.Now().UnixNano()); err != nil {
			return err
		}
		return x.exec("INSERT INTO messages (function, id, body, enqueued, dead) VALUES ('Start', 'dead', 'x', 1, 1)")
	})
	if err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, h *TaskHub, query string) string {
	t.Helper()
	list, err := h.strings(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestPurge: instances that ended long ago are deleted with all that belongs to them, while new work goes on. Unfinished instances
// stay whole, whatever their age.
func TestPurge(t *testing.T) {
	t.Parallel()
	rows := []row{
		{"old", "", "old", endedStatus, old, 3500},
		{"old-child", "old", "old", api.RUNTIME_STATUS_FAILED, old, 10},
		{"orphan", "purged", "purged", api.RUNTIME_STATUS_TERMINATED, old, 1},
		{"running", "", "running", runningStatus, old, 2},
		{"running-child", "running", "running", endedStatus, old, 2},
		{"survived", "", "survived", endedStatus, old, 2},
		{"survived-child", "survived", "survived", api.RUNTIME_STATUS_PENDING, old, 2},
		{"survived-suspended", "survived", "survived", api.RUNTIME_STATUS_SUSPENDED, old, 2},
		{"young", "", "young", endedStatus, young, 2},
		{"young-child", "young", "young", endedStatus, old, 2},
	}
	kept := "running running-child survived survived-child survived-suspended young young-child"
	for i := range 300 {
		id := fmt.Sprintf("many-%d", i)
		rows = append(rows, row{id, "", id, endedStatus, old, 2})
	}
	data := t.TempDir()
	fill(t, data, rows)
	h := openHub(t, data)
	create(t, h, "new")
	if err := h.purge(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, h, "SELECT id FROM instances WHERE id NOT LIKE 'new%' ORDER BY id"); got != kept {
		t.Errorf("left are %s, want %s", got, kept)
	}
	if got := names(t, h, "SELECT DISTINCT instance FROM history WHERE instance NOT LIKE 'new%' ORDER BY instance"); got != kept {
		t.Errorf("histories of %s", got)
	}
	if got := names(t, h, "SELECT instance FROM mails ORDER BY instance"); got != kept {
		t.Errorf("mails of %s", got)
	}
	if letters, err := DeadLetters(t.Context(), data); err != nil || len(letters) != 1 {
		t.Errorf("dead letters %+v, %v", letters, err)
	}
	if got := names(t, h, "SELECT COUNT(*) FROM instances WHERE id LIKE 'new%'"); got != "5001" {
		t.Errorf("%s of 5001 new instances are left", got)
	}
}

// TestPurgeStartedAnew: an instance that is started again after the purge has found it stays.
func TestPurgeStartedAnew(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	fill(t, data, []row{{"again", "", "again", endedStatus, old, 1}})
	h := openHub(t, data)
	before := time.Now().Add(-time.Hour)
	if err := h.update(t.Context(), func(x tx) error {
		return x.exec("UPDATE instances SET status = ?", runningStatus)
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.purgeTree(t.Context(), "again", before); err != nil {
		t.Fatal(err)
	}
	if got := names(t, h, "SELECT instance FROM history"); got != "again" {
		t.Errorf("a running instance lost its history: %q", got)
	}
}

// TestPlans: no query that a running host repeats reads all instances, except the purge's query, which an index serves.
func TestPlans(t *testing.T) {
	t.Parallel()
	h := openHub(t, t.TempDir())
	for query, want := range map[string]string{
		purgeable: "SCAN instances USING COVERING INDEX instances_root",
		"SELECT " + instanceColumns + " FROM instances WHERE " + runningRoots:                                                            "SEARCH instances USING INDEX instances_status",
		"SELECT 1 FROM instances WHERE root = ? AND (updated >= ? OR " + unfinished + ")":                                                "SEARCH instances USING COVERING INDEX instances_root",
		"INSERT INTO events (instance, execution, visible, payload) SELECT id, '', 0, x'' FROM instances WHERE id = ? AND " + unfinished: "SEARCH instances USING INDEX sqlite_autoindex_instances_1",
		"SELECT COUNT(*) FROM messages WHERE dead = 0":                                                                                   "SEARCH messages USING COVERING INDEX messages_due",
		"SELECT seq, due FROM messages WHERE dead = 0 ORDER BY due, seq":                                                                 "SEARCH messages USING COVERING INDEX messages_due",
	} {
		rows, err := h.write.Query("EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Error(err)
			}
			plan = append(plan, detail)
		}
		rows.Close()
		if got := strings.Join(plan, "; "); !strings.HasPrefix(got, want) || strings.Count(got, "SCAN") > strings.Count(want, "SCAN") {
			t.Errorf("%s\nis done by %s\nwant       %s", query, got, want)
		}
	}
}
