package local

import (
	"net/http"
	"strings"
	"testing"
)

// TestHandlerURL: the client binding names the API where it is served.
func TestHandlerURL(t *testing.T) {
	t.Parallel()
	bindings := make(chan string, 1)
	h := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := new(strings.Builder)
		_ = r.Write(body)
		bindings <- body.String()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{}`))
	}), func(o *Options) { o.Root, o.URL = writeRoot(t, testHost), "http://127.0.0.1:7071" })
	if _, err := h.Deliver(t.Context(), "Start", Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if sent := <-bindings; !strings.Contains(sent, `http://127.0.0.1:7071/runtime/webhooks/durabletask`) {
		t.Errorf("the binding does not name the API: %s", sent)
	}
}
