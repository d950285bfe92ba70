package tests

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// TestQueueBetweenFunctions: a function that listens on a queue gets what other functions send there: a trigger function, an
// activity and an orchestrator. It gets a message again until it accepts it.
func TestQueueBetweenFunctions(t *testing.T) {
	t.Parallel()
	type part struct{ Name string }
	got := make(chan string, 10)
	app := handler.New()
	app.Queue("Split", func(ctx context.Context, m handler.Message) error {
		handler.SetOutput(ctx, "parts", []part{{"left"}, {"right"}})
		client, err := durable.FromContext(ctx)
		if err == nil {
			_, err = client.Start(ctx, "Orch", "orch", nil)
		}
		return err
	})
	app.Queue("Part", handler.JSON(func(_ context.Context, p part, m handler.Message) error {
		if p.Name == "right" && m.DeliveryCount == 1 {
			return errors.New("not yet")
		}
		got <- p.Name
		return nil
	}))
	app.Activity("Act", durable.Activity(func(ctx context.Context, _ any) (string, error) {
		handler.SetOutput(ctx, "parts", part{"of an activity"})
		return "done", nil
	}))
	app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
		durable.SetOutput(ctx, "parts", part{"of an orchestrator"})
		return durable.ActivityName[any, string]("Act").Call(ctx, nil).Await()
	}))
	root := t.TempDir()
	const parts = `{"name":"parts","type":"queue","direction":"out","queueName":"%PARTS%"}`
	for name, text := range map[string]string{
		"host.json":           `{"version":"2.0"}`,
		"Split/function.json": `{"bindings":[{"name":"m","type":"serviceBusTrigger","direction":"in","queueName":"orders"},{"name":"client","type":"durableClient","direction":"in"},` + parts + `]}`,
		"Part/function.json":  `{"bindings":[{"name":"m","type":"queueTrigger","direction":"in","queueName":"Order-Parts","dataType":"binary"}]}`,
		"Act/function.json":   `{"bindings":[{"name":"input","type":"activityTrigger","direction":"in"},` + parts + `]}`,
		"Orch/function.json":  `{"bindings":[{"name":"context","type":"orchestrationTrigger","direction":"in"},` + parts + `]}`,
	} {
		testkit.WriteFile(t, filepath.Join(root, name), text)
	}
	settings := func(name string) string { return map[string]string{"PARTS": "order-parts"}[name] }
	functions, err := app.Handler(handler.Options{Root: root, Getenv: settings, Environ: []string{}, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: functions, Settings: settings, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(context.Background()) })
	if _, err := host.Deliver(t.Context(), "Split", local.Message{Body: []byte("order 7.")}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for len(names) < 4 {
		select {
		case name := <-got:
			names = append(names, name)
		case <-time.After(time.Minute):
			t.Fatalf("after a minute there are only %q", names)
		}
	}
	slices.Sort(names)
	if want := []string{"left", "of an activity", "of an orchestrator", "right"}; !slices.Equal(names, want) {
		t.Errorf("the messages are %q, want %q", names, want)
	}
}
