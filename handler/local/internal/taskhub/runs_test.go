package taskhub

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// runOf returns what is kept of an activity of the instance a.
func runOf(t testing.TB, h *TaskHub, task int32) Run {
	t.Helper()
	runs, err := h.Runs(t.Context(), "a")
	mustBe(t, err, nil)
	return runs[task]
}

// TestRuns: an activity's input and start time are known while it waits, while it runs, and after its end, also to the next
// process. They go with the execution.
func TestRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub(t, dir)
	create(t, h, "a")
	item := take(t, h)
	small, large := "1", strings.Repeat("x", maxKeptInput+1)
	a := newActions().activity("Work").activity("Work").activity("Work")
	for i, input := range []*wrapperspb.StringValue{wrapperspb.String(small), wrapperspb.String(large), nil} {
		a.Response.Actions[i].GetScheduleTask().Input = input
	}
	answerTurn(t, h, item, a)
	check := func(when string, task int32, started, input bool) {
		t.Helper()
		run := runOf(t, h, task)
		recently := time.Since(run.Started) >= 0 && time.Since(run.Started) < time.Hour
		if recently != started || (run.Input != nil) != input || input && *run.Input != small {
			t.Errorf("%s: activity %d is %+v", when, task, run)
		}
	}
	check("waiting", 0, false, true)
	check("too large", 1, false, false)
	check("without", 2, false, false)
	task, err := h.GetActivityWorkItem(t.Context())
	mustBe(t, err, nil)
	check("running", 0, true, true)
	mustBe(t, h.AbandonActivityWorkItem(t.Context(), task), nil)
	check("abandoned", 0, false, true)
	h.begins(task)
	task.Result = TaskCompleted(0, []byte("2"))
	mustBe(t, h.CompleteActivityWorkItem(t.Context(), task), nil)
	check("ended, before the turn", 0, true, true)
	answerTurn(t, h, take(t, h), newActions())
	check("ended", 0, true, true)
	kill(t, h)
	h = startHub(t, dir)
	check("ended in an earlier process", 0, true, true)
	raise(t, h, "a", "Go")
	item = take(t, h)
	h.ContinueAsNew("a", Generation{Input: wrapperspb.String("2")})
	answerTurn(t, h, item, newActions())
	check("was of another execution", 0, false, false)
}
