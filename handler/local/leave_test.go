package local

import (
	"net/http"
	"testing"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

// TestLeaveUnfinished: what an earlier host left gets no turn and no activity, unless somebody starts it again or waits for it.
func TestLeaveUnfinished(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	hold := make(chan struct{})
	app := testkit.NewApp(t).Orchestrator(fanOut)
	app.Answers["Echo"] = func(_ http.ResponseWriter, r *http.Request) {
		hold <- struct{}{}
		<-r.Context().Done()
	}
	h := open(t, app, func(o *Options) { o.DataDir = data })
	for _, id := range []string{"left", "awaited", "started"} {
		start(t, h, id, "2")
		<-hold
		<-hold
	}
	copied := t.TempDir() // what a killed process leaves
	copyDir(t, data, copied)

	next := testkit.NewApp(t).Orchestrator(fanOut)
	h = open(t, next, func(o *Options) { o.DataDir, o.LeaveUnfinished = copied, true })
	expect(t, run(t, h, "own", "3"), api.RUNTIME_STATUS_COMPLETED, "3")
	if n := len(next.Seen("Echo")); n != 3 {
		t.Errorf("%d activities were run for three of the own orchestration", n)
	}
	expect(t, wait(t, h, "awaited"), api.RUNTIME_STATUS_COMPLETED, "1")
	if _, err := durableClient(t, h).ScheduleNewOrchestration(t.Context(), "Orch", api.WithInstanceID("started"), api.WithRawInput("2")); err == nil {
		t.Error("an orchestration that runs was started once more")
	}
	waitFor(t, func() bool {
		i, err := h.Instance(t.Context(), "started")
		return err == nil && i.Status == api.RUNTIME_STATUS_COMPLETED
	})
	if n := len(next.Seen("Echo")); n != 7 {
		t.Errorf("%d activities were run, want 7", n)
	}
	if left, err := h.Running(t.Context()); err != nil || len(left) != 1 || left[0].ID != "left" {
		t.Errorf("left is %v, %v", left, err)
	}
	closeNow(t, h)

	h = open(t, next, func(o *Options) { o.DataDir = copied })
	waitFor(t, func() bool {
		i, err := h.Instance(t.Context(), "left")
		return err == nil && i.Status == api.RUNTIME_STATUS_COMPLETED
	})
}
