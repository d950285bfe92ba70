package handler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// testServer serves an orchestrator that sets an output, and an activity, with little memory for bodies.
func testServer(limit time.Duration) *server {
	return &server{
		functions: map[string]*function{
			"Orch": {name: "Orch", binding: "context", outputs: []string{"mail"}, orchestrator: func(ctx *task.OrchestrationContext) (any, error) {
				return "done", nil
			}},
			"Work": {name: "Work", binding: "input", activity: func(task.ActivityContext) (any, error) { return "done", nil }},
		},
		settings: settings{maxBody: 4 << 20, memory: 20 << 20, limit: limit},
		stdout:   io.Discard,
		errors:   slog.DiscardHandler,
		room:     newRoom(20 << 20),
		stopping: new(atomic.Bool),
	}
}

type testAnswer struct {
	status      int
	text        string
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue string
}

func (s *server) test(t *testing.T, function, body string) testAnswer {
	t.Helper()
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1/"+function, strings.NewReader(body)))
	a := testAnswer{status: w.Code, text: w.Body.String()}
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%q: %v", a.text, err)
		}
	}
	return a
}

// turnBody is a request for a turn of instance "i", as large as wanted.
func turnBody(t *testing.T, turn wire.Turn, size int) string {
	t.Helper()
	turn.InstanceID = "i"
	text, err := wire.EncodeTurn(&turn)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"Data":{"context":"\"` + text + `\""},"Metadata":{}}`
	return body + strings.Repeat(" ", max(size-len(body), 0))
}

// TestTurnsPutOff: a turn that cannot be done for a reason that is not in it is asked again. A first one is never
// refused, it is answered by an event to itself.
func TestTurnsPutOff(t *testing.T) {
	t.Parallel()
	at := time.Now()
	begun := []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), historyevent.New("executionStarted", at)}
	raised := historyevent.New("eventRaised", at)
	raised.GetEventRaised().Name = "Go"
	first := wire.Turn{New: begun}
	later := wire.Turn{Past: begun, New: []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), raised}}
	withheld := wire.Turn{New: []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), raised}}
	stopping := func(s *server) { s.stopping.Store(true) }
	noRoom := func(s *server) { _ = s.room.enter(context.Background(), 19<<20) }
	broken := func(s *server) { noRoom(s) }
	for name, c := range map[string]struct {
		turn  wire.Turn
		size  int
		state func(*server)
		want  string // the first action, or "refused"
	}{
		"done":                   {later, 0, nil, "completed"},
		"done, large":            {later, 3 << 20, nil, "completed"},
		"small, without room":    {later, 0, noRoom, "completed"},
		"first, stopping":        {first, 0, stopping, wire.AgainEvent},
		"later, stopping":        {later, 0, stopping, "refused"},
		"first, large, stopping": {first, 3 << 20, stopping, wire.AgainEvent},
		"later, large, stopping": {later, 3 << 20, stopping, "refused"},
		"first, without room":    {first, 3 << 20, noRoom, wire.AgainEvent},
		"later, without room":    {later, 3 << 20, noRoom, "refused"},
		"without its history":    {withheld, 0, nil, "refused"},
		"withheld, large":        {withheld, 3 << 20, nil, "refused"},
		"withheld, and no room":  {withheld, 3 << 20, broken, wire.AgainEvent}, // which does no harm
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testServer(100 * time.Millisecond)
			if c.state != nil {
				c.state(s)
			} else {
				s.settings.limit = 0
			}
			a := s.test(t, "Orch", turnBody(t, c.turn, c.size))
			results, err := wire.DecodeActions(a.ReturnValue)
			if a.status != 200 || err != nil || results.Response.InstanceId != "i" || len(a.Outputs) > 0 {
				t.Fatalf("%d %s (%v)", a.status, a.text, err)
			}
			got := "nothing"
			switch actions := results.Response.Actions; {
			case wire.RequiresHistory(results) && len(actions) == 0:
				got = "refused"
			case len(actions) == 1 && actions[0].GetSendEvent() != nil:
				got = actions[0].GetSendEvent().Name
			case len(actions) == 1 && actions[0].GetCompleteOrchestration() != nil:
				got = "completed"
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if logged := strings.Contains(strings.Join(a.Logs, "\n"), "turn put off"); logged == (got == "completed") {
				t.Errorf("log %q", a.Logs)
			}
		})
	}
}

// TestTurnsWhoseBodyBreaksOff: the host asks again for those that can be told.
func TestTurnsWhoseBodyBreaksOff(t *testing.T) {
	t.Parallel()
	at := time.Now()
	begun := []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), historyevent.New("executionStarted", at)}
	body := turnBody(t, wire.Turn{Past: begun, New: begun[:1]}, 3<<20)
	for size, want := range map[int]int{0: 400, 10: 400, 100: 200, 1 << 20: 200, 2 << 20: 200} {
		s := testServer(0)
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "http://127.0.0.1/Orch", io.MultiReader(strings.NewReader(body[:size]), brokenReader{}))
		s.routes().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("after %d bytes: %d %s, want %d", size, w.Code, w.Body, want)
		}
		if want == 200 && !strings.Contains(w.Body.String(), `"ReturnValue":"CgFpOAE="`) {
			t.Errorf("after %d bytes: %s", size, w.Body)
		}
		if !s.room.free.TryAcquire(s.room.size) {
			t.Errorf("after %d bytes: room is lost", size)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestNoRoomForOthers: what is no turn fails, in words that say why and as a failure that may be tried again.
func TestNoRoomForOthers(t *testing.T) {
	t.Parallel()
	s := testServer(100 * time.Millisecond)
	_ = s.room.enter(t.Context(), 19<<20)
	a := s.test(t, "Work", `{"Data":{"input":"\"1\""}}`+strings.Repeat(" ", 2<<20))
	if a.status != 503 || !strings.Contains(a.text, string(wire.KindDeadline)) || !strings.Contains(a.text, "no room in memory") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.test(t, "Work", `{"Data":{"input":"\"1\""}}`); a.status != 200 {
		t.Errorf("a small one: %d %s", a.status, a.text)
	}
}

// TestRoomIsGivenBack: after a large body, handled well or not, all the room is free again.
func TestRoomIsGivenBack(t *testing.T) {
	t.Parallel()
	pad := strings.Repeat(" ", 2<<20)
	for name, c := range map[string]struct {
		function, body string
		status         int
	}{
		"done":        {"Work", `{"Data":{"input":"\"1\""}}` + pad, 200},
		"not JSON":    {"Work", "x" + pad, 400},
		"too large":   {"Work", pad + pad + pad, 413},
		"no turn":     {"Orch", `{"Data":{"context":"\"?\""}}` + pad, 400},
		"failed turn": {"Panic", turnBody(t, wire.Turn{New: []*backend.HistoryEvent{historyevent.New("executionStarted", time.Now())}}, 2<<20), 200},
	} {
		s := testServer(0)
		s.functions["Panic"] = &function{name: "Panic", binding: "context", orchestrator: func(*task.OrchestrationContext) (any, error) { panic("x") }}
		if a := s.test(t, c.function, c.body); a.status != c.status {
			t.Errorf("%s: %d %.200s", name, a.status, a.text)
		}
		if !s.room.free.TryAcquire(s.room.size) {
			t.Errorf("%s: room is lost", name)
		}
	}
}

// TestRoomOfOneLeftBehind: a function that goes on after its deadline keeps its body's memory until it returns.
func TestRoomOfOneLeftBehind(t *testing.T) {
	t.Parallel()
	s := testServer(2 * time.Second) // half of which is for getting in
	wake := make(chan struct{})
	s.functions["Work"].activity = func(task.ActivityContext) (any, error) { <-wake; return nil, nil }
	if a := s.test(t, "Work", `{"Data":{"input":"\"1\""}}`+strings.Repeat(" ", 2<<20)); a.status != 500 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if s.room.free.TryAcquire(s.room.size) {
		t.Fatal("its room is free while it runs")
	}
	close(wake)
	if err := s.room.free.Acquire(t.Context(), s.room.size); err != nil {
		t.Error(err)
	}
}

// TestAgainEventIsNoEvent: a history with a first turn put off is replayed as one without.
func TestAgainEventIsNoEvent(t *testing.T) {
	t.Parallel()
	at := time.Now()
	begun := []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), historyevent.New("executionStarted", at)}
	again := historyevent.New("eventRaised", at)
	again.GetEventRaised().Name, again.GetEventRaised().Input = wire.AgainEvent, wrapperspb.String("null")
	past := append(begun, historyevent.New("eventSent", at), historyevent.New("orchestratorCompleted", at))
	past[2].EventId = -100
	s := testServer(0)
	s.functions["Orch"].orchestrator = func(ctx *task.OrchestrationContext) (any, error) {
		event := ctx.WaitForSingleEvent(wire.AgainEvent, -1)
		err := ctx.CallActivity("Work").Await(nil)
		return nil, errors.Join(err, event.Await(nil))
	}
	put := s.test(t, "Orch", turnBody(t, wire.Turn{Past: past, New: []*backend.HistoryEvent{historyevent.New("orchestratorStarted", at), again}}, 0))
	whole := s.test(t, "Orch", turnBody(t, wire.Turn{New: begun}, 0))
	if put.ReturnValue != whole.ReturnValue || len(put.ReturnValue) < 20 {
		t.Errorf("after a put-off turn %s, without %s", put.text, whole.text)
	}
}
