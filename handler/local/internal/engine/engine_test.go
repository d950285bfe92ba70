package engine

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"go.uber.org/goleak"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/invoke"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newInvoker returns an invoker whose handler knows no function.
func newInvoker(t testing.TB) *invoke.Invoker {
	i := invoke.New(invoke.Options{Handler: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler), Stopping: t.Context(), Closing: t.Context()})
	t.Cleanup(i.Close)
	return i
}

// FuzzAnswer: if the host accepts the answer to a turn, the engine of durabletask-go does not try that turn again for ever.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"ReturnValue":"EgA="}`, `{"Outputs":{"mail":[{}]},"Logs":["x"],"returnvalue":null}`, `{"ReturnValue":"EhoKATESFQoKCg=="}`, "null", ""} {
		f.Add([]byte(s))
	}
	hub, err := taskhub.Open(f.Context(), taskhub.Options{DataDir: f.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = hub.Close() })
	e := &Engine{hub: hub}
	orch := config.Function{Name: "Orch", Bindings: []config.Binding{
		{Type: config.OrchestrationTrigger, Direction: "in", Name: "context"},
		{Type: "sendGrid", Direction: "out", Name: "mail"},
		{Type: "queue", Direction: "out", Name: "other"},
	}}
	f.Fuzz(func(t *testing.T, answer []byte) {
		a, err := funchost.ReadAnswer(orch, &funchost.Reply{Status: 200, ContentType: "application/json", Body: answer})
		if err != nil {
			return
		}
		results, err := a.Turn(orch)
		if err != nil {
			return
		}
		state := backend.NewOrchestrationRuntimeState("i", nil)
		start := historyevent.New("executionStarted", time.Now())
		m := start.GetExecutionStarted().ProtoReflect()
		m.Mutable(m.Descriptor().Fields().ByName("orchestrationInstance"))
		if err := state.AddEvent(start); err != nil {
			t.Fatal(err)
		}
		e.takeGeneration("i", results)
		if _, err := state.ApplyActions(results.Response.Actions, nil); err != nil {
			t.Errorf("the engine would try this turn for ever: %v", err)
		}
	})
}
