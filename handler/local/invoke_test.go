package local

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

// raw answers with bytes of its own choosing.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { testkit.AnswerRaw(w, answer) }
}

func body(contentType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, text)
	}
}

// TestBadTurns: a bad answer fails the orchestration at once and for good.
func TestBadTurns(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"500":       {func(w http.ResponseWriter, r *http.Request) { fail(w, "no luck") }, "Response status code does not indicate success: 500 (no luck)."},
		"no reason": {func(w http.ResponseWriter, r *http.Request) { fail(w, "") }, "success: 500."},
		"redirect":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/Echo", http.StatusFound) }, "success: 302 (Found)."},
		"empty":     {body(jsonType, ""), "Invalid HttpResponseMessage"},
		"null":      {body(jsonType, " null "), "Invalid HttpResponseMessage"},
		"204":       {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }, "Invalid HttpResponseMessage"},
		"text":      {body("text/plain", "{}"), "text/plain"},
		"no content type": {func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "{}")
		}, "Content-Type"},
		"not JSON":         {body(jsonType, "{"), "Invalid HttpResponseMessage"},
		"array":            {body(jsonType, "[]"), "Invalid HttpResponseMessage"},
		"no value":         {body(jsonType, "{}"), "resulted in a null response"},
		"null value":       {body(jsonType, `{"ReturnValue":null}`), "resulted in a null response"},
		"object value":     {body(jsonType, `{"ReturnValue":{}}`), "resulted in a null response"},
		"number value":     {body(jsonType, `{"ReturnValue":1}`), "resulted in a null response"},
		"bad base64":       {body(jsonType, `{"ReturnValue":"!"}`), "not a valid Base-64 string"},
		"bad protobuf":     {body(jsonType, `{"ReturnValue":"aGVsbG8="}`), "ReturnValue"},
		"dies":             {raw(""), "The response ended prematurely. (ResponseEnded)"},
		"dies in the body": {raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"), "The response ended prematurely. (ResponseEnded)"},
		"panics":           {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "The response ended prematurely. (ResponseEnded)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t)
			app.Answers["Orch"] = c.answer
			h := open(t, app)
			expect(t, run(t, h, "bad", "1"), api.RUNTIME_STATUS_FAILED, c.want)
			if n := len(app.Seen("Orch")); n != 1 {
				t.Errorf("%d turns", n)
			}
		})
	}
}

// TestRefusedActions: what stalls the real host's task hub, or fails there, fails here at once.
func TestRefusedActions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, want string }{
		"timer without a time":   {`{"ReturnValue":"EgIiAA=="}`, "has no time"},
		"timer in ten years":     {"", "in more than 7 days"},
		"terminates another one": {`{"ReturnValue":"EgI6AA=="}`, "unsupported action type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
				return nil, ctx.CreateTimer(10 * 365 * 24 * time.Hour).Await(nil)
			})
			if c.answer != "" {
				app.Answers["Orch"] = body("application/json", c.answer)
			}
			expect(t, run(t, open(t, app), "refused", "1"), api.RUNTIME_STATUS_FAILED, c.want)
		})
	}
}

func TestLargeCustomStatus(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var size int
		if err := ctx.GetInput(&size); err != nil {
			return nil, err
		}
		ctx.SetCustomStatus(strings.Repeat("ü", size))
		return "ok", nil
	})
	h := open(t, app)
	i := run(t, h, "fits", "8192")
	expect(t, i, api.RUNTIME_STATUS_COMPLETED, "ok")
	if i.CustomStatus != strings.Repeat("ü", 8192) {
		t.Errorf("custom status of %d bytes", len(i.CustomStatus))
	}
	i = run(t, h, "too-large", "8193")
	expect(t, i, api.RUNTIME_STATUS_FAILED, "CustomStatus is too large")
	if i.CustomStatus != "" {
		t.Error("a failed instance has a custom status")
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.CallActivity("NoSuchActivity").Await(nil)
	})
	h := open(t, app)
	run(t, h, "unknown-activity", "1")
	turns := app.Seen("Orch")
	turn, err := wire.DecodeTurn(text(turns[len(turns)-1].Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	if failure := turn.New[1].GetTaskFailed(); failure == nil || failure.GetFailureDetails() != nil {
		t.Errorf("got %v, want a taskFailed without details", turn.New[1])
	}
	c := durableClient(t, h)
	if _, err := c.ScheduleNewOrchestration(t.Context(), "Nope", api.WithInstanceID("nope")); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, h, "nope"), api.RUNTIME_STATUS_FAILED,
		"The function 'Nope' doesn't exist, is disabled, or is not an orchestrator function. Additional info: The following are the known orchestrator functions: 'Orch'.")
	if _, err := c.ScheduleNewOrchestration(t.Context(), "oRCH", api.WithInstanceID("case")); err != nil {
		t.Fatal(err)
	}
	if i := wait(t, h, "case"); i.Name != "oRCH" {
		t.Errorf("name %s", i.Name)
	}
}

// TestActivityFailures: the details are nested like the real host's.
func TestActivityFailures(t *testing.T) {
	t.Parallel()
	type level struct{ Type, Message string }
	const (
		httpRequestException      = "System.Net.Http.HttpRequestException"
		httpIOException           = "System.Net.Http.HttpIOException"
		invalidOperationException = "System.InvalidOperationException"
	)
	outer := level{"Microsoft.Azure.WebJobs.Host.FunctionInvocationException", "Exception while executing function: Functions.Fail"}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   []level
	}{
		"reason": {nil, []level{outer, {httpRequestException, `Response status code does not indicate success: 500 ("card declined: 42").`}}},
		"latin1": {func(w http.ResponseWriter, r *http.Request) { fail(w, "ü") },
			[]level{outer, {httpRequestException, "Response status code does not indicate success: 500 (Ã¼)."}}},
		"died": {raw(""), []level{outer, {httpRequestException, "An error occurred while sending the request."}, {httpIOException, "The response ended prematurely. (ResponseEnded)"}}},
		"not understood": {body("text/plain", "{}"),
			[]level{outer, {invalidOperationException, `Invalid HttpResponseMessage: its Content-Type is "text/plain", not application/json`}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
				return nil, ctx.CallActivity("fail", task.WithActivityInput("card declined: 42")).Await(nil)
			})
			if c.answer != nil {
				app.Answers["Fail"] = c.answer
			}
			h := open(t, app)
			run(t, h, "failing", "1")
			turn := lastTurn(t, app)
			var got []level
			for d := turn.New[1].GetTaskFailed().GetFailureDetails(); d != nil; d = d.GetInnerFailure() {
				got = append(got, level{d.GetErrorType(), d.GetErrorMessage()})
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func lastTurn(t testing.TB, app *testkit.App) *wire.Turn {
	t.Helper()
	turns := app.Seen("Orch")
	turn, err := wire.DecodeTurn(text(turns[len(turns)-1].Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// TestLongReason: a reason phrase of 60,000 bytes arrives whole.
func TestLongReason(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.CallActivity("Fail").Await(nil)
	})
	reason := strings.Repeat("x", 60_000)
	app.Answers["Fail"] = func(w http.ResponseWriter, r *http.Request) { fail(w, reason) }
	h := open(t, app)
	run(t, h, "long", "1")
	if got := lastTurn(t, app).New[1].GetTaskFailed().GetFailureDetails().GetInnerFailure().GetErrorMessage(); !strings.Contains(got, reason) {
		t.Errorf("got %d bytes", len(got))
	}
}

// TestEarlyAnswer: an answer counts even if it comes before the request has been read.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fail(w, "not read") })
	h := open(t, app)
	for range 50 {
		var failure *InvocationError
		if _, err := h.Deliver(t.Context(), "Start", Message{Body: make([]byte, 1<<20)}); !errors.As(err, &failure) || !strings.Contains(failure.Reason, "not read") {
			t.Fatalf("got %v", err)
		}
	}
}

// TestTimeouts: an activity past functionTimeout fails, an orchestrator turn is run again.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		return "ended", ctx.CallActivity("Fail").Await(nil)
	})
	app.Answers["Fail"] = func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	app.Answers["Orch"] = func(w http.ResponseWriter, r *http.Request) {
		turns := app.Seen("Orch")
		if len(turns) == 1 {
			<-r.Context().Done()
			return
		}
		app.Turn(w, turns[len(turns)-1])
	}
	h := open(t, app, func(o *Options) { o.Environ = []string{"AzureFunctionsJobHost__functionTimeout=00:00:01"} })
	run(t, h, "timeout", "1")
	details := lastTurn(t, app).New[1].GetTaskFailed().GetFailureDetails()
	if details.GetErrorType() != "Microsoft.Azure.WebJobs.Host.FunctionTimeoutException" || details.GetErrorMessage() != "Timeout value of 00:00:01 was exceeded by function: Functions.Fail" || details.GetInnerFailure() != nil {
		t.Errorf("got %v", details)
	}
	if n := len(app.Seen("Orch")); n != 3 {
		t.Errorf("%d turns", n)
	}
}

// TestRequests compares what is sent with what was recorded of the real host.
func TestRequests(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var input json.RawMessage
		if err := ctx.GetInput(&input); err != nil {
			return nil, err
		}
		return nil, ctx.CallActivity("Echo", task.WithRawActivityInput(string(input))).Await(nil)
	})
	h := open(t, app)
	for input, want := range map[string]string{
		`{"RecordId":"1","instanceId":"forged","sys":"forged"}`: `{"Data":{"input":"\"{\\\"RecordId\\\":\\\"1\\\",\\\"instanceId\\\":\\\"forged\\\",\\\"sys\\\":\\\"forged\\\"}\""},` +
			`"Metadata":{"instanceId":"\"forged\"","input":"\"{\\\"RecordId\\\":\\\"1\\\",\\\"instanceId\\\":\\\"forged\\\",\\\"sys\\\":\\\"forged\\\"}\"",` +
			`"data":{"RecordId":"1","instanceId":"forged","sys":"forged"},"sys":"\"forged\"","RecordId":"\"1\""}}`,
		`"Zahlung – 支払い <b>&"`: `{"Data":{"input":"\"\\\"Zahlung – 支払い <b>&\\\"\""},"Metadata":{"instanceId":"\"ID\"","input":"\"\\\"Zahlung – 支払い <b>&\\\"\"","data":"\"Zahlung – 支払い <b>&\"","sys":SYS}}`,
		`null`:                 `{"Data":{"input":"\"null\""},"Metadata":{"instanceId":"\"ID\"","input":"\"null\"","data":"null","sys":SYS}}`,
		`[1,[2,[3]]]`:          `{"Data":{"input":"\"[1,[2,[3]]]\""},"Metadata":{"instanceId":"\"ID\"","input":"\"[1,[2,[3]]]\"","data":"[1,[2,[3]]]","sys":SYS}}`,
		`{"A":1,"a":2,"x":[1],"at":"2026-11-22T10:11:12+02:00"}`: `{"Data":{"input":"\"{\\\"A\\\":1,\\\"a\\\":2,\\\"x\\\":[1],\\\"at\\\":\\\"2026-11-22T10:11:12+02:00\\\"}\""},` +
			`"Metadata":{"instanceId":"\"ID\"","input":"\"{\\\"A\\\":1,\\\"a\\\":2,\\\"x\\\":[1],\\\"at\\\":\\\"2026-11-22T10:11:12+02:00\\\"}\"",` +
			`"data":{"A":1,"a":2,"x":[1],"at":"2026-11-22T10:11:12+02:00"},"sys":SYS,"A":"\"2\"","at":"\"11/22/2026 08:11:12\""}}`,
	} {
		id := idOf("request", input)
		before := len(app.Seen("Echo"))
		run(t, h, id, input)
		got := app.Seen("Echo")[before]
		if !strings.Contains(want, "SYS") {
			got.Metadata["sys"] = nil
		}
		normal := strings.ReplaceAll(strings.ReplaceAll(got.Body, id, "ID"), string(got.Metadata["sys"]), "SYS")
		if got.Metadata["sys"] == nil {
			normal = got.Body
		}
		if diff := cmp.Diff(want, normal); diff != "" {
			t.Errorf("%s: %s", input, diff)
		}
		if !got.Chunked || got.Header.Get("Content-Type") != "application/json; charset=utf-8" || got.Header.Get("X-Azure-Functions-InvocationId") == "" ||
			got.Header.Get("X-Azure-Functions-HostVersion") == "" || !strings.HasPrefix(got.Header.Get("User-Agent"), "Azure-Functions-Host/") || got.Header.Get("Accept-Encoding") != "" {
			t.Errorf("header %v, chunked %v", got.Header, got.Chunked)
		}
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	h := open(t, app)
	message := `{"id":"c-forge","sys":{"a":1},"SYS":true,"instanceId":"evil","Id":"evil","deliverycount":99,"MessageId":"evil","item":"evil","list":[1,2]}`
	if _, err := h.Deliver(t.Context(), "start", Message{ID: "m-1", Body: []byte(message), DeliveryCount: 2}); err != nil {
		t.Fatal(err)
	}
	got := app.Seen("Start")[0]
	if text(got.Data["item"]) != message {
		t.Errorf("item %s", got.Data["item"])
	}
	var binding struct{ TaskHubName, RpcBaseUrl, GrpcHttpClientTimeout string }
	if err := json.Unmarshal([]byte(text(got.Data["starter"])), &binding); err != nil {
		t.Fatal(err)
	}
	if binding.TaskHubName != "LabHub" || !regexp.MustCompile("^http://[A-Z2-7.]+@"+h.sidecar.Address+"$").MatchString(binding.RpcBaseUrl) || binding.GrpcHttpClientTimeout != `"00:01:40"` {
		t.Errorf("binding %+v", binding)
	}
	for name, want := range map[string]string{"MessageId": `"\"evil\""`, "DeliveryCount": `"\"99\""`, "sys": `"\"True\""`, "instanceId": `"\"evil\""`, "id": `"\"evil\""`, "item": `"\"evil\""`, "list": "", "SYS": ""} {
		if string(got.Metadata[name]) != want {
			t.Errorf("Metadata.%s is %s, want %s", name, got.Metadata[name], want)
		}
	}

	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) { fail(w, "bad message") }
	var failure *InvocationError
	if _, err := h.Deliver(t.Context(), "Start", Message{}); !errors.As(err, &failure) || failure.Status != 500 || !strings.Contains(failure.Reason, "bad message") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"Nope", "Echo"} {
		if _, err := h.Deliver(t.Context(), name, Message{}); !errors.As(err, &failure) || failure.Status != http.StatusNotFound {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestInvocationIsCancelled: the caller's context ends an invocation.
func TestInvocationIsCancelled(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	ctx, cancel := context.WithCancel(t.Context())
	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }
	if _, err := open(t, app).Deliver(ctx, "Start", Message{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
