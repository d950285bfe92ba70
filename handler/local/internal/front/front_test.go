package front

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/local/internal/inbox"
	"example.com/durablefunctions/handler/local/internal/invoke"
	"example.com/durablefunctions/handler/local/internal/manage"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/handler/local/internal/taskhub"
	"example.com/durablefunctions/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var functions = map[string]string{
	"Start":   `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"item","queueName":"q","connection":"C"}]}`,
	"Echo":    `{"bindings":[{"type":"activityTrigger","direction":"in","name":"input"}]}`,
	"Nightly": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 0 3 * * *"}]}`,
	"Grid":    `{"bindings":[{"type":"eventGridTrigger","direction":"in","name":"event"}]}`,
	"Hello":   `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req"},{"type":"http","direction":"out","name":"res"}]}`,
}

// served is what New serves, and where the messages go.
type served struct {
	http.Handler
	hub       *taskhub.TaskHub
	delivered chan taskhub.Message
	inbox     *inbox.Inbox
	refuses   atomic.Bool // messages are not taken, and become dead letters
}

// serve serves an app without a task that runs. change may be nil.
func serve(t testing.TB, app http.Handler, hostJSON string, change func(*Options)) *served {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), hostJSON)
	for name, text := range functions {
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), text)
	}
	log := slog.New(slog.DiscardHandler)
	o := Options{Log: log}
	var err error
	if o.App, err = config.Load(root, nil); err != nil {
		t.Fatal(err)
	}
	if o.Hub, err = taskhub.Open(t.Context(), taskhub.Options{DataDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	sidecar, err := manage.StartSidecar(o.Hub, o.App.Host.HubName, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	outputs := &output.Sender{Hub: o.Hub, DataDir: t.TempDir(), Settings: func(string) string { return "" }, Log: log, Closing: ctx}
	o.Invoker = invoke.New(invoke.Options{
		Handler: app, Host: o.App.Host, Sidecar: sidecar, Outputs: outputs, Log: log, OnConsole: func(string, string) {}, Stopping: ctx, Closing: ctx,
	})
	s := &served{hub: o.Hub, delivered: make(chan taskhub.Message, 1)}
	o.Inbox = inbox.New(inbox.Options{Hub: o.Hub, Log: log, Parallel: 1, MaxDeliveries: 1, MaxBytes: 10, Deliver: func(_ context.Context, _ string, m taskhub.Message) error {
		if s.refuses.Load() {
			return errors.New(hurts)
		}
		s.delivered <- m
		return nil
	}})
	if change != nil {
		change(&o)
	}
	s.inbox = o.Inbox
	o.Inbox.Start(ctx, ctx)
	t.Cleanup(func() {
		cancel()
		o.Inbox.Wait()
		o.Invoker.Close()
		sidecar.Close()
		_ = o.Hub.Close()
	})
	s.Handler = New(o)
	return s
}

// plain is a host.json that says nothing.
const plain = `{"version":"2.0"}`

// do makes a request. The header Host is the name that the request is for.
func (s *served) do(method, path, body string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:7071"+path, strings.NewReader(body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if host, ok := header["Host"]; ok {
		r.Host = host
		r.Header.Del("Host")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// token returns the token of the page.
func (s *served) token(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(`content="([A-Z2-7]{26})"`).FindStringSubmatch(s.do("GET", "/", "", nil).Body.String())
	if found == nil {
		t.Fatal("the page has no token")
	}
	return found[1]
}

func (s *served) messagesLeft(t testing.TB) int {
	t.Helper()
	n, err := s.hub.WaitingMessages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGuards: the Durable HTTP API refuses calls from other sites, and writes of a browser from anywhere but this host's own page.
func TestGuards(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), plain, nil)
	token := s.token(t)
	for name, c := range map[string]struct {
		method, host string
		header       map[string]string
		status       int
	}{
		"curl":                        {"DELETE", "127.0.0.1:7071", map[string]string{}, 404},
		"another name":                {"GET", "evil.example:7071", map[string]string{}, 403},
		"another site reads":          {"GET", "localhost:7071", map[string]string{"Origin": "https://evil.example"}, 403},
		"another site, no origin":     {"GET", "localhost:7071", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"own page reads":              {"GET", "localhost:7071", map[string]string{"Sec-Fetch-Site": "same-origin"}, 404},
		"another local page writes":   {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:3000"}, 403},
		"a navigation writes":         {"POST", "localhost:7071", map[string]string{"Sec-Fetch-Site": "none"}, 403},
		"own page writes":             {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: token}, 404},
		"another token":               {"DELETE", "localhost:7071", map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: strings.Repeat("A", 26)}, 403},
		"another site with the token": {"DELETE", "localhost:7071", map[string]string{"Origin": "https://evil.example", dashboard.TokenHeader: token}, 403},
	} {
		c.header["Host"] = c.host
		if w := s.do(c.method, "/runtime/webhooks/durabletask/instances/nobody", "", c.header); w.Code != c.status {
			t.Errorf("%s: %d, want %d", name, w.Code, c.status)
		}
	}
}

const page = "https://page.example"

// TestCORS: the pages that local.settings.json names may read the Durable HTTP API and call the HTTP functions, under this
// machine's own name. Other pages may not. No page may write to the API or post messages.
func TestCORS(t *testing.T) {
	t.Parallel()
	const (
		api   = "/runtime/webhooks/durabletask/instances/nobody"
		admin = "/admin/functions/Start"
		hello = "/api/Hello"
	)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		testkit.AnswerJSON(w, map[string]any{"Outputs": map[string]any{"res": "hello"}})
	})
	other := []string{"https://other.example"}
	for name, c := range map[string]struct {
		origins                    []string
		host, method, path, origin string
		status                     int
		allowed                    string // origin
	}{
		"named":                   {[]string{page}, "localhost:7071", "GET", api, page, 404, page},
		"one of two":              {[]string{"http://localhost:3000", page}, "localhost:7071", "GET", api, "https://PAGE.example", 404, "https://PAGE.example"},
		"preflight":               {[]string{page}, "localhost:7071", "OPTIONS", api, page, 200, page},
		"any":                     {[]string{"*"}, "localhost:7071", "GET", api, page, 404, page},
		"another":                 {other, "localhost:7071", "GET", api, page, 403, ""},
		"another's preflight":     {other, "localhost:7071", "OPTIONS", api, page, 403, ""},
		"none named":              {nil, "localhost:7071", "GET", api, page, 403, ""},
		"a name of its own":       {[]string{page}, "page.example:7071", "GET", api, page, 403, ""},
		"writes":                  {[]string{page}, "localhost:7071", "DELETE", api, page, 403, page},
		"posts a message":         {[]string{"*"}, "localhost:7071", "POST", admin, page, 403, ""},
		"no page":                 {[]string{page}, "localhost:7071", "GET", api, "", 404, ""},
		"calls a function":        {[]string{page}, "localhost:7071", "POST", hello, page, 200, page},
		"preflight of a function": {[]string{page}, "localhost:7071", "OPTIONS", hello, page, 200, page},
		"another calls it":        {other, "localhost:7071", "POST", hello, page, 403, ""},
		"under a name of its own": {[]string{"*"}, "page.example:7071", "POST", hello, page, 403, ""},
		"a local page calls it":   {nil, "localhost:7071", "POST", hello, "http://localhost:3000", 200, ""},
	} {
		s := serve(t, app, plain, func(o *Options) { o.Origins = c.origins })
		header := map[string]string{"Host": c.host}
		if c.origin != "" {
			header["Origin"] = c.origin
			header["Access-Control-Request-Method"] = "GET"
			if !strings.Contains(c.origin, "localhost") {
				header["Sec-Fetch-Site"] = "cross-site"
			}
		}
		w := s.do(c.method, c.path, "", header)
		if allowed := w.Header().Get("Access-Control-Allow-Origin"); w.Code != c.status || allowed != c.allowed && !(allowed == "*" && c.allowed != "") {
			t.Errorf("%s: %d, allowed is %q; want %d, %q", name, w.Code, allowed, c.status, c.allowed)
		}
	}
}

// TestCORSOfFunction: a page that the host admits gets the host's CORS headers and not those of the function, whether the request
// is forwarded or not.
func TestCORSOfFunction(t *testing.T) {
	t.Parallel()
	const azure = "https://azure.example"
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			w.Header().Set("Access-Control-Allow-Origin", azure)
			w.Header().Set("Vary", "Accept")
			_, _ = io.WriteString(w, "hello")
			return
		}
		res := map[string]any{"body": "hello", "headers": map[string]string{"Access-Control-Allow-Origin": azure}}
		testkit.AnswerJSON(w, map[string]any{"Outputs": map[string]any{"res": res}})
	})
	for name, host := range map[string]string{
		"in an envelope": plain,
		"forwarded":      `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"},"enableForwardingHttpRequest":true}}`,
	} {
		s := serve(t, app, host, func(o *Options) { o.Origins = []string{page} })
		w := s.do("GET", "/api/Hello", "", map[string]string{"Origin": page})
		if allowed := w.Header()["Access-Control-Allow-Origin"]; w.Code != 200 || w.Body.String() != "hello" || !slices.Equal(allowed, []string{page}) {
			t.Errorf("%s: %d %q, allowed are %q", name, w.Code, w.Body, allowed)
		}
		w = s.do("GET", "/api/Hello", "", nil)
		if allowed := w.Header()["Access-Control-Allow-Origin"]; !slices.Equal(allowed, []string{azure}) {
			t.Errorf("%s, without a page: allowed are %q", name, allowed)
		}
	}
}
