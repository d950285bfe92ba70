package durable

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

// TestManagementURLs: what the URLs begin with, by the binding and the request; never anything that a request can forge
// beyond a host.
func TestManagementURLs(t *testing.T) {
	t.Parallel()
	const own = "http://localhost:7171"
	forwarded := []string{`"useForwardedHost":false`, `"useForwardedHost":true`}
	for name, test := range map[string]struct {
		replace []string
		url     string
		header  map[string]string
		want    string
	}{
		"the caller's host":        {nil, "http://127.0.0.1:7181/api/start?x=1", nil, "http://127.0.0.1:7181"},
		"https":                    {nil, "https://app.example.com/api/start", nil, "https://app.example.com"},
		"no host in the URL":       {nil, "/api/start", nil, own},
		"forwarded, not asked for": {nil, "/api/start", map[string]string{"X-Forwarded-Host": "example.com"}, own},
		"forwarded":                {forwarded, "http://127.0.0.1:7181/", map[string]string{"X-Forwarded-Host": "example.com, proxy", "X-Forwarded-Proto": "https,http"}, "https://example.com"},
		"forwarded nonsense":       {forwarded, "http://127.0.0.1:7181/", map[string]string{"X-Forwarded-Host": `a"/b?c`}, "http://127.0.0.1:7181"},
		"forwarded with a user":    {forwarded, "http://127.0.0.1:7181/", map[string]string{"X-Forwarded-Host": `u@a`}, "http://127.0.0.1:7181"},
		"a strange scheme":         {forwarded, "http://127.0.0.1:7181/", map[string]string{"X-Forwarded-Host": "a", "X-Forwarded-Proto": "javascript"}, "http://127.0.0.1:7181"},
	} {
		c := newTestClient(t, "127.0.0.1:1", test.replace...)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		u, err := r.URL.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		for key, v := range test.header {
			r.Header.Set(key, v)
		}
		urls, err := c.ManagementURLs(r, "a b:1")
		want := test.want + "/runtime/webhooks/durabletask/instances/a%20b%3A1?taskHub=LabHub&connection=Storage&code=LOCALKEY"
		if err != nil || urls.StatusQueryGet != want {
			t.Errorf("%s: got %s, %v, want %s", name, urls.StatusQueryGet, err, want)
		}
	}
	urls, err := newTestClient(t, "127.0.0.1:1", `"connectionName":null`, `"connectionName":"MyStorage"`).ManagementURLs(nil, "x")
	if err != nil || !strings.HasPrefix(urls.StatusQueryGet, own+"/") || !strings.Contains(urls.StatusQueryGet, "&connection=MyStorage&") {
		t.Errorf("without a request: %+v, %v", urls, err)
	}
	_, err = newTestClient(t, "127.0.0.1:1", `"httpBaseUrl":"http://localhost:7171/runtime/webhooks/durabletask"`, `"httpBaseUrl":null`).ManagementURLs(nil, "x")
	if err == nil || strings.Contains(err.Error(), "LOCALKEY") {
		t.Errorf("without any address: %v", err)
	}
	_, err = newTestClient(t, "127.0.0.1:1").ManagementURLs(nil, "a/b")
	expectError(t, "a bad id", err, ErrBadID)
}

func TestWaitOrCheckStatus(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	for id, state := range map[string]api.OrchestrationStatus{"done": api.RUNTIME_STATUS_COMPLETED, "ended": api.RUNTIME_STATUS_TERMINATED,
		"silent": api.RUNTIME_STATUS_COMPLETED, "running": api.RUNTIME_STATUS_RUNNING} {
		host.Set(id, state)
	}
	host.SetOutput("done", `{"a":"<&>"}`)
	host.SetOutput("ended", "why not")
	c := newTestClient(t, host.Address)
	for id, test := range map[string]struct {
		status int
		body   string
	}{
		"done":    {200, `{"a":"<&>"}`},
		"silent":  {200, "null"},
		"ended":   {200, `{"name":"Orch","instanceId":"ended","runtimeStatus":"Terminated","input":null,"customStatus":null,"output":"why not","createdTime":"`},
		"running": {202, `{"id":"running","statusQueryGetUri":"https://example.com/runtime/`},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/api/start", nil)
		r.TLS = &tls.ConnectionState{}
		w := httptest.NewRecorder()
		err := WaitOrCheckStatus(w, r, c, id, 100*time.Millisecond)
		if err != nil || w.Code != test.status || !strings.HasPrefix(w.Body.String(), test.body) || w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: got %d %s, %v", id, w.Code, w.Body, err)
		}
	}
	w := httptest.NewRecorder()
	err := WaitOrCheckStatus(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), c, "nobody", time.Second)
	expectError(t, "an unknown instance", err, ErrNotFound)
	if w.Body.Len() > 0 {
		t.Errorf("an error was answered with %s", w.Body)
	}
}
