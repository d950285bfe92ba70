package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

// These tests send the binary turns as the real host sends them. The recordings of tests/conformance show how the real host
// reacts to the answers.

// recordsInput returns an input of MyOrchestration with n records.
func recordsInput(n int) string {
	ids, _ := json.Marshal(recordIDs(n))
	return seedInput(`{"RecordIds":` + string(ids) + `}`)
}

// A termination reaches the children and their children, and nothing more is scheduled.
func TestTerminationReachesTheChildren(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	root := &testkit.Conversation{Name: "MyOrchestration", ID: "job-1", Input: seedInput(`{"RecordIds":["a","b","c","d","e"],"BatchSize":2}`)}
	if n := terminate(t, h, root, `"executionTerminated":{"input":"\"enough\""}`); n != 5 {
		t.Errorf("%d orchestrations were terminated, want the root, three batches, and one between", n)
	}
}

// terminate runs an orchestration's first turn and terminates it with an event, and its children with the events that it sends
// them. It returns how many orchestrations ended.
func terminate(t *testing.T, h *process, c *testkit.Conversation, event string) (n int) {
	t.Helper()
	_, results := c.Turn(t, h.Host)
	children := map[string]string{} // the inputs, by instance id
	for _, a := range results.Response.Actions {
		if sub := a.GetCreateSubOrchestration(); sub != nil {
			children[sub.InstanceId] = sub.Input.GetValue()
			if !strings.HasPrefix(sub.InstanceId, c.ID+":") {
				t.Errorf("a child of %s is %s", c.ID, sub.InstanceId)
			}
		}
	}
	n = 1
	_, results = c.Turn(t, h.Host, event)
	ended := false
	for _, a := range results.Response.Actions {
		e := a.GetSendEvent()
		input, isChild := children[e.GetInstance().GetInstanceId()]
		switch {
		case isChild:
			child := &testkit.Conversation{Name: "MyOrchestration", ID: e.Instance.InstanceId, Input: input}
			delete(children, child.ID)
			data, _ := json.Marshal(e.Data.GetValue())
			n += terminate(t, h, child, fmt.Sprintf(`"eventRaised":{"name":%q,"input":%s}`, e.Name, data))
		case a.GetCompleteOrchestration() != nil:
			ended = a.GetCompleteOrchestration().OrchestrationStatus == api.RUNTIME_STATUS_TERMINATED
		default:
			t.Errorf("%s, when it is terminated, does %v", c.ID, a)
		}
	}
	if len(children) > 0 || !ended {
		t.Errorf("%s is terminated: %t; these children are not told: %v", c.ID, ended, children)
	}
	return n
}

// A rewound orchestration schedules again, with the old ids, the tasks that were in flight when it failed, and ends with the
// right result.
func TestRewindSchedulesAgain(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-1", Input: recordsInput(4)}
	c.Turn(t, h.Host)
	c.Lose(t, testkit.TaskCompleted(1, `{"Success":true}`))
	_, results := c.Turn(t, h.Host, testkit.Rewound)
	var again []int32
	for _, a := range results.Response.Actions {
		if a.GetScheduleTask().GetName() != "ProcessActivity" {
			t.Fatalf("the rewound turn does %v", a)
		}
		again = append(again, a.Id)
	}
	slices.Sort(again)
	if !slices.Equal(again, []int32{0, 2, 3}) {
		t.Fatalf("scheduled again are %v, want 0, 2 and 3", again)
	}
	_, results = c.Turn(t, h.Host, testkit.TaskCompleted(0, `{"Success":true}`), testkit.TaskCompleted(3, `{"Success":true}`))
	if a := results.Response.Actions; len(a) != 0 {
		t.Fatalf("with one record to come it does %v", a)
	}
	_, results = c.Turn(t, h.Host, testkit.TaskCompleted(2, `{"Success":true}`))
	if a := results.Response.Actions; len(a) != 1 || !strings.Contains(a[0].GetCompleteOrchestration().GetResult().GetValue(), `"Succeeded":4`) {
		t.Errorf("the end is %v", a)
	}
}

// A turn for which there is no memory is refused too, and is done once there is memory.
func TestTurnsAreRefusedWithoutMemory(t *testing.T) {
	t.Parallel()
	// There is memory for one large body, and a body waits half a second for it.
	h := startHandler(t, "HANDLER_MAX_BODY_BYTES=4000000", "GOMEMLIMIT=24MiB", "AzureFunctionsJobHost__functionTimeout=00:00:02", "HANDLER_DEADLINE_MARGIN=1s")
	c := &testkit.Conversation{Name: "MyOrchestration", ID: "job-1", Input: recordsInput(2)}
	c.Turn(t, h.Host)
	large := testkit.TaskCompleted(0, `{"Success":false,"ErrorMessage":"`+strings.Repeat("x", 1_500_000)+`"}`)

	body, hold := io.Pipe()
	holder, err := http.NewRequest(http.MethodPost, h.URL+"/ProcessActivity", body)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(holder)
		if err == nil {
			response.Body.Close()
		}
		done <- err
	}()
	// When Write returns, the handler has reserved the memory.
	if _, err := hold.Write(bytes.Repeat([]byte(" "), 2_000_000)); err != nil {
		t.Fatal(err)
	}
	again := *c
	if a, _ := again.Turn(t, h.Host, large); !testkit.RequiresHistory(t, a) {
		t.Errorf("without room the answer is %s", a)
	}
	small := *c
	if a, _ := small.Turn(t, h.Host, testkit.TaskCompleted(0, `{"Success":true}`)); testkit.RequiresHistory(t, a) {
		t.Errorf("a small turn is refused: %s", a)
	}
	_ = hold.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a, _ := c.Turn(t, h.Host, large); testkit.RequiresHistory(t, a) {
		t.Errorf("with room the answer is %s", a)
	}
}
