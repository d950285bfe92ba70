package local

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// appClient is the client that an app's function gets.
func appClient(t testing.TB, h *Host) *durable.Client {
	t.Helper()
	url := "http://" + h.sidecar.NewCaller().Token + "@" + h.sidecar.Address
	c, err := durable.NewClient(testkit.ClientBinding(h.sidecar.Address, "http://ENDPOINT", url), durable.MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClientLists: pages, filters, and what an instance shows of its start.
func TestClientLists(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	c, ctx := appClient(t, h), t.Context()
	for i := range 105 {
		if _, err := c.Start(ctx, "Orch", fmt.Sprintf("many%03d", i), "done"); err != nil {
			t.Fatal(err)
		}
	}
	tags := map[string]string{"color": "red", "n": "1"}
	if _, err := c.Start(ctx, "Orch", "waiting", "event", durable.StartTags(tags), durable.StartVersion("2.0")); err != nil {
		t.Fatal(err)
	}
	if i, err := c.WaitForStart(ctx, "waiting"); err != nil || cmp.Diff(i.Tags, tags) != "" || i.Version != "" && i.Version != "2.0" {
		t.Errorf("got %+v, %v", i, err)
	}
	shown := httptest.NewRecorder()
	h.Handler().ServeHTTP(shown, httptest.NewRequest("GET", "http://localhost:7071/runtime/webhooks/durabletask/instances/waiting?showHistory=true&showDetails=true", nil))
	if !strings.Contains(shown.Body.String(), `"tags":{"color":"red","n":"1"},"historyEvents":[`) {
		t.Errorf("the page does not get the tags: %s", shown.Body)
	}
	for i := range 105 {
		wait(t, h, fmt.Sprintf("many%03d", i))
	}
	for name, test := range map[string]struct {
		filter durable.Filter
		want   int
	}{
		"all":             {durable.Filter{}, 106},
		"prefix":          {durable.Filter{IDPrefix: "many"}, 105},
		"longer prefix":   {durable.Filter{IDPrefix: "many00"}, 10},
		"status":          {durable.Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING}}, 1},
		"another name":    {durable.Filter{Name: "other"}, 0},
		"created later":   {durable.Filter{CreatedFrom: time.Now().Add(time.Hour)}, 0},
		"created earlier": {durable.Filter{CreatedTo: time.Now().Add(time.Hour)}, 106},
	} {
		var ids []string
		for i, err := range c.List(ctx, test.filter) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, string(i.InstanceID))
		}
		if len(ids) != test.want || !slices.IsSorted(ids) {
			t.Errorf("%s: %d instances, want %d: %q", name, len(ids), test.want, ids)
		}
	}
}

// TestClientSteers: history, restart, rewind and purge do what they do on the real host, and are refused with its words.
func TestClientSteers(t *testing.T) {
	t.Parallel()
	h := open(t, eventApp(t))
	c, ctx := appClient(t, h), t.Context()
	for id, input := range map[string]string{"done": "done", "failed": "fail", "running": "event"} {
		if _, err := c.Start(ctx, "Orch", id, input); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, h, "done")
	wait(t, h, "failed")
	if _, err := c.WaitForStart(ctx, "running"); err != nil {
		t.Fatal(err)
	}
	events, err := c.History(ctx, "done")
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if got, want := strings.Join(kinds, " "), "orchestratorStarted executionStarted executionCompleted orchestratorCompleted"; err != nil || got != want {
		t.Errorf("the history is %s, %v, want %s", got, err, want)
	}
	checkRefusals(t, c)
	again, err := c.Restart(ctx, "running", true)
	if err != nil || again == "running" {
		t.Errorf("restarted %q, %v", again, err)
	}
	if err := c.Rewind(ctx, "failed", "again"); err != nil {
		t.Error(err)
	}
	if i := wait(t, h, "failed"); i.Status != api.RUNTIME_STATUS_FAILED {
		t.Errorf("rewound, it is %s", i.Status)
	}
	if err := c.PurgeTree(ctx, "running"); !errors.Is(err, durable.ErrNotValid) {
		t.Errorf("purging what runs: %v", err)
	}
	n, err := c.PurgeAll(ctx, durable.Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED}})
	if err != nil || n != 2 {
		t.Errorf("%d purged, %v", n, err)
	}
	if _, err := c.Query(ctx, "running"); err != nil {
		t.Errorf("what runs is gone: %v", err)
	}
}

// checkRefusals makes calls that are refused, for the instances done and running.
func checkRefusals(t *testing.T, c *durable.Client) {
	t.Helper()
	ctx := t.Context()
	for what, test := range map[string]struct {
		call func() error
		want error
		text string
	}{
		"history of nobody": {func() error { _, err := c.History(ctx, "nobody"); return err }, durable.ErrNotFound, "Orchestration instance with ID nobody was not found."},
		"rewind nobody":     {func() error { return c.Rewind(ctx, "nobody", "") }, durable.ErrNotFound, "No instance with ID 'nobody' was found. (Parameter 'instanceId')"},
		"rewind done":       {func() error { return c.Rewind(ctx, "done", "") }, durable.ErrNotValid, "The rewind operation is only supported on failed orchestration instances."},
		"restart nobody":    {func() error { _, err := c.Restart(ctx, "nobody", false); return err }, durable.ErrNotFound, "ArgumentException: No instance with ID 'nobody' was found. (Parameter 'instanceId')"},
		"restart running": {func() error { _, err := c.Restart(ctx, "running", false); return err }, durable.ErrNotValid,
			"Non-terminal instance with this instance ID already exists: An Orchestration instance with the status Running already exists."},
	} {
		if err := test.call(); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want %s", what, err, test.text)
		}
	}
}
