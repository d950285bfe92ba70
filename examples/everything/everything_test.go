package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// TestAlone calls functions as the Go functions that they are.
func TestAlone(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	router().ServeHTTP(w, httptest.NewRequest("POST", "/api/orders/7", strings.NewReader("tea")))
	if w.Code != http.StatusBadRequest {
		t.Errorf("an order that is none: %d %s", w.Code, w.Body)
	}
	if got, err := ship(t.Context(), Order{Item: "tea"}); err != nil || got != "shipped tea" {
		t.Errorf("shipped %q (%v)", got, err)
	}
	if err := nightly(t.Context(), handler.Timer{IsPastDue: true}); err != nil {
		t.Error(err)
	}
	var tea stock
	if left, err := tea.Reserve(t.Context(), 99); err != nil || left != 1 {
		t.Errorf("%d left (%v)", left, err)
	}
	if _, err := tea.Reserve(t.Context(), 2); err == nil {
		t.Error("two were taken of one")
	}
	if left, err := tea.Restock(t.Context(), 1000); err != nil || left != capacity {
		t.Errorf("%d left (%v)", left, err)
	}
}

// TestFulfilOrder runs the orchestrator with the entity and a faked activity.
func TestFulfilOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reserved int
		shipment error
		want     string // the output or the failure
		after    string // the entity's state
	}{
		"shipped":      {0, nil, `"shipped tea"`, `{"reserved":1}`},
		"the last one": {99, nil, `"shipped tea"`, `{"reserved":100}`},
		"sold out":     {100, nil, `"tea is sold out: 0 of 100 left"`, `{"reserved":100}`},
		"no shipment":  {5, errors.New("no lorry"), "no lorry", `{"reserved":5}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			env.Entity("Stock", durable.Entity(reserve, restock))
			env.SetState(stocks.ID("tea"), stock{Reserved: c.reserved})
			env.Activity("Ship", durable.Activity(func(ctx context.Context, o Order) (string, error) {
				if c.shipment != nil {
					return "", c.shipment
				}
				return ship(ctx, o)
			}))
			r := env.Run(durable.Orchestrator(fulfilOrder), Order{Item: "tea"})
			if got := r.Output + r.Failure; got != c.want || r.Entities["@stock@tea"] != c.after {
				t.Errorf("%s, stock %v; want %+v", got, r.Entities, c)
			}
		})
	}
}

// openHost runs the app on the local host.
func openHost(t *testing.T) (host *local.Host, dataDir string, logs *testkit.Buffer) {
	t.Helper()
	logs, dataDir = &testkit.Buffer{}, t.TempDir()
	functions, err := functions().Handler(handler.Options{Root: ".", Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: logs, Stderr: logs})
	if err != nil {
		t.Fatal(err)
	}
	host, err = local.Open(t.Context(), local.Options{
		Root: ".", DataDir: dataDir, Environ: []string{}, Handler: functions,
		OnConsole: func(function, line string) { _, _ = logs.Write([]byte(function + ": " + line + "\n")) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(t.Context()) })
	return host, dataDir, logs
}

func TestOrders(t *testing.T) {
	t.Parallel()
	host, _, _ := openHost(t)
	w := httptest.NewRecorder()
	host.Handler().ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/api/orders/7", strings.NewReader(`{"item":"tea"}`)))
	if w.Code != http.StatusAccepted || strings.TrimSpace(w.Body.String()) != `{"id":"order-7"}` {
		t.Fatalf("answer %d %s", w.Code, w.Body)
	}
	delivery, err := host.Deliver(t.Context(), "OnOrderMessage", local.Message{ID: "8", Body: []byte(`{"item":"milk"}`)})
	if err != nil || len(delivery.Instances) != 1 {
		t.Fatalf("delivery %v (%v)", delivery, err)
	}
	for id, want := range map[string]string{"order-7": `"shipped tea"`, "order-8": `"shipped milk"`} {
		if i, err := host.Wait(t.Context(), id); err != nil || i.Output != want {
			t.Errorf("instance %+v (%v), want the output %s", i, err, want)
		}
	}
	w = httptest.NewRecorder()
	host.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/runtime/webhooks/durabletask/entities/Stock/tea", nil))
	if w.Code != http.StatusOK || w.Body.String() != `{"reserved":1}` {
		t.Errorf("the stock shows %d %s", w.Code, w.Body)
	}
}

// TestDelivered posts a message to every other function, as deliver --function does.
func TestDelivered(t *testing.T) {
	t.Parallel()
	host, dataDir, logs := openHost(t)
	for function, body := range map[string]string{
		"Nightly":     "",
		"OnEvent":     `{"id":"e1","eventType":"Created","subject":"s"}`,
		"OnTelemetry": `{"device":"meter-7"}`,
		"OnDocument":  `[{"id":"d1"}]`,
	} {
		if _, err := host.Deliver(t.Context(), function, local.Message{Body: []byte(body)}); err != nil {
			t.Errorf("%s: %v", function, err)
		}
	}
	for _, want := range []string{"id=e1 type=Created", "device=meter-7", "id=d1"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, logs.String())
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dataDir, "outputs", "Nightly.reports", "*.json")); len(files) != 1 {
		t.Errorf("reports %v", files)
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	_, dataDir, logs := openHost(t)
	testkit.WriteFile(t, filepath.Join(dataDir, "blobs", "uploads", "a.csv"), "one\ntwo\n")
	deadline := time.Now().Add(time.Minute)
	for {
		files, _ := filepath.Glob(filepath.Join(dataDir, "outputs", "OnUpload.reports", "*.json"))
		if len(files) == 1 {
			text, err := os.ReadFile(files[0])
			if err != nil || !bytes.Contains(text, []byte(`"what": "a.csv"`)) || !bytes.Contains(text, []byte(`"lines": 2`)) {
				t.Errorf("report %s (%v)", text, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no report\n%s", logs.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
