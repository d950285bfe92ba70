package dashboard

import (
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
)

// TestPage checks that the page has the headers that keep other sites away, and loads nothing from elsewhere.
func TestPage(t *testing.T) {
	t.Parallel()
	h := Page("TOKEN", App{Name: `<app> "x"`, Local: true})
	kinds := map[string]string{"/": "text/html"}
	entries, err := files.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		kinds[Files+e.Name()] = map[string]string{".css": "text/css", ".js": "text/javascript"}[path.Ext(e.Name())]
	}
	for path, kind := range kinds {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:7071"+path, nil))
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
		for _, bad := range []string{"http://", "https://", "innerHTML", "eval(", "<script>", "style=", "onclick=\"", "<app>"} {
			if strings.Contains(w.Body.String(), bad) {
				t.Errorf("%s contains %s", path, bad)
			}
		}
		if kind == "" {
			t.Errorf("%s is no file of a page", path)
		}
		if path == "/" && !strings.Contains(w.Body.String(), `content="TOKEN"`) {
			t.Error("the page has no token")
		}
	}
	w := httptest.NewRecorder()
	Page("TOKEN", App{Name: "app"}).ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:7071/", nil))
	if text := w.Body.String(); strings.Contains(text, "#/messages") || strings.Contains(text, "#/functions") || !strings.Contains(text, `name="local" content="false"`) {
		t.Errorf("the page of a deployed app offers what only the local host can do: %s", text)
	}
	for path, host := range map[string]string{"/": "evil.example", Files + "page.js": "evil.example:7071"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://"+host+path, nil))
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "TOKEN") {
			t.Errorf("%s of %s: %d", path, host, w.Code)
		}
	}
}
