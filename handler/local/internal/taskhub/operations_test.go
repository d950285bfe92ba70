package taskhub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// ids lists the instances on all pages of a query.
func ids(t testing.TB, h *TaskHub, f Filter) string {
	t.Helper()
	var list []string
	for pages := 0; ; pages++ {
		page, err := h.Query(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Instances {
			list = append(list, i.ID)
		}
		if page.Next == "" {
			return strings.Join(list, " ")
		}
		if f.From = page.Next; pages > 100 {
			t.Fatal("the pages do not end")
		}
	}
}

// TestQuery: each condition of a filter works, and each page begins where the last one ended.
func TestQuery(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, row := range []row{
		{id: "a", status: api.RUNTIME_STATUS_COMPLETED}, {id: "b%1", status: api.RUNTIME_STATUS_RUNNING}, {id: "b%2", status: api.RUNTIME_STATUS_FAILED},
		{id: "bé1", status: api.RUNTIME_STATUS_PENDING}, {id: "bé2", status: api.RUNTIME_STATUS_COMPLETED}, {id: "c", status: api.RUNTIME_STATUS_SUSPENDED},
	} {
		err := h.update(t.Context(), func(x tx) error {
			return x.exec("INSERT INTO instances (id, execution, name, status, created, updated, input, output, parent, root) VALUES (?, 'e', 'Orch', ?, ?, 1, 'in', 'out', '', ?)",
				row.id, row.status, begin.Add(time.Duration(i)*time.Hour).UnixNano(), row.id)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	hour := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "a b%1 b%2 bé1 bé2 c"},
		{Filter{PageSize: 1}, "a b%1 b%2 bé1 bé2 c"},
		{Filter{PageSize: 4}, "a b%1 b%2 bé1 bé2 c"},
		{Filter{PageSize: 6}, "a b%1 b%2 bé1 bé2 c"},
		{Filter{IDPrefix: "b"}, "b%1 b%2 bé1 bé2"},
		{Filter{IDPrefix: "bé", PageSize: 1}, "bé1 bé2"},
		{Filter{IDPrefix: "b%"}, "b%1 b%2"},
		{Filter{IDPrefix: "B"}, ""},
		{Filter{IDPrefix: "b", From: "bé1"}, "bé1 bé2"},
		{Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING}}, "b%1"},
		{Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_SUSPENDED}, PageSize: 2}, "a bé2 c"},
		{Filter{CreatedFrom: hour(4)}, "bé2 c"},
		{Filter{CreatedTo: hour(1)}, "a b%1"},
		{Filter{CreatedFrom: hour(1), CreatedTo: hour(3), Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}, "b%2"},
	} {
		if got := ids(t, h, c.filter); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.filter, got, c.want)
		}
	}
	for _, inputs := range []bool{false, true} {
		page, err := h.Query(t.Context(), Filter{IDPrefix: "a", Inputs: inputs})
		if err != nil || len(page.Instances) != 1 || page.Instances[0].Output != "out" || (page.Instances[0].Input == "in") != inputs {
			t.Errorf("inputs %t: %+v, %v", inputs, page, err)
		}
	}
}

// TestHistoryOf: a history holds the events of the turns so far.
func TestHistoryOf(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	if _, err := h.History(t.Context(), "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	create(t, h, "a")
	for _, want := range []string{"", "OrchestratorStarted ExecutionStarted TaskScheduled OrchestratorCompleted"} {
		if past, err := h.History(t.Context(), "a"); err != nil || kindsOf(past) != want {
			t.Errorf("%s, %v; want %s", kindsOf(past), err, want)
		}
		if want == "" {
			answerTurn(t, h, take(t, h), newActions().activity("One"))
		}
	}
}

// failActivity fails the next activity, which must exist.
func failActivity(t testing.TB, h *TaskHub) {
	t.Helper()
	task, err := h.GetActivityWorkItem(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	task.Result = TaskFailed(task.NewEvent.GetEventId(), &backend.TaskFailureDetails{ErrorMessage: "no"})
	if err := h.CompleteActivityWorkItem(t.Context(), task); err != nil {
		t.Fatal(err)
	}
}

// TestRewind: as recorded, failures and the events that scheduled failed activities become generic events, and one more generic
// event with the reason makes the next turn. Work in flight stays scheduled.
func TestRewind(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	if err := h.Rewind(t.Context(), "nobody", "r"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	if err := h.Rewind(t.Context(), "a", "r"); !errors.As(err, new(*NotFailedError)) {
		t.Errorf("a running one: %v", err)
	}
	answerTurn(t, h, take(t, h), newActions().activity("Bad").timer(time.Now().Add(time.Hour)).activity("Lost"))
	failActivity(t, h)
	answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_FAILED, "why"))
	if err := h.Rewind(t.Context(), "a", "again"); err != nil {
		t.Fatal(err)
	}
	if i, err := h.Get(t.Context(), "a"); err != nil || i.Status != api.RUNTIME_STATUS_PENDING || i.Output != "" {
		t.Errorf("%+v, %v", i, err)
	}
	past, err := h.History(t.Context(), "a")
	want := "OrchestratorStarted ExecutionStarted GenericEvent TimerCreated TaskScheduled OrchestratorCompleted OrchestratorStarted GenericEvent GenericEvent OrchestratorCompleted"
	if err != nil || kindsOf(past) != want {
		t.Errorf("the history is %s, %v\nwant            %s", kindsOf(past), err, want)
	}
	if past[2].GetEventId() != 0 || past[7].GetEventId() != -1 || past[8].GetEventId() != 0 || past[8].GetGenericEvent().GetData() != nil {
		t.Errorf("the cleared events are %v, %v, %v", past[2], past[7], past[8])
	}
	item := take(t, h)
	if kindsOf(item.NewEvents) != "GenericEvent" || item.NewEvents[0].GetGenericEvent().GetData().GetValue() != "again" || item.NewEvents[0].GetEventId() != -1 {
		t.Errorf("the turn is %v", item.NewEvents)
	}
	answerTurn(t, h, item, newActions())
	if s := status(t, h, "a"); s != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("after its turn it is %s", s)
	}
}

// TestRewindChildren: a failed child is rewound with its parent, and its end wakes the parent. If no child can be rewound, the
// parent itself is woken.
func TestRewindChildren(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(*testing.T, *TaskHub) // what happens before the rewind
		want   string
	}{
		"failed": {func(*testing.T, *TaskHub) {}, "k"},
		"purged": {func(t *testing.T, h *TaskHub) { _, err := h.Purge(t.Context(), "k"); mustBe(t, err, nil) }, "p"},
		"rewound": {func(t *testing.T, h *TaskHub) {
			mustBe(t, h.Rewind(t.Context(), "k", "alone"), nil)
			answerTurn(t, h, take(t, h), newActions())
		}, "p"},
		"another": {func(t *testing.T, h *TaskHub) { create(t, h, "k"); answerTurn(t, h, take(t, h), newActions()) }, "p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, t.TempDir())
			create(t, h, "p")
			answerTurn(t, h, take(t, h), newActions().child("k"))
			answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_FAILED, "why"))
			answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_FAILED, "therefore"))
			c.before(t, h)
			if err := h.Rewind(t.Context(), "p", "again"); err != nil {
				t.Fatal(err)
			}
			item := take(t, h)
			if string(item.InstanceID) != c.want || kindsOf(item.NewEvents) != "GenericEvent" {
				t.Fatalf("%s gets %s", item.InstanceID, kindsOf(item.NewEvents))
			}
			if c.want == "p" {
				return
			}
			answerTurn(t, h, item, newActions().complete(api.RUNTIME_STATUS_COMPLETED, "1"))
			if item := take(t, h); item.InstanceID != "p" || kindsOf(item.NewEvents) != "SubOrchestrationInstanceCompleted" {
				t.Errorf("%s gets %s", item.InstanceID, kindsOf(item.NewEvents))
			}
		})
	}
}

func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// TestRestart: an instance starts again with its name and input, in its own place or beside it, as a root.
func TestRestart(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	_, err := h.Restart(t.Context(), "nobody", false)
	mustBe(t, err, api.ErrInstanceNotFound)
	create(t, h, "a")
	_, err = h.Restart(t.Context(), "a", false)
	mustBe(t, err, api.ErrNotCompleted)
	beside := func(of string) string {
		t.Helper()
		id, err := h.Restart(t.Context(), of, true)
		if err != nil || len(id) != 32 {
			t.Fatal(id, err)
		}
		return id
	}
	checkStart := func(id string, end *actions) {
		t.Helper()
		item := take(t, h)
		start := item.NewEvents[0].GetExecutionStarted()
		if string(item.InstanceID) != id || start.GetParentInstance() != nil || start.GetOrchestrationInstance().GetInstanceId() != id || historyevent.Execution(item.NewEvents[0]) == "a-execution" {
			t.Errorf("%s starts with %v, want %s", item.InstanceID, start, id)
		}
		answerTurn(t, h, item, end)
	}
	done := newActions().complete(api.RUNTIME_STATUS_COMPLETED, "")
	pending := beside("a")
	answerTurn(t, h, take(t, h), newActions().child("k"))
	checkStart(pending, done)
	answerTurn(t, h, take(t, h), newActions())
	checkStart(beside("k"), done)
	raise(t, h, "a", "e")
	answerTurn(t, h, take(t, h), done)
	if id, err := h.Restart(t.Context(), "a", false); err != nil || id != "a" {
		t.Fatal(id, err)
	}
	item := take(t, h)
	if es := item.NewEvents[0].GetExecutionStarted(); es.GetName() != "Orch" || es.GetInput().GetValue() != "1" || historyevent.Execution(item.NewEvents[0]) == "a-execution" {
		t.Errorf("it starts with %v", es)
	}
	if past, err := h.History(t.Context(), "a"); err != nil || len(past) != 0 {
		t.Errorf("%d old events, %v", len(past), err)
	}
}

// tree starts a root with children and grandchildren, some of them running.
var tree = []row{
	{id: "r", root: "r", status: endedStatus, events: 2},
	{id: "r:1", parent: "r", root: "r", status: endedStatus, events: 2},
	{id: "r:1:1", parent: "r:1", root: "r", status: api.RUNTIME_STATUS_FAILED, events: 2},
	{id: "r:2", parent: "r", root: "r", status: runningStatus, events: 2},
	{id: "r:2:1", parent: "r:2", root: "r", status: endedStatus, events: 2},
	{id: "self", parent: "self", root: "self", status: endedStatus},
	{id: "s", root: "s", status: endedStatus, events: 2},
	{id: "run", root: "run", status: runningStatus, events: 2},
}

const others = " WHERE %s NOT LIKE 'new%%' ORDER BY 1"

// TestPurgeTree: a purge deletes an instance and the finished instances below it. A running one stays, with all instances below it.
func TestPurgeTree(t *testing.T) {
	t.Parallel()
	for id, c := range map[string]struct {
		want  int
		left  string
		error error
	}{
		"r":      {3, "r:2 r:2:1 run s self", nil},
		"r:1":    {2, "r r:2 r:2:1 run s self", nil},
		"self":   {1, "r r:1 r:1:1 r:2 r:2:1 run s", nil},
		"run":    {0, "r r:1 r:1:1 r:2 r:2:1 run s self", api.ErrNotCompleted},
		"nobody": {0, "r r:1 r:1:1 r:2 r:2:1 run s self", api.ErrInstanceNotFound},
	} {
		data := t.TempDir()
		fill(t, data, tree)
		h := openHub(t, data)
		n, err := h.Purge(t.Context(), id)
		mustBe(t, err, c.error)
		left := names(t, h, "SELECT id FROM instances"+fmt.Sprintf(others, "id"))
		mails := names(t, h, "SELECT DISTINCT instance FROM mails"+fmt.Sprintf(others, "instance"))
		if n != c.want || left != c.left || mails != c.left {
			t.Errorf("%s: %d purged; left are %s, want %s; mails of %s", id, n, left, c.left, mails)
		}
	}
}

// TestPurgeAll: only finished instances are purged, whatever the filter says. A filter that names running instances is refused.
func TestPurgeAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter  Filter
		want    int
		left    string
		refused bool
	}{
		{Filter{IDPrefix: "r"}, 4, "r:2 run s self", false},
		{Filter{IDPrefix: "r", PageSize: 1}, 4, "r:2 run s self", false},
		{Filter{IDPrefix: "r", Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}, 1, "r r:1 r:2 r:2:1 run s self", false},
		{Filter{IDPrefix: "s", CreatedTo: time.Now().Add(-time.Hour)}, 0, "r r:1 r:1:1 r:2 r:2:1 run s self", false},
		{Filter{IDPrefix: "s", CreatedFrom: time.Now().Add(-time.Hour)}, 2, "r r:1 r:1:1 r:2 r:2:1 run", false},
		{Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, runningStatus}}, 0, "r r:1 r:1:1 r:2 r:2:1 run s self", true},
		{Filter{}, 5006, "r:2 run", false},
	} {
		data := t.TempDir()
		fill(t, data, tree)
		h := openHub(t, data)
		n, err := h.PurgeAll(t.Context(), c.filter)
		if refusal := (*UnfinishedFilterError)(nil); errors.As(err, &refusal) != c.refused || !c.refused && err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		if left := names(t, h, "SELECT id FROM instances"+fmt.Sprintf(others, "id")); n != c.want || left != c.left {
			t.Errorf("%+v: %d purged; left are %s, want %s", c.filter, n, left, c.left)
		}
	}
}
