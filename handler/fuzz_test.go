package handler_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// FuzzInvocation sends any body to a function of each kind: every one gets an answer that the host can end.
func FuzzInvocation(f *testing.F) {
	f.Add(testkit.ActivityBody(`{"RecordId":"7"}`))
	f.Add(`{"Data":{"item":"\"hello\"","starter":"\"{\\\"rpcBaseUrl\\\":\\\"http://127.0.0.1:1\\\"}\""},"Metadata":{"sys":"\"True\"","MessageId":"\"evil\""}}`)
	f.Add(`{"Data":{"context":` + testkit.Twice(firstTurn) + `,"input":"null","item":[1]},"Metadata":{"SYS":null}}`)
	f.Add(`{"data":{"INPUT":1},"Data":null}`)
	f.Add(`{"Data":{"input":"\"\\ud800\""}}`)
	f.Add(``)
	f.Add(`[]`)

	app := handler.New()
	app.Trigger("T", func(_ context.Context, in *handler.Invocation) error {
		in.Metadata("MessageId")
		_, err := in.DurableClient("starter")
		if in.Text("item") == "" {
			return nil
		}
		return err
	})
	app.Activity("Work", durable.Activity(func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil }))
	app.Orchestrator("Orch", func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CallActivity("Work").Await(nil) })
	h, err := app.Handler(handler.Options{
		Root:   appRoot(f, map[string]string{"T/function.json": triggerJSON, "Work/function.json": activityJSON, "Orch/function.json": orchJSON}),
		Getenv: func(string) string { return "" }, Environ: []string{}, Stdout: io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, function := range []string{"T", "Work", "Orch"} {
			fuzzPost(t, h, function, body)
		}
	})
}

// fuzzPost posts a body: it gets an answer that the host can end.
func fuzzPost(t *testing.T, h http.Handler, function, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1/"+function, strings.NewReader(body)))
	text := strings.TrimSpace(w.Body.String())
	if w.Code == http.StatusOK && (!json.Valid([]byte(text)) || text[0] != '{' || w.Header().Get("Content-Type") != "application/json") {
		t.Errorf("%s: 200 with %q: the host would never end this", function, text)
	}
	if w.Code < 200 || w.Code == http.StatusNoContent || w.Code >= 300 && w.Code < 400 {
		t.Errorf("%s: status %d", function, w.Code)
	}
}
