package replay

import (
	"context"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// Session keeps an orchestrator between two turns: it waits in a goroutine for the events of the next turn and continues with them.
// A replay runs all earlier turns again, so that with replays alone the time of an orchestration grows with the square of its
// length. The zero value is ready for Run.
//
// A session only saves time: a turn that it cannot continue with (see Follows) is replayed. One turn is also replayed each time
// that the history has doubled, to find an orchestrator that is not deterministic.
type Session struct {
	turn     *Turn
	events   *sorter
	replayed int                          // how many events the first turn had, which was a replay
	steps    map[int32]step               // what the last turn scheduled, by number
	log      *atomic.Pointer[slog.Logger] // of the turn that is running. It outlives the session, see Turn.end
	waits    bool                         // the orchestrator waits for the next turn

	turns   chan struct{} // tells that the next turn's events are in place; closed: there is no next turn
	answers chan sessionAnswer
}

// sessionAnswer is what the orchestrator did in a turn.
type sessionAnswer struct {
	results *backend.ExecutionResults
	failed  *failure
	waits   bool // it waits for the next turn; otherwise its goroutine ends
	exited  bool // it has ended its goroutine by runtime.Goexit
}

// Run runs a turn as Observe does. The first turn is a replay. Any other turn, which Follows must have accepted, begins where the
// turn before has ended.
func (s *Session) Run(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger, all func(*backend.ExecutionResults)) Result {
	if s.turn == nil {
		s.begin(turn, orchestrator, logger, all == nil)
	} else {
		s.log.Store(logger)
		s.goOn(turn)
	}
	a := <-s.answers
	s.waits = a.waits
	if a.exited {
		runtime.Goexit()
	}
	goesOn := false
	defer func() {
		if !goesOn { // also when making the answer panics
			s.Leave()
		}
	}()
	if all != nil && a.failed == nil {
		all(a.results)
	}
	r := s.turn.answer(a.results, a.failed)
	goesOn = s.remember(r)
	return r
}

func (s *Session) begin(turn *wire.Turn, orchestrator task.Orchestrator, logger *slog.Logger, sparing bool) {
	s.turns, s.answers = make(chan struct{}), make(chan sessionAnswer, 1)
	s.log = new(atomic.Pointer[slog.Logger])
	s.log.Store(logger)
	s.events = sortHistory(turn)
	s.replayed = s.events.count
	t := newTurn(s.events.history, slog.New(relay{now: s.log}))
	t.HTTPPause, t.session = turn.HTTPPause, s
	if sparing {
		t.earlier = t.history.earlier()
	}
	s.turn = t
	go func() {
		a := sessionAnswer{exited: true}
		defer func() { s.answers <- a }()
		results, failed := t.execute(orchestrator)
		if failed == nil {
			t.dropAnswered(results)
		}
		a = sessionAnswer{results: results, failed: failed}
	}()
}

// goOn gives the orchestrator the events of its next turn.
func (s *Session) goOn(turn *wire.Turn) {
	s.events.add(turn)
	s.events.endWithCall()
	s.turn.HTTPPause = turn.HTTPPause
	s.turn.checked = len(s.events.scheduled)
	s.turns <- struct{}{}
}

// remember keeps what the turn scheduled, for Follows. It says whether the session can continue with another turn.
func (s *Session) remember(r Result) bool {
	h := s.events
	if h.suspended || h.terminated || h.rewind.at >= 0 {
		return false
	}
	s.steps = map[int32]step{}
	for i, a := range r.Response.Actions {
		if a.GetCompleteOrchestration() != nil {
			return false
		}
		s.steps[a.Id] = ofAction(r.ExecutionResults, int32(i))
	}
	return true
}

// Length is how many events of the history the session has seen.
func (s *Session) Length() int {
	if s.events == nil {
		return 0
	}
	return s.events.count
}

// Waits says whether the orchestrator waits for another turn. Then Run or Leave must be called.
func (s *Session) Waits() bool { return s.waits }

// Follows says whether the session can continue with a turn, which has only the events that the session has not seen. The past ones
// must be what its last turn scheduled, and the new ones of the usual kinds. Otherwise call Leave, and replay the turn.
func (s *Session) Follows(turn *wire.Turn) bool {
	if !s.waits || s.turn.strayed.Load() || s.events.count+len(turn.Past)+len(turn.New) > 2*s.replayed {
		return false
	}
	for _, e := range turn.Past {
		switch {
		case isScheduled(e):
			if was, ok := s.steps[e.EventId]; !ok || was != ofEvent(e) {
				return false
			}
			delete(s.steps, e.EventId)
		case e.GetOrchestratorCompleted() == nil:
			return false
		}
	}
	unusual := func(e *backend.HistoryEvent) bool { return !matters(e) || isTermination(e) }
	return len(s.steps) == 0 && len(turn.New) > 0 && !slices.ContainsFunc(turn.New, unusual)
}

// Leave ends the wait, if the orchestrator waits: it is left, as at the end of a replay. Leave returns after its deferred functions.
func (s *Session) Leave() {
	if !s.waits {
		return
	}
	s.waits = false
	close(s.turns)
	<-s.answers
}

// wait is called in the orchestrator's goroutine at the end of the history. It answers the turn and waits for the next one. False
// means that the orchestrator must be left.
func (s *Session) wait() bool {
	t := s.turn
	if t.returned || t.blocked || t.strayed.Load() || t.field(continuedAsNew).Bool() || t.hasLate() {
		return false
	}
	s.answers <- sessionAnswer{results: t.scheduledNow(), waits: true}
	if _, ok := <-s.turns; !ok {
		return false
	}
	t.resume()
	return true
}

// hasLate says whether the history has something that a deferred function scheduled (see dropLate): only a replay schedules it
// again.
func (t *Turn) hasLate() bool {
	return slices.ContainsFunc(t.history.scheduled[t.checked:], func(e scheduled) bool { return e.EventId >= t.nextID() })
}

// resume gives the SDK the events of the next turn in place of those that it has processed.
func (t *Turn) resume() {
	events := t.history.new
	if t.waiting {
		news := historyevent.New("eventRaised", time.Time{})
		news.GetEventRaised().Name = never
		events = append([]*backend.HistoryEvent{news}, events...)
	}
	t.field(oldEvents).SetZero()
	t.field(newEvents).Set(reflect.ValueOf(events))
	t.field(historyIndex).SetInt(0)
	t.outcomes = t.history.outcomes
	// When historyEnds returns, the SDK schedules the end of the orchestration. It gets a number below answered, and is dropped.
	t.answered = t.nextID()
	t.field(pendingActions).Clear()
	t.field(sequenceNumber).SetInt(int64(t.answered) - 1)
}

// scheduledNow returns what the orchestrator has scheduled since its last answer.
func (t *Turn) scheduledNow() *backend.ExecutionResults {
	results := wire.NewResults(t.history.instanceID)
	actions := reflect.ValueOf(&results.Response.Actions).Elem()
	for all := t.field(pendingActions).MapRange(); all.Next(); {
		actions.Set(reflect.Append(actions, all.Value()))
	}
	t.dropAnswered(results)
	return results
}

// dropAnswered drops the actions that are in the answers to earlier turns of the session.
func (t *Turn) dropAnswered(results *backend.ExecutionResults) {
	kept := results.Response.Actions[:0]
	for _, a := range results.Response.Actions {
		if a.Id >= t.answered {
			kept = append(kept, a)
		}
	}
	results.Response.Actions = kept
}

// relay is the handler of a session's log. It passes each record to the log of the turn that is running, also when the orchestrator
// got its logger in an earlier turn.
type relay struct {
	now  *atomic.Pointer[slog.Logger]
	with []func(slog.Handler) slog.Handler // attributes and groups that were added
}

func (r relay) handler() slog.Handler {
	h := r.now.Load().Handler()
	for _, add := range r.with {
		h = add(h)
	}
	return h
}

func (r relay) Enabled(ctx context.Context, level slog.Level) bool {
	return r.now.Load().Enabled(ctx, level)
}

func (r relay) Handle(ctx context.Context, record slog.Record) error {
	return r.handler().Handle(ctx, record)
}

func (r relay) WithAttrs(attrs []slog.Attr) slog.Handler {
	return r.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (r relay) WithGroup(name string) slog.Handler {
	return r.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (r relay) and(add func(slog.Handler) slog.Handler) slog.Handler {
	return relay{r.now, append(slices.Clip(r.with), add)}
}
