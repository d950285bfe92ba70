package taskhub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// Each test checks one promise of backend.Backend, or one that goes beyond it.

// actions are what a turn's answer asks for.
type actions struct{ backend.ExecutionResults }

func newActions() *actions {
	a := &actions{}
	a.Response = newOf(a.Response)
	return a
}

func newOf[T any](*T) *T        { return new(T) }
func newElement[T any]([]*T) *T { return new(T) }

// add adds an action of that kind. set fills in its fields.
func (a *actions) add(kind protoreflect.Name, set func(m protoreflect.Message)) *actions {
	action := newElement(a.Response.Actions)
	action.Id = int32(len(a.Response.Actions))
	m := action.ProtoReflect()
	inner := m.Mutable(m.Descriptor().Fields().ByName(kind)).Message()
	set(inner)
	a.Response.Actions = append(a.Response.Actions, action)
	return a
}

func field(m protoreflect.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(name)
}

func (a *actions) activity(name string) *actions {
	return a.add("scheduleTask", func(m protoreflect.Message) { m.Set(field(m, "name"), protoreflect.ValueOfString(name)) })
}

func (a *actions) child(id string) *actions {
	return a.add("createSubOrchestration", func(m protoreflect.Message) {
		m.Set(field(m, "name"), protoreflect.ValueOfString("Child"))
		m.Set(field(m, "instanceId"), protoreflect.ValueOfString(id))
	})
}

func (a *actions) timer(at time.Time) *actions {
	return a.add("createTimer", func(m protoreflect.Message) {
		m.Set(field(m, "fireAt"), protoreflect.ValueOfMessage(timestamppb.New(at).ProtoReflect()))
	})
}

func (a *actions) complete(status api.OrchestrationStatus, result string) *actions {
	return a.add("completeOrchestration", func(m protoreflect.Message) {
		m.Set(field(m, "orchestrationStatus"), protoreflect.ValueOfEnum(protoreflect.EnumNumber(status)))
		m.Set(field(m, "result"), protoreflect.ValueOfMessage(wrapperspb.String(result).ProtoReflect()))
	})
}

// start opens a task hub and continues the work in it.
func startHub(t testing.TB, dir string) *TaskHub {
	t.Helper()
	h := openHub(t, dir)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// take returns the next turn. The test fails if there is none.
func take(t testing.TB, h *TaskHub) *backend.OrchestrationWorkItem {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	item, err := within(ctx, func() (*backend.OrchestrationWorkItem, error) { return h.GetOrchestrationWorkItem(t.Context()) })
	if err != nil {
		t.Fatalf("no turn: %v", err)
	}
	return item
}

func within[T any](ctx context.Context, f func() (T, error)) (v T, err error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() { v, err := f(); done <- result{v, err} }()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// answerTurn ends a turn with what its answer asks for.
func answerTurn(t testing.TB, h *TaskHub, item *backend.OrchestrationWorkItem, a *actions) {
	t.Helper()
	state, err := h.GetOrchestrationRuntimeState(t.Context(), item)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append([]*backend.HistoryEvent{historyevent.New("orchestratorStarted", time.Now())}, item.NewEvents...) {
		if err := state.AddEvent(e); err != nil {
			t.Fatalf("%s: %v", kindsOf(item.NewEvents), err)
		}
	}
	if _, err := state.ApplyActions(a.Response.Actions, nil); err != nil {
		t.Fatal(err)
	}
	item.State = state
	if err := h.CompleteOrchestrationWorkItem(t.Context(), item); err != nil {
		t.Fatal(err)
	}
}

// kindsOf returns the kinds of the events; for a raised event also its name.
func kindsOf(events []*backend.HistoryEvent) string {
	var kinds []string
	for _, e := range events {
		kind := fmt.Sprintf("%T", e.GetEventType())
		kind = kind[strings.LastIndexByte(kind, '_')+1:]
		if r := e.GetEventRaised(); r != nil {
			kind = r.GetName()
		}
		kinds = append(kinds, kind)
	}
	return strings.Join(kinds, " ")
}

func raise(t testing.TB, h *TaskHub, id, name string) {
	t.Helper()
	e := historyevent.New("eventRaised", time.Now())
	e.GetEventRaised().Name = name
	if err := h.AddNewOrchestrationEvent(t.Context(), api.InstanceID(id), e); err != nil {
		t.Fatal(err)
	}
}

func status(t testing.TB, h *TaskHub, id string) api.OrchestrationStatus {
	t.Helper()
	i, err := h.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i.Status
}

// TestInstances: a start makes an instance, and its first turn has the start event. A running instance is not started again. A
// finished one is, unless the policy leaves its status out.
func TestInstances(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	if err := h.CreateOrchestrationInstance(t.Context(), started("a")); !errors.Is(err, api.ErrDuplicateInstance) {
		t.Errorf("a pending one: %v", err)
	}
	item := take(t, h)
	if got := kindsOf(item.NewEvents); got != "ExecutionStarted" || item.InstanceID != "a" {
		t.Errorf("the first turn of %s is %s", item.InstanceID, got)
	}
	answerTurn(t, h, item, newActions().complete(api.RUNTIME_STATUS_COMPLETED, "1"))
	if m, err := h.GetOrchestrationMetadata(t.Context(), "a"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.SerializedOutput != "1" || m.Name != "Orch" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, listed := range [][]api.OrchestrationStatus{{api.RUNTIME_STATUS_FAILED}, {}} {
		policy := backend.WithOrchestrationIdReusePolicy(&api.OrchestrationIdReusePolicy{OperationStatus: listed})
		if err := h.CreateOrchestrationInstance(t.Context(), started("a"), policy); !errors.Is(err, api.ErrDuplicateInstance) {
			t.Errorf("a completed one, of which the policy lists %v: %v", listed, err)
		}
	}
	if err := h.CreateOrchestrationInstance(t.Context(), started("a"), backend.WithOrchestrationIdReusePolicy(nil)); err != nil {
		t.Errorf("without a policy: %v", err)
	}
	if s := status(t, h, "a"); s != api.RUNTIME_STATUS_PENDING {
		t.Errorf("the replaced one is %s", s)
	}
	if _, err := h.GetOrchestrationMetadata(t.Context(), "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
}

// TestOneTurnAtATime: an instance has one turn at a time. Events that come during a turn make the next turn.
func TestOneTurnAtATime(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	item := take(t, h)
	raise(t, h, "a", "meanwhile")
	create(t, h, "b")
	if other := take(t, h); other.InstanceID != "b" {
		t.Errorf("the turn of %s was given twice", other.InstanceID)
	}
	answerTurn(t, h, item, newActions())
	if next := take(t, h); next.InstanceID != "a" || kindsOf(next.NewEvents) != "meanwhile" {
		t.Errorf("the next turn of %s is %s", next.InstanceID, kindsOf(next.NewEvents))
	}
}

// TestActivities: a scheduled activity is given out once, and its result makes a turn. An abandoned activity comes again.
func TestActivities(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	answerTurn(t, h, take(t, h), newActions().activity("One").activity("Two"))
	for range 2 {
		task, err := h.GetActivityWorkItem(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if task.NewEvent.GetTaskScheduled().GetName() == "One" {
			if err := h.AbandonActivityWorkItem(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			if task, err = h.GetActivityWorkItem(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		task.Result = TaskCompleted(task.NewEvent.GetEventId(), []byte("1"))
		for range 2 { // the second time changes nothing
			if err := h.CompleteActivityWorkItem(t.Context(), task); err != nil {
				t.Fatal(err)
			}
		}
	}
	results := 0
	for results < 2 {
		item := take(t, h)
		results += strings.Count(kindsOf(item.NewEvents), "TaskCompleted")
		answerTurn(t, h, item, newActions())
	}
	if results != 2 {
		t.Errorf("%d results of two activities", results)
	}
}

// TestAbandonedTurn: an abandoned turn comes again with the same events, and nothing of it is stored.
func TestAbandonedTurn(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	item := take(t, h)
	if err := h.AbandonOrchestrationWorkItem(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	if err := h.CompleteOrchestrationWorkItem(t.Context(), item); !errors.Is(err, backend.ErrWorkItemLockLost) {
		t.Errorf("an abandoned turn is completed: %v", err)
	}
	again := take(t, h)
	if kindsOf(again.NewEvents) != "ExecutionStarted" || again.RetryCount != 1 {
		t.Errorf("%s, retry %d", kindsOf(again.NewEvents), again.RetryCount)
	}
}

// TestDiedInFlight: work that was in flight when the process died is there for the next process.
func TestDiedInFlight(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	create(t, h, "turn")
	create(t, h, "activity")
	for range 2 {
		if item := take(t, h); item.InstanceID == "activity" {
			answerTurn(t, h, item, newActions().activity("One"))
		}
	}
	if _, err := h.GetActivityWorkItem(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = startHub(t, dir)
	if item := take(t, h); item.InstanceID != "turn" || kindsOf(item.NewEvents) != "ExecutionStarted" {
		t.Errorf("%s: %s", item.InstanceID, kindsOf(item.NewEvents))
	}
	if task, err := h.GetActivityWorkItem(t.Context()); err != nil || task.InstanceID != "activity" {
		t.Errorf("%+v, %v", task, err)
	}
}

// TestTimer: a timer makes a turn when it is due, even in the next process.
func TestTimer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	create(t, h, "a")
	due := time.Now().Add(300 * time.Millisecond)
	answerTurn(t, h, take(t, h), newActions().timer(due))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = startHub(t, dir)
	if item := take(t, h); kindsOf(item.NewEvents) != "TimerFired" || time.Now().Before(due) {
		t.Errorf("%s, %s before it is due", kindsOf(item.NewEvents), time.Until(due))
	}
}

// TestGenerations: after a continue-as-new come the start, the carried-over events and the events that no turn has seen, each in
// the order of arrival, however many there are. Results for the old execution are dropped.
func TestGenerations(t *testing.T) {
	t.Parallel()
	for _, queued := range []int{3, maxEventsPerTurn + 500} {
		t.Run(fmt.Sprint(queued), func(t *testing.T) {
			t.Parallel()
			h := startHub(t, t.TempDir())
			create(t, h, "a")
			answerTurn(t, h, take(t, h), newActions().activity("Stale").timer(time.Now().Add(time.Hour)))
			stale, err := h.GetActivityWorkItem(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			raise(t, h, "a", "seen")
			item := take(t, h)
			for i := range queued {
				raise(t, h, "a", fmt.Sprint(i))
			}
			h.ContinueAsNew("a", Generation{Input: wrapperspb.String("2"), Carryover: item.NewEvents})
			answerTurn(t, h, item, newActions())
			stale.Result = TaskCompleted(stale.NewEvent.GetEventId(), []byte("1"))
			if err := h.CompleteActivityWorkItem(t.Context(), stale); err != nil {
				t.Fatal(err)
			}
			want := []string{"ExecutionStarted", "seen", "OrchestratorCompleted"}
			for i := range queued {
				want = append(want, fmt.Sprint(i))
			}
			var got []string
			for len(got) < len(want) {
				next := take(t, h)
				got = append(got, strings.Fields(kindsOf(next.NewEvents))...)
				next.NewEvents = slices.DeleteFunc(next.NewEvents, func(e *backend.HistoryEvent) bool { return e.GetOrchestratorCompleted() != nil })
				answerTurn(t, h, next, newActions())
			}
			if !slices.Equal(got, want) {
				t.Errorf("events %.200v …, want %.200v …", got, want)
			}
			var left int
			if err := h.read.QueryRow("SELECT COUNT(*) FROM events").Scan(&left); err != nil || left != 0 {
				t.Errorf("%d events are left, %v", left, err)
			}
		})
	}
}

// TestScheduledStart: events that are sent before a scheduled start wait for it, and follow it in the first turn.
func TestScheduledStart(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	start := started("a")
	due := time.Now().Add(300 * time.Millisecond)
	start.GetExecutionStarted().ScheduledStartTimestamp = timestamppb.New(due)
	if err := h.CreateOrchestrationInstance(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	raise(t, h, "a", "early")
	if item := take(t, h); kindsOf(item.NewEvents) != "ExecutionStarted early" || time.Now().Before(due) {
		t.Errorf("the first turn is %s, %s before it is due", kindsOf(item.NewEvents), time.Until(due))
	}
}

// TestChildren: the end of a child is an event for its parent, however it ends. A child replaces any instance with its id, and the
// turn of a replaced instance is void.
func TestChildren(t *testing.T) {
	t.Parallel()
	for _, end := range []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED} {
		h := startHub(t, t.TempDir())
		create(t, h, "k")
		void := take(t, h)
		create(t, h, "p")
		answerTurn(t, h, take(t, h), newActions().child("k"))
		answerTurn(t, h, void, newActions().complete(api.RUNTIME_STATUS_COMPLETED, "void"))
		child := take(t, h)
		if child.InstanceID != "k" || child.NewEvents[0].GetExecutionStarted().GetName() != "Child" {
			t.Fatalf("%s: %s", child.InstanceID, kindsOf(child.NewEvents))
		}
		answerTurn(t, h, child, newActions().complete(end, "1"))
		if parent := take(t, h); parent.InstanceID != "p" || !strings.HasPrefix(kindsOf(parent.NewEvents), "SubOrchestrationInstance") {
			t.Errorf("%s: %s of %s", end, kindsOf(parent.NewEvents), parent.InstanceID)
		}
	}
}

// TestPurgeOne: only a finished instance is purged, with everything that belongs to it.
func TestPurgeOne(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	create(t, h, "a")
	running := (*NotFinishedError)(nil)
	if err := h.PurgeOrchestrationState(t.Context(), "a"); !errors.As(err, &running) || !errors.Is(err, api.ErrNotCompleted) {
		t.Errorf("a running one: %v", err)
	}
	answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_FAILED, ""))
	if err := h.PurgeOrchestrationState(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := h.PurgeOrchestrationState(t.Context(), "a"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("one that is gone: %v", err)
	}
	for _, table := range []string{"instances", "history", "events", "tasks"} {
		if got := names(t, h, "SELECT COUNT(*) FROM "+table); got != "0" {
			t.Errorf("%s rows are left in %s", got, table)
		}
	}
}

// TestEventsToNobody: an event for an unknown or a finished instance is dropped.
func TestEventsToNobody(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	raise(t, h, "nobody", "e")
	create(t, h, "a")
	answerTurn(t, h, take(t, h), newActions().complete(api.RUNTIME_STATUS_COMPLETED, ""))
	raise(t, h, "a", "e")
	if got := names(t, h, "SELECT COUNT(*) FROM events"); got != "0" {
		t.Errorf("%s events are kept", got)
	}
}

// TestSchemaVersions: a file of another version is refused with one line, and is not misread.
func TestSchemaVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if _, err := Open(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "version 99") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}
