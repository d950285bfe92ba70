package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

// Progress moves with each activity, wherever in the tree it runs, and never counts a record twice.
func TestProgressOfATree(t *testing.T) {
	t.Parallel()
	running, completed, failed := api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED
	d := newProgress(&bytes.Buffer{})
	d.watch([]string{"root"})
	for _, step := range []struct {
		id, parent, status string
		state              api.OrchestrationStatus
		completed, failed  int
	}{
		{"other", "", `{"Total":7,"Completed":7,"Failed":7}`, completed, 0, 0},
		{"root", "", `{"Total":100,"Completed":0,"Failed":0}`, running, 0, 0},
		{"a", "root", `{"Total":50,"Completed":20,"Failed":1}`, running, 20, 1},
		{"b", "root", `{"Total":50,"Completed":5,"Failed":0}`, running, 25, 1},
		{"b", "root", `{"Total":50,"Completed":30,"Failed":2}`, running, 50, 3},
		{"a", "root", `{"Total":50,"Completed":50,"Failed":1}`, completed, 80, 3},
		{"root", "", `{"Total":100,"Completed":50,"Failed":1}`, running, 80, 3},
		{"b", "root", `{"Total":50,"Completed":30,"Failed":2}`, failed, 50, 1}, // lost
		{"b2", "root", "", running, 50, 1},
		{"deep", "b2", `{"Total":50,"Completed":10,"Failed":2}`, running, 60, 3},
		{"b2", "root", `{"Total":50,"Completed":50,"Failed":2}`, completed, 100, 3},
		{"mail", "root", "", completed, 100, 3},
		{"root", "", `{"Total":100,"Completed":100,"Failed":3}`, completed, 100, 3},
	} {
		d.instance(local.Instance{ID: step.id, Parent: step.parent, Status: step.state, CustomStatus: step.status})
		if sum := d.sum(); sum.Completed != step.completed || sum.Failed != step.failed {
			t.Errorf("after %+v: %+v", step, sum)
		}
	}
	if sum := d.close(); sum != (durable.Progress{Total: 100, Completed: 100, Failed: 3}) {
		t.Errorf("in the end %+v", sum)
	}
}

// Without a terminal progress is printed as lines; other lines written between them are not lost.
func TestProgressWithoutATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := newProgress(&out)
	d.interval = 0
	d.watch([]string{"root"})
	d.note("only for a terminal")
	d.instance(local.Instance{ID: "root", CustomStatus: `{"Total":4,"Completed":1,"Failed":1}`})
	_, _ = d.Write([]byte("an error\n"))
	d.instance(local.Instance{ID: "root", CustomStatus: `{"Total":4,"Completed":3,"Failed":1}`})
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || lines[0] != "1 of 4, 1 failed" || lines[1] != "an error" || !strings.HasPrefix(lines[2], "3 of 4, 1 failed, ") || !strings.HasSuffix(lines[2], "s left") {
		t.Errorf("printed %q", lines)
	}
	d.terminal = true
	d.note("for %s", "a terminal")
	if !strings.HasSuffix(out.String(), "\nfor a terminal\n") {
		t.Errorf("printed %q", out.String())
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sum    durable.Progress
		done   int
		within time.Duration
		want   string
	}{
		{durable.Progress{Total: 5000, Completed: 1800, Failed: 3}, 1800, 3 * time.Second, "1800 of 5000, 3 failed, 600 a second, 5s left"},
		{durable.Progress{Total: 10, Completed: 1}, 1, time.Minute, "1 of 10, 0 failed, 0.0167 a second, 9m0s left"},
		{durable.Progress{Total: 10, Completed: 10}, 5, time.Second, "10 of 10, 0 failed, 5 a second, 0s left"},
		{durable.Progress{Total: 10, Completed: 4}, 0, time.Second, "4 of 10, 0 failed"},
		{durable.Progress{Total: 10}, 0, 0, "0 of 10, 0 failed"},
	} {
		if got := progressLine(c.sum, c.done, c.within); got != c.want {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
}
