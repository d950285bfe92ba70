package replay

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/handler/internal/wire"
)

// events makes history events of protobuf JSON, one a line, without the braces around it.
func events(t testing.TB, lines string) []*backend.HistoryEvent {
	t.Helper()
	var list []*backend.HistoryEvent
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e := &backend.HistoryEvent{}
		if err := protojson.Unmarshal([]byte("{"+line+"}"), e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

const (
	begin   = `"eventId":-1,"timestamp":"2026-01-02T03:04:05Z","orchestratorStarted":{}`
	started = `"eventId":-1,"timestamp":"2026-01-02T03:04:05Z","executionStarted":{"name":"Orch","input":"1","orchestrationInstance":{"instanceId":"i","executionId":"exec"}}`
	end     = `"eventId":-1,"orchestratorCompleted":{}`
	first   = begin + "\n" + started
)

// answer is the outcome of a turn: a line for each action.
type answer struct {
	Result
	lines []string
	log   string
}

func (a answer) String() string { return strings.Join(a.lines, "; ") }

// turn runs a turn by a replay, and in a session, which must answer the same.
func turn(t testing.TB, o task.Orchestrator, past, news string) answer {
	t.Helper()
	a := replayed(t, o, past, news)
	s := inSession(o, events(t, past), events(t, news), slog.New(slog.DiscardHandler))
	if !proto.Equal(a.Response, s.Response) || fmt.Sprint(a.Outputs) != fmt.Sprint(s.Outputs) {
		t.Errorf("the answer is in a session\n%v %v\nand by a replay\n%v %v", s.Response, s.Outputs, a.Response, a.Outputs)
	}
	return a
}

// replayed runs a turn by a replay.
func replayed(t testing.TB, o task.Orchestrator, past, news string) answer {
	t.Helper()
	var log bytes.Buffer
	a := answer{Result: Run(&wire.Turn{InstanceID: "i", Past: events(t, past), New: events(t, news)}, o, slog.New(slog.NewTextHandler(&log, nil)))}
	a.lines, a.log = lines(a.Result), log.String()
	return a
}

// lines describes what an answer wants done, a line for each action.
func lines(r Result) (lines []string) {
	for _, action := range r.Response.Actions {
		line := fmt.Sprintf("%d ", action.Id)
		switch {
		case action.GetScheduleTask() != nil:
			line += "activity " + action.GetScheduleTask().Name + " " + action.GetScheduleTask().Input.GetValue()
		case action.GetCreateSubOrchestration() != nil:
			s := action.GetCreateSubOrchestration()
			line += "sub " + s.Name + " " + s.InstanceId + " " + s.Input.GetValue()
		case action.GetCreateTimer() != nil:
			line += "timer " + action.GetCreateTimer().FireAt.AsTime().Format(time.TimeOnly)
		case action.GetSendEvent() != nil:
			e := action.GetSendEvent()
			line += "event " + e.Name + " to " + e.Instance.GetInstanceId() + " " + e.Data.GetValue()
		case action.GetCompleteOrchestration() != nil:
			c := action.GetCompleteOrchestration()
			line += strings.TrimPrefix(c.OrchestrationStatus.String(), "ORCHESTRATION_STATUS_") + " " + c.Result.GetValue()
			if d := c.FailureDetails; d != nil {
				line += d.ErrorType + ": " + d.ErrorMessage
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func (a answer) want(t *testing.T, text string) {
	t.Helper()
	if a.String() != text {
		t.Errorf("got  %s\nwant %s", a, text)
	}
}

func (a answer) contains(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(a.String(), part) {
			t.Errorf("got %s, want %s in it", a, part)
		}
	}
}

// oneActivity awaits one activity and returns what became of it.
func oneActivity(ctx *task.OrchestrationContext) (any, error) {
	var v any
	err := ctx.CallActivity("Work", task.WithActivityInput(1)).Await(&v)
	return fmt.Sprint("value ", v, " error ", err), nil
}

func oneChild(ctx *task.OrchestrationContext) (any, error) {
	err := ctx.CallSubOrchestrator("Child", task.WithSubOrchestratorInput(1)).Await(nil)
	return fmt.Sprint("error ", err), nil
}

const scheduledWork = first + "\n" + `"eventId":0,"taskScheduled":{"name":"Work"}` + "\n" + end

// Without an execution id the children's ids still differ between runs of one instance.
func TestNoExecutionID(t *testing.T) {
	t.Parallel()
	at := func(second int) string {
		return turn(t, oneChild, "", fmt.Sprintf(`"timestamp":"2026-01-02T03:04:%02dZ","executionStarted":{"name":"Orch"}`, second)).String()
	}
	one, again, other := at(5), at(5), at(6)
	if one != again || one == other {
		t.Errorf("ids %s, %s and %s", one, again, other)
	}
}

// Point 2.
func TestFailuresWithoutDetails(t *testing.T) {
	t.Parallel()
	turn(t, oneActivity, scheduledWork, begin+"\n"+`"taskFailed":{"taskScheduledId":0}`).
		contains(t, `COMPLETED "value \u003cnil\u003e error task failed`, `activity \"Work\"`, "knows no activity")
	turn(t, oneChild, first+"\n"+`"eventId":0,"subOrchestrationInstanceCreated":{"name":"Child"}`+"\n"+end, begin+"\n"+`"subOrchestrationInstanceFailed":{"taskScheduledId":0}`).
		contains(t, `sub-orchestration \"Child\"`)
}

func TestFailureKinds(t *testing.T) {
	t.Parallel()
	wrap := func(inner string) string {
		return `{"errorType":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException","errorMessage":"Exception while executing function: Functions.Work","innerFailure":` + inner + `}`
	}
	status := func(phrase string) string {
		quoted, _ := json.Marshal("Response status code does not indicate success: 500 (" + wire.Latin1(phrase) + ").")
		return wrap(`{"errorType":"System.Net.Http.HttpRequestException","errorMessage":` + string(quoted) + `}`)
	}
	for name, c := range map[string]struct {
		details string
		kind    Kind
		message string
	}{
		"own words":       {status(wire.EncodePhrase(wire.KindFailed, "nein: ü\nzwei")), Failed, "nein: ü\nzwei"},
		"a phrase":        {status("card declined: 42"), Failed, "card declined: 42"},
		"panic":           {status(wire.EncodePhrase(wire.KindPanic, "panic: boom")), Panicked, "panic: boom"},
		"our deadline":    {status(wire.EncodePhrase(wire.KindDeadline, "too long")), DeadlineExceeded, "too long"},
		"bad request":     {status(wire.EncodePhrase(wire.KindNotUnderstood, "no JSON")), NotUnderstood, "no JSON"},
		"no phrase":       {wrap(`{"errorType":"System.Net.Http.HttpRequestException","errorMessage":"Response status code does not indicate success: 500."}`), Failed, "gave no reason"},
		"died":            {wrap(`{"errorType":"System.Net.Http.HttpRequestException","errorMessage":"An error occurred while sending the request.","innerFailure":{"errorType":"System.Net.Http.HttpIOException","errorMessage":"The response ended prematurely. (ResponseEnded)"}}`), Lost, "ended prematurely"},
		"not there":       {wrap(`{"errorType":"System.Net.Http.HttpRequestException","errorMessage":"Connection refused (127.0.0.1:1)"}`), Lost, "refused"},
		"not understood":  {wrap(`{"errorType":"System.InvalidOperationException","errorMessage":"Invalid HttpResponseMessage: x"}`), NotUnderstood, "Invalid HttpResponseMessage"},
		"bad reference":   {wrap(`{"errorType":"System.InvalidOperationException","errorMessage":"Invalid HttpResponseMessage:","innerFailure":{"errorType":"Newtonsoft.Json.JsonSerializationException","errorMessage":"reference"}}`), NotUnderstood, "reference"},
		"host's deadline": {`{"errorType":"Microsoft.Azure.WebJobs.Host.FunctionTimeoutException","errorMessage":"Timeout value of 00:00:05 was exceeded by function: Functions.Work"}`, DeadlineExceeded, "Timeout value"},
		"another":         {wrap(`{"errorType":"System.Threading.Tasks.TaskCanceledException","errorMessage":"A task was canceled."}`), Lost, "canceled"},
		"another engine":  {`{"errorType":"*errors.errorString","errorMessage":"no"}`, Failed, "no"},
		"given up":        {`{"errorType":"ActivityKilledTheProcess","errorMessage":"it died"}`, Panicked, "it died"},
		"none":            {`null`, NotFound, "Work"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := events(t, `"taskFailed":{"taskScheduledId":0,"failureDetails":`+c.details+`}`)
			f, d := explainActivity("Work", list[0].GetTaskFailed().FailureDetails)
			if f.Kind != c.kind || !strings.Contains(f.Message, c.message) || d.ErrorMessage != f.Message {
				t.Errorf("got %+v and details %v, want kind %d and %q", f, d, c.kind, c.message)
			}
		})
	}
}

// Point 3: events that carry nothing for a replay, a rewind's above all.
func TestEventsThatCarryNothing(t *testing.T) {
	t.Parallel()
	nothing := `"genericEvent":{"data":"again"}
		"eventSent":{"name":"x"}
		"historyState":{}
		"eventId":7`
	turn(t, oneActivity, first+"\n"+nothing+"\n"+end, begin+"\n"+nothing).want(t, "0 activity Work 1")
	// After a continue-as-new the new events end with orchestratorCompleted.
	turn(t, oneActivity, "", first+"\n"+end).want(t, "0 activity Work 1")
	failed := func(*task.OrchestrationContext) (any, error) { return nil, errors.New("again") }
	turn(t, failed, first+"\n"+nothing+"\n"+end, begin+"\n"+nothing).want(t, "0 FAILED *errors.errorString: again")
}

// Point 4.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]task.Orchestrator{
		"at once":      func(*task.OrchestrationContext) (any, error) { panic("boom") },
		"out of range": func(ctx *task.OrchestrationContext) (any, error) { return []int{}[len(ctx.ID)], nil },
		"after a wait": func(ctx *task.OrchestrationContext) (any, error) { _, _ = oneActivity(ctx); panic(errors.New("boom")) },
		"nil":          func(*task.OrchestrationContext) (any, error) { panic(any(nil)) },
		"uncomparable": func(*task.OrchestrationContext) (any, error) { panic(map[string][]int{}) },
		"no message":   func(*task.OrchestrationContext) (any, error) { panic((*url.Error)(nil)) }, // its Error panics, too
		"in disguise":  func(*task.OrchestrationContext) (any, error) { panic(fmt.Errorf("I: %w", task.ErrTaskBlocked)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, o, scheduledWork, begin+"\n"+`"taskCompleted":{"taskScheduledId":0}`)
			if name != "after a wait" {
				a = turn(t, o, "", first)
			}
			if len(a.lines) != 1 || !strings.Contains(a.lines[0], "FAILED OrchestratorPanic: panic: ") {
				t.Errorf("got %s", a)
			}
			if strings.Count(a.log, "orchestrator panicked") != 1 || !strings.Contains(a.log, "replay_test.go") {
				t.Errorf("log %s", a.log)
			}
		})
	}
}

// What an orchestrator does with the panic by which it is left while it has to wait does not count, and a log line says so.
func TestRecoveredSignal(t *testing.T) {
	t.Parallel()
	again := func(ctx *task.OrchestrationContext) (any, error) {
		defer func() { panic(fmt.Sprint("I: ", recover())) }()
		return nil, ctx.CallActivity("Work").Await(nil)
	}
	a := turn(t, again, "", first)
	a.want(t, "0 activity Work null")
	if !strings.Contains(a.log, "let this panic pass") {
		t.Errorf("log %s", a.log)
	}
	o := func(ctx *task.OrchestrationContext) (result any, err error) {
		defer func() {
			if recover() != nil {
				result = "done too early"
			}
		}()
		Of(ctx).Until(func() bool { return false })
		return nil, nil
	}
	turn(t, o, "", first).want(t, "")
}

// Point 5.
func TestOrderOfActions(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		for i := range 200 {
			ctx.CallActivity(fmt.Sprint("A", i))
		}
		return nil, ctx.CreateTimer(time.Minute).Await(nil)
	}
	a := turn(t, o, "", first)
	for i, action := range a.Response.Actions {
		if int(action.Id) != i {
			t.Fatalf("action %d stands at %d", action.Id, i)
		}
	}
	a.contains(t, "0 activity A0 null; 1 activity A1 null;", "200 timer 03:05:05")
}

// Point 6.
func TestCustomStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ status, want string }{
		"none":      {"", ""},
		"JSON":      {`{"waiting":true}`, `{"waiting":true}`},
		"text":      {"plain text, not JSON", `"plain text, not JSON"`},
		"bad byte":  {"a\xff", `"a` + "\uFFFD" + `"`},
		"in JSON":   {"\"a\xff\"", `"a` + "\uFFFD" + `"`},
		"largest":   {`"` + strings.Repeat("x", 8190) + `"`, `"` + strings.Repeat("x", 8190) + `"`},
		"too large": {`"` + strings.Repeat("x", 8191) + `"`, "left out"},
		"in UTF-16": {`"` + strings.Repeat("😀", 4096) + `"`, "left out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, func(ctx *task.OrchestrationContext) (any, error) { ctx.SetCustomStatus(c.status); return nil, nil }, "", first)
			got := a.Response.CustomStatus
			if (got == nil) != (c.want == "") || !strings.Contains(got.GetValue(), c.want) || got != nil && !json.Valid([]byte(got.Value)) {
				t.Errorf("got %.100v, want %.100s", got, c.want)
			}
			if (c.want == "left out") != strings.Contains(a.log, "too long") {
				t.Errorf("log %s", a.log)
			}
			a.contains(t, "COMPLETED")
		})
	}
}

// Point 7: what goes wrong in an orchestrator is a completion in state FAILED.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]task.Orchestrator{
		"error":   func(*task.OrchestrationContext) (any, error) { return nil, errors.New("no\xff") },
		"no JSON": func(*task.OrchestrationContext) (any, error) { return make(chan int), nil },
		"input":   func(ctx *task.OrchestrationContext) (any, error) { var s string; return nil, ctx.GetInput(&s) },
		"raw input": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("Work", task.WithRawActivityInput("not JSON")).Await(nil)
		},
		"UTF-8 input": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("Work", task.WithRawActivityInput("\"\xff\"")).Await(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, o, "", first)
			a.contains(t, "FAILED")
			if _, err := wire.EncodeActions(a.ExecutionResults); err != nil || len(a.lines) != 1 {
				t.Errorf("%s cannot be sent: %v", a, err)
			}
		})
	}
}

// Point 8 is wire.DecodeTurn's; here: an orchestration is entered once.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	entered := 0
	o := func(ctx *task.OrchestrationContext) (any, error) { entered++; return oneActivity(ctx) }
	replayed(t, o, "", first+"\n"+started).want(t, "0 activity Work 1")
	if entered != 1 {
		t.Errorf("entered %d times", entered)
	}
	// The newest start has the execution id.
	turn(t, oneChild, "", first+"\n"+strings.Replace(started, `"exec"`, `"newer"`, 1)).want(t, "0 sub Child i:"+digest("newer", 8)+":0 1")
}

// Point 10: what a replay repeats is not logged again; what was held back while suspended is logged once.
func TestLogs(t *testing.T) {
	t.Parallel()
	var said []string
	o := func(ctx *task.OrchestrationContext) (any, error) {
		say := func(what string) {
			if !ctx.IsReplaying {
				said = append(said, what)
			}
		}
		say("start")
		_, err := oneActivity(ctx)
		say("done")
		return nil, err
	}
	replayed(t, o, "", first)
	suspended := scheduledWork + "\n" + begin + "\n" + `"executionSuspended":{}` + "\n" + end
	replayed(t, o, scheduledWork, begin+"\n"+`"executionSuspended":{}`)
	replayed(t, o, suspended, begin+"\n"+`"taskCompleted":{"taskScheduledId":0}`).want(t, "")
	suspended += "\n" + begin + "\n" + `"taskCompleted":{"taskScheduledId":0}` + "\n" + end
	replayed(t, o, suspended, begin+"\n"+`"executionResumed":{}`).contains(t, "COMPLETED")
	if got := strings.Join(said, " "); got != "start done" {
		t.Errorf("said %s", got)
	}
}

// Exactly one completion, the first in history order; and a suspended orchestration can be terminated.
func TestTermination(t *testing.T) {
	t.Parallel()
	done, terminate := `"taskCompleted":{"taskScheduledId":0,"result":"5"}`, `"executionTerminated":{"input":"\"why\""}`
	suspend := `"executionSuspended":{}`
	result := `COMPLETED "value 5 error \u003cnil\u003e"`
	for name, c := range map[string]struct{ news, want string }{
		"alone":                          {terminate, `1 TERMINATED "why"`},
		"after the result":               {done + "\n" + terminate, "1 " + result},
		"before the result":              {terminate + "\n" + done, `1 TERMINATED "why"`},
		"twice":                          {terminate + "\n" + terminate, `1 TERMINATED "why"`},
		"while suspended":                {suspend + "\n" + terminate, `1 TERMINATED "why"`},
		"suspended, with a result":       {suspend + "\n" + done + "\n" + terminate, `1 TERMINATED "why"`},
		"suspended after the result":     {done + "\n" + suspend + "\n" + terminate, `2 TERMINATED "why"`},
		"suspended":                      {suspend, ""},
		"suspended, result held":         {suspend + "\n" + done, ""},
		"suspended after the result too": {done + "\n" + suspend, ""},
		"resumed":                        {suspend + "\n" + done + "\n" + `"executionResumed":{}`, "1 " + result},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turn(t, oneActivity, scheduledWork, begin+"\n"+c.news).want(t, c.want)
		})
	}
}

func TestNondeterminism(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		was  string
		code task.Orchestrator
		want []string
	}{
		"another name":     {`"eventId":0,"taskScheduled":{"name":"Other"}`, oneActivity, []string{`activity "Other"`, `activity "Work"`}},
		"another kind":     {`"eventId":0,"timerCreated":{}`, oneActivity, []string{"timer", `activity "Work"`}},
		"a child":          {`"eventId":0,"taskScheduled":{"name":"Child"}`, oneChild, []string{`activity "Child"`, `sub-orchestration "Child"`}},
		"another child":    {`"eventId":0,"subOrchestrationInstanceCreated":{"name":"Other"}`, oneChild, []string{`sub-orchestration "Other"`}},
		"nothing any more": {`"eventId":1,"taskScheduled":{"name":"Work"}`, oneActivity, []string{"action 1", "nothing"}},
		"ends earlier":     {`"eventId":0,"taskScheduled":{"name":"Work"}`, func(*task.OrchestrationContext) (any, error) { return nil, errors.New("early") }, []string{"end", "early"}},
		"scheduled twice":  {`"eventId":0,"taskScheduled":{"name":"Work"}` + "\n" + `"eventId":0,"taskScheduled":{"name":"Work"}`, oneActivity, []string{"action 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, c.code, first+"\n"+c.was+"\n"+end, begin)
			a.contains(t, append(c.want, "FAILED NonDeterministic: nondeterministic orchestrator")...)
			if len(a.lines) != 1 {
				t.Errorf("got %s", a)
			}
		})
	}
	// Scheduling the same is not an error, in whichever order the history has it.
	turn(t, oneActivity, scheduledWork, begin).want(t, "")
}

// Duplicates, strangers and impossible orders: an answer, and no harm.
func TestOddHistories(t *testing.T) {
	t.Parallel()
	done := `"taskCompleted":{"taskScheduledId":0,"result":"5"}`
	result := `1 COMPLETED "value 5 error \u003cnil\u003e"`
	for name, c := range map[string]struct{ past, news, want string }{
		"twice":               {scheduledWork, begin + "\n" + done + "\n" + done, result},
		"completed, failed":   {scheduledWork, begin + "\n" + done + "\n" + `"taskFailed":{"taskScheduledId":0}`, result},
		"stranger":            {scheduledWork, begin + "\n" + `"taskCompleted":{"taskScheduledId":99}` + "\n" + `"timerFired":{"timerId":98}` + "\n" + done, result},
		"before the start":    {"", done + "\n" + first, "0 activity Work 1"},
		"no timestamp":        {"", `"executionStarted":{"name":"Orch"}`, "0 activity Work 1"},
		"events nobody wants": {scheduledWork, begin + "\n" + `"eventRaised":{"name":"x","input":"not JSON"}` + "\n" + done, result},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turn(t, oneActivity, c.past, c.news).want(t, c.want)
		})
	}
}

// A completion of another kind under the same id is left over from another run.
func TestWrongKind(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		op := Of(ctx).Activity("Work", []byte("1"))
		Of(ctx).Until(func() bool { return op.Done })
		return json.RawMessage(op.Result), nil
	}
	wrong := begin + "\n" + `"subOrchestrationInstanceCompleted":{"taskScheduledId":0,"result":"9"}`
	turn(t, o, scheduledWork, wrong).want(t, "")
	turn(t, o, scheduledWork, wrong+"\n"+`"taskCompleted":{"taskScheduledId":0,"result":"5"}`).want(t, "1 COMPLETED 5")
}

// What is scheduled anew goes out with its input and id, whatever was scheduled before, and in whatever order the host
// lists that.
func TestInputs(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		first := Of(ctx).Activity("Work", []byte("1"))
		Of(ctx).SubOrchestration("Child", "kid", []byte("2"))
		Of(ctx).Until(func() bool { return first.Done })
		Of(ctx).SubOrchestration("Child", "kid-2", []byte("3"))
		last := Of(ctx).Activity("Work", []byte("4"))
		Of(ctx).Until(func() bool { return last.Done })
		return nil, nil
	}
	turn(t, o, "", first).want(t, "0 activity Work 1; 1 sub Child kid 2")
	past := first + "\n" + `"eventId":1,"subOrchestrationInstanceCreated":{"name":"Child"}` + "\n" + `"eventId":0,"taskScheduled":{"name":"Work"}` + "\n" + end
	turn(t, o, past, begin+"\n"+`"taskCompleted":{"taskScheduledId":0}`).want(t, "2 sub Child kid-2 3; 3 activity Work 4")

	huge := first + "\n" + `"eventId":2147483647,"taskScheduled":{"name":"Work"}` + "\n" + end
	turn(t, o, huge, begin).contains(t, "nondeterministic")
	negative := first + "\n" + `"eventId":-5,"taskScheduled":{"name":"Work"}` + "\n" + end
	turn(t, o, negative, begin).contains(t, "nondeterministic")
}

// An operation ends once, as it ended first.
func TestDuplicateCompletions(t *testing.T) {
	t.Parallel()
	ends := 0
	o := func(ctx *task.OrchestrationContext) (any, error) {
		op, pause := Of(ctx).Activity("Work", []byte("1")), Of(ctx).Timer(time.Hour)
		op.Then(func() { ends++ })
		Of(ctx).Until(func() bool { return pause.Done })
		return json.RawMessage(op.Result), nil
	}
	done := func(result string) string {
		return "\n" + `"taskCompleted":{"taskScheduledId":0,"result":"` + result + `"}`
	}
	past := first + "\n" + `"eventId":0,"taskScheduled":{"name":"Work"}` + "\n" + `"eventId":1,"timerCreated":{}` + "\n" + end
	replayed(t, o, past, begin+done("5")+done("6")+"\n"+`"taskFailed":{"taskScheduledId":0}`+"\n"+`"timerFired":{"timerId":1}`).want(t, "2 COMPLETED 5")
	if ends != 1 {
		t.Errorf("ended %d times", ends)
	}
}

// Events that nobody waits for yet are kept in their order, through any number of suspensions, and given once.
func TestEarlyEvents(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		pause := Of(ctx).Timer(time.Hour)
		Of(ctx).Until(func() bool { return pause.Done })
		got := ""
		for range 4 {
			e := Of(ctx).Event("Go")
			Of(ctx).Until(func() bool { return e.Done })
			got += e.Result
		}
		return got, nil
	}
	raised := func(n int) string { return fmt.Sprintf("\n"+`"eventRaised":{"name":"gO","input":"%d"}`, n) }
	suspend, resume := "\n"+`"executionSuspended":{}`, "\n"+`"executionResumed":{}`
	turn(t, o, first+"\n"+`"eventId":0,"timerCreated":{}`+"\n"+end,
		begin+raised(1)+suspend+raised(2)+resume+suspend+raised(3)+resume+"\n"+`"timerFired":{"timerId":0}`+raised(4)).want(t, `1 COMPLETED "1234"`)
}

func TestChildFailureKinds(t *testing.T) {
	t.Parallel()
	for errorType, kind := range map[string]Kind{PanicType: Panicked, DeadlineType: DeadlineExceeded, "*errors.errorString": Failed} {
		f, _ := explainSubOrchestration("Child", &backend.TaskFailureDetails{ErrorType: errorType, ErrorMessage: "why"})
		if f.Kind != kind || f.Message != "why" {
			t.Errorf("%s: %+v", errorType, f)
		}
	}
}

// A failed turn says so once in the error log, keeps the status, can be sent, and leaves nothing behind.
func TestFailedTurns(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]task.Orchestrator{
		"panic":          func(*task.OrchestrationContext) (any, error) { panic("bad byte \xff") },
		"nondeterminism": func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CreateTimer(0).Await(nil) },
		"input": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("Work", task.WithRawActivityInput("{")).Await(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			past := scheduledWork
			if name == "input" {
				past = first
			}
			var entered *task.OrchestrationContext
			a := turn(t, func(ctx *task.OrchestrationContext) (any, error) {
				entered = ctx
				ctx.SetCustomStatus("1")
				return o(ctx)
			}, past, begin)
			a.contains(t, "FAILED")
			if _, err := wire.EncodeActions(a.ExecutionResults); err != nil || a.Response.CustomStatus.GetValue() != "1" || strings.Count(a.log, "level=ERROR") != 1 {
				t.Errorf("%v, status %v, log %s", err, a.Response.CustomStatus, a.log)
			}
			if left, _ := turns.Load(weak.Make(entered)); left != nil {
				if _, ok := left.(tombstone); !ok {
					t.Error("the turn's state is left behind")
				}
			}
		})
	}
}

// A result with our marker arrives without it, an input that the host would alter leaves with it.
func TestMarkers(t *testing.T) {
	t.Parallel()
	value := `"2026-11-22T10:11:12+02:00"`
	o := func(ctx *task.OrchestrationContext) (any, error) {
		var v json.RawMessage
		err := ctx.CallActivity("Work", task.WithRawActivityInput(value)).Await(&v)
		return v, err
	}
	marked, err := wire.EncodeValue([]byte(value))
	if err != nil || string(marked) == value {
		t.Fatal(err, string(marked))
	}
	turn(t, o, "", first).want(t, "0 activity Work "+string(marked))
	quoted, _ := json.Marshal(string(marked))
	turn(t, o, scheduledWork, begin+"\n"+`"taskCompleted":{"taskScheduledId":0,"result":`+string(quoted)+`}`).want(t, "1 COMPLETED "+value)
}

// The SDK keeps events that nobody waited for in a map: they go along in the order in which they came.
func TestCarryover(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		ctx.ContinueAsNew(2, task.WithKeepUnprocessedEvents())
		return nil, ctx.CreateTimer(0).Await(nil)
	}
	raised := ""
	for i := range 20 {
		raised += fmt.Sprintf("\n"+`"eventRaised":{"name":"e%d"}`, i)
	}
	a := turn(t, o, first+"\n"+`"eventId":0,"timerCreated":{}`+"\n"+end, begin+raised+"\n"+`"timerFired":{"timerId":0}`)
	c := a.Response.Actions[0].GetCompleteOrchestration()
	if c.OrchestrationStatus != api.RUNTIME_STATUS_CONTINUED_AS_NEW || len(c.CarryoverEvents) != 20 {
		t.Fatalf("got %s with %d events", a, len(c.CarryoverEvents))
	}
	for i, e := range c.CarryoverEvents {
		if e.GetEventRaised().Name != fmt.Sprint("e", i) {
			t.Errorf("event %d is %s", i, e.GetEventRaised().Name)
		}
	}
}

// Outputs leave in the turn that completes the orchestration well, and in no other.
func TestOutputs(t *testing.T) {
	t.Parallel()
	o := func(fail error) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			Of(ctx).Outputs["mail"] = json.RawMessage(`1`)
			_, _ = oneActivity(ctx)
			return nil, fail
		}
	}
	if a := turn(t, o(nil), "", first); a.Outputs != nil {
		t.Errorf("outputs %s in a turn that completes nothing", a.Outputs)
	}
	done := begin + "\n" + `"taskCompleted":{"taskScheduledId":0}`
	if a := turn(t, o(nil), scheduledWork, done); len(a.Outputs) != 1 {
		t.Errorf("outputs %s in the completing turn", a.Outputs)
	}
	if a := turn(t, o(errors.New("no")), scheduledWork, done); a.Outputs != nil {
		t.Errorf("outputs %s of a failed orchestration", a.Outputs)
	}
}

// everything waits for one operation of each kind.
func everything(ctx *task.OrchestrationContext) (any, error) {
	turn := Of(ctx)
	a, b, c, d := turn.Activity("Work", []byte("1")), turn.Timer(time.Hour), turn.SubOrchestration("Child", "", []byte("1")), turn.Event("go")
	turn.Until(func() bool { return a.Done && b.Done && c.Done && d.Done })
	return a.Result + c.Result + d.Result, nil
}

// FuzzTurn mixes events of any kind in any order, past and new: there is always an answer that can be sent.
func FuzzTurn(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, uint8(2))
	f.Add([]byte{0, 1, 9, 4, 10, 4, 11, 12, 13}, uint8(4))
	kinds := strings.Split(strings.TrimSpace(first+"\n"+end+`
"eventId":0,"taskScheduled":{"name":"Work"}
"taskCompleted":{"taskScheduledId":0,"result":"5"}
"taskFailed":{"taskScheduledId":0}
"taskFailed":{"taskScheduledId":1,"failureDetails":{"errorType":"x"}}
"eventId":1,"timerCreated":{}
"timerFired":{"timerId":1}
"executionSuspended":{}
"executionResumed":{}
"executionTerminated":{}
"eventRaised":{"name":"Go","input":"1"}
"eventId":2,"subOrchestrationInstanceCreated":{"name":"Child"}
"subOrchestrationInstanceFailed":{"taskScheduledId":2}
"subOrchestrationInstanceCompleted":{"taskScheduledId":2,"result":"{"}
"genericEvent":{}
"continueAsNew":{}
"executionCompleted":{}`), "\n")
	f.Fuzz(func(t *testing.T, order []byte, split uint8) {
		if len(order) > 200 {
			order = order[:200]
		}
		var lines [2]strings.Builder
		for i, b := range order {
			fmt.Fprintln(&lines[min(1, i/(int(split)+1))], kinds[int(b)%len(kinds)])
		}
		a := turn(t, everything, lines[0].String(), lines[1].String())
		if _, err := wire.EncodeActions(a.ExecutionResults); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		completions := 0
		for _, action := range a.Response.Actions {
			if action.GetCompleteOrchestration() != nil {
				completions++
			}
		}
		if completions > 1 {
			t.Errorf("%d completions: %s", completions, a)
		}
	})
}

// recordedTurns are the requests of the real host, as protobuf.
func recordedTurns(t testing.TB) (turns [][]byte) {
	t.Helper()
	for _, file := range []string{"conversations", "lifecycle"} {
		text, err := os.ReadFile("../../../tests/conformance/testdata/recordings/" + file + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var recorded struct{ Function, Request string }
			if err := json.Unmarshal(line, &recorded); err != nil {
				t.Fatal(err)
			}
			if recorded.Function != "Orch" {
				continue
			}
			request, err := wire.DecodeRequest([]byte(recorded.Request))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(wire.Text(request.Data["context"]))
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, raw)
		}
	}
	return turns
}

// FuzzRequest is the orchestrator request as it comes over the wire: anything is an error or a turn that gets an
// answer.
func FuzzRequest(f *testing.F) {
	recorded := recordedTurns(f)
	if len(recorded) < 50 {
		f.Fatalf("only %d recorded turns", len(recorded))
	}
	for _, raw := range recorded {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text := base64.StdEncoding.EncodeToString(raw)
		for _, o := range []task.Orchestrator{oneActivity, everything} {
			turn, err := wire.DecodeTurn(text)
			if err != nil {
				return
			}
			r := Run(turn, o, slog.New(slog.DiscardHandler))
			if _, err := wire.EncodeActions(r.ExecutionResults); err != nil {
				t.Error(err)
			}
		}
	})
}

// A timer that the host would not take fails the orchestration: it is counted from the host's time, which is before the
// orchestrator's if the host fired the timer before too early.
func TestLongestTimer(t *testing.T) {
	t.Parallel()
	wait := func(first, second time.Duration) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			if first > 0 {
				_ = ctx.CreateTimer(first).Await(nil)
			}
			return nil, ctx.CreateTimer(second).Await(nil)
		}
	}
	const week = 7 * 24 * time.Hour
	past := first + "\n" + `"eventId":0,"timerCreated":{"fireAt":"2026-01-02T03:04:15Z"}` + "\n" + end
	fired := func(at string) string {
		return `"eventId":-1,"timestamp":"2026-01-02T03:04:` + at + `Z","orchestratorStarted":{}` + "\n" + `"timerFired":{"timerId":0,"fireAt":"2026-01-02T03:04:15Z"}`
	}
	for name, c := range map[string]struct {
		o          task.Orchestrator
		past, news string
		ok         bool
	}{
		"a week":                          {wait(0, week), "", first, true},
		"more":                            {wait(0, week+time.Second), "", first, false},
		"a week after another":            {wait(10*time.Second, week), past, fired("15"), true},
		"a week after one that was early": {wait(10*time.Second, week), past, fired("14.3"), false},
		"less after one that was early":   {wait(10*time.Second, week-time.Second), past, fired("14.3"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := turn(t, c.o, c.past, c.news)
			if c.ok {
				a.contains(t, "timer 03:04:")
			} else {
				a.contains(t, "FAILED InvalidAction: a timer until", "use durable.Timer")
			}
		})
	}
}
