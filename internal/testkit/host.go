// Package testkit is for the tests of all packages. It plays the programs that an app works with: the Functions host (host.go,
// turn.go), its durable endpoint (sidecar.go), a CRM with a REST interface (crm.go), the Durable HTTP API as it was recorded
// (recorded.go) and a collector of telemetry (otlp.go); for the local host it plays a custom handler (app.go). It also starts and
// builds programs (process.go). Each of them exists only here. The package imports no package of this module, so that every
// package can use it in its tests.
package testkit

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Host sends a handler the same requests as the Functions host, byte for byte.
type Host struct {
	URL string // of the handler, without a slash at the end
}

// Answer is the part of a handler's answer that the host reads.
type Answer struct {
	Status      int
	Phrase      string // the reason phrase
	ContentType string
	Body        string

	// The fields of a good answer of a function.
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// AllLogs returns the lines that the host would log, in one text.
func (a Answer) AllLogs() string { return strings.Join(a.Logs, "\n") }

// String returns a short form of the answer for a test's error.
func (a Answer) String() string { return fmt.Sprintf("%d %s %.2000s", a.Status, a.Phrase, a.Body) }

// client follows no redirect: every answer is returned as it is.
var client = &http.Client{
	Timeout:       2 * time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// CloseIdleConnections ends the connections that are kept for the next request. Call it before a search for goroutine leaks.
func CloseIdleConnections() { client.CloseIdleConnections(); http.DefaultClient.CloseIdleConnections() }

// InvocationID is the id of each invocation for which the test sets no other id.
const InvocationID = "4a3f2f5e-0000-4000-8000-000000000001"

// NewRequest makes an invocation like the host's: the body is sent in chunks, because the host does not tell its length.
func (h Host) NewRequest(function, body string) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, h.URL+"/"+function, io.MultiReader(strings.NewReader(body)))
	if err == nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set("X-Azure-Functions-InvocationId", InvocationID)
	}
	return r, err
}

// Do sends a request and reads the answer. Any HTTP answer is fine; an error means that there was none.
func (h Host) Do(r *http.Request) (Answer, error) {
	response, err := client.Do(r)
	if err != nil {
		return Answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("the answer broke off: %w", err)
	}
	_, phrase, _ := strings.Cut(response.Status, " ")
	a := Answer{Status: response.StatusCode, Phrase: phrase, ContentType: response.Header.Get("Content-Type"), Body: string(body)}
	if a.Status == http.StatusOK && a.ContentType == "application/json" {
		_ = json.Unmarshal(body, &a) // what cannot be read leaves outputs and value empty
	}
	return a, nil
}

// Post invokes a function. The test fails only if the handler gives no answer at all.
func (h Host) Post(t testing.TB, function, body string) Answer {
	t.Helper()
	r, err := h.NewRequest(function, body)
	if err != nil {
		t.Fatal(err)
	}
	a, err := h.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", function, err)
	}
	return a
}

// Twice encodes a text as the host encodes a string in Data or Metadata: as a JSON string that holds a JSON string.
func Twice(text string) string {
	once, _ := json.Marshal(text)
	again, _ := json.Marshal(string(once))
	return string(again)
}

// Text decodes a value of Data or Metadata: it unwraps a string, and once more if the string holds a JSON string. Anything else
// is returned as JSON text.
func Text(raw json.RawMessage) string {
	var once, twice string
	if json.Unmarshal(raw, &once) != nil {
		return string(raw)
	}
	if strings.HasPrefix(once, `"`) && json.Unmarshal([]byte(once), &twice) == nil {
		return twice
	}
	return once
}

// Invocation is the body of a request of the host.
type Invocation struct {
	Data, Metadata map[string]json.RawMessage
}

// ParseInvocation reads the body of an invocation.
func ParseInvocation(body string) (Invocation, error) {
	var i Invocation
	err := json.Unmarshal([]byte(body), &i)
	if err != nil {
		err = fmt.Errorf("the request is not an invocation: %w", err)
	}
	return i, err
}

// ActivityBody makes the body of an activity's invocation. The input is a JSON text.
func ActivityBody(input string) string {
	return `{"Data":{"input":` + Twice(input) + `},"Metadata":{"instanceId":"\"job-1\"","sys":{"MethodName":"Activity","UtcNow":"2026-11-23T01:02:03Z","RandGuid":"b0d9d43b-9160-4248-a208-c0c985db1be9"}}}`
}
