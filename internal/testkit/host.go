// Package testkit plays what surrounds an app in the tests: the Functions host (host.go, turn.go), its durable endpoint
// (sidecar.go), a CRM behind REST (crm.go), the app that a local host runs (app.go), the Durable HTTP API as it was
// recorded (recorded.go), and processes (process.go). Each is played here and
// nowhere else. It imports no package of the module, so that the tests of every package can use it.
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

// Host sends a handler what the Functions host sends it, in the same bytes.
type Host struct {
	URL string // of the handler, without a slash at the end
}

// Answer is what the host reads of a handler's answer.
type Answer struct {
	Status      int
	Phrase      string // the reason phrase
	ContentType string
	Body        string

	// What a good answer of a function holds.
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// AllLogs are the lines that the host would log.
func (a Answer) AllLogs() string { return strings.Join(a.Logs, "\n") }

// String is the answer in short, for a test's error.
func (a Answer) String() string { return fmt.Sprintf("%d %s %.2000s", a.Status, a.Phrase, a.Body) }

// client takes every answer as it is.
var client = &http.Client{
	Timeout:       2 * time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// CloseIdleConnections ends the connections that are kept for the next request, before a search for leaks.
func CloseIdleConnections() { client.CloseIdleConnections(); http.DefaultClient.CloseIdleConnections() }

// InvocationID is the id of each invocation that brings none of its own.
const InvocationID = "4a3f2f5e-0000-4000-8000-000000000001"

// NewRequest makes an invocation as the host makes it: the body in chunks, because its length is not told.
func (h Host) NewRequest(function, body string) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, h.URL+"/"+function, io.MultiReader(strings.NewReader(body)))
	if err == nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set("X-Azure-Functions-InvocationId", InvocationID)
	}
	return r, err
}

// Do sends a request and reads the answer, whatever it is.
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
		_ = json.Unmarshal(body, &a) // an answer that cannot be read has neither outputs nor a value
	}
	return a, nil
}

// Post invokes a function; only a handler that gives no answer at all fails the test.
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

// Twice encodes a text as the host does for a string in Data or Metadata: as a JSON string that holds a JSON string.
func Twice(text string) string {
	once, _ := json.Marshal(text)
	again, _ := json.Marshal(string(once))
	return string(again)
}

// Text takes a value of Data or Metadata out of its encoding: a string is unwrapped, and once more if it holds a JSON
// string. Anything else stays the JSON text that it is.
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

// ParseInvocation reads the body of a request.
func ParseInvocation(body string) (Invocation, error) {
	var i Invocation
	err := json.Unmarshal([]byte(body), &i)
	if err != nil {
		err = fmt.Errorf("the request is not an invocation: %w", err)
	}
	return i, err
}

// ActivityBody is the request of an activity with this input, a JSON text.
func ActivityBody(input string) string {
	return `{"Data":{"input":` + Twice(input) + `},"Metadata":{"instanceId":"\"job-1\"","sys":{"MethodName":"Activity","UtcNow":"2026-11-23T01:02:03Z","RandGuid":"b0d9d43b-9160-4248-a208-c0c985db1be9"}}}`
}
