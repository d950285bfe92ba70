package handler_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

// The largest body in these tests, and so twice the largest value.
const maxBody = 100_000

var smallBodies = map[string]string{"HANDLER_MAX_BODY_BYTES": fmt.Sprint(maxBody)}

// TestResultTooLarge: a result that no turn could carry is refused where it arises.
func TestResultTooLarge(t *testing.T) {
	t.Parallel()
	h := start(t, activityApp(durable.Activity(func(_ context.Context, n int) (string, error) { return strings.Repeat("x", n), nil })),
		map[string]string{"Work/function.json": activityJSON}, smallBodies)
	if a := h.post("Work", testkit.ActivityBody(fmt.Sprint(maxBody/2-2))); a.Status != 200 { // and the quotes
		t.Errorf("the largest: %d %s", a.Status, a.Phrase)
	}
	a := h.post("Work", testkit.ActivityBody(fmt.Sprint(maxBody/2-1)))
	if kind, message, _ := wire.DecodePhrase(wire.Latin1(a.Phrase)); a.Status != 500 || kind != wire.KindFailed || !strings.Contains(message, "the activity's result has 50001 bytes") {
		t.Errorf("one larger: %d %s", a.Status, a.Phrase)
	}
}

// TestOrchestratorSendsTooMuch: what its receiver could not take fails the orchestration, in words that say what it is.
func TestOrchestratorSendsTooMuch(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", maxBody/2-2)
	quotes := strings.Repeat(`"`, maxBody/25) // in JSON two characters, of which the host makes 26
	call := func(input string) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("Work", task.WithActivityInput(input)).Await(nil)
		}
	}
	child := func(input string) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallSubOrchestrator("Child", task.WithSubOrchestratorInput(input)).Await(nil)
		}
	}
	for name, c := range map[string]struct {
		orchestrator task.Orchestrator
		want         string // of the failure; "": none
	}{
		"result":                  {func(*task.OrchestrationContext) (any, error) { return text, nil }, ""},
		"result too large":        {func(*task.OrchestrationContext) (any, error) { return text + "x", nil }, "the result has 50001 bytes"},
		"error too large":         {func(*task.OrchestrationContext) (any, error) { return nil, errors.New(text + "xxx") }, "the error has 50001 bytes"},
		"child's input":           {child(text), ""},
		"child's input too large": {child(text + "x"), `the input of sub-orchestration "Child" has 50001 bytes`},
		"input":                   {call(text[:maxBody/5]), ""},
		"input too large":         {call(text[:maxBody/3]), `the input of activity "Work" has`},
		"input of quotes":         {call(quotes), `the input of activity "Work" has`},
		"next input":              {func(ctx *task.OrchestrationContext) (any, error) { ctx.ContinueAsNew(text); return nil, nil }, ""},
		"next input too large":    {func(ctx *task.OrchestrationContext) (any, error) { ctx.ContinueAsNew(text + "x"); return nil, nil }, "the result has 50001 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := handler.New()
			app.Orchestrator("Orch", c.orchestrator)
			h := start(t, app, map[string]string{"Orch/function.json": orchJSON}, smallBodies)
			a := h.post("Orch", `{"Data":{"context":`+testkit.Twice(firstTurn)+`},"Metadata":{}}`)
			failure := failureOf(t, a)
			if failure.GetErrorMessage() == "" != (c.want == "") || !strings.Contains(failure.GetErrorMessage(), c.want) {
				t.Errorf("failure %v, want %q", failure, c.want)
			}
			if c.want != "" && (failure.GetErrorType() != "PayloadTooLarge" || !strings.Contains(h.stderr.String(), "orchestration failed")) {
				t.Errorf("failure %v, log %s", failure, h.stderr.String())
			}
		})
	}
}

// failureOf returns why an orchestration failed in the answer, nil if it did not.
func failureOf(t *testing.T, a testkit.Answer) *backend.TaskFailureDetails {
	t.Helper()
	results, err := wire.DecodeActions(strings.Trim(string(a.ReturnValue), `"`))
	if a.Status != 200 || err != nil {
		t.Fatalf("%d %s: %v", a.Status, a.Phrase, err)
	}
	for _, action := range results.Response.Actions {
		if d := action.GetCompleteOrchestration().GetFailureDetails(); d != nil {
			return d
		}
	}
	return nil
}

// TestLargestBody: whatever the setting says, the handler starts and takes bodies, or names what is wrong.
func TestLargestBody(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"1048576": "", "10000000": "",
		"3000000000000000000":   "the memory is enough for bodies of",
		"9223372036854775807":   "the memory is enough for bodies of",
		"99999999999999999999":  "the memory is enough for bodies of",
		fmt.Sprint(math.MaxInt): "the memory is enough for bodies of",
		"0":                     "must be a number of bytes",
		"-1":                    "must be a number of bytes",
		"1e9":                   "must be a number of bytes",
		"128MiB":                "must be a number of bytes",
	} {
		app := activityApp(durable.Activity(func(_ context.Context, s string) (int, error) { return len(s), nil }))
		files := map[string]string{"Work/function.json": activityJSON}
		if want != "" {
			_, err := app.Handler(handler.Options{Root: appRoot(t, files), Environ: []string{}, Getenv: func(name string) string {
				return map[string]string{"HANDLER_MAX_BODY_BYTES": value}[name]
			}})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "HANDLER_MAX_BODY_BYTES") {
				t.Errorf("%s: %v, want %q", value, err, want)
			}
			continue
		}
		h := start(t, app, files, map[string]string{"HANDLER_MAX_BODY_BYTES": value})
		for _, size := range []int{10, 900_000} {
			if a := h.post("Work", testkit.ActivityBody(`"`+strings.Repeat("x", size)+`"`)); a.Status != 200 || string(a.ReturnValue) != fmt.Sprint(size) {
				t.Errorf("%s, %d bytes: %d %s", value, size, a.Status, a.Phrase)
			}
		}
	}
}

// TestOutOfMemoryType: the host does not fail an orchestration with such a failure, it asks again without end.
func TestOutOfMemoryType(t *testing.T) {
	t.Parallel()
	details := func(types ...string) (d *backend.TaskFailureDetails) {
		for i := len(types) - 1; i >= 0; i-- {
			d = &backend.TaskFailureDetails{ErrorType: types[i], ErrorMessage: "m", InnerFailure: d}
		}
		return d
	}
	for name, types := range map[string][]string{
		"at once":             {"System.OutOfMemoryException"},
		"deep":                {"*errors.errorString", "E", "E", "System.OutOfMemoryException"},
		"derived":             {"E", "System.InsufficientMemoryException"},
		"with its assembly":   {"System.OutOfMemoryException, System.Private.CoreLib"},
		"its array, in depth": {"E", "System.OutOfMemoryException[]"},
	} {
		results, err := wire.DecodeActions("CgNyaDESEAgJMgwIARIICgYiZG9uZSI=") // a completion
		if err != nil {
			t.Fatal(err)
		}
		results.Response.Actions[0].GetCompleteOrchestration().FailureDetails = details(types...)
		wire.RenameExceptions(results)
		depth := 0
		for d := results.Response.Actions[0].GetCompleteOrchestration().FailureDetails; d != nil; d = d.InnerFailure {
			if strings.Contains(d.ErrorType, "System.Out") || strings.Contains(d.ErrorType, "System.In") || d.ErrorType == "" || d.ErrorMessage != "m" {
				t.Errorf("%s: %v", name, d)
			}
			depth++
		}
		if depth != len(types) {
			t.Errorf("%s: %d levels of %d", name, depth, len(types))
		}
	}
}
