package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/entity"
)

const (
	messageA = `event op to @c@a {"op":"add","id":"g1","parent":"i","parentExecution":"exec","input":"5","timestamp":"2026-01-02T03:04:05.0000000Z"}`
	sentA    = `"eventId":0,"eventSent":{"instanceId":"@c@a","name":"op","input":"x"}`
	sentLock = `"eventId":0,"eventSent":{"instanceId":"@c@a","name":"op","input":"x"}`
	granted  = `"eventId":-1,"eventRaised":{"name":"G1","input":"{\"result\":\"Lock Acquisition Completed\"}"}`
	nextTurn = end + "\n" + begin
)

func callA(ctx *task.OrchestrationContext) *Op {
	return Of(ctx).CallEntity(Operation{Target: "@c@a", Name: "add", GUID: "g1", Input: []byte("5")})
}

// TestEntityMessages are the messages to the byte: time stamps grow for each entity by itself, and name their predecessor.
func TestEntityMessages(t *testing.T) {
	t.Parallel()
	orchestrator := func(ctx *task.OrchestrationContext) (any, error) {
		callA(ctx)
		Of(ctx).SignalEntity(Operation{Target: "@c@a", Name: "add", GUID: "g2", Input: []byte("<")}, time.Time{})
		callB := Of(ctx).CallEntity(Operation{Target: "@c@b", Name: "get", GUID: "g3", Input: []byte("null")})
		Of(ctx).Until(func() bool { return callB.Done })
		return callB.Result, nil
	}
	a := turn(t, orchestrator, "", first)
	want := "0 " + messageA + `; 1 event op to @c@a {"op":"add","id":"g2","parent":"i","parentExecution":"exec","signal":true,"input":"<","timestamp":"2026-01-02T03:04:05.0000001Z","predecessor":"2026-01-02T03:04:05.0000000Z"}` +
		`; 2 event op to @c@b {"op":"get","id":"g3","parent":"i","parentExecution":"exec","input":"null","timestamp":"2026-01-02T03:04:05.0000000Z"}`
	if a.String() != want {
		t.Errorf("got\n%s\nwant\n%s", a, want)
	}
	past := first + "\n" + sentA + "\n" + strings.Replace(sentA, `"eventId":0`, `"eventId":1`, 1) + "\n" + `"eventId":2,"eventSent":{"instanceId":"@c@b","name":"op","input":"x"}` + "\n" + end
	a = turn(t, orchestrator, past, begin+"\n"+`"eventId":-1,"eventRaised":{"name":"G3","input":"{\"result\":\"7\"}"}`)
	if len(a.lines) != 1 || !strings.Contains(a.String(), "COMPLETED") {
		t.Errorf("the answer to a call: %s", a)
	}
}

func TestSignalLater(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 0, 48, 36, 265e6, time.UTC)
	orchestrator := func(ctx *task.OrchestrationContext) (any, error) {
		Of(ctx).SignalEntity(Operation{Target: "@entity@sch", Name: "add", GUID: "22222222-1111-1111-1111-0000000000aa", Input: []byte("3")}, at)
		return "done", nil
	}
	a := turn(t, orchestrator, "", first)
	// The bytes of the recorded action (esig).
	const want = "BN\nL\n$22222222-1111-1111-1111-0000000000aa\x12\x03add\x1a\x0b\x08\xe4\x83\x9e\xd8\x06\x10\xc0\xa8\xae~\"\x03\n\x013*\r\n\x0b@entity@sch"
	if got := string(a.Response.Actions[0].ProtoReflect().GetUnknown()); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	again := turn(t, func(ctx *task.OrchestrationContext) (any, error) {
		_, _ = orchestrator(ctx)
		return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
	}, first+"\n"+`"eventId":0,"eventSent":{"instanceId":"@entity@sch","name":"op@2026-11-26T00:48:36.2650000Z","input":"x"}`+"\n"+end, begin)
	if len(again.lines) != 0 {
		t.Errorf("a replay answers %s", again)
	}
}

func TestEntityDeterminism(t *testing.T) {
	t.Parallel()
	orchestrator := func(ctx *task.OrchestrationContext) (any, error) {
		op := callA(ctx)
		Of(ctx).Until(func() bool { return op.Done })
		return nil, nil
	}
	for name, c := range map[string]struct{ sent, want string }{
		"the same":           {sentA, ""},
		"another entity":     {`"eventId":0,"eventSent":{"instanceId":"@c@b","name":"op","input":"x"}`, `action 0 was message op to "@c@b" in an earlier turn and is message op to "@c@a" now`},
		"a release":          {`"eventId":0,"eventSent":{"instanceId":"@c@a","name":"release","input":"x"}`, `was message release to "@c@a"`},
		"an activity before": {`"eventId":0,"taskScheduled":{"name":"A"}`, `was activity "A"`},
		"one too many":       {sentA + "\n" + `"eventId":1,"eventSent":{"instanceId":"@c@a","name":"op","input":"x"}`, `is nothing now`},
		"to an instance":     {sentA + "\n" + `"eventId":-100,"eventSent":{"instanceId":"i","name":"~durable:again","input":"null"}`, ""},
	} {
		a := turn(t, orchestrator, first+"\n"+c.sent+"\n"+end, begin)
		if c.want == "" && len(a.lines) != 0 || c.want != "" && !strings.Contains(a.String(), c.want) {
			t.Errorf("%s: %s, want %q", name, a, c.want)
		}
	}
}

// TestLockIsGivenBack: however an orchestration ends, and not while it only waits.
func TestLockIsGivenBack(t *testing.T) {
	t.Parallel()
	const releases = `event release to @c@a {"parent":"i","id":"g1"}; 2 event release to @c@b {"parent":"i","id":"g1"}; `
	run := func(end func(*task.OrchestrationContext, *Section) (any, error)) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			section, op := Of(ctx).Lock([]entity.ID{{Name: "c", Key: "a"}, {Name: "c", Key: "b"}}, "g1")
			defer section.Release()
			Of(ctx).Until(func() bool { return op.Done })
			return end(ctx, section)
		}
	}
	ends := func(*task.OrchestrationContext, *Section) (any, error) { return nil, nil }
	if a := turn(t, run(ends), "", first); a.String() != `0 event op to @c@a {"op":null,"id":"g1","parent":"i","parentExecution":"exec","lockset":[{"name":"c","key":"a"},{"name":"c","key":"b"}],"pos":0,"timestamp":"2026-01-02T03:04:05.0000000Z"}` {
		t.Error(a)
	}
	locked := first + "\n" + sentLock + "\n" + end
	terminated := `"eventId":-1,"executionTerminated":{"input":"\"why\""}`
	waits := func(ctx *task.OrchestrationContext, _ *Section) (any, error) {
		return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
	}
	for name, c := range map[string]struct {
		end  func(*task.OrchestrationContext, *Section) (any, error)
		news string
		want string
	}{
		"returns":    {ends, granted, "1 " + releases + "3 COMPLETED"},
		"panics":     {func(*task.OrchestrationContext, *Section) (any, error) { panic("bang") }, granted, releases},
		"waits":      {waits, granted, ""},
		"terminated": {waits, granted + "\n" + terminated, releases},
		"not yet":    {waits, terminated, releases},
	} {
		a := turn(t, run(c.end), locked, begin+"\n"+c.news)
		if c.want == "" && len(a.lines) != 0 || !strings.Contains(strings.NewReplacer("3 event release to @c@b", "2 event release to @c@b", "4 event release to @c@b", "2 event release to @c@b").Replace(a.String()), c.want) {
			t.Errorf("%s: %s, want %s", name, a, c.want)
		}
	}
}

func TestEntityOutcome(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		result string
		kind   Kind
		says   string
	}{
		`{"result":"4"}`:  {result: "4"},
		`{"result":null}`: {},
		`{"result":null,"failureDetails":{"ErrorType":"E","ErrorMessage":"entity says no","StackTrace":"st","InnerFailure":{"ErrorType":"Inner","ErrorMessage":"cause"}}}`:                                       {"", Failed, "entity says no"},
		`{"result":null,"failureDetails":{"ErrorType":"EntityOperationPanic","ErrorMessage":"panic: x"}}`:                                                                                                        {"", Panicked, "panic: x"},
		`{"result":"The function 'nosuch' doesn't exist","exceptionType":"entity dispatch failed","failureDetails":{"ErrorType":"EntityFunctionNotFound","ErrorMessage":"The function 'nosuch' doesn't exist"}}`: {"", NotFound, "The function 'nosuch' doesn't exist"},
		`{"result":"x","exceptionType":"entity dispatch failed","failureDetails":{"ErrorType":"FunctionInvocationFailed","ErrorMessage":"Invocation of function 'entity' failed with an exception.","InnerFailure":{"ErrorType":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException","ErrorMessage":"Exception while executing function: Functions.Entity","InnerFailure":{"ErrorType":"System.Net.Http.HttpRequestException","ErrorMessage":"An error occurred while sending the request.","InnerFailure":{"ErrorType":"System.Net.Http.HttpIOException","ErrorMessage":"The response ended prematurely. (ResponseEnded)"}}}}}`: {"", Lost, "An error occurred while sending the request.: The response ended prematurely. (ResponseEnded)"},
		`{"result":"gone","exceptionType":"entity dispatch failed"}`: {"", Lost, "gone"},
		`[]`: {"", NotUnderstood, "the entity's response is not what the host sends: json: cannot unmarshal array into Go value of type entity.Response"},
	} {
		result, f := EntityOutcome(text)
		if result != want.result || f == nil != (want.says == "") || f != nil && (f.Kind != want.kind || f.Message != want.says) {
			t.Errorf("%s: %q %+v, want %+v", text, result, f, want)
		}
	}
}

func FuzzEntityOutcome(f *testing.F) {
	f.Add(`{"result":"4"}`)
	f.Add(`{"result":"x","exceptionType":"e","failureDetails":{"ErrorType":"FunctionInvocationFailed","InnerFailure":{"ErrorType":"System.Net.Http.HttpRequestException"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if result, failure := EntityOutcome(text); failure != nil && result != "" {
			t.Errorf("%q and %+v", result, failure)
		}
	})
}
