package handler

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// TestEntityPutOff: a batch that cannot be run now is asked for again; by any other answer the host drops its operations.
func TestEntityPutOff(t *testing.T) {
	t.Parallel()
	app := New()
	name := durable.EntityName[int]("Tally")
	app.Entity("Tally", durable.Entity(durable.NewOperation(name, "Add", func(*int, context.Context, int) (int, error) {
		t.Error("an operation is run")
		return 0, nil
	})))
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	testkit.WriteFile(t, filepath.Join(root, "Tally/function.json"), `{"bindings":[{"name":"context","type":"entityTrigger","direction":"in"}]}`)
	h, err := app.Handler(Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	app.stopping.Store(true)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1/Tally", strings.NewReader(`{"Data":{"context":"\"CgpAdGFsbHlAazE=\""}}`)))
	// requiresState, field 7 of an EntityBatchResult, is true
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"ReturnValue":"OAE="`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
