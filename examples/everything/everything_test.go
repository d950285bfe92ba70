package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler"
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
