package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// TestLocalHTTP makes the recorded clients' requests to the local host: the handler gets what the real host sent it.
func TestLocalHTTP(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool {
		return strings.HasPrefix(string(r.invocation.Data["req"]), `{"Url"`) && r.Status == 200 && strings.HasPrefix(r.Response, "{")
	}) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			var want recordedHTTP
			if err := json.Unmarshal(r.invocation.Data["req"], &want); err != nil {
				t.Fatal(err)
			}
			route := r.Function
			if len(want.Params) > 0 {
				route = "things/{id:int}/{name?}"
			}
			output, _, _ := r.answerOf()
			bindings := fmt.Sprintf(`{"name":"req","type":"httpTrigger","direction":"in","route":%q},{"name":%q,"type":"http","direction":"out"}`, route, output)
			if r.invocation.Data["starter"] != nil {
				bindings += `,{"name":"starter","type":"durableClient","direction":"in"}`
			}
			got := requestOfLocalHost(t, r, want, bindings)
			compareEnvelopes(t, got, r.invocation, want)
		})
	}
}

// requestOfLocalHost makes the client's request and returns what reached the handler.
func requestOfLocalHost(t *testing.T, r triggerRecord, sent recordedHTTP, bindings string) (got testkit.Invocation) {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	testkit.WriteFile(t, filepath.Join(root, r.Function, "function.json"), `{"bindings":[`+bindings+`]}`)
	host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		var err error
		if got, err = testkit.ParseInvocation(string(body)); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, r.Response)
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close(t.Context())
	body := []byte(sent.Body)
	if append(sent.Headers["Content-Type"], "")[0] == "application/octet-stream" {
		body, _ = base64.StdEncoding.DecodeString(sent.Body)
	}
	request := httptest.NewRequest(sent.Method, sent.URL, strings.NewReader(string(body)))
	request.RequestURI = request.URL.RequestURI()
	for name, values := range sent.Headers {
		request.Header[name] = values
	}
	delete(request.Header, "Host")
	func() {
		defer func() { _ = recover() }() // a connection that breaks
		host.Handler().ServeHTTP(httptest.NewRecorder(), request)
	}()
	return got
}

func compareEnvelopes(t *testing.T, got, recorded testkit.Invocation, want recordedHTTP) {
	t.Helper()
	var have recordedHTTP
	if err := json.Unmarshal(got.Data["req"], &have); err != nil {
		t.Fatalf("the handler got %s: %v", got.Data["req"], err)
	}
	delete(have.Headers, "Content-Length") // of an empty body, which the client said
	delete(want.Headers, "Content-Length")
	if !reflect.DeepEqual(have, want) {
		t.Errorf("the handler got %+v, recorded is %+v", have, want)
	}
	for name, value := range recorded.Metadata {
		switch {
		case slices.Contains([]string{"sys", "$sys", "headers"}, strings.ToLower(name)):
		case !sameJSON(got.Metadata[name], value):
			t.Errorf("Metadata.%s is %s, recorded is %s", name, got.Metadata[name], value)
		}
	}
}

// TestLocalForwarding makes the recorded clients' requests to the local host where it forwards them.
func TestLocalForwarding(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool {
		return strings.HasPrefix(r.Function, "api/") && !strings.HasPrefix(r.Note, "connection closed")
	}) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"},"enableForwardingHttpRequest":true}}`)
			testkit.WriteFile(t, filepath.Join(root, "F", "function.json"), `{"bindings":[{"name":"req","type":"httpTrigger","direction":"in","route":"{name}"},{"name":"res","type":"http","direction":"out"}]}`)
			host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
				if got.URL.RequestURI() != "/"+r.Function || got.Header.Get("X-Azure-Functions-InvocationId") == "" {
					t.Errorf("%s %v, recorded is %s", got.URL, got.Header, r.Function)
				}
				for name, values := range r.ResponseHeaders {
					w.Header()[name] = values
				}
				w.WriteHeader(r.Status)
				_, _ = io.WriteString(w, r.Response)
			})})
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close(t.Context())
			w := httptest.NewRecorder()
			host.Handler().ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1:7181/"+r.Function, strings.NewReader("x")))
			if w.Code != r.Status || w.Body.String() != r.Response || !slices.Equal(w.Header()["Set-Cookie"], r.ResponseHeaders["Set-Cookie"]) {
				t.Errorf("answer %d %q, recorded is %d %q", w.Code, w.Body, r.Status, r.Response)
			}
		})
	}
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
