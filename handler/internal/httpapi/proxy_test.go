package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestProxy: the app gets the key and none of the browser's credentials; the browser gets everything but the key.
func TestProxy(t *testing.T) {
	t.Parallel()
	var seen http.Header
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.Header().Set("Location", "https://app/x?code=SECRET")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set(continuation, "dA== ")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"id":"x","statusQueryGetUri":"https://app/x?taskHub=h&code=SECRET","purgeHistoryDeleteUri":"https://app/x?code=SECRET&a=b"}`)
	}))
	defer app.Close()
	c, err := New(app.URL, "SECRET")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "http://127.0.0.1:1"+Path+"/orchestrators/Orch", strings.NewReader("1"))
	for name, value := range map[string]string{"Cookie": "c=d", "Origin": "http://127.0.0.1:1", "X-Dashboard-Token": "T", "Content-Type": "application/json"} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	c.Proxy().ServeHTTP(w, r)
	if seen.Get(KeyHeader) != "SECRET" || seen.Get("Cookie") != "" || seen.Get("Origin") != "" || seen.Get("X-Dashboard-Token") != "" || seen.Get("Content-Type") != "application/json" {
		t.Errorf("the app got %v", seen)
	}
	if all := w.Body.String() + w.Header().Get("Location") + w.Header().Get("Set-Cookie"); w.Code != 202 || strings.Contains(all, "SECRET") || !strings.Contains(all, `"id":"x"`) || w.Header().Get(continuation) != "dA==" && w.Header().Get(continuation) != "dA== " {
		t.Errorf("the browser got %d %v %s", w.Code, w.Header(), w.Body)
	}
	app.Close()
	w = httptest.NewRecorder()
	c.Proxy().ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:1"+Path+"/instances/", nil))
	if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "does not answer") {
		t.Errorf("without an app: %d %s", w.Code, w.Body)
	}
}
