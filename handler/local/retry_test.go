package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

// retries is a retry policy of host.json.
func retries(count int, delay string) func(*Options) {
	return func(o *Options) {
		const prefix = "AzureFunctionsJobHost__retry__"
		o.Environ = append(o.Environ, prefix+"strategy=fixedDelay", fmt.Sprintf(prefix+"maxRetryCount=%d", count), prefix+"delayInterval="+delay)
	}
}

// inTurn answers the first requests with first, one after the other, and the others as app does.
func inTurn(app *testkit.App, function string, first ...http.HandlerFunc) {
	app.Answers[function] = func(w http.ResponseWriter, r *http.Request) {
		seen := app.Seen(function)
		switch n := len(seen); {
		case n <= len(first):
			first[n-1](w, r)
		case function == "Orch":
			app.Turn(w, seen[n-1])
		default:
			answerJSON(w, map[string]any{"ReturnValue": "good"})
		}
	}
}

// answerOf answers with a text.
func answerOf(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { answerJSON(w, json.RawMessage(text)) }
}

func refuse(reason string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { fail(w, reason) }
}

// OrchestratorResponses: completeOrchestration with a status.
const (
	endsFailed     = `{"ReturnValue":"EhYyFAgDMhAKAUUSC3VzZXJmYWlsdXJl"}`
	endsTerminated = `{"ReturnValue":"EgQyAggF"}`
)

// TestRetriedTurns: with a policy, a turn is tried again, whatever made it fail. It is the same invocation, and its Metadata
// describes the failure.
func TestRetriedTurns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first  []http.HandlerFunc
		status api.OrchestrationStatus
		tries  int
		reason string // of the last failure, in the last request
	}{
		"500":                {[]http.HandlerFunc{refuse("first"), refuse("second")}, api.RUNTIME_STATUS_COMPLETED, 3, "success: 500 (second)."},
		"500 for ever":       {[]http.HandlerFunc{refuse("1"), refuse("2"), refuse("3"), refuse("4")}, api.RUNTIME_STATUS_FAILED, 4, "success: 500 (3)."},
		"dies":               {[]http.HandlerFunc{raw("")}, api.RUNTIME_STATUS_COMPLETED, 2, "The response ended prematurely. (ResponseEnded)"},
		"not understood":     {[]http.HandlerFunc{body("text/plain", "{}")}, api.RUNTIME_STATUS_COMPLETED, 2, "text/plain"},
		"no results":         {[]http.HandlerFunc{body("application/json", "{}")}, api.RUNTIME_STATUS_COMPLETED, 2, "resulted in a null response"},
		"failing output":     {[]http.HandlerFunc{body("application/json", `{"ReturnValue":"EgQyAggB","Outputs":{"mail":"nonsense"}}`)}, api.RUNTIME_STATUS_COMPLETED, 2, "Error while handling parameter mail"},
		"ends as failed":     {[]http.HandlerFunc{answerOf(endsFailed)}, api.RUNTIME_STATUS_COMPLETED, 2, "userfailure"},
		"always failed":      {slices.Repeat([]http.HandlerFunc{answerOf(endsFailed)}, 4), api.RUNTIME_STATUS_FAILED, 4, "userfailure"},
		"ends as terminated": {[]http.HandlerFunc{answerOf(endsTerminated)}, api.RUNTIME_STATUS_TERMINATED, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return "good", nil })
			inTurn(app, "Orch", c.first...)
			h := open(t, app, retries(3, "00:00:00"))
			expect(t, run(t, h, "retried", "1"), c.status, "")
			seen := app.Seen("Orch")
			if len(seen) != c.tries {
				t.Fatalf("%d tries, want %d", len(seen), c.tries)
			}
			checkTries(t, seen, c.reason)
		})
	}
}

// checkTries compares the requests of one invocation.
func checkTries(t *testing.T, seen []testkit.Request, reason string) {
	t.Helper()
	for n, r := range seen {
		var context struct {
			RetryCount, MaxRetryCount int
			Exception                 *struct{ InstanceID string }
		}
		if err := json.Unmarshal(r.Metadata["RetryContext"], &context); err != nil {
			t.Fatal(err)
		}
		id := r.Header.Get("X-Azure-Functions-InvocationId")
		if context.RetryCount != n || context.MaxRetryCount != 3 || (context.Exception != nil) != (n > 0) || n > 0 && context.Exception.InstanceID != id {
			t.Errorf("try %d: RetryContext %s", n, r.Metadata["RetryContext"])
		}
		if id != seen[0].Header.Get("X-Azure-Functions-InvocationId") || !cmp.Equal(r.Data, seen[0].Data) {
			t.Errorf("try %d is another invocation", n)
		}
		if n > 0 && bytes.Equal(r.Metadata["sys"], seen[0].Metadata["sys"]) {
			t.Errorf("try %d: sys %s", n, r.Metadata["sys"])
		}
	}
	if last := seen[len(seen)-1]; !strings.Contains(string(last.Metadata["RetryContext"]), reason) {
		t.Errorf("RetryContext %s, want %q", last.Metadata["RetryContext"], reason)
	}
}

// TestRetryContext compares what the handler is told about a failure with what the real host sent (recorded), without stack
// traces.
func TestRetryContext(t *testing.T) {
	t.Parallel()
	const outer = `{"RetryCount":1,"MaxRetryCount":3,"Exception":{"InstanceId":"ID","MethodName":"Host.Functions.Orch","Handled":false,` +
		`"ClassName":"Microsoft.Azure.WebJobs.Host.FunctionInvocationException","Message":"Exception while executing function: Functions.Orch","Data":null,"InnerException":%s,` +
		`"HelpURL":null,"StackTraceString":null,"RemoteStackTraceString":null,"RemoteStackIndex":0,"ExceptionMethod":null,"HResult":-2146233088,"Source":"System.Private.CoreLib","WatsonBuckets":null},"Instance":null,"State":{}}`
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		inner  string
	}{
		"500": {refuse("first"), `{"HttpRequestError":0,"StatusCode":500,"Message":"Response status code does not indicate success: 500 (first).","Data":{},"InnerException":null,"HelpLink":null,"Source":"System.Net.Http","HResult":-2146233088,"StackTrace":null}`},
		"dies": {raw(""), `{"HttpRequestError":10,"StatusCode":null,"Message":"An error occurred while sending the request.","Data":{},"InnerException":` +
			`{"HttpRequestError":10,"Message":"The response ended prematurely. (ResponseEnded)","Data":{},"InnerException":null,"HelpLink":null,"Source":"System.Net.Http","HResult":-2146232800,"StackTrace":null},` +
			`"HelpLink":null,"Source":"System.Net.Http","HResult":-2146232800,"StackTrace":null}`},
		"failed": {answerOf(endsFailed), `{"ClassName":"DurableTask.Core.Exceptions.OrchestrationFailureException","Message":"userfailure","Data":null,"InnerException":null,"HelpURL":null,"StackTraceString":null,` +
			`"RemoteStackTraceString":null,"RemoteStackIndex":0,"ExceptionMethod":null,"HResult":-2146233088,"Source":"Microsoft.Azure.WebJobs.Extensions.DurableTask","WatsonBuckets":null,"Details":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return nil, nil })
			inTurn(app, "Orch", c.answer)
			run(t, open(t, app, retries(3, "00:00:00")), "told", "1")
			seen := app.Seen("Orch")
			got := string(seen[1].Metadata["RetryContext"])
			want := strings.Replace(fmt.Sprintf(outer, c.inner), "ID", seen[1].Header.Get("X-Azure-Functions-InvocationId"), 1)
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestRetriedActivities: an activity, and a message within one delivery.
func TestRetriedActivities(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var result string
		err := ctx.CallActivity("Fail", task.WithActivityInput(map[string]any{"RetryContext": 7, "x": 1})).Await(&result)
		return result, err
	})
	inTurn(app, "Fail", refuse("first"), raw(""))
	inTurn(app, "Start", refuse("first"), refuse("second"))
	h := open(t, app, retries(3, "00:00:00"))
	expect(t, run(t, h, "activity", "1"), api.RUNTIME_STATUS_COMPLETED, "good")
	seen := app.Seen("Fail")
	checkTries(t, seen, "ResponseEnded")
	if len(seen) != 3 {
		t.Errorf("%d tries of the activity", len(seen))
	}
	if _, err := h.Deliver(t.Context(), "Start", Message{Body: []byte("x")}); err != nil {
		t.Error(err)
	}
	checkTries(t, app.Seen("Start"), "second")
}

// TestRetriedTimeout: the policy also covers a turn that exceeds functionTimeout.
func TestRetriedTimeout(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return "good", nil })
	inTurn(app, "Orch", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h := open(t, app, retries(3, "00:00:00"), func(o *Options) { o.Environ = append(o.Environ, "AzureFunctionsJobHost__functionTimeout=00:00:01") })
	expect(t, run(t, h, "slow", "1"), api.RUNTIME_STATUS_COMPLETED, "good")
	checkTries(t, app.Seen("Orch"), "FunctionTimeoutException")
}

// TestStopWhileRetrying: a host that stops does not wait for another try. The next host counts from the beginning.
func TestStopWhileRetrying(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return "good", nil })
	inTurn(app, "Orch", refuse("first"))
	data := func(o *Options) { o.DataDir = t.TempDir() }
	var dir string
	h := open(t, app, retries(-1, "01:00:00"), data, func(o *Options) { dir = o.DataDir })
	start(t, h, "waits", "1")
	waitFor(t, func() bool { return len(app.Seen("Orch")) == 1 })
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
	h = open(t, app, retries(-1, "01:00:00"), func(o *Options) { o.DataDir = dir })
	expect(t, wait(t, h, "waits"), api.RUNTIME_STATUS_COMPLETED, "good")
	seen := app.Seen("Orch")
	if got := string(seen[len(seen)-1].Metadata["RetryContext"]); !strings.HasPrefix(got, `{"RetryCount":0,"MaxRetryCount":-1,"Exception":null,`) {
		t.Errorf("RetryContext %s", got)
	}
}

// TestRetriesKeepTheirSlot: nothing else runs while the only slot waits for another try.
func TestRetriesKeepTheirSlot(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return "good", nil })
	inTurn(app, "Orch", refuse("1"), refuse("2"), refuse("3"))
	h := open(t, app, retries(3, "00:00:00.05"), func(o *Options) {
		o.Environ = append(o.Environ, "AzureFunctionsJobHost__extensions__durableTask__maxConcurrentOrchestratorFunctions=1")
	})
	start(t, h, "first", "1")
	waitFor(t, func() bool { return len(app.Seen("Orch")) >= 1 })
	expect(t, run(t, h, "second", "1"), api.RUNTIME_STATUS_COMPLETED, "good")
	var order []string
	for _, r := range app.Seen("Orch") {
		turn, err := wire.DecodeTurn(text(r.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, turn.InstanceID)
	}
	if want := []string{"first", "first", "first", "first", "second"}; !slices.Equal(order, want) {
		t.Errorf("the turns were %v", order)
	}
}

// putOff refuses a turn, with an output.
func putOff(app *testkit.App) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := wire.EncodeActions(wire.PutOff("late", false))
		if err != nil {
			app.T.Error(err)
		}
		answerJSON(w, map[string]any{"ReturnValue": json.RawMessage(value), "Outputs": map[string]any{"other": "of a refused turn"}})
	}
}

// TestTurnIsPutOff: a refused turn comes again unchanged, as often as it is refused, and uses up no try of the policy. Its outputs
// are sent.
func TestTurnIsPutOff(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		return "good", ctx.CallActivity("Echo").Await(nil)
	})
	usual := func(w http.ResponseWriter, r *http.Request) { seen := app.Seen("Orch"); app.Turn(w, seen[len(seen)-1]) }
	inTurn(app, "Orch", usual, putOff(app), refuse("in between"), putOff(app), putOff(app))
	h := open(t, app, retries(1, "00:00:00"), func(o *Options) { o.putOffUnit = time.Millisecond })
	expect(t, run(t, h, "late", "1"), api.RUNTIME_STATUS_COMPLETED, "good")
	seen := app.Seen("Orch")
	if len(seen) != 6 {
		t.Fatalf("%d turns", len(seen))
	}
	var turns []string
	for _, r := range seen[1:] {
		turn, err := wire.DecodeTurn(text(r.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		turns = append(turns, kinds(turn.Past)+" | "+kinds(turn.New))
	}
	for _, turn := range turns {
		if turn != turns[0] {
			t.Errorf("the turns were %v", turns)
		}
	}
	if files := outputFiles(t, h); len(files) != 3 {
		t.Errorf("outputs %v", files)
	}
}

// TestEventsPassATurnThatIsPutOff: events that come while a turn is put off make a turn of their own. The delay outlives the host.
func TestEventsPassATurnThatIsPutOff(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		echo := ctx.CallActivity("Echo")
		if err := ctx.WaitForSingleEvent("go", -1).Await(nil); err != nil {
			return nil, err
		}
		return "good", echo.Await(nil)
	})
	usual := func(w http.ResponseWriter, r *http.Request) { seen := app.Seen("Orch"); app.Turn(w, seen[len(seen)-1]) }
	inTurn(app, "Orch", usual, putOff(app))
	var dir string
	h := open(t, app, func(o *Options) { o.putOffUnit = time.Hour; dir = o.DataDir })
	start(t, h, "late", "1")
	waitFor(t, func() bool { return len(app.Seen("Orch")) == 2 })
	if err := durableClient(t, h).RaiseEvent(t.Context(), "late", "go"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(app.Seen("Orch")) == 3 })
	turn := lastTurn(t, app)
	if got := kinds(turn.New); !strings.Contains(got, "eventRaised") || strings.Contains(got, "taskCompleted") {
		t.Errorf("the turn has %s", got)
	}
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
	h = open(t, app, func(o *Options) { o.DataDir = dir })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if i, err := h.Wait(ctx, "late"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the turn came at once: %+v, %v", i, err)
	}
	if err := durableClient(t, h).TerminateOrchestration(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, h, "late"), api.RUNTIME_STATUS_TERMINATED, "")
}

// TestRedirects: after 307 and 308 the host posts again at once, up to fifty times.
func TestRedirects(t *testing.T) {
	t.Parallel()
	redirect := func(status int, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }
	}
	for name, c := range map[string]struct {
		first  []http.HandlerFunc
		status api.OrchestrationStatus
		output string
		posts  int
	}{
		"307":      {[]http.HandlerFunc{redirect(307, "/Orch")}, api.RUNTIME_STATUS_COMPLETED, "good", 2},
		"308":      {[]http.HandlerFunc{redirect(308, "/Orch")}, api.RUNTIME_STATUS_COMPLETED, "good", 2},
		"302":      {[]http.HandlerFunc{redirect(302, "/Orch")}, api.RUNTIME_STATUS_FAILED, "302 (Found)", 1},
		"for ever": {slices.Repeat([]http.HandlerFunc{redirect(307, "/Orch")}, 60), api.RUNTIME_STATUS_FAILED, "307 (Temporary Redirect)", 51},
		"away":     {[]http.HandlerFunc{redirect(307, "http://192.0.2.1/Orch")}, api.RUNTIME_STATUS_FAILED, "307 (Temporary Redirect)", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t).Orchestrator(func(*task.OrchestrationContext) (any, error) { return "good", nil })
			inTurn(app, "Orch", c.first...)
			expect(t, run(t, open(t, app), "redirected", "1"), c.status, c.output)
			seen := app.Seen("Orch")
			if len(seen) != c.posts || seen[0].Body != seen[len(seen)-1].Body {
				t.Errorf("%d posts, want %d of the same", len(seen), c.posts)
			}
		})
	}
}

// TestFirstTurnPutOff: while a first turn is put off, events for its instance are lost, as on the real host. The start is not
// lost.
func TestFirstTurnPutOff(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	app.Answers["Orch"] = putOff(app)
	var dir string
	h := open(t, app, func(o *Options) { o.putOffUnit = time.Hour; dir = o.DataDir })
	start(t, h, "late", "1")
	db := openFile(t, dir)
	count := func(query string) (n int) {
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	waitFor(t, func() bool { return count("SELECT COUNT(*) FROM events WHERE visible > 0") == 1 })
	if err := durableClient(t, h).RaiseEvent(t.Context(), "late", "go"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return count("SELECT COUNT(*) FROM events") == 1 })
	if n := count("SELECT COUNT(*) FROM history"); n != 0 || len(app.Seen("Orch")) != 1 {
		t.Errorf("%d events of history, %d turns", n, len(app.Seen("Orch")))
	}
	if i, err := h.Instance(t.Context(), "late"); err != nil || i.Status != api.RUNTIME_STATUS_PENDING {
		t.Errorf("%+v, %v", i, err)
	}
}
