package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"
)

// The events of a rewound orchestration in the shape in which the host sends them (extension 3.19, cascade-and-rewind,
// instance R1): the orchestration's failure has become a genericEvent, another one wakes it.
const (
	failedTurn = `"eventId":0,"genericEvent":{}` + "\n" + end
	woken      = begin + "\n" + `"eventId":-1,"genericEvent":{"data":"again"}`
)

// threeOfAKind awaits an activity, a timer and a child, one after the other, which it has all called at the beginning.
func threeOfAKind(ctx *task.OrchestrationContext) (any, error) {
	turn := Of(ctx)
	a, b, c := turn.Activity("Work", []byte("1")), turn.Timer(time.Hour), turn.SubOrchestration("Child", "", []byte("3"))
	turn.Until(func() bool { return a.Done && b.Done && c.Done })
	return json.RawMessage(a.Result + c.Result), nil
}

const inFlight = first + `
"eventId":0,"taskScheduled":{"name":"Work"}
"eventId":1,"timerCreated":{"fireAt":"2026-01-02T04:04:05Z"}
"eventId":2,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"kid"}
` + end + "\n" + begin + "\n"

// What was in flight when the orchestration failed is scheduled again, under the same ids, once, a child under another
// instance id.
func TestRewindWithWorkInFlight(t *testing.T) {
	t.Parallel()
	answered := `"eventId":-1,"taskCompleted":{"taskScheduledId":0,"result":"5"}` + "\n"
	again := `
		"eventId":0,"taskScheduled":{"name":"Work"}
		"eventId":1,"timerCreated":{"fireAt":"2026-01-02T04:04:05Z"}
		"eventId":2,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"kid~1"}
	` + end
	all := `
		"taskCompleted":{"taskScheduledId":0,"result":"5"}
		"timerFired":{"timerId":1}
		"subOrchestrationInstanceCompleted":{"taskScheduledId":2,"result":"6"}`
	for name, c := range map[string]struct{ past, news, want string }{
		"all":                    {inFlight + failedTurn, woken, "0 activity Work 1; 1 timer 04:04:05; 2 sub Child kid~1 3"},
		"what was not answered":  {inFlight + answered + failedTurn, woken, "1 timer 04:04:05; 2 sub Child kid~1 3"},
		"answered meanwhile":     {inFlight + failedTurn, woken + "\n" + answered, "1 timer 04:04:05; 2 sub Child kid~1 3"},
		"answered before":        {inFlight + failedTurn, begin + "\n" + answered + `"eventId":-1,"genericEvent":{"data":"again"}`, "1 timer 04:04:05; 2 sub Child kid~1 3"},
		"once":                   {inFlight + failedTurn + "\n" + woken + again, begin, ""},
		"suspended":              {inFlight + failedTurn, woken + "\n" + `"executionSuspended":{}`, ""},
		"resumed":                {inFlight + failedTurn + "\n" + woken + "\n" + `"executionSuspended":{}` + "\n" + end, begin + "\n" + `"executionResumed":{}`, "0 activity Work 1; 1 timer 04:04:05; 2 sub Child kid~1 3"},
		"done":                   {inFlight + failedTurn + "\n" + woken + again, begin + all, "3 COMPLETED 56"},
		"done by the old ones":   {inFlight + failedTurn + "\n" + woken + again, begin + all + all, "3 COMPLETED 56"},
		"failed and woken again": {inFlight + failedTurn + "\n" + woken + again + "\n" + begin + "\n" + answered + failedTurn, woken, "1 timer 04:04:05; 2 sub Child kid~2 3"},
		"terminated with two children of one number": {inFlight + failedTurn + "\n" + woken + again + "\n" + begin + all[strings.LastIndex(all, "\n"):], begin + "\n" + `"executionTerminated":{}`,
			"3 event durable.terminate to kid ; 4 event durable.terminate to kid~1 ; 5 TERMINATED "},
		"terminated": {inFlight + failedTurn, woken + "\n" + `"executionTerminated":{}`, "3 event durable.terminate to kid ; 4 TERMINATED "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turn(t, threeOfAKind, c.past, c.news).want(t, c.want)
		})
	}
}

// A child that failed is rewound with its parent, under its id, and its end wakes the parent: it is not started again.
// What was in flight beside it is.
func TestRewindOfAFailedChild(t *testing.T) {
	t.Parallel()
	failedChild := `"eventId":-1,"genericEvent":{}` + "\n"
	childEnds := begin + "\n" + `"subOrchestrationInstanceCompleted":{"taskScheduledId":2,"result":"6"}`
	turn(t, threeOfAKind, inFlight+failedChild+failedTurn, childEnds).want(t, "0 activity Work 1; 1 timer 04:04:05")

	twins := func(ctx *task.OrchestrationContext) (any, error) {
		a, b := Of(ctx).SubOrchestration("Child", "", nil), Of(ctx).SubOrchestration("Child", "", nil)
		Of(ctx).Until(func() bool { return a.Done && b.Done })
		return json.RawMessage(a.Result + b.Result), nil
	}
	past := first + `
"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"a"}
"eventId":1,"subOrchestrationInstanceCreated":{"name":"Child","instanceId":"b"}
` + end + "\n" + begin + "\n"
	// One of the two has failed, the other was running and may have ended since: nobody knows which, so both are started.
	end0 := begin + "\n" + `"eventRaised":{"name":"x"}`
	turn(t, twins, past+failedChild+failedTurn, end0).want(t, "0 sub Child a~1 null; 1 sub Child b~1 null")
	turn(t, twins, past+failedChild+failedChild+failedTurn, end0).want(t, "")
}

// An activity that failed runs again, and the orchestrator may take another course than it had taken after the failure:
// what it had scheduled then counts no more.
func TestRewindOfAHandledFailure(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		work := func(name string) *Op { return Of(ctx).Activity(name, []byte("1")) }
		op := work("Work")
		Of(ctx).Until(func() bool { return op.Done })
		if op.Failure != nil {
			pause := Of(ctx).Timer(time.Hour)
			Of(ctx).Until(func() bool { return pause.Done })
			op = work("Work")
			Of(ctx).Until(func() bool { return op.Done })
		}
		next := work("Next")
		Of(ctx).Until(func() bool { return next.Done })
		more := work("Work")
		Of(ctx).Until(func() bool { return more.Done })
		return json.RawMessage(op.Result + next.Result + more.Result), nil
	}
	// Work (0) failed, the timer (1) fired, Work (2) was done, Next (3) was in flight when a turn was lost.
	past := first + `
"eventId":0,"genericEvent":{}
` + end + "\n" + begin + `
"eventId":-1,"genericEvent":{}
"eventId":1,"timerCreated":{}
` + end + "\n" + begin + `
"timerFired":{"timerId":1}
"eventId":2,"taskScheduled":{"name":"Work"}
` + end + "\n" + begin + `
"taskCompleted":{"taskScheduledId":2,"result":"2"}
"eventId":3,"taskScheduled":{"name":"Next"}
` + end + "\n" + begin + "\n" + failedTurn
	turn(t, o, past, woken).want(t, "0 activity Work 1")
	past += "\n" + woken + `
"eventId":0,"taskScheduled":{"name":"Work"}
` + end
	done := func(id, result string) string {
		return begin + "\n" + `"taskCompleted":{"taskScheduledId":` + id + `,"result":"` + result + `"}` + "\n"
	}
	turn(t, o, past, done("0", "7")).want(t, "1 activity Next 1")
	past += "\n" + done("0", "7") + `"eventId":1,"taskScheduled":{"name":"Next"}` + "\n" + end
	turn(t, o, past, done("1", "8")).want(t, "2 activity Work 1") // not the one that was done before
	past += "\n" + done("1", "8") + `"eventId":2,"taskScheduled":{"name":"Work"}` + "\n" + end
	turn(t, o, past, done("2", "9")).want(t, "3 COMPLETED 789")
	// What was scheduled after the rewind must be scheduled again.
	turn(t, oneActivity, past, done("2", "9")).contains(t, "NonDeterministic")
}

// The recorded conversation itself: 0 was done, 1 was in flight when the turn was lost.
func TestRecordedRewind(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		a, b := ctx.CallActivity("Echo", task.WithActivityInput(1)), ctx.CallActivity("Echo", task.WithActivityInput(2))
		err := errors.Join(a.Await(nil), b.Await(nil))
		return "rewound", err
	}
	recorded := `"eventId":-1,"timestamp":"2026-11-26T01:44:23.570591700Z","orchestratorStarted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:23.554087600Z","executionStarted":{"name":"Orch","orchestrationInstance":{"instanceId":"R1","executionId":"fcd84801-12ea-4fb5-8241-a0ead84fdcc6"}}
"timestamp":"2026-11-26T01:44:23.576911700Z","taskScheduled":{"name":"Echo"}
"eventId":1,"timestamp":"2026-11-26T01:44:23.578177700Z","taskScheduled":{"name":"Echo"}
"eventId":-1,"timestamp":"2026-11-26T01:44:23.578228800Z","orchestratorCompleted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:23.621544600Z","orchestratorStarted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:23.608513100Z","taskCompleted":{"result":"{\"a\":1}"}
"timestamp":"2026-11-26T01:44:23.645910400Z","genericEvent":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:23.645992900Z","orchestratorCompleted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:32.944394300Z","orchestratorStarted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:32.930587800Z","genericEvent":{"data":"again"}
"eventId":1,"timestamp":"2026-11-26T01:44:32.949575100Z","taskScheduled":{"name":"Echo"}
"eventId":-1,"timestamp":"2026-11-26T01:44:32.949609300Z","orchestratorCompleted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:32.963964400Z","orchestratorStarted":{}
"eventId":-1,"timestamp":"2026-11-26T01:44:32.958848400Z","taskCompleted":{"taskScheduledId":1,"result":"{\"a\":\"again\"}"}`
	lines := strings.Split(recorded, "\n")
	play := func(past, news int) answer {
		return turn(t, o, strings.Join(lines[:past], "\n"), strings.Join(lines[past:news], "\n"))
	}
	play(0, 2).want(t, "0 activity Echo 1; 1 activity Echo 2")
	play(5, 7).want(t, "")
	play(9, 11).want(t, "1 activity Echo 2")
	play(13, 15).want(t, `2 COMPLETED "rewound"`)
}

// What was sent to entities before the failure has arrived: it is not sent again, but for a call whose answer may have been lost.
func TestRewindSendsNothingTwice(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		turn := Of(ctx)
		turn.SignalEntity(Operation{Target: "@c@a", Name: "add", GUID: "g0", Input: []byte("1")}, time.Time{})
		turn.SignalEntity(Operation{Target: "@c@a", Name: "add", GUID: "g1", Input: []byte("1")}, time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC))
		call := func(guid string) *Op {
			return turn.CallEntity(Operation{Target: "@c@a", Name: "get", GUID: guid, Input: []byte("1")})
		}
		answered, open := call("g2"), call("g3")
		turn.Until(func() bool { return answered.Done && open.Done })
		return nil, nil
	}
	var sent strings.Builder
	for i, a := range turn(t, o, "", first).Response.Actions {
		name, data := "op@2026-01-03T00:00:00.0000000Z", `{"op":"add","id":"g1","signal":true}`
		if e := a.GetSendEvent(); e != nil {
			name, data = e.Name, e.Data.GetValue()
		}
		fmt.Fprintf(&sent, "\n"+`"eventId":%d,"eventSent":{"instanceId":"@c@a","name":%q,"input":%q}`, i, name, data)
	}
	past := first + sent.String() + "\n" + end + "\n" + begin + "\n" + `"eventId":-1,"eventRaised":{"name":"g2","input":"{\"result\":\"7\"}"}` + "\n" + failedTurn
	if a := turn(t, o, past, woken); len(a.lines) != 1 || !strings.HasPrefix(a.String(), `3 event op to @c@a {"op":"get","id":"g3"`) {
		t.Errorf("got %s", a)
	}
}
