package local

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

func messagesLeft(t testing.TB, h *Host) int {
	t.Helper()
	n, err := h.Waiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRedelivery: a message comes again until it is taken.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	var calls atomic.Int64
	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			fail(w, "not yet")
			return
		}
		answerJSON(w, map[string]any{})
	}
	h := open(t, app)
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "again", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	for i, r := range app.Seen("Start") {
		if text(r.Metadata["DeliveryCount"]) != []string{"1", "2"}[i] || text(r.Metadata["MessageId"]) != "again" {
			t.Errorf("delivery %d: %s of %s", i, r.Metadata["DeliveryCount"], r.Metadata["MessageId"])
		}
	}
}

// TestDeadLetter: a message whose deliveries all failed is kept, with the words of the function.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) { fail(w, "never") }
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.MaxDeliveryCount, o.DataDir = 1, data })
	if err := h.Enqueue(t.Context(), "start", Message{ID: "poison", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	letters, err := DeadLetters(t.Context(), data)
	if err != nil || len(letters) != 1 || letters[0].ID != "poison" || letters[0].Function != "Start" || letters[0].Reason != "never" {
		t.Errorf("got %+v, %v", letters, err)
	}
	if err := h.Enqueue(t.Context(), "Nope", Message{}); err == nil {
		t.Error("a message for no function was taken")
	}
	if err := h.Enqueue(t.Context(), "Echo", Message{}); err == nil {
		t.Error("a message for an activity was taken")
	}
}

func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "none")
	_, err := DeadLetters(t.Context(), data)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), data) {
		t.Errorf("got %v", err)
	}
	if err := Resubmit(t.Context(), data, 1); err == nil {
		t.Error("put back into nothing")
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

// TestInboxSurvives: a message whose delivery was cut short comes again on the next host, and that delivery does not count.
func TestInboxSurvives(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t)
	running := make(chan struct{})
	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		if len(app.Seen("Start")) == 1 {
			close(running)
			<-r.Context().Done()
			return
		}
		answerJSON(w, map[string]any{})
	}
	data := t.TempDir()
	h := open(t, app, func(o *Options) { o.DataDir = data })
	if err := h.Enqueue(t.Context(), "Start", Message{ID: "kept", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	<-running
	closeNow(t, h)
	h = open(t, app, func(o *Options) { o.DataDir = data })
	waitFor(t, func() bool { return messagesLeft(t, h) == 0 })
	seen := app.Seen("Start")
	if len(seen) != 2 || text(seen[1].Metadata["DeliveryCount"]) != "1" {
		t.Errorf("%d deliveries, the last is number %s", len(seen), seen[len(seen)-1].Metadata["DeliveryCount"])
	}
}
