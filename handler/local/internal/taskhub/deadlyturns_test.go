package taskhub

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/historyevent"
)

// turnsNow returns the turns that a hub gives out while none of them ends.
func turnsNow(t *testing.T, h *TaskHub) (items map[string]*backend.OrchestrationWorkItem) {
	t.Helper()
	items = map[string]*backend.OrchestrationWorkItem{}
	for {
		h.queue.mu.Lock()
		none := len(h.queue.ready) == 0
		h.queue.mu.Unlock()
		if none {
			return items
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		item, err := h.takeTurnOrNothing(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if item != nil {
			items[string(item.InstanceID)] = item
		}
	}
}

// takeTurnOrNothing takes one instance from the queue, which may have to wait.
func (h *TaskHub) takeTurnOrNothing(ctx context.Context) (*backend.OrchestrationWorkItem, error) {
	id, err := h.queue.take(ctx)
	if err != nil {
		return nil, err
	}
	return h.turnOf(ctx, id), nil
}

func keysOf[V any](m map[string]V) string {
	var list []string
	for name := range m {
		list = append(list, name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestDeadlyTurn: processes die again and again in one orchestration's turn. After two deaths its turns run alone, after five it
// fails, and its parent gets the reason. Other running and waiting instances do not fail, and a closed host counts as no death.
func TestDeadlyTurn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub2(t, dir)
	create(t, h, "parent")
	answerTurn(t, h, take(t, h), newActions().child("deadly"))
	create(t, h, "well")
	create(t, h, "waits")
	for _, id := range []string{"deadly", "well", "waits"} {
		item := take(t, h)
		if string(item.InstanceID) != id {
			t.Fatalf("the turn is %s's, want %s", item.InstanceID, id)
		}
		answerTurn(t, h, item, newActions())
	}
	raise(t, h, "deadly", "x")
	raise(t, h, "well", "x")
	for range 7 { // these hosts are closed normally
		if got := keysOf(turnsNow(t, h)); got != "deadly well" {
			t.Fatalf("turns of %s are given out", got)
		}
		mustBe(t, h.Close(), nil)
		h = startHub2(t, dir)
	}
	for deaths := range 5 {
		items := turnsNow(t, h)
		switch {
		case deaths < 2 && keysOf(items) != "deadly well", deaths == 2 && len(items) != 1, deaths > 2 && keysOf(items) != "deadly":
			t.Fatalf("after %d deaths turns of %s are given out", deaths, keysOf(items))
		}
		if well := items["well"]; deaths == 2 && well != nil { // this one ends, so the other one runs alone
			answerTurn(t, h, well, newActions())
		} else if deaths == 2 {
			mustBe(t, h.AbandonOrchestrationWorkItem(t.Context(), items["deadly"]), nil)
			answerTurn(t, h, take(t, h), newActions())
			raise(t, h, "deadly", "y")
		}
		if deaths == 2 {
			take(t, h)
		}
		kill(t, h)
		h = startHub2(t, dir)
	}
	defer h.Close()
	item := take(t, h)
	const reason = "the orchestration was given up: 5 times the process died in a turn of it"
	failed := item.NewEvents[0].GetSubOrchestrationInstanceFailed()
	if item.InstanceID != "parent" || failed.GetFailureDetails().GetErrorType() != historyevent.OrchestratorKilledType || failed.GetFailureDetails().GetErrorMessage() != reason {
		t.Errorf("%s gets %v", item.InstanceID, item.NewEvents)
	}
	if i, err := h.Get(t.Context(), "deadly"); err != nil || i.Status != api.RUNTIME_STATUS_FAILED || i.Output != reason {
		t.Errorf("%+v, %v", i, err)
	}
	for _, id := range []string{"well", "waits"} {
		if s := status(t, h, id); s != api.RUNTIME_STATUS_RUNNING || h.deathsOf(id) != 0 {
			t.Errorf("%s is %s with %d deaths", id, s, h.deathsOf(id))
		}
	}
	mustBe(t, h.Rewind(t.Context(), "deadly", ""), nil)
	if item := take(t, h); item.InstanceID != "deadly" || h.deathsOf("deadly") != 0 {
		t.Errorf("after a rewind %s has %d deaths", item.InstanceID, h.deathsOf("deadly"))
	}
}

// startHub2 is startHub for a hub that the test closes or kills.
func startHub2(t *testing.T, dir string) *TaskHub {
	t.Helper()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, h.Start(t.Context()), nil)
	return h
}

// TestDeathsInDifferentTurns: a turn that ends clears the count, so deaths in different turns do not add up.
func TestDeathsInDifferentTurns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub2(t, dir)
	create(t, h, "a")
	for range 8 {
		take(t, h)
		kill(t, h)
		h = startHub2(t, dir)
		answerTurn(t, h, take(t, h), newActions())
		raise(t, h, "a", "x")
	}
	defer h.Close()
	if n := h.deathsOf("a"); n != 0 {
		t.Errorf("%d deaths count", n)
	}
}

// TestDeadlyOperation: only the operation that kills the process is given up, and its caller gets the reason. The operations before
// and behind it are done.
func TestDeadlyOperation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub2(t, dir)
	create(t, h, "caller")
	answerTurn(t, h, take(t, h), newActions())
	post(t, h, [3]string{"@c@a", "op", `{"op":"one","id":"1","signal":true}`},
		[3]string{"@c@a", "op", `{"op":"two","id":"2","signal":true}`},
		[3]string{"@c@a", "op", call("caller", "deadly")},
		[3]string{"@c@a", "op", `{"op":"four","id":"4","signal":true}`})
	deaths, done := 0, []string{}
	for len(done) < 3 {
		w, err := h.NextEntity(t.Context())
		mustBe(t, err, nil)
		if slices.ContainsFunc(w.Batch.Operations, func(o entity.Operation) bool { return o.Name == "deadly" }) {
			if deaths++; deaths > 5 {
				t.Fatal("the operation is run for ever")
			}
			kill(t, h)
			h = startHub2(t, dir)
			continue
		}
		r := &entity.Result{State: []byte("1")}
		for _, o := range w.Batch.Operations {
			done = append(done, o.Name)
			r.Outcomes = append(r.Outcomes, entity.Outcome{})
		}
		mustBe(t, h.CompleteEntity(t.Context(), w, r), nil)
	}
	defer h.Close()
	if deaths != 5 || strings.Join(done, " ") != "one two four" {
		t.Errorf("after %d deaths %v are done", deaths, done)
	}
	answer := take(t, h).NewEvents[0].GetEventRaised()
	if answer.GetName() != "deadly" || !strings.Contains(answer.GetInput().GetValue(), "operation deadly was given up: 5 times the process died") {
		t.Errorf("the caller gets %v", answer)
	}
	if h.deathsOf("@c@a") != 0 {
		t.Errorf("the entity has %d deaths", h.deathsOf("@c@a"))
	}
}

// TestSuspectsComeFirst: the suspects get their turns one after the other, those with fewer deaths first, and before any activity
// starts. So an orchestration is not given up because something else kills the process while it works.
func TestSuspectsComeFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub2(t, dir)
	for _, id := range []string{"a", "b", "worker"} {
		create(t, h, id)
		actions := newActions()
		if id == "worker" {
			actions = actions.activity("Work")
		}
		answerTurn(t, h, take(t, h), actions)
	}
	raise(t, h, "a", "x")
	raise(t, h, "b", "x")
	restart := func() {
		kill(t, h)
		h = startHub2(t, dir)
	}
	for range 2 {
		if got := keysOf(turnsNow(t, h)); got != "a b" {
			t.Fatalf("turns of %s are given out", got)
		}
		restart()
	}
	var alone []string
	for range 4 {
		alone = append(alone, keysOf(turnsNow(t, h)))
		restart()
	}
	if alone[0] == alone[1] || alone[0] == alone[3] && alone[1] == alone[2] || slices.Contains(alone, "a b") {
		t.Errorf("alone were %v", alone)
	}
	defer h.Close()
	for range 2 {
		if item, err := h.nextTask(t.Context()); item != nil || err != nil {
			t.Fatalf("an activity is begun before the suspects: %v, %v", item, err)
		}
		answerTurn(t, h, take(t, h), newActions())
	}
	if item, err := h.nextTask(t.Context()); item == nil || err != nil {
		t.Errorf("no activity is begun: %v", err)
	}
	for _, id := range []string{"a", "b"} {
		if n := h.deathsOf(id); n != 0 {
			t.Errorf("%s has %d deaths", id, n)
		}
	}
}
