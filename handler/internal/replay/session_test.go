package replay

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/wire"
)

// player plays the turns of a history to a session, or to a new one where that does not follow.
type player struct {
	session  *Session
	seen     []*backend.HistoryEvent
	wentOn   int
	doubling bool // turns are replayed for the length of their history, too
}

func (p *player) play(o task.Orchestrator, past, news []*backend.HistoryEvent, logger *slog.Logger) Result {
	turn := &wire.Turn{InstanceID: "i", Past: past, New: news}
	if p.session != nil && p.session.Follows(turn) {
		p.wentOn++
	} else {
		p.leave()
		p.session = &Session{}
		turn.Past = append(p.seen, past...)
	}
	p.seen = slices.Concat(p.seen, past, news)
	r := p.session.Run(turn, o, logger, nil)
	if !p.doubling {
		p.session.replayed = 1 << 30
	}
	return r
}

func (p *player) leave() {
	if p.session != nil {
		p.session.Leave()
	}
}

// inSession plays the history turn by turn and returns the last answer.
func inSession(o task.Orchestrator, past, news []*backend.HistoryEvent, logger *slog.Logger) (r Result) {
	var p player
	defer p.leave()
	all := slices.Concat(past, news)
	seen := 0
	for _, cut := range append(turnsOf(past), [2]int{len(past), len(all)}) {
		r = p.play(o, all[seen:max(seen, cut[0])], all[cut[0]:cut[1]], logger)
		seen = cut[1]
	}
	return r
}

// turnsOf returns where the new events of each turn begin and end in a history.
func turnsOf(past []*backend.HistoryEvent) (turns [][2]int) {
	begin := 0
	for i, e := range past {
		if e.GetOrchestratorCompleted() != nil {
			end := i
			for end > begin && isScheduled(past[end-1]) {
				end--
			}
			turns, begin = append(turns, [2]int{begin, end}), i+1
		}
	}
	return turns
}

// scheduledBy makes the events with which the host stores an answer.
func scheduledBy(t *testing.T, r Result) []*backend.HistoryEvent {
	t.Helper()
	var text strings.Builder
	for _, a := range r.Response.Actions {
		switch {
		case a.GetScheduleTask() != nil:
			fmt.Fprintf(&text, `"eventId":%d,"taskScheduled":{"name":%q}`+"\n", a.Id, a.GetScheduleTask().Name)
		case a.GetCreateSubOrchestration() != nil:
			c := a.GetCreateSubOrchestration()
			fmt.Fprintf(&text, `"eventId":%d,"subOrchestrationInstanceCreated":{"name":%q,"instanceId":%q}`+"\n", a.Id, c.Name, c.InstanceId)
		case a.GetCreateTimer() != nil:
			fmt.Fprintf(&text, `"eventId":%d,"timerCreated":{"fireAt":%q}`+"\n", a.Id, a.GetCreateTimer().FireAt.AsTime().Format(time.RFC3339))
		}
	}
	return events(t, text.String()+end)
}

// news are the events of a turn that begins so many seconds later.
func news(second int, lines string) string {
	return strings.Replace(begin, "04:05", fmt.Sprintf("04:%02d", second), 1) + "\n" + lines
}

func workDone(id, result int) string {
	return fmt.Sprintf(`"eventId":-1,"taskCompleted":{"taskScheduledId":%d,"result":"%d"}`, id, result)
}

func raised(name, input string) string {
	return fmt.Sprintf(`"eventId":-1,"eventRaised":{"name":%q,"input":%q}`, name, input)
}

// The orchestrators of the SDK itself: it gives them what they wait for, and the session goes on below its Await.
func TestSessionOfTheSDK(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		orchestrator task.Orchestrator
		turns        []string
		want         []string
	}{
		"nothing scheduled yet": {
			func(ctx *task.OrchestrationContext) (any, error) {
				var a, b string
				_ = ctx.WaitForSingleEvent("a", -1).Await(&a)
				_ = ctx.WaitForSingleEvent("b", -1).Await(&b)
				err := ctx.CallActivity("Work", task.WithActivityInput(a+b)).Await(nil)
				return a + b, err
			},
			[]string{news(6, raised("b", `"2"`)), news(7, raised("a", `"1"`)), news(8, workDone(0, 0))},
			[]string{"", "", `0 activity Work "12"`, `1 COMPLETED "12"`},
		},
		"activities and a timer": {
			func(ctx *task.OrchestrationContext) (any, error) {
				first, second := ctx.CallActivity("Work", task.WithActivityInput(1)), ctx.CallActivity("Work", task.WithActivityInput(2))
				var a, b int
				_ = second.Await(&b)
				_ = ctx.CreateTimer(time.Second).Await(nil)
				_ = first.Await(&a)
				return fmt.Sprint(a, b, ctx.CurrentTimeUtc.Second()), nil
			},
			[]string{news(6, workDone(1, 20)), news(8, `"eventId":-1,"timerFired":{"timerId":2,"fireAt":"2026-01-02T03:04:07Z"}`), news(9, workDone(0, 10))},
			[]string{"0 activity Work 1; 1 activity Work 2", "2 timer 03:04:07", "", `3 COMPLETED "10 20 9"`},
		},
		"the SDK's tasks and the toolkit's": {
			func(ctx *task.OrchestrationContext) (any, error) {
				ours := Of(ctx).Activity("Work", []byte("1"))
				var theirs int
				_ = ctx.CallActivity("Work", task.WithActivityInput(2)).Await(&theirs)
				Of(ctx).Until(func() bool { return ours.Done })
				next := Of(ctx).Activity("Work", []byte("3"))
				Of(ctx).Until(func() bool { return next.Done })
				return fmt.Sprint(ours.Result, theirs, next.Result), nil
			},
			[]string{news(6, workDone(1, 20)), news(7, workDone(0, 10)), news(8, workDone(2, 30))},
			[]string{"0 activity Work 1; 1 activity Work 2", "", "2 activity Work 3", `3 COMPLETED "102030"`},
		},
		"an event for the toolkit, while the SDK waits": {
			func(ctx *task.OrchestrationContext) (any, error) {
				event := Of(ctx).Event("go")
				err := ctx.CallActivity("Work").Await(nil)
				Of(ctx).Until(func() bool { return event.Done })
				return event.Result, err
			},
			[]string{news(6, raised("go", "1")), news(7, workDone(0, 0))},
			[]string{"0 activity Work null", "", `1 COMPLETED "1"`},
		},
		"a new start takes the events along": {
			func(ctx *task.OrchestrationContext) (any, error) {
				for range 2 {
					done := Of(ctx).Activity("Work", nil)
					Of(ctx).Until(func() bool { return done.Done })
				}
				ctx.ContinueAsNew(2, task.WithKeepUnprocessedEvents())
				return nil, nil
			},
			[]string{news(6, raised("later", "1")), news(7, workDone(0, 0)), news(8, workDone(1, 0))},
			[]string{"0 activity Work null", "", "1 activity Work null", "2 CONTINUED_AS_NEW 2"},
		},
		"it fails in a later turn": {
			func(ctx *task.OrchestrationContext) (any, error) {
				_ = ctx.CallActivity("Work").Await(nil)
				_ = ctx.CallActivity("Work").Await(nil)
				panic("no")
			},
			[]string{news(6, workDone(0, 0)), news(7, workDone(1, 0))},
			[]string{"0 activity Work null", "1 activity Work null", "0 FAILED OrchestratorPanic: panic: no"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p player
			defer p.leave()
			var past []*backend.HistoryEvent
			for n, text := range append([]string{first}, c.turns...) {
				turn := events(t, text)
				r := p.play(c.orchestrator, past, turn, slog.New(slog.DiscardHandler))
				if got := strings.Join(lines(r), "; "); got != c.want[n] {
					t.Errorf("turn %d: got %q, want %q", n, got, c.want[n])
				}
				again := Run(&wire.Turn{InstanceID: "i", Past: p.seen}, c.orchestrator, slog.New(slog.DiscardHandler))
				if fmt.Sprint(again.Response) != fmt.Sprint(r.Response) {
					t.Errorf("turn %d: a replay answers %v", n, again.Response)
				}
				past = scheduledBy(t, r)
			}
			if p.wentOn != len(c.turns) {
				t.Errorf("the session went on in %d of %d turns", p.wentOn, len(c.turns))
			}
		})
	}
}

// What a session does not follow.
func TestSessionFollows(t *testing.T) {
	t.Parallel()
	twice := func(ctx *task.OrchestrationContext) (any, error) {
		work, child := ctx.CallActivity("Work"), ctx.CallSubOrchestrator("Child")
		_ = work.Await(nil)
		return nil, child.Await(nil)
	}
	const (
		work  = `"eventId":0,"taskScheduled":{"name":"Work"}` + "\n"
		child = `"eventId":1,"subOrchestrationInstanceCreated":{"name":"Child"}` + "\n"
	)
	usual := news(6, workDone(0, 1))
	for name, c := range map[string]struct {
		past, news string
		follows    bool
	}{
		"usual":                     {work + child + end, usual, true},
		"in another order":          {child + work + end, usual, true},
		"an activity less":          {child + end, usual, false},
		"nothing was stored":        {"", usual, false},
		"an activity twice":         {work + work + child + end, usual, false},
		"another activity":          {`"eventId":0,"taskScheduled":{"name":"Other"}` + "\n" + child + end, usual, false},
		"another number":            {`"eventId":2,"taskScheduled":{"name":"Work"}` + "\n" + child + end, usual, false},
		"another process had turns": {work + child + end + "\n" + usual + "\n" + end, news(7, ""), false},
		"no news":                   {work + child + end, "", false},
		"suspended":                 {work + child + end, news(6, `"executionSuspended":{}`), false},
		"terminated":                {work + child + end, news(6, `"executionTerminated":{}`), false},
		"terminated by its parent":  {work + child + end, news(6, raised(TerminateEvent, "1")), false},
		"rewound":                   {work + child + end, news(6, `"genericEvent":{}`), false},
		"started anew":              {work + child + end, first, false},
		"put off":                   {work + child + end, news(6, raised(wire.AgainEvent, "null")), false},
		"much longer":               {work + child + end, usual + strings.Repeat("\n"+raised("e", "1"), 9), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Session{}
			s.Run(&wire.Turn{InstanceID: "i", New: events(t, first+"\n"+raised("e", "1")+"\n"+raised("e", "1")+"\n"+raised("e", "1"))}, twice, slog.New(slog.DiscardHandler), nil)
			defer s.Leave()
			turn := &wire.Turn{InstanceID: "i", Past: events(t, c.past), New: events(t, c.news)}
			if got := s.Follows(turn); got != c.follows {
				t.Errorf("got %t", got)
			}
		})
	}
}

// What keeps an orchestrator from waiting: there is no session then, and the answer is a replay's.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		orchestrator task.Orchestrator
		news         string
		want         string
	}{
		"it completes": {func(*task.OrchestrationContext) (any, error) { return 1, nil }, first, "0 COMPLETED 1"},
		"its input cannot be sent": {func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("Work", task.WithRawActivityInput("{")).Await(nil)
		}, first, "0 FAILED InvalidAction"},
		"it is suspended": {oneActivity, first + "\n" + `"executionSuspended":{}`, ""},
		"a goroutine of its own has used it": {func(ctx *task.OrchestrationContext) (any, error) {
			done := make(chan struct{})
			go func() { defer close(done); Of(ctx).Timer(1) }()
			<-done
			return nil, ctx.CallActivity("Work").Await(nil)
		}, first, "0 FAILED OrchestratorPanic"},
		"it has asked for a new start": {func(ctx *task.OrchestrationContext) (any, error) {
			ctx.ContinueAsNew(2)
			return nil, ctx.CallActivity("Work").Await(nil)
		}, first, "0 activity Work null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s Session
			r := s.Run(&wire.Turn{InstanceID: "i", New: events(t, c.news)}, c.orchestrator, slog.New(slog.DiscardHandler), nil)
			if s.Waits() {
				t.Error("it waits")
				s.Leave()
			}
			if got := strings.Join(lines(r), "; "); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A replay leaves the orchestrator in each turn, and a session only in the end. What deferred functions do then counts in neither.
func TestSessionDeferred(t *testing.T) {
	t.Parallel()
	const late = scheduledWork + "\n" + `"eventId":1,"taskScheduled":{"name":"Late"}` + "\n" + end
	for name, c := range map[string]struct {
		deferred   func(*task.OrchestrationContext)
		past, news string
		want       string
		status     string
	}{
		"a status":       {func(ctx *task.OrchestrationContext) { ctx.SetCustomStatus("2") }, "", first, "0 activity Work null", "1"},
		"progress":       {func(ctx *task.OrchestrationContext) { Of(ctx).Status = func() string { return "2" } }, "", first, "0 activity Work null", "1"},
		"an activity":    {func(ctx *task.OrchestrationContext) { ctx.CallActivity("Late") }, "", first, "0 activity Work null", "1"},
		"a recorded one": {func(ctx *task.OrchestrationContext) { ctx.CallActivity("Late") }, late, news(6, raised("e", "1")), "", "1"},
		"one more":       {func(ctx *task.OrchestrationContext) { ctx.CallActivity("Late") }, "", first + "\n" + raised(TerminateEvent, "1"), "1 TERMINATED 1", "1"},
		"a lock":         {func(ctx *task.OrchestrationContext) { Of(ctx).Lock([]entity.ID{{Name: "box", Key: "a"}}, "g") }, "", first + "\n" + raised(TerminateEvent, "1"), "1 TERMINATED 1", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, func(ctx *task.OrchestrationContext) (any, error) {
				ctx.SetCustomStatus("1")
				defer c.deferred(ctx)
				return nil, ctx.CallActivity("Work").Await(nil)
			}, c.past, c.news)
			a.want(t, c.want)
			if got := a.Response.CustomStatus.GetValue(); got != c.status {
				t.Errorf("status %s", got)
			}
		})
	}
}

// Nothing of a session is kept when it is left.
func TestSessionIsFreed(t *testing.T) {
	t.Parallel()
	run := func() weak.Pointer[task.OrchestrationContext] {
		var s Session
		s.Run(&wire.Turn{InstanceID: "i", New: events(t, first)}, oneActivity, slog.New(slog.DiscardHandler), nil)
		s.Leave()
		return weak.Make(s.turn.Context)
	}
	left := run()
	for range 10 {
		runtime.GC()
	}
	if left.Value() != nil {
		t.Error("the orchestrator's context is kept")
	}
}

// A session is not left waiting when its answer cannot be made.
func TestSessionPanics(t *testing.T) {
	t.Parallel()
	left := false
	func() {
		defer func() { _ = recover() }()
		new(Session).Run(&wire.Turn{InstanceID: "i", New: events(t, first)}, func(ctx *task.OrchestrationContext) (any, error) {
			defer func() { left = true }()
			Of(ctx).Status = func() string { panic("no status") }
			return oneActivity(ctx)
		}, slog.New(slog.DiscardHandler), nil)
		t.Error("Run returned")
	}()
	if !left {
		t.Error("the orchestrator waits")
	}
}

// An orchestrator that ends its goroutine ends that of Run, as it does without a session.
func TestSessionExits(t *testing.T) {
	t.Parallel()
	ended := make(chan bool)
	go func() {
		returned := false
		defer func() { ended <- !returned }()
		new(Session).Run(&wire.Turn{InstanceID: "i", New: events(t, first)}, func(*task.OrchestrationContext) (any, error) {
			runtime.Goexit()
			return nil, nil
		}, slog.New(slog.DiscardHandler), nil)
		returned = true
	}()
	if !<-ended {
		t.Error("Run returned")
	}
}

// An orchestrator that is left runs its deferred functions, and nothing else.
func TestSessionLeave(t *testing.T) {
	t.Parallel()
	var said []string
	o := func(ctx *task.OrchestrationContext) (any, error) {
		defer func() { said = append(said, "deferred") }()
		_ = ctx.CallActivity("Work").Await(nil)
		said = append(said, "went on")
		return nil, nil
	}
	var s Session
	s.Run(&wire.Turn{InstanceID: "i", New: events(t, first)}, o, slog.New(slog.DiscardHandler), nil)
	s.Leave()
	if got := strings.Join(said, " "); got != "deferred" || s.Waits() {
		t.Errorf("%s, waits %t", got, s.Waits())
	}
}

// A logger that an orchestrator has got in one turn logs to the next one's log there.
func TestSessionLogs(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		log := Of(ctx).Logger.With("n", 1).WithGroup("g")
		log.Info("before", "x", 2)
		err := ctx.CallActivity("Work").Await(nil)
		log.Info("after", "x", 3)
		log.Debug("nobody wants this")
		return nil, err
	}
	var logs [2]bytes.Buffer
	logger := func(n int) *slog.Logger { return slog.New(slog.NewTextHandler(&logs[n], nil)) }
	var p player
	r := p.play(o, nil, events(t, first), logger(0))
	p.play(o, scheduledBy(t, r), events(t, news(6, workDone(0, 1))), logger(1))
	for n, want := range []string{"level=INFO msg=before n=1 g.x=2\n", "level=INFO msg=after n=1 g.x=3\n"} {
		if got := logs[n].String(); !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("turn %d: %s", n, got)
		}
	}
	if p.wentOn != 1 {
		t.Error("the session did not go on")
	}
}

// A session goes on until the history has doubled, so that all replays together take no longer than a few of the last one.
func TestSessionDoubles(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		for {
			_ = ctx.CallActivity("Work").Await(nil)
		}
	}
	p := player{doubling: true}
	defer p.leave()
	past, turn, turns := []*backend.HistoryEvent(nil), events(t, first), 400
	for n := range turns {
		r := p.play(o, past, turn, slog.New(slog.DiscardHandler))
		past, turn = scheduledBy(t, r), events(t, news(6, workDone(n, 0)))
	}
	if replays := turns - p.wentOn; replays < 5 || replays > 15 {
		t.Errorf("%d replays in %d turns", replays, turns)
	}
}
