package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// TestLocalHTTP makes the recorded clients' requests to the local host. The handler must get what the real host sent it.
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

// requestOfLocalHost makes the client's request and returns the invocation that the handler got.
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
		defer func() { _ = recover() }() // the connection may break
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
	delete(have.Headers, "Content-Length") // the client sent it for an empty body
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

// TestLocalForwarding makes the recorded clients' requests to the local host for functions to which it forwards requests.
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

// TestLocalTriggers makes the local host's queues, timers and blobs trigger the recorded functions. The handler must get what the
// real host sent it, except for times, receipts and what only Azure's queues and blobs have.
func TestLocalTriggers(t *testing.T) {
	t.Parallel()
	for _, r := range readTriggers(t, func(r triggerRecord) bool {
		// In a call of the admin endpoint, the caller's value is in Metadata under the trigger's name: a blob's path, where the
		// local host expects the content.
		return r.triggerType() != "" && r.invocation.Metadata[r.triggerName()] == nil
	}) {
		t.Run(r.where, func(t *testing.T) {
			t.Parallel()
			var got testkit.Invocation
			switch r.triggerType() {
			case "queueTrigger":
				got = r.queueOfLocalHost(t)
				compareMetadata(t, got, r.invocation, "NextVisibleTime", "PopReceipt")
			case "timerTrigger":
				got = r.timerOfLocalHost(t)
				compareMetadata(t, got, r.invocation)
				return
			case "blobTrigger":
				got = r.blobOfLocalHost(t)
				compareMetadata(t, got, r.invocation, "Properties", "Metadata")
				compareProperties(t, got, r.invocation)
			}
			if name := r.triggerName(); string(got.Data[name]) != string(r.invocation.Data[name]) {
				t.Errorf("Data.%s is %s, recorded is %s", name, got.Data[name], r.invocation.Data[name])
			}
		})
	}
}

// triggered opens a local host on an app with the recorded function. It returns the host and the first invocation.
func (r triggerRecord) triggered(t *testing.T, dataDir, trigger string) (*local.Host, <-chan testkit.Invocation) {
	t.Helper()
	root, invocations := t.TempDir(), make(chan testkit.Invocation, 100)
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	bindings := fmt.Sprintf(`{"name":%q,"type":%q,"direction":"in",%s}`, r.triggerName(), r.triggerType(), trigger)
	if r.invocation.Data["starter"] != nil {
		bindings += `,{"name":"starter","type":"durableClient","direction":"in"}`
	}
	testkit.WriteFile(t, filepath.Join(root, r.Function, "function.json"), `{"bindings":[`+bindings+`]}`)
	host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: dataDir, Environ: []string{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		got, err := testkit.ParseInvocation(string(body))
		if err != nil {
			t.Error(err)
		}
		invocations <- got
		testkit.AnswerJSON(w, map[string]any{})
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close(context.Background()) })
	return host, invocations
}

func first(t *testing.T, invocations <-chan testkit.Invocation) testkit.Invocation {
	t.Helper()
	select {
	case i := <-invocations:
		return i
	case <-time.After(time.Minute):
		t.Fatal("the function was not called within a minute")
		return testkit.Invocation{}
	}
}

// queueOfLocalHost enqueues the recorded message.
func (r triggerRecord) queueOfLocalHost(t *testing.T) testkit.Invocation {
	t.Helper()
	value, dataType := r.invocation.Data[r.triggerName()], "string"
	m := local.Message{ID: testkit.Text(r.invocation.Metadata["Id"]), Body: []byte(testkit.Text(value))}
	if !strings.HasPrefix(string(value), `"\"`) {
		dataType = "binary"
		m.Body, _ = base64.StdEncoding.DecodeString(testkit.Text(value))
	}
	m.DeliveryCount, _ = strconv.Atoi(testkit.Text(r.invocation.Metadata["DequeueCount"]))
	m.EnqueuedAt, _ = time.Parse(time.RFC3339, testkit.Text(r.invocation.Metadata["InsertionTime"]))
	host, invocations := r.triggered(t, t.TempDir(), fmt.Sprintf(`"queueName":"q","dataType":%q`, dataType))
	if _, err := host.Deliver(t.Context(), r.Function, m); err != nil {
		t.Fatal(err)
	}
	return first(t, invocations)
}

// recordedTimer is the value of a timer.
type recordedTimer struct {
	Schedule       struct{ AdjustForDST bool }
	ScheduleStatus *recordedStatus
	IsPastDue      bool
}

type recordedStatus struct{ Last, Next, LastUpdated string }

// timerOfLocalHost lets a timer fire that has the recorded status, moved by some whole hours so that it is due.
func (r triggerRecord) timerOfLocalHost(t *testing.T) testkit.Invocation {
	t.Helper()
	var want, have recordedTimer
	if err := json.Unmarshal(r.invocation.Data[r.triggerName()], &want); err != nil {
		t.Fatal(err)
	}
	schedule := "* * * * * *" // the host keeps no status for it
	if want.ScheduleStatus != nil {
		schedule = "0 0 0 1 1 *"
	}
	if !want.Schedule.AdjustForDST {
		schedule = "01:00:00"
	}
	dataDir := t.TempDir()
	want.ScheduleStatus.shift(t)
	if want.ScheduleStatus != nil {
		status, _ := json.Marshal(want.ScheduleStatus)
		testkit.WriteFile(t, filepath.Join(dataDir, "timers", r.Function+".json"), string(status))
	}
	_, invocations := r.triggered(t, dataDir, fmt.Sprintf(`"schedule":%q`, schedule))
	got := first(t, invocations)
	if err := json.Unmarshal(got.Data[r.triggerName()], &have); err != nil {
		t.Fatal(err)
	}
	have.IsPastDue = want.IsPastDue // the recorded time is long past
	if !reflect.DeepEqual(have, want) {
		t.Errorf("the timer is %s, want %+v with %+v", got.Data[r.triggerName()], want, want.ScheduleStatus)
	}
	return got
}

// shift moves the times by whole hours so that the next one is within the last hour. A time that means "never" stays.
func (s *recordedStatus) shift(t *testing.T) {
	t.Helper()
	if s == nil {
		return
	}
	const format = "2006-01-02T15:04:05.9999999+00:00"
	next, err := time.Parse(time.RFC3339Nano, s.Next)
	if err != nil {
		t.Fatal(err)
	}
	by := time.Since(next).Round(0)
	by -= by % time.Hour
	if next.Add(by).After(time.Now()) {
		by -= time.Hour
	}
	for _, text := range []*string{&s.Last, &s.Next, &s.LastUpdated} {
		at, err := time.Parse(time.RFC3339Nano, *text)
		if err != nil || at.UTC().Format(format) != *text {
			t.Fatalf("the recorded time %s (%v)", *text, err)
		}
		if !at.IsZero() {
			*text = at.Add(by).UTC().Format(format)
		}
	}
}

// blobOfLocalHost puts the recorded blob into its folder.
func (r triggerRecord) blobOfLocalHost(t *testing.T) testkit.Invocation {
	t.Helper()
	uri, err := url.Parse(testkit.Text(r.invocation.Metadata["Uri"]))
	if err != nil {
		t.Fatal(err)
	}
	content, err := base64.StdEncoding.DecodeString(testkit.Text(r.invocation.Data[r.triggerName()]))
	if err != nil {
		t.Fatal(err)
	}
	path := strings.SplitN(uri.Path, "/", 4) // "", account, container, name
	dataDir := t.TempDir()
	testkit.WriteFile(t, filepath.Join(dataDir, "blobs", path[2], path[3]), string(content))
	_, invocations := r.triggered(t, dataDir, fmt.Sprintf(`"path":%q`, r.blobPath()))
	return first(t, invocations)
}

// compareMetadata compares the names in Metadata, and the values except those of the names in unless.
func compareMetadata(t *testing.T, got, recorded testkit.Invocation, unless ...string) {
	t.Helper()
	names := maps.Clone(recorded.Metadata)
	maps.Copy(names, got.Metadata)
	for name := range names {
		have, want := got.Metadata[name], recorded.Metadata[name]
		switch {
		case slices.Contains(unless, name) && have != nil && want != nil:
		case !bytes.Equal(uniqueValues.ReplaceAll(have, nil), uniqueValues.ReplaceAll(want, nil)):
			t.Errorf("Metadata.%s is %s, recorded is %s", name, have, want)
		}
	}
}

// compareProperties compares the properties of a blob that the local host has. It knows no times, content types or metadata of
// Azure, so of these only the kind of JSON value must be the same.
func compareProperties(t *testing.T, got, recorded testkit.Invocation) {
	t.Helper()
	var have, want map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(got.Metadata["Properties"], &have), json.Unmarshal(recorded.Metadata["Properties"], &want)); err != nil {
		t.Fatal(err)
	}
	for name, value := range have {
		switch name {
		case "LastModified", "ContentType", "Metadata":
			if want[name] == nil || value[0] != want[name][0] {
				t.Errorf("Properties.%s is %s, recorded is %s", name, value, want[name])
			}
		default:
			if string(value) != string(want[name]) {
				t.Errorf("Properties.%s is %s, recorded is %s", name, value, want[name])
			}
		}
	}
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
