package handler_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// TestFailureIsLoggedOnce plays the turns that the real host asked again by a retry policy. An orchestration that fails
// is asked for its turn maxRetryCount times more: it logs in the first of them only. What was lost is logged when it
// comes again.
func TestFailureIsLoggedOnce(t *testing.T) {
	t.Parallel()
	const policy = `,"retry":{"strategy":"fixedDelay","maxRetryCount":4,"delayInterval":"00:00:01"}}`
	recorded, err := os.Open("testdata/retried.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer recorded.Close()
	hosts := map[string]*host{}
	for _, name := range []string{"ff1", "orr1", "ob1", "without a policy"} {
		app := handler.New()
		app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (any, error) {
			durable.ReplayLog(ctx).Info("an info")
			durable.ReplayLog(ctx).Error("bad input")
			return nil, errors.New("bad input")
		}))
		text := strings.TrimSuffix(orchJSON, "}") + policy
		if name == "without a policy" {
			text = orchJSON
		}
		hosts[name] = start(t, app, map[string]string{"Orch/function.json": text}, nil)
	}
	infos := map[string]int{}
	lines := bufio.NewScanner(recorded)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c struct {
			Instance string
			Try      int
			Request  string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		names := []string{c.Instance}
		if c.Instance == "ff1" {
			names = append(names, "without a policy")
		}
		for _, name := range names {
			a := hosts[name].post("Orch", c.Request)
			if failureOf(t, a) == nil {
				t.Errorf("%s, try %d: not failed", name, c.Try)
			}
			infos[name] += len(a.Logs)
		}
	}
	for name, want := range map[string]int{"ff1": 1, "orr1": 3, "ob1": 2, "without a policy": 5} {
		if got := strings.Count(hosts[name].stderr.String(), "level=ERROR"); got != want || infos[name] != want {
			t.Errorf("%s: %d errors, %d infos, want %d:\n%s", name, got, infos[name], want, hosts[name].stderr.String())
		}
	}
}
