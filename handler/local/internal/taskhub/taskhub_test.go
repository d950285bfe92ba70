package taskhub

import (
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// openHub opens the task hub of a directory until the test ends.
func openHub(t testing.TB, dir string) *TaskHub {
	t.Helper()
	h, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// started is the start of an instance of the orchestrator Orch.
func started(id string) *backend.HistoryEvent {
	e := historyevent.New("executionStarted", time.Now())
	es := e.GetExecutionStarted()
	es.Name, es.Input = "Orch", wrapperspb.String("1")
	m := es.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("orchestrationInstance"))
	es.OrchestrationInstance.InstanceId, es.OrchestrationInstance.ExecutionId = id, wrapperspb.String(id+"-execution")
	return e
}

func create(t testing.TB, h *TaskHub, id string) {
	t.Helper()
	if err := h.CreateOrchestrationInstance(t.Context(), started(id)); err != nil {
		t.Fatal(err)
	}
}

// TestStoredLater: the outcome of a delivery is stored once the file can be written again.
func TestStoredLater(t *testing.T) {
	t.Parallel()
	h := openHub(t, t.TempDir())
	if err := h.PutMessage(t.Context(), "Start", Message{ID: "m", Body: []byte("x"), EnqueuedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	_, m, _, err := h.NextMessage(t.Context(), func(int64) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.write.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error, 1)
	go func() { deleted <- h.DeleteMessage(t.Context(), m) }()
	select {
	case err := <-deleted:
		t.Fatalf("returned %v while nothing can be written", err)
	case <-time.After(200 * time.Millisecond):
	}
	if _, err := h.write.Exec("PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if n, err := h.WaitingMessages(t.Context()); n != 0 || err != nil {
		t.Errorf("%d messages are left, %v", n, err)
	}
}
