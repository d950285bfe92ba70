package replay

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/wire"
)

// A child's id begins with its parent's.
func TestChildIDs(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		for range 17 {
			ctx.CallSubOrchestrator("Child")
		}
		ctx.CallSubOrchestrator("Child", task.WithSubOrchestrationInstanceID("named"))
		return nil, ctx.CreateTimer(time.Hour).Await(nil)
	}
	prefix := "i:" + digest("exec", 8) + ":"
	turn(t, o, "", first).contains(t, "0 sub Child "+prefix+"0 null;", "16 sub Child "+prefix+"16 null;", "17 sub Child named null;")

	// What an older version called a child stays its name.
	past := first + "\n" + `"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"exec:0"}` + "\n" + end
	turn(t, oneChild, past, begin).want(t, "")
}

// At any depth the id is one that the host takes, another one for each execution and number, and begins with the root's.
func TestChildIDsInTheDepth(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"order-7", "Zürich:1", strings.Repeat("x", 60), strings.Repeat("ü", 100), "3b8d6e64-1994-4b52-afdd-9a82016f187e"} {
		seen, parent := map[string]bool{}, root
		for depth := range 30 {
			id := ""
			for execution := range 3 {
				for n := range 3 {
					h := &history{instanceID: parent, executionID: fmt.Sprintf("%d-%d", depth, execution)}
					id = h.childID(int32(n * 1000))
					if err := wire.CheckInstanceID(id); err != nil || seen[id] {
						t.Errorf("%s: %v, again: %v", id, err, seen[id])
					}
					seen[id] = true
				}
			}
			if want := string([]rune(root)[:min(70, utf8.RuneCountInString(root))]); !strings.HasPrefix(id, want) {
				t.Errorf("%s does not begin with %s", id, want)
			}
			parent = id
		}
	}
}

// A child that would replace an instance that runs is refused.
func TestRefusedChildren(t *testing.T) {
	t.Parallel()
	call := func(ids ...string) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			for _, id := range ids {
				ctx.CallSubOrchestrator("Child", task.WithSubOrchestrationInstanceID(id))
			}
			return nil, ctx.CreateTimer(time.Hour).Await(nil)
		}
	}
	running := first + "\n" + `"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"a"}` + "\n" + end
	ended := begin + "\n" + `"subOrchestrationInstanceCompleted":{"taskScheduledId":0}`
	inside := strings.Replace(first, `"name":"Orch"`, `"name":"Orch","parentInstance":{"orchestrationInstance":{"instanceId":"top"}}`, 1)
	for name, c := range map[string]struct {
		o          task.Orchestrator
		past, news string
		want       string
	}{
		"twice":                 {call("a", "a"), "", first, `the id "a", which a sub-orchestration has that has not ended`},
		"while it runs":         {call("a", "a"), running, begin, `the id "a", which a sub-orchestration has that has not ended`},
		"after it has ended":    {call("a", "a"), running, ended, ""},
		"others":                {call("a", "b"), "", first, ""},
		"its parent's":          {call("i"), "", first, "that of the orchestration that starts it"},
		"its grandparent's":     {call("top"), "", inside, "that of the parent"},
		"an entity's":           {call("@name@key"), "", first, "sub-orchestration"},
		"too long":              {call(strings.Repeat("x", 101)), "", first, "sub-orchestration"},
		"a slash":               {call("a/b"), "", first, "sub-orchestration"},
		"a control character":   {call("a\nb"), "", first, "sub-orchestration"},
		"one that comes to one": {call("", "i:"+digest("exec", 8)+":0"), "", first, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, c.o, c.past, c.news)
			if c.want == "" {
				a.contains(t, "sub Child")
			} else if a.contains(t, "FAILED", c.want); len(a.lines) != 1 {
				t.Errorf("got %s", a)
			}
		})
	}
}

// family is an orchestration with three children, of which the first has ended, and an activity.
const family = first + `
"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"ended"}
"eventId":1,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"a"}
"eventId":2,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"b"}
"eventId":3,"taskScheduled":{"name":"Work"}
` + end + "\n" + begin + `
"subOrchestrationInstanceCompleted":{"taskScheduledId":0}
` + end

// waitForFamily ends when its activity does.
func waitForFamily(ctx *task.OrchestrationContext) (any, error) {
	ctx.SetCustomStatus(`"busy"`)
	for range 3 {
		ctx.CallSubOrchestrator("Child")
	}
	_ = ctx.CallActivity("Work").Await(nil)
	ctx.CallActivity("Next")
	return "done", nil
}

// A termination, by the host or by the parent, ends the orchestration and tells the children that run, whatever state the
// orchestration is in, and schedules nothing more.
func TestTerminationReachesTheChildren(t *testing.T) {
	t.Parallel()
	const all = `4 event durable.terminate to a "why"; 5 event durable.terminate to b "why"; 6 TERMINATED "why"`
	done, suspend := "\n"+`"taskCompleted":{"taskScheduledId":3}`, "\n"+`"executionSuspended":{}`
	broken := func(*task.OrchestrationContext) (any, error) { panic("broken") }
	other := func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CreateTimer(time.Hour).Await(nil) }
	for from, terminate := range map[string]string{
		"host":   "\n" + `"executionTerminated":{"input":"\"why\""}`,
		"parent": "\n" + `"eventRaised":{"name":"Durable.Terminate","input":"\"why\""}`,
	} {
		for name, c := range map[string]struct {
			o          task.Orchestrator
			past, news string
			want       string
		}{
			"running":                {waitForFamily, family, begin + terminate, all},
			"twice":                  {waitForFamily, family, begin + terminate + terminate, all},
			"suspended":              {waitForFamily, family + "\n" + begin + suspend + "\n" + end, begin + terminate, all},
			"suspended now":          {waitForFamily, family, begin + suspend + terminate, all},
			"before its result":      {waitForFamily, family, begin + terminate + done, all},
			"a child ended with it":  {waitForFamily, family, begin + "\n" + `"subOrchestrationInstanceFailed":{"taskScheduledId":2}` + terminate, `4 event durable.terminate to a "why"; 5 TERMINATED "why"`},
			"after it has ended":     {waitForFamily, family, begin + done + terminate, `4 activity Next null; 5 COMPLETED "done"`},
			"ignored by old version": {waitForFamily, family + "\n" + begin + terminate + "\n" + `"eventId":4,"taskScheduled":{"name":"Next"}` + "\n" + end, begin + done, all},
			"at its start":           {waitForFamily, "", first + terminate, `4 TERMINATED "why"`},
			"broken":                 {broken, family, begin + terminate, `0 event durable.terminate to a "why"; 1 event durable.terminate to b "why"; 2 TERMINATED "why"`},
			"another orchestrator":   {other, family, begin + terminate, `2 event durable.terminate to a "why"; 3 event durable.terminate to b "why"; 4 TERMINATED "why"`},
		} {
			t.Run(from+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := turn(t, c.o, c.past, c.news)
				a.want(t, c.want)
				if status := a.Response.CustomStatus.GetValue(); name != "broken" && name != "another orchestrator" && status != `"busy"` {
					t.Errorf("status %s", status)
				}
				if _, err := wire.EncodeActions(a.ExecutionResults); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A termination in the turn that starts the orchestration anew is not lost, in either order.
func TestTerminationWithContinueAsNew(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		_ = ctx.CallActivity("Work").Await(nil)
		ctx.ContinueAsNew(2, task.WithKeepUnprocessedEvents())
		return nil, nil
	}
	done, terminate := `"taskCompleted":{"taskScheduledId":0}`, `"executionTerminated":{"input":"\"why\""}`
	for _, news := range []string{done + "\n" + terminate, terminate + "\n" + done} {
		a := turn(t, o, scheduledWork, begin+"\n"+news)
		if c := last(a.Response.Actions).GetCompleteOrchestration(); len(a.lines) != 1 || c.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED {
			t.Errorf("got %s", a)
		}
	}
}

// TestBelow: the ids of a tree are found among others by their form, at any depth and length.
func TestBelow(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"r", "r:1", "a b~c", strings.Repeat("x", 60), strings.Repeat("é", 100), strings.Repeat("y", 81)} {
		var tree []string
		parent := root
		for n := range 5 {
			h := &history{instanceID: parent, executionID: "e"}
			parent = h.childID(int32(n) * 1000)
			tree = append(tree, parent)
			if !strings.HasPrefix(parent, TreePrefix(root)) {
				t.Errorf("%s does not begin with %s", parent, TreePrefix(root))
			}
		}
		// A rewind has started the third one again, twice, and the second time it has got as far as a child.
		rewound := &history{scheduled: []scheduled{{HistoryEvent: childCreated(t, tree[2]), at: 1}}, rewind: rewind{lost: map[int32]bool{0: true}}}
		once := rewound.again(0)
		rewound.scheduled = append(rewound.scheduled, scheduled{HistoryEvent: childCreated(t, once), at: 2})
		twice := rewound.again(0)
		below := (&history{instanceID: twice, executionID: "f"}).childID(0)
		others := []string{root, root + "~1", root + "~2", root + "x", root + ":1", root + ":mine:1", root + "x:01234567:1", "z~" + digest("z", 12) + ":01234567:1"}
		tree = append(tree, once, twice, below)
		got := Below(root, append(others, tree...))
		position := map[string]int{}
		for i, id := range got {
			position[id] = i
		}
		if len(got) != len(tree) || len(position) != len(tree) || position[below] > position[twice] || position[tree[4]] > position[tree[3]] {
			t.Errorf("%s: got %q, want %q from its end", root, got, tree)
		}
		for _, id := range tree {
			if !strings.HasPrefix(id, TreePrefix(root)) || wire.CheckInstanceID(id) != nil || !slices.Contains(got, id) {
				t.Errorf("%s of the tree of %s: %q", id, root, got)
			}
		}
	}
}

func childCreated(t *testing.T, id string) *backend.HistoryEvent {
	return events(t, fmt.Sprintf(`"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":%q}`, id))[0]
}

// A child's version and tags are in the bytes as the host takes them (sub-orchestrations of the recordings of 3.19).
func TestDescribedChildren(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		turn := Of(ctx)
		turn.Describe("", map[string]string{"ct": "1"})
		turn.SubOrchestration("Orch", "par2:c1", []byte(`{"turns": [{"actions": []}]}`))
		turn.Describe("2", map[string]string{"b": "2", "a": "1"})
		turn.SubOrchestration("Orch", "v", nil)
		return nil, ctx.CreateTimer(time.Hour).Await(nil)
	}
	a := turn(t, o, "", first)
	text, err := wire.EncodeActions(&backend.ExecutionResults{Response: a.Response})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(string(text), `"`))
	recorded, _ := base64.StdEncoding.DecodeString("CgRwYXIyEjoaOAoHcGFyMjpjMRIET3JjaCIeChx7InR1cm5zIjogW3siYWN0aW9ucyI6IFtdfV19MgcKAmN0EgEx")
	action := recorded[bytes.Index(recorded, []byte("par2:c1")):] // all behind the id
	if err != nil || !bytes.Contains(raw, action) {
		t.Errorf("%q: %v", raw, err)
	}
	if !bytes.Contains(raw, []byte("\x1a\x03\n\x012")) || !bytes.Contains(raw, []byte("2\x06\n\x01a\x12\x0112\x06\n\x01b\x12\x012")) {
		t.Errorf("%q", raw)
	}
}
