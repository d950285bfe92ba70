//go:build unix

package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// A handler that was told to stop refuses turns, so that the host sends them again and none is lost. It may not refuse a first
// turn: it answers that one by sending itself an event.
func TestTurnsAreRefusedWhileStopping(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-1", Input: recordsInput(2)}
	if a, _ := c.Turn(t, h.Host); testkit.RequiresHistory(t, a) {
		t.Fatalf("a turn is refused before there is a reason: %s", a)
	}
	h.signal(t, syscall.SIGTERM)
	waitUntil(t, "a turn is refused", func() bool {
		again := *c
		a, results := again.Turn(t, h.Host, testkit.TaskCompleted(0, `{"Success":true}`))
		refused := testkit.RequiresHistory(t, a)
		if refused && (len(results.Response.Actions) > 0 || len(a.Outputs) > 0) {
			t.Fatalf("a refused turn does something: %s", a)
		}
		return refused
	})
	first := &testkit.Conversation{Name: "MyOrchestration", ID: "job-2", Input: recordsInput(2)}
	a, results := first.Turn(t, h.Host)
	if actions := results.Response.Actions; testkit.RequiresHistory(t, a) || len(actions) != 1 || actions[0].GetSendEvent().GetInstance().GetInstanceId() != "job-2" {
		t.Fatalf("a first turn is answered by %v, want an event to itself", actions)
	}
	// The next process does what this one left.
	h.kill()
	next := startHandler(t)
	_, results = first.Turn(t, next.Host, fmt.Sprintf(`"eventRaised":{"name":%q}`, results.Response.Actions[0].GetSendEvent().Name))
	if n := len(results.Response.Actions); n != 2 {
		t.Errorf("after its event, %d actions, want 2 activities", n)
	}
	if _, results = c.Turn(t, next.Host, testkit.TaskCompleted(0, `{"Success":true}`)); len(results.Response.Actions) > 0 {
		t.Errorf("the refused turn does %v", results.Response.Actions)
	}
}

// A handler ends when its host was killed.
func TestHandlerEndsWithItsHost(t *testing.T) {
	t.Parallel()
	// The shell plays the host: it starts the handler as its child.
	cmd := command(t.Context(), []string{"FUNCTIONS_APP_ROOT_PATH=" + root, "CRM_DATABASE=" + filepath.Join(t.TempDir(), "crm.db")})
	cmd.Path, cmd.Args, cmd.Err = "/bin/sh", []string{"sh", "-c", `"$0" & echo "handler $!"; wait`, executable}, nil
	host := launchHandler(t, cmd)
	pid, err := strconv.Atoi(strings.Fields(host.out.String() + " 0 0")[1])
	if err != nil {
		t.Fatalf("%v: %s", err, host.out.String())
	}
	handler, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = handler.Kill() })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nobody listens any more", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(host.URL, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}
