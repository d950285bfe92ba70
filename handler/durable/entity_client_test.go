package durable

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/durablefunctions/internal/testkit"
)

// recordedReply is the reply of the real host to the first recorded call of that kind whose request contains a text.
func recordedReply(t testing.TB, method, contains string) string {
	t.Helper()
	f, err := os.Open("../../tests/conformance/testdata/recordings/3.19/entities.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var l struct {
			RPC               string
			Request, Response json.RawMessage
		}
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.RPC == method && strings.Contains(string(l.Request), contains) {
			return string(l.Response)
		}
	}
	t.Fatalf("no %s of %s is recorded", method, contains)
	return ""
}

const entitiesOfLab = EntityName[int]("Entity")

var addToEntity = NewOperation(entitiesOfLab, "add", func(*int, context.Context, int) (int, error) { return 0, nil })

func TestClientSignalsEntities(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = func(context.Context, testkit.Call) (string, bool, error) { return `{}`, true, nil }
	c := newTestClient(t, host.Address)
	at := time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)
	if err := errors.Join(addToEntity.Send(t.Context(), c, "K1", 5), addToEntity.Send(t.Context(), c, "k2", 6, At(at))); err != nil {
		t.Fatal(err)
	}
	calls := host.Calls("SignalEntity")
	first, second := calls[0], calls[1].Fields
	if first.Fields["instanceId"] != "@entity@K1" || first.Fields["name"] != "add" || first.Fields["input"] != "5" || first.Hub() != "LabHub" {
		t.Errorf("%v", first.Fields)
	}
	if _, err := uuid.Parse(first.Fields["requestId"]); err != nil || first.Fields["requestId"] == second["requestId"] {
		t.Errorf("%v %v: the ids must be GUIDs, each another", first.Fields, second)
	}
	if scheduled := fmt.Sprint(second); !strings.Contains(scheduled, "scheduledTime") || strings.Contains(fmt.Sprint(first.Fields), "scheduledTime") {
		t.Error(scheduled)
	}
	c.maxPayload = 10
	long := NewOperation(EntityName[string]("Entity"), "set", func(*string, context.Context, string) (any, error) { return nil, nil })
	for _, err := range []error{long.Send(t.Context(), c, "k", strings.Repeat("x", 11)), addToEntity.Send(t.Context(), c, "a/b", 1), addToEntity.Send(t.Context(), c, "", 1)} {
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrBadID) {
			t.Error(err)
		}
	}
	if n := len(host.Calls("SignalEntity")); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestClientReadsEntities(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = func(_ context.Context, c testkit.Call) (string, bool, error) {
		if c.Fields["instanceId"] == "@entity@fails" {
			return "", true, status.Error(codes.Unavailable, "gone")
		}
		return recordedReply(t, c.Method, `"`+c.Fields["instanceId"]+`"`), true, nil
	}
	c := newTestClient(t, host.Address)
	for key, want := range map[string]struct {
		state  int
		exists bool
		err    error
	}{"k1": {5, true, nil}, "none": {}, "s8": {5, true, nil}, "fails": {err: ErrUnavailable}, "#": {err: ErrBadID}} {
		state, exists, err := entitiesOfLab.Read(t.Context(), c, key)
		if state != want.state || exists != want.exists || !errors.Is(err, want.err) || err != nil && want.err == nil {
			t.Errorf("%s: %d %v %v, want %+v", key, state, exists, err, want)
		}
	}
	if _, _, err := EntityName[[]string]("Entity").Read(t.Context(), c, "k1"); err == nil || !strings.Contains(err.Error(), "the state is no []string") {
		t.Error(err)
	}
}

func TestClientListsEntities(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	const rest = `{"entities":[{"instanceId":"@entity@k3","lockedBy":"lock1","backlogQueueSize":2},{"instanceId":"no entity"}]}`
	host.Answer = func(_ context.Context, c testkit.Call) (string, bool, error) {
		if c.Fields["query.continuationToken"] == "" {
			return recordedReply(t, "QueryEntities", `"pageSize":3`), true, nil
		}
		return rest, true, nil
	}
	c := newTestClient(t, host.Address)
	var ids []string
	for e, err := range c.Entities(t.Context(), EntityFilter{Name: "Entity", KeyPrefix: "k", ModifiedFrom: time.Unix(1, 0), PageSize: 3, Transient: true}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, fmt.Sprint(e.ID, e.LockedBy, e.Backlog))
	}
	if want := []string{"@Entity@k1 0", "@entity@k1 0", "@entity@k2 0", "@entity@k3 lock1 2"}; !slices.Equal(ids, want) {
		if joined := strings.Join(ids, ","); !strings.Contains(joined, "@Entity@k1") || len(ids) != 4 || !strings.Contains(joined, "lock1") {
			t.Errorf("%q, want %q", ids, want)
		}
	}
	calls := host.Calls("QueryEntities")
	if len(calls) != 2 || calls[1].Fields["query.continuationToken"] != "QGVudGl0eUBrMw== " || calls[0].Fields["query.instanceIdStartsWith"] != "@entity@k" || calls[0].Fields["query.pageSize.value"] != "3" {
		t.Errorf("%d calls, the last one %v", len(calls), calls[len(calls)-1].Fields)
	}
	for _, err := range c.Entities(t.Context(), EntityFilter{KeyPrefix: "k"}) {
		if err == nil {
			t.Error("a prefix of keys without a name is taken")
		}
	}
}

// TestClientListEnds: a token that does not change would make a loop without end.
func TestClientListEnds(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = func(_ context.Context, c testkit.Call) (string, bool, error) {
		if c.Method == "CleanEntityStorage" {
			return `{"emptyEntitiesRemoved":1,"orphanedLocksReleased":2,"continuationToken":"same"}`, true, nil
		}
		return `{"continuationToken":"same"}`, true, nil
	}
	c := newTestClient(t, host.Address)
	for range c.Entities(t.Context(), EntityFilter{}) {
		t.Error("there are none")
	}
	if n := len(host.Calls("QueryEntities")); n != 2 {
		t.Errorf("%d calls", n)
	}
	if removed, released, err := c.CleanEntities(t.Context()); removed != 2 || released != 4 || err != nil {
		t.Error(removed, released, err)
	}
}
