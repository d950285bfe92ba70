package local

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// TestCORS: the pages that local.settings.json names may read the Durable HTTP API, by this machine's own name, and no others; none
// may write, or post messages.
func TestCORS(t *testing.T) {
	t.Parallel()
	const (
		api   = "/runtime/webhooks/durabletask/instances/nobody"
		admin = "/admin/functions/Start"
		page  = "https://page.example"
	)
	for name, c := range map[string]struct {
		cors, host, method, path, origin string
		status                           int
		allowed                          string // origin
	}{
		"named":               {page, "localhost:7071", "GET", api, page, 404, page},
		"one of two":          {"http://localhost:3000," + page, "localhost:7071", "GET", api, "https://PAGE.example", 404, "https://PAGE.example"},
		"preflight":           {page, "localhost:7071", "OPTIONS", api, page, 200, page},
		"any":                 {"*", "localhost:7071", "GET", api, page, 404, page},
		"another":             {"https://other.example", "localhost:7071", "GET", api, page, 403, ""},
		"another's preflight": {"https://other.example", "localhost:7071", "OPTIONS", api, page, 403, ""},
		"none named":          {"", "localhost:7071", "GET", api, page, 403, ""},
		"a name of its own":   {page, "page.example:7071", "GET", api, page, 403, ""},
		"writes":              {page, "localhost:7071", "DELETE", api, page, 403, page},
		"posts a message":     {"*", "localhost:7071", "POST", admin, page, 403, ""},
		"no page":             {page, "localhost:7071", "GET", api, "", 404, ""},
	} {
		root := writeRoot(t, testHost)
		testkit.WriteFile(t, filepath.Join(root, "local.settings.json"), `{"Host":{"CORS":"`+c.cors+`"}}`)
		h := open(t, http.NotFoundHandler(), func(o *Options) { o.Root = root })
		r := httptest.NewRequest(c.method, "http://"+c.host+c.path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Access-Control-Request-Method", "GET")
		}
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); w.Code != c.status || allowed != c.allowed && !(allowed == "*" && c.allowed != "") {
			t.Errorf("%s: %d, allowed is %q; want %d, %q", name, w.Code, allowed, c.status, c.allowed)
		}
	}
}

// TestBadCORS: what is no origin is refused at start, with one line.
func TestBadCORS(t *testing.T) {
	t.Parallel()
	root := writeRoot(t, testHost)
	testkit.WriteFile(t, filepath.Join(root, "local.settings.json"), `{"Host":{"CORS":"localhost"}}`)
	if _, err := Open(t.Context(), Options{Root: root, DataDir: t.TempDir(), Handler: http.NotFoundHandler()}); err == nil {
		t.Error("it was taken")
	}
}
