package local

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/internal/dashboard"
)

// TestHandlerGuards: the Durable HTTP API takes no call from another site, and of a browser no write but from this host's own page.
func TestHandlerGuards(t *testing.T) {
	t.Parallel()
	h := open(t, http.NotFoundHandler(), func(o *Options) { o.Root = writeRoot(t, testHost) })
	const instance = "/runtime/webhooks/durabletask/instances/nobody"
	for name, c := range map[string]struct {
		method, host string
		header       map[string]string
		status       int
	}{
		"curl":                        {"DELETE", "127.0.0.1:7071", nil, 404},
		"another name":                {"GET", "evil.example:7071", nil, 403},
		"another site reads":          {"GET", "localhost:7071", map[string]string{"Origin": "https://evil.example"}, 403},
		"another site, no origin":     {"GET", "localhost:7071", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"own page reads":              {"GET", "localhost:7071", map[string]string{"Sec-Fetch-Site": "same-origin"}, 404},
		"another local page writes":   {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:3000"}, 403},
		"a navigation writes":         {"POST", "localhost:7071", map[string]string{"Sec-Fetch-Site": "none"}, 403},
		"own page writes":             {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: h.token}, 404},
		"another token":               {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: strings.Repeat("A", 26)}, 403},
		"another site with the token": {"DELETE", "localhost:7071", map[string]string{"Origin": "https://evil.example", dashboard.TokenHeader: h.token}, 403},
	} {
		r := httptest.NewRequest(c.method, "http://"+c.host+instance, nil)
		for key, value := range c.header {
			r.Header.Set(key, value)
		}
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", name, w.Code, c.status)
		}
	}
}

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
