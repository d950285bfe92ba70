package durable

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/durablefunctions/internal/testkit"
)

// listed returns the ids of what a list yields.
func listed(t testing.TB, c *Client, f Filter) (ids []string) {
	t.Helper()
	for i, err := range c.List(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(i.InstanceID))
	}
	return ids
}

// recordedPages are pages of the real host, by the token that asks for them.
var recordedPages = map[string]string{
	"":      `{"orchestrationState":[{"instanceId":"qq1","name":"Orch","orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED","createdTimestamp":"2026-11-26T00:12:56.223503800Z","output":"\"done\"","customStatus":"null"},{"instanceId":"qq2","name":"Other"}],"continuationToken":"cXE0 "}`,
	"cXE0 ": `{"continuationToken":"cXE3 "}`, // the host's pages may be empty
	"cXE3 ": `{"orchestrationState":[{"instanceId":"qq7","name":"orch"}]}`,
}

func recordedListing(_ context.Context, c testkit.Call) (string, bool, error) {
	return recordedPages[c.Fields["query.continuationToken"]], true, nil
}

// TestListPages: the pages are asked for with the host's tokens as they are, and always with a size.
func TestListPages(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = recordedListing
	c := newTestClient(t, host.Address)
	if got := listed(t, c, Filter{}); !slices.Equal(got, []string{"qq1", "qq2", "qq7"}) {
		t.Errorf("got %q", got)
	}
	var tokens []string
	for _, call := range host.Calls() {
		tokens = append(tokens, call.Fields["query.continuationToken"])
		if call.Fields["query.maxInstanceCount"] != "100" {
			t.Errorf("a page of %q is asked for", call.Fields["query.maxInstanceCount"])
		}
	}
	if !slices.Equal(tokens, []string{"", "cXE0 ", "cXE3 "}) {
		t.Errorf("the tokens are %q", tokens)
	}
	if got := listed(t, c, Filter{Name: "ORCH"}); !slices.Equal(got, []string{"qq1", "qq7"}) {
		t.Errorf("by name: got %q", got)
	}
	host.Forget()
	for i, err := range c.List(t.Context(), Filter{}) {
		if err != nil || i.SerializedOutput != `"done"` || i.SerializedCustomStatus != "" || i.CreatedAt.IsZero() {
			t.Errorf("got %+v, %v", i, err)
		}
		break
	}
	if n := len(host.Calls()); n != 1 {
		t.Errorf("%d calls for a loop that ends at once", n)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	for id, status := range map[string]api.OrchestrationStatus{"a1": api.RUNTIME_STATUS_RUNNING, "a2": api.RUNTIME_STATUS_COMPLETED,
		"b1": api.RUNTIME_STATUS_FAILED, "@entity@k": api.RUNTIME_STATUS_RUNNING} {
		host.Set(id, status)
	}
	for i := range 2*pageSize + 1 {
		host.Set(fmt.Sprintf("many%03d", i), api.RUNTIME_STATUS_PENDING)
	}
	c := newTestClient(t, host.Address)
	completed, failed := api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED
	hour := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		filter Filter
		want   string
	}{
		"prefix":   {Filter{IDPrefix: "a"}, "a1 a2"},
		"statuses": {Filter{Statuses: []api.OrchestrationStatus{completed, failed}}, "a2 b1"},
		"both":     {Filter{IDPrefix: "b", Statuses: []api.OrchestrationStatus{completed, failed}}, "b1"},
		"none":     {Filter{IDPrefix: "c"}, ""},
		"from":     {Filter{IDPrefix: "a", CreatedFrom: hour}, ""},
		"to":       {Filter{IDPrefix: "a", CreatedTo: hour}, "a1 a2"},
	} {
		if got := strings.Join(listed(t, c, test.filter), " "); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
	if n := len(listed(t, c, Filter{IDPrefix: "many"})); n != 2*pageSize+1 {
		t.Errorf("%d of %d instances are listed", n, 2*pageSize+1)
	}
}

func TestListErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(context.Context, testkit.Call) (string, bool, error)
		want   string
		pages  int
	}{
		"a page that goes on with itself": {func(context.Context, testkit.Call) (string, bool, error) {
			return `{"continuationToken":"x "}`, true, nil
		}, "goes on with itself", 2},
		"an old host": {before(func(context.Context, string) error { return status.Error(codes.Unimplemented, "") }), ErrOldHost.Error(), 1},
		"pages that are too large": {before(func(context.Context, string) error {
			return status.Error(codes.ResourceExhausted, "larger than max")
		}), ErrTooLarge.Error(), 5}, // 100, 25, 6, 1
	} {
		host := testkit.StartSidecar(t)
		host.Answer = test.answer
		errs := 0
		for i, err := range newTestClient(t, host.Address).List(t.Context(), Filter{}) {
			errs++
			if i != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, %v", name, i, err)
			}
		}
		if n := len(host.Calls()); errs != 1 || n > test.pages {
			t.Errorf("%s: %d errors after %d calls", name, errs, n)
		}
	}
}

// TestListSmallerPages: what does not fit into one answer is asked for in parts.
func TestListSmallerPages(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = func(_ context.Context, c testkit.Call) (string, bool, error) {
		if len(c.Fields["query.maxInstanceCount"]) > 1 {
			return "", true, status.Error(codes.ResourceExhausted, "larger than max")
		}
		return "", false, nil
	}
	for i := range 20 {
		host.Set(fmt.Sprintf("x%02d", i), api.RUNTIME_STATUS_COMPLETED)
	}
	if got := listed(t, newTestClient(t, host.Address), Filter{}); len(got) != 20 {
		t.Errorf("got %q", got)
	}
}

// TestPurgeTree: what has finished below an instance goes with it; what runs, and what only looks like a child, stays.
func TestPurgeTree(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	completed := api.RUNTIME_STATUS_COMPLETED
	for _, id := range []string{"r", "r:0123abcd:1", "r:0123abcd:1:0123abcd:2", "r:0123abcd:3", "r:2", "rx", "rx:0123abcd:1", "r:mine"} {
		host.Set(id, completed)
	}
	host.Set("r:0123abcd:4", api.RUNTIME_STATUS_RUNNING)
	c := newTestClient(t, host.Address)
	if err := c.PurgeTree(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, c, Filter{}), []string{"r:0123abcd:4", "r:2", "r:mine", "rx", "rx:0123abcd:1"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func TestPurgeAll(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	for id, status := range map[string]api.OrchestrationStatus{"a1": api.RUNTIME_STATUS_RUNNING, "a2": api.RUNTIME_STATUS_COMPLETED,
		"b1": api.RUNTIME_STATUS_COMPLETED, "b2": api.RUNTIME_STATUS_FAILED} {
		host.Set(id, status)
	}
	c := newTestClient(t, host.Address)
	done := []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED}
	for name, f := range map[string]Filter{
		"empty": {}, "times only": {CreatedTo: time.Now()}, "prefix only": {IDPrefix: "a"},
		"running": {Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_RUNNING}},
		"pending": {Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_PENDING}},
	} {
		n, err := c.PurgeAll(t.Context(), f)
		expectError(t, name, err, ErrBadFilter)
		if n != 0 || len(host.Calls()) > 0 {
			t.Errorf("%s: %d purged after %v", name, n, methods(host))
		}
	}
	for _, test := range []struct {
		filter Filter
		want   int
		left   string
	}{
		{Filter{Statuses: done, Name: "other"}, 0, "a1 a2 b1 b2"},
		{Filter{Statuses: done, IDPrefix: "a"}, 1, "a1 b1 b2"},
		{Filter{Statuses: done[:1]}, 1, "a1 b2"},
		{Filter{Statuses: done, CreatedTo: time.Now().Add(-time.Hour)}, 0, "a1 b2"},
		{Filter{Statuses: done}, 1, "a1"},
	} {
		n, err := c.PurgeAll(t.Context(), test.filter)
		if left := strings.Join(listed(t, c, Filter{}), " "); err != nil || n != test.want || left != test.left {
			t.Errorf("%+v: %d purged, %v, left are %s", test.filter, n, err, left)
		}
	}
}

// TestPurgeAllGoesOn: the host says that it did not get through; it is asked again.
func TestPurgeAllGoesOn(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	answers := []string{`{"deletedInstanceCount":2,"isComplete":false}`, `{"isComplete":false}`, `{"deletedInstanceCount":1,"isComplete":true}`}
	host.Answer = func(context.Context, testkit.Call) (string, bool, error) {
		return answers[len(host.Calls())-1], true, nil
	}
	n, err := newTestClient(t, host.Address).PurgeAll(t.Context(), Filter{Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}})
	if n != 3 || err != nil || len(host.Calls()) != 3 {
		t.Errorf("got %d, %v after %d calls", n, err, len(host.Calls()))
	}
	want := map[string]string{"purgeInstanceFilter": "", "purgeInstanceFilter.runtimeStatus[0]": "ORCHESTRATION_STATUS_FAILED",
		"purgeInstanceFilter.timeout": "", "purgeInstanceFilter.timeout.seconds": "50"}
	if diff := cmp.Diff(want, lastCall(t, host, "PurgeInstances")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
