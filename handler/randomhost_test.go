package handler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// randomHost asks for the turns of an orchestration in any way that a host may.
type randomHost struct {
	*rand.Rand
	*testing.T
	orchestrator task.Orchestrator
	workers      [2]*server
	at           time.Time
	runs         int
	past         []*backend.HistoryEvent
	news         []*backend.HistoryEvent
	running      []*backend.HistoryEvent // the outcomes of what is running
}

// TestRandomHost: whatever the host does, workers that keep sessions answer and log as one that has none does.
func TestRandomHost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := &randomHost{Rand: rand.New(rand.NewPCG(seed, 0)), T: t, at: time.Unix(1e9, 0), orchestrator: randomWork(seed)}
			h.workers = [2]*server{h.worker(), h.worker()}
			h.start("0")
			for n := 0; n < 80 && h.turn(); n++ {
			}
		})
	}
}

// randomWork has three things going on at a time, and begins anew after some.
func randomWork(seed uint64) task.Orchestrator {
	const work = durable.ActivityName[int, int]("Work")
	add := durable.NewOperation(durable.EntityName[int]("Box"), "Add", func(*int, context.Context, int) (int, error) { return 0, nil })
	return durable.Orchestrator(func(ctx *task.OrchestrationContext, run uint64) (sum int, err error) {
		r := rand.New(rand.NewPCG(seed, run))
		var open []*durable.Task[int]
		for n := range 20 + r.IntN(100) {
			for len(open) < 3 {
				switch r.IntN(4) {
				case 0:
					open = append(open, durable.WaitForEvent[int](ctx, fmt.Sprint("e", r.IntN(2)), time.Hour))
				case 1:
					add.Signal(ctx, "k", n)
					_ = ctx.CallActivity("Work", task.WithActivityInput(n)).Await(nil)
				default:
					open = append(open, work.Call(ctx, n, durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute})))
				}
			}
			i := durable.WhenAny(open[0], open[1], open[2])
			v, err := open[i].Await()
			open, sum = append(open[:i:i], open[i+1:]...), sum+v
			durable.ReplayLog(ctx).Info("ended", "n", n, "v", v, "error", err, "time", ctx.CurrentTimeUtc)
			durable.SetCustomStatus(ctx, sum)
		}
		durable.SetOutput(ctx, "mail", sum)
		durable.OrchestratorName[uint64, int]("").ContinueAsNew(ctx, run+1)
		return sum, nil
	})
}

func (h *randomHost) worker() *server {
	s, _ := sumServer(h.T)
	s.functions["Orch"].orchestrator = h.orchestrator
	return s
}

func (h *randomHost) event(kind protoreflect.Name, id int32) *backend.HistoryEvent {
	e := historyevent.New(kind, h.at)
	e.EventId = id
	return e
}

// start starts a run, whose history is a long one at once.
func (h *randomHost) start(input string) {
	h.runs++
	e := h.event("executionStarted", -1)
	e.GetExecutionStarted().Name, e.GetExecutionStarted().Input = "Orch", wrapperspb.String(input)
	h.past, h.running, h.news = nil, nil, append([]*backend.HistoryEvent{e}, h.news...)
	for range longHistory {
		h.raise("other", "0")
	}
}

func (h *randomHost) raise(name, input string) {
	e := h.event("eventRaised", -1)
	e.GetEventRaised().Name, e.GetEventRaised().Input = name, wrapperspb.String(input)
	h.news = append(h.news, e)
}

// happen lets some things happen.
func (h *randomHost) happen() {
	h.at = h.at.Add(time.Duration(h.IntN(100)) * time.Second)
	h.raise(fmt.Sprint("e", h.IntN(5)), "1")
	h.Shuffle(len(h.running), func(i, j int) { h.running[i], h.running[j] = h.running[j], h.running[i] })
	for range min(h.IntN(4), len(h.running)) {
		h.news = append(h.news, h.running[0])
		if h.IntN(10) > 0 { // else it comes once more
			h.running = h.running[1:]
		}
	}
	switch h.IntN(60) {
	case 0:
		h.news, h.running = append(h.news, h.event("executionSuspended", -1)), append(h.running, h.event("executionResumed", -1))
	case 1:
		h.news = append(h.news, h.completed(int32(h.IntN(300)))) // of nobody
	case 2:
		h.raise(wire.AgainEvent, "null")
	case 3:
		h.news = append(h.news, h.event("executionTerminated", -1))
	}
}

func (h *randomHost) completed(id int32) *backend.HistoryEvent {
	e := h.event("taskCompleted", -1)
	e.GetTaskCompleted().TaskScheduledId, e.GetTaskCompleted().Result = id, wrapperspb.String(fmt.Sprint(h.IntN(9)))
	return e
}

// turn says whether there are more.
func (h *randomHost) turn() bool {
	h.happen()
	turn := wire.Turn{InstanceID: "i", Past: h.past, New: append([]*backend.HistoryEvent{h.event("orchestratorStarted", -1)}, h.news...)}
	text, err := wire.EncodeTurn(&turn)
	if err != nil {
		h.Fatal(err)
	}
	body := `{"Data":{"context":"\"` + text + `\""},"Metadata":{}}` + strings.Repeat(" ", h.IntN(2)*h.IntN(2)*smallBody)
	want := h.worker().test(h.T, "Orch", body)
	for _, got := range h.ask(body) {
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(testAnswer{})); diff != "" {
			h.Fatalf("run %d, %d events: %s", h.runs, len(h.past), diff)
		}
	}
	results, err := wire.DecodeActions(want.ReturnValue)
	if err != nil {
		h.Fatal(err)
	}
	h.past, h.news = append(h.past, turn.New...), nil
	return h.act(results)
}

// ask has the turn done once or more.
func (h *randomHost) ask(body string) []testAnswer {
	answers := make([]testAnswer, 1+h.IntN(2)*h.IntN(3))
	var all sync.WaitGroup
	for i := range answers {
		s := h.workers[min(h.IntN(8), 1)^1]
		do := func() { answers[i] = s.test(h.T, "Orch", body) }
		if h.IntN(2) == 0 {
			all.Go(do)
		} else {
			do()
		}
	}
	all.Wait()
	return answers
}

// act does what the answer wants done.
func (h *randomHost) act(results *backend.ExecutionResults) bool {
	for _, a := range results.Response.Actions {
		switch {
		case a.GetScheduleTask() != nil:
			e := h.event("taskScheduled", a.Id)
			e.GetTaskScheduled().Name = a.GetScheduleTask().Name
			outcome := h.completed(a.Id)
			if h.IntN(3) == 0 {
				outcome = h.event("taskFailed", -1)
				outcome.GetTaskFailed().TaskScheduledId = a.Id
			}
			h.past, h.running = append(h.past, e), append(h.running, outcome)
		case a.GetCreateTimer() != nil:
			e, fired := h.event("timerCreated", a.Id), h.event("timerFired", -1)
			e.GetTimerCreated().FireAt = a.GetCreateTimer().FireAt
			fired.GetTimerFired().TimerId, fired.GetTimerFired().FireAt = a.Id, a.GetCreateTimer().FireAt
			h.past, h.running = append(h.past, e), append(h.running, fired)
		case a.GetSendEvent() != nil:
			e, s := h.event("eventSent", a.Id), a.GetSendEvent()
			e.GetEventSent().InstanceId, e.GetEventSent().Name, e.GetEventSent().Input = s.Instance.InstanceId, s.Name, s.Data
			h.past = append(h.past, e)
		case a.GetCompleteOrchestration() != nil:
			c := a.GetCompleteOrchestration()
			if c.OrchestrationStatus != api.RUNTIME_STATUS_CONTINUED_AS_NEW {
				return false
			}
			h.news = c.CarryoverEvents
			h.start(c.Result.GetValue())
			return true
		}
	}
	h.past = append(h.past, h.event("orchestratorCompleted", -1))
	return true
}
