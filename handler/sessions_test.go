package handler

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// longRun is an orchestration that does one activity after the other, as the host keeps it.
type longRun struct {
	id    string
	at    time.Time
	input string
	past  []*backend.HistoryEvent
	turns int
}

// next makes the next turn: the start, or the result of the activity before.
func (r *longRun) next() wire.Turn {
	r.turns++
	r.at = r.at.Add(time.Second)
	turn := wire.Turn{InstanceID: r.id, Past: r.past, New: []*backend.HistoryEvent{historyevent.New("orchestratorStarted", r.at)}}
	if r.turns == 1 {
		start := historyevent.New("executionStarted", r.at)
		start.GetExecutionStarted().Name, start.GetExecutionStarted().Input = "Orch", wrapperspb.String(`"`+r.input+`"`)
		turn.New = append(turn.New, start)
		return turn
	}
	completed := historyevent.New("taskCompleted", r.at)
	completed.GetTaskCompleted().TaskScheduledId = int32(r.turns - 2)
	completed.GetTaskCompleted().Result = wrapperspb.String(fmt.Sprint(r.turns))
	turn.New = append(turn.New, completed)
	return turn
}

// store adds the turn and its answer, another activity, to the history.
func (r *longRun) store(turn wire.Turn) {
	scheduled := historyevent.New("taskScheduled", r.at)
	scheduled.EventId = int32(r.turns - 1)
	scheduled.GetTaskScheduled().Name = "Work"
	r.past = append(append(turn.Past[:len(turn.Past):len(turn.Past)], turn.New...), scheduled, historyevent.New("orchestratorCompleted", r.at))
}

// newLongRun returns one that has had its short turns.
func newLongRun(id, input string) *longRun {
	r := &longRun{id: id, at: time.Unix(1e9, 0), input: input}
	for len(r.past) < longHistory {
		r.store(r.next())
	}
	return r
}

// check wants the answer to schedule the next activity.
func (r *longRun) check(t *testing.T, answer string) {
	t.Helper()
	results, err := wire.DecodeActions(answer)
	if err != nil || len(results.Response.Actions) != 1 || results.Response.Actions[0].GetScheduleTask() == nil || int(results.Response.Actions[0].Id) != r.turns-1 {
		t.Fatalf("turn %d: %v, %v", r.turns, results, err)
	}
}

// sumServer serves an orchestrator that adds up what its activities return. It counts how often that began.
func sumServer(t *testing.T) (s *server, begun *atomic.Int32) {
	s, begun = testServer(0), new(atomic.Int32)
	s.functions["Orch"].orchestrator = func(ctx *task.OrchestrationContext) (any, error) {
		begun.Add(1)
		for sum := 0; ; {
			var n int
			if err := ctx.CallActivity("Work", task.WithActivityInput(sum)).Await(&n); err != nil {
				return nil, err
			}
			sum += n
		}
	}
	t.Cleanup(func() {
		s.sessions.mu.Lock()
		defer s.sessions.mu.Unlock()
		for id := range s.sessions.kept {
			s.sessions.leave(id)
		}
	})
	return s, begun
}

func (s *server) turnOf(t *testing.T, turn wire.Turn) string {
	t.Helper()
	text, err := wire.EncodeTurn(&turn)
	if err != nil {
		t.Fatal(err)
	}
	return s.test(t, "Orch", `{"Data":{"context":"\"`+text+`\""},"Metadata":{}}`).ReturnValue
}

// A long orchestration is replayed in each of its first turns, and then each time that its history has doubled. Whatever happens to
// a turn, its answer is that of a replay.
func TestSessions(t *testing.T) {
	t.Parallel()
	s, begun := sumServer(t)
	other, _ := sumServer(t)
	run := &longRun{id: "i", at: time.Unix(1e9, 0)}
	const turns = 400
	for range turns {
		turn := run.next()
		var answer string
		switch {
		case run.turns%100 == 97: // the answer is lost: the host asks again
			s.turnOf(t, turn)
			answer = s.turnOf(t, turn)
		case run.turns%100 == 98: // the host asks twice, and both are on their way
			var two [2]string
			var wg sync.WaitGroup
			for i := range two {
				wg.Go(func() { two[i] = s.turnOf(t, turn) })
			}
			wg.Wait()
			if answer = two[0]; two[1] != answer {
				t.Fatalf("turn %d: %s and %s", run.turns, two[0], two[1])
			}
		case run.turns%100 == 99: // another process has the turn
			answer = other.turnOf(t, turn)
		default:
			answer = s.turnOf(t, turn)
		}
		if run.turns%50 == 0 || run.turns%100 > 96 {
			fresh, _ := sumServer(t)
			if want := fresh.turnOf(t, turn); answer != want {
				t.Fatalf("turn %d: got %s, want %s", run.turns, answer, want)
			}
		}
		run.check(t, answer)
		run.store(turn)
	}
	short := longHistory/4 + 1 // turns, of four events each
	if n := int(begun.Load()); n < short || n > short+50 {
		t.Errorf("begun %d times in %d turns, of which %d are short", n, turns, short)
	}
}

// The histories of all sessions together are bounded: those that have waited longest give way.
func TestSessionMemory(t *testing.T) {
	t.Parallel()
	s, begun := sumServer(t)
	const instances = 20
	for i := range instances {
		run := newLongRun(fmt.Sprint("i", i), strings.Repeat("x", 1<<20))
		run.check(t, s.turnOf(t, run.next()))
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	size := 0
	for _, k := range s.sessions.kept {
		size += k.size()
	}
	if n := len(s.sessions.kept); n < 10 || n == instances || size > sessionMemory || s.sessions.size != size || s.sessions.kept["i19"] == nil {
		t.Errorf("%d sessions of %d bytes, counted as %d", n, size, s.sessions.size)
	}
	if begun.Load() != instances {
		t.Errorf("begun %d times", begun.Load())
	}
}

// Nothing of a session is kept when it is left.
func TestSessionIsFreed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := sumServer(t)
		run := func() weak.Pointer[session] {
			r := newLongRun("i", "")
			r.check(t, s.turnOf(t, r.next()))
			s.sessions.mu.Lock()
			defer s.sessions.mu.Unlock()
			return weak.Make(s.sessions.kept["i"])
		}
		kept := run()
		time.Sleep(sessionIdle + time.Second)
		synctest.Wait()
		for range 10 {
			runtime.GC()
		}
		if kept.Value() != nil {
			t.Error("the session is kept")
		}
	})
}

// A session that has no turn for a while is left.
func TestSessionIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, begun := sumServer(t)
		run := newLongRun("i", "")
		do := func() {
			turn := run.next()
			run.check(t, s.turnOf(t, turn))
			run.store(turn)
		}
		kept := func() int {
			synctest.Wait()
			s.sessions.mu.Lock()
			defer s.sessions.mu.Unlock()
			return len(s.sessions.kept)
		}
		do()
		for range 3 { // each turn begins the minute anew
			time.Sleep(sessionIdle * 3 / 4)
			do()
		}
		if n := kept(); n != 1 || begun.Load() != 1 {
			t.Errorf("%d sessions, begun %d times", n, begun.Load())
		}
		time.Sleep(sessionIdle + time.Second)
		if n := kept(); n != 0 {
			t.Errorf("%d sessions after a while", n)
		}
		do()
		if begun.Load() != 2 {
			t.Errorf("begun %d times", begun.Load())
		}
	})
}
