package local

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// TestRewind: an orchestration whose turn was lost while an activity was running continues after a rewind, and completes: the lost
// activity runs again.
func TestRewind(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}, 8), make(chan struct{})
	app := handler.New()
	app.Trigger("Start", func(context.Context, *handler.Invocation) error { return nil })
	app.Activity("Fail", durable.Activity(func(_ context.Context, in string) (string, error) { return in, nil }))
	app.Activity("Echo", durable.Activity(func(_ context.Context, in string) (string, error) {
		running <- struct{}{}
		<-release
		return in, nil
	}))
	app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
		slow := durable.ActivityName[string, string]("Echo").Call(ctx, "slow")
		var event string
		if err := ctx.WaitForSingleEvent("lose", -1).Await(&event); err != nil {
			return "", err
		}
		return slow.Await()
	}))
	root := writeRoot(t, testHost)
	good, err := app.Handler(handler.Options{Root: root, Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan struct{}, 1)
	h := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Orch" && len(lost) > 0 {
			<-lost
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		good.ServeHTTP(w, r)
	}), func(o *Options) { o.Root = root })
	start(t, h, "rewound", `1`)
	<-running
	lost <- struct{}{}
	if err := durableClient(t, h).RaiseEvent(t.Context(), "rewound", "lose", api.WithEventPayload("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, h, "rewound"), api.RUNTIME_STATUS_FAILED, "")
	if err := h.hub.Rewind(t.Context(), "rewound", "again"); err != nil {
		t.Fatal(err)
	}
	<-running // in place of what was in flight
	close(release)
	expect(t, wait(t, h, "rewound"), api.RUNTIME_STATUS_COMPLETED, `"slow"`)
}
