package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// triggerRecord is an invocation of a function that is not durable and does not belong to the lab app, or a request that was
// forwarded.
type triggerRecord struct {
	record
	ResponseHeaders map[string][]string
	RequestLength   int

	where      string
	invocation testkit.Invocation
}

// readTriggers reads the complete lines for which belongs returns true.
func readTriggers(t *testing.T, belongs func(triggerRecord) bool) (records []triggerRecord) {
	t.Helper()
	for _, file := range readRecordings(t) {
		for i, line := range file.lines {
			r := triggerRecord{where: fmt.Sprintf("%s:%d", file.name, i+1)}
			if json.Unmarshal(line, &r) != nil || r.RequestLength > 0 {
				continue
			}
			_ = json.Unmarshal([]byte(r.Request), &r.invocation)
			if belongs(r) {
				records = append(records, r)
			}
		}
	}
	t.Logf("%d requests compared", len(records))
	if len(records) == 0 && *recordings == ownRecordings {
		t.Fatal("there are none")
	}
	return records
}

// serveApp serves an app with one function.
func serveApp(t *testing.T, app *handler.App, name, bindings, hostJSON string) testkit.Host {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), hostJSON)
	testkit.WriteFile(t, filepath.Join(root, name, "function.json"), `{"bindings":[`+bindings+`]}`)
	functions, err := app.Handler(handler.Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(functions)
	t.Cleanup(server.Close)
	return testkit.Host{URL: server.URL}
}

// recordedHTTP is the value of an httpTrigger.
type recordedHTTP struct {
	URL, Method, Body string
	Headers           map[string][]string
	Params            map[string]*string
}

// recordedAnswer is the value of an http output.
type recordedAnswer struct {
	Status, StatusCode json.RawMessage
	Headers            map[string]any
	Body               any
}

// TestRecordedHTTP sends the handler the invocations that the host sent. The function must see the request as its client made it,
// and its answer must be the recorded one.
func TestRecordedHTTP(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool {
		return strings.HasPrefix(string(r.invocation.Data["req"]), `{"Url"`) && r.Status == 200
	}) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			var sent recordedHTTP
			if err := json.Unmarshal(r.invocation.Data["req"], &sent); err != nil {
				t.Fatal(err)
			}
			output, want, wanted := r.answerOf()
			app := handler.New()
			app.HTTP(r.Function, http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
				compareHTTP(t, got, sent, r.invocation.Data["starter"] != nil)
				for name, value := range want.Headers {
					w.Header().Set(name, fmt.Sprint(value))
				}
				w.WriteHeader(want.status())
				_, _ = io.WriteString(w, want.Body.(string))
			}))
			host := serveApp(t, app, r.Function, `{"name":"req","type":"httpTrigger","direction":"in"},{"name":"`+output+`","type":"http","direction":"out"},{"name":"starter","type":"durableClient","direction":"in"}`, `{"version":"2.0"}`)
			a := host.Post(t, r.Function, r.Request)
			got := a.ReturnValue
			if output != "$return" {
				got = a.Outputs[output]
			}
			var answer recordedAnswer
			if err := json.Unmarshal(got, &answer); err != nil {
				t.Fatalf("answer %s: %v", a, err)
			}
			if !wanted {
				return
			}
			delete(answer.Headers, "Content-Type")
			delete(want.Headers, "Content-Type")
			if answer.status() != want.status() || answer.Body != want.Body || fmt.Sprint(answer.Headers) != fmt.Sprint(want.Headers) {
				t.Errorf("answer %s, recorded is %s", got, r.Response)
			}
		})
	}
}

func (a recordedAnswer) status() int {
	var n int
	for _, text := range []json.RawMessage{a.Status, a.StatusCode} {
		if _ = json.Unmarshal([]byte(strings.Trim(string(text), `"`)), &n); n > 0 && n < 1000 {
			return n
		}
	}
	return http.StatusOK
}

// answerOf returns the recorded answer and the name of its output. ok is false if a handler may not give this answer: the
// scripted handler also tried what the host does with invalid ones.
func (r triggerRecord) answerOf() (output string, a recordedAnswer, ok bool) {
	var response struct {
		Outputs     map[string]json.RawMessage
		ReturnValue json.RawMessage
	}
	_ = json.Unmarshal([]byte(r.Response), &response)
	output, value := "$return", response.ReturnValue
	if res := response.Outputs["res"]; res != nil {
		output, value = "res", res
	}
	_ = json.Unmarshal(value, &a)
	text, isText := a.Body.(string)
	a.Body = text
	ok = isText && a.status() > 200 || a.status() == 200 && isText && text != "" && !strings.HasPrefix(text, "2026-")
	for _, value := range a.Headers {
		_, one := value.(string)
		ok = ok && one
	}
	return output, a, ok
}

func compareHTTP(t *testing.T, got *http.Request, sent recordedHTTP, hasClient bool) {
	body, err := io.ReadAll(got.Body)
	want := []byte(sent.Body)
	if contentType := append(sent.Headers["Content-Type"], "")[0]; contentType == "application/octet-stream" {
		want, _ = base64.StdEncoding.DecodeString(sent.Body)
	}
	if err != nil || string(body) != string(want) {
		t.Errorf("body %q (%v), recorded is %q", body, err, want)
	}
	if got.Method != sent.Method || got.URL.String() != sent.URL || got.RequestURI != got.URL.RequestURI() {
		t.Errorf("%s %s, recorded is %s %s", got.Method, got.URL, sent.Method, sent.URL)
	}
	for name, values := range sent.Headers {
		if name == "Host" || name == "Content-Length" {
			continue
		}
		if !slices.Equal(got.Header[http.CanonicalHeaderKey(name)], values) {
			t.Errorf("header %s is %q, recorded is %q", name, got.Header[http.CanonicalHeaderKey(name)], values)
		}
	}
	for name, value := range sent.Params {
		if value != nil && got.PathValue(name) != *value {
			t.Errorf("%s is %q, recorded is %q", name, got.PathValue(name), *value)
		}
	}
	if _, err := durable.FromContext(got.Context()); hasClient && err != nil {
		t.Error(err)
	}
}

// TestRecordedForwarding sends the handler the requests that the host forwarded. Its answers must arrive unchanged.
func TestRecordedForwarding(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool {
		return strings.HasPrefix(r.Function, "api/") && !strings.HasPrefix(r.Note, "connection closed")
	}) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			sent := []byte(r.Request)
			if encoded, ok := strings.CutPrefix(r.Request, "base64:"); ok {
				sent, _ = base64.StdEncoding.DecodeString(encoded)
			}
			path, query, _ := strings.Cut(strings.TrimPrefix(r.Function, "api/"), "?")
			app := handler.New()
			app.HTTP("Forwarded", http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
				body, err := io.ReadAll(got.Body)
				if err != nil || string(body) != string(sent) || got.PathValue("name") != path || got.URL.RawQuery != query || got.URL.Path != "/api/"+path {
					t.Errorf("%s %q (%v), recorded is %s %q", got.URL, body, err, r.Function, sent)
				}
				maps.Copy(w.Header(), r.ResponseHeaders)
				w.WriteHeader(r.Status)
				_, _ = io.WriteString(w, r.Response)
			}))
			host := serveApp(t, app, "Forwarded", `{"name":"req","type":"httpTrigger","direction":"in","route":"{name}"},{"name":"res","type":"http","direction":"out"}`,
				`{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"},"enableForwardingHttpRequest":true}}`)
			request, err := host.NewRequest(r.Function, string(sent))
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range r.Headers {
				request.Header[http.CanonicalHeaderKey(name)] = values
			}
			a, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			body, err := io.ReadAll(a.Body)
			if err != nil || a.StatusCode != r.Status || string(body) != r.Response && r.Status != 302 {
				t.Errorf("answer %s %q (%v), recorded is %d %q", a.Status, body, err, r.Status, r.Response)
			}
			for name, values := range r.ResponseHeaders {
				if !slices.Equal(a.Header[name], values) {
					t.Errorf("header %s is %q, recorded is %q", name, a.Header[name], values)
				}
			}
		})
	}
}

// TestRecordedTriggers sends the handler the invocations by queues, timers and blobs. Each function must see what the host sent.
func TestRecordedTriggers(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool { return r.triggerType() != "" }) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			name := r.triggerName()
			value := r.invocation.Data[name]
			dataType := ""
			if !strings.HasPrefix(string(value), `"\"`) {
				dataType = "binary"
			}
			app, called := handler.New(), false
			checkClient := func(ctx context.Context) {
				called = true
				if _, err := durable.FromContext(ctx); r.invocation.Data["starter"] != nil && err != nil {
					t.Error(err)
				}
			}
			switch r.triggerType() {
			case "queueTrigger":
				app.Queue(r.Function, func(ctx context.Context, m handler.Message) error {
					checkClient(ctx)
					r.compareMessage(t, m, value, dataType)
					return nil
				})
			case "timerTrigger":
				app.Timer(r.Function, func(ctx context.Context, timer handler.Timer) error {
					checkClient(ctx)
					compareTimer(t, timer, value)
					return nil
				})
			case "blobTrigger":
				app.Blob(r.Function, func(ctx context.Context, b handler.Blob) error {
					checkClient(ctx)
					r.compareBlob(t, b, value)
					return nil
				})
			}
			host := serveApp(t, app, r.Function, fmt.Sprintf(`{"name":%q,"type":%q,"direction":"in","dataType":%q,"schedule":"0 * * * * *","path":%q},{"name":"starter","type":"durableClient","direction":"in"}`,
				name, r.triggerType(), dataType, r.blobPath()), `{"version":"2.0"}`)
			if a := host.Post(t, r.Function, r.Request); a.Status != 200 || !called {
				t.Errorf("answer %s, called: %v", a, called)
			}
		})
	}
}

// triggerType returns the type of the trigger, judged by the invocation's values, or "" for another type.
func (r triggerRecord) triggerType() string {
	value := r.invocation.Data[r.triggerName()]
	switch {
	case strings.HasPrefix(string(value), `{"Schedule"`):
		return "timerTrigger"
	case r.invocation.Metadata["PopReceipt"] != nil:
		return "queueTrigger"
	case r.invocation.Metadata["Uri"] != nil && r.invocation.Metadata["Properties"] != nil:
		return "blobTrigger"
	}
	return ""
}

// blobPath returns the path of the recorded blobTrigger as far as the blob's address and the placeholders show it.
func (r triggerRecord) blobPath() string {
	path := "blobs"
	if parts := strings.Split(testkit.Text(r.invocation.Metadata["Uri"]), "/"); len(parts) > 5 { // the last are container and blob
		path = parts[4]
	}
	if r.invocation.Metadata["ext"] == nil {
		return path + "/{name}"
	}
	return path + "/{name}.{ext}"
}

func (r triggerRecord) triggerName() string {
	for name := range r.invocation.Data {
		if name != "starter" && name != "other" { // another blob, as an input
			return name
		}
	}
	return ""
}

func (r triggerRecord) compareMessage(t *testing.T, m handler.Message, value json.RawMessage, dataType string) {
	body := []byte(testkit.Text(value))
	if dataType == "binary" {
		body, _ = base64.StdEncoding.DecodeString(string(body))
	}
	if string(m.Body) != string(body) {
		t.Errorf("body %q, recorded is %q", m.Body, body)
	}
	var properties map[string]any
	_ = json.Unmarshal(body, &properties)
	for property := range properties {
		if strings.EqualFold(property, "id") && dataType != "binary" { // the message sets it, not the host
			return
		}
	}
	// The host may have read JSON that we do not read.
	if dataType != "binary" && properties == nil && strings.Contains(string(body), "{") {
		return
	}
	if want := testkit.Text(r.invocation.Metadata["Id"]); m.ID != want || m.DeliveryCount < 1 || m.EnqueuedAt.IsZero() {
		t.Errorf("id %q, delivery %d, enqueued %s; recorded is the id %q", m.ID, m.DeliveryCount, m.EnqueuedAt, want)
	}
}

func compareTimer(t *testing.T, timer handler.Timer, value json.RawMessage) {
	var recorded struct {
		ScheduleStatus *handler.ScheduleStatus
		IsPastDue      bool
	}
	if err := json.Unmarshal(value, &recorded); err != nil {
		t.Fatal(err)
	}
	switch got := timer.Status; {
	case timer.IsPastDue != recorded.IsPastDue, (got == nil) != (recorded.ScheduleStatus == nil):
		t.Errorf("timer %+v, recorded is %s", timer, value)
	case got != nil && (!got.Last.Equal(recorded.ScheduleStatus.Last) || !got.Next.Equal(recorded.ScheduleStatus.Next) || !got.LastUpdated.Equal(recorded.ScheduleStatus.LastUpdated)):
		t.Errorf("status %+v, recorded is %s", got, value)
	}
}

func (r triggerRecord) compareBlob(t *testing.T, b handler.Blob, value json.RawMessage) {
	content, _ := base64.StdEncoding.DecodeString(testkit.Text(value))
	var properties struct {
		ContentLength int
		ContentType   string
	}
	_ = json.Unmarshal(r.invocation.Metadata["Properties"], &properties)
	params := map[string]string{"name": testkit.Text(r.invocation.Metadata["name"])}
	name := params["name"]
	if ext := r.invocation.Metadata["ext"]; ext != nil {
		params["ext"] = testkit.Text(ext)
		name += "." + params["ext"]
	}
	if string(b.Content) != string(content) || len(b.Content) != properties.ContentLength || b.ContentType != properties.ContentType || !maps.Equal(b.Params, params) || b.Name != name {
		t.Errorf("blob %+v, recorded is %s", b, r.invocation.Metadata["Properties"])
	}
}
