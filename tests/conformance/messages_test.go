package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// recordedMessage is a line about Service Bus: the message that was sent, and the request that reached the handler.
type recordedMessage struct {
	Case, DataType string
	Sent           struct {
		Body, BodyBase64, MessageID, Subject, CorrelationID, ReplyTo, To, ContentType string
		Properties                                                                    map[string]any
		TTLMs                                                                         int
	}
	Function string
	Headers  map[string]string
	Request  string
}

// body is the body of the message that was sent.
func (m recordedMessage) body(t *testing.T) []byte {
	t.Helper()
	if m.Sent.BodyBase64 == "" {
		return []byte(m.Sent.Body)
	}
	body, err := base64.StdEncoding.DecodeString(m.Sent.BodyBase64)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// readMessages reads the lines about Service Bus and counts the others.
func readMessages(t *testing.T) (messages []recordedMessage) {
	t.Helper()
	others := 0
	for _, file := range readRecordings(t) {
		for _, line := range file.lines {
			var m recordedMessage
			var properties map[string]json.RawMessage
			if json.Unmarshal(line, &properties) != nil || properties["sent"] == nil {
				others++
				continue
			}
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%s: %v", file.name, err)
			}
			messages = append(messages, m)
		}
	}
	t.Logf("%d messages, %d lines skipped: another format", len(messages), others)
	if len(messages) < 20 && *recordings == ownRecordings {
		t.Fatal("too few messages")
	}
	return messages
}

// messageApp has one function with a Service Bus trigger. Each invocation is passed to a callback.
func messageApp(t *testing.T, dataType string, function handler.TriggerFunc) (http.Handler, string) {
	t.Helper()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	testkit.WriteFile(t, filepath.Join(root, "OnMessage", "function.json"), fmt.Sprintf(
		`{"bindings":[{"name":"msg","type":"serviceBusTrigger","direction":"in","queueName":"q","connection":"c","dataType":%q}]}`, dataType))
	app := handler.New()
	app.Trigger("OnMessage", function)
	functions, err := app.Handler(handler.Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	return functions, root
}

// TestRecordedMessages sends the handler what the host sent it. The function must see the message as it was sent, as bytes or as
// the text that the host made of it, and the properties that nothing in the message overrides.
func TestRecordedMessages(t *testing.T) {
	t.Parallel()
	for _, m := range readMessages(t) {
		t.Run(m.Case+" "+m.DataType, func(t *testing.T) {
			for _, d := range compareMessage(t, m, invoked(t, m)) {
				t.Error(d)
			}
		})
	}
}

// invoked returns what a function sees of the recorded request.
func invoked(t *testing.T, m recordedMessage) (seen *handler.Invocation) {
	t.Helper()
	functions, _ := messageApp(t, m.DataType, func(_ context.Context, in *handler.Invocation) error { seen = in; return nil })
	server := httptest.NewServer(functions)
	defer server.Close()
	if a := (testkit.Host{URL: server.URL}).Post(t, m.Function, m.Request); a.Status != 200 || seen == nil {
		t.Fatalf("answer %s", a)
	}
	return seen
}

// textOfHost is the text that the host makes of a body that is not UTF-8 text.
var textOfHost = map[string]string{"binary non UTF-8": "Ā䆀⣃", "DataContract-serialized string": "café", "UTF-16LE with BOM": "wide"}

func compareMessage(t *testing.T, m recordedMessage, seen *handler.Invocation) (differences []string) {
	t.Helper()
	want := m.body(t)
	if text, ok := textOfHost[m.Case]; ok && m.DataType == "string" {
		want = []byte(text)
	}
	if got := seen.Bytes("msg"); !bytes.Equal(got, want) {
		differences = append(differences, fmt.Sprintf("the function sees the bytes %q, sent was %q", got, want))
	}
	if got := seen.Text("msg"); m.DataType == "string" && got != string(want) {
		differences = append(differences, fmt.Sprintf("the function sees the text %q, sent was %q", got, want))
	}
	for name, want := range map[string]string{"MessageId": m.Sent.MessageID, "Subject": m.Sent.Subject, "CorrelationId": m.Sent.CorrelationID, "ReplyTo": m.Sent.ReplyTo, "To": m.Sent.To, "ContentType": m.Sent.ContentType} {
		if m.DataType == "string" && strings.Contains(strings.ToLower(m.Sent.Body), `"`+strings.ToLower(name)+`"`) {
			continue // the body has a property of this name, which the host puts in its place
		}
		if got, ok := seen.Metadata(name); got != want || ok != (want != "") {
			differences = append(differences, fmt.Sprintf("the function sees the %s %q (%t), sent was %q", name, got, ok, want))
		}
	}
	return differences
}

// TestLocalHostMessages sends the local host the messages that were sent to Service Bus. Its request must be the recorded one,
// except for what its messages do not have.
func TestLocalHostMessages(t *testing.T) {
	t.Parallel()
	for _, m := range readMessages(t) {
		t.Run(m.Case+" "+m.DataType, func(t *testing.T) {
			functions, root := messageApp(t, m.DataType, func(context.Context, *handler.Invocation) error { return nil })
			var request string
			listen := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				request = string(body)
				r.Body = io.NopCloser(strings.NewReader(request))
				functions.ServeHTTP(w, r)
			})
			host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: listen, Environ: []string{}, Settings: func(string) string { return "" }})
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close(context.Background())
			recorded, err := testkit.ParseInvocation(m.Request)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := host.Deliver(t.Context(), m.Function, m.local(t, recorded)); err != nil {
				t.Fatal(err)
			}
			ours, err := testkit.ParseInvocation(request)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range compareMessageRequests(ours, recorded) {
				if m.isGap(d) {
					t.Log("a gap: ", d)
					continue
				}
				t.Error(d)
			}
		})
	}
}

// isGap says whether the local host differs here on purpose: its messages always have an id, and it does not decode strings that
// .NET's DataContractSerializer wrote.
func (m recordedMessage) isGap(difference string) bool {
	return m.Sent.MessageID == "" && strings.HasPrefix(difference, "Metadata: MessageId") || m.Case == "DataContract-serialized string"
}

// local returns the message as the local host gets it.
func (m recordedMessage) local(t *testing.T, recorded testkit.Invocation) local.Message {
	t.Helper()
	enqueued, err := time.Parse("2006-01-02T15:04:05-07:00", testkit.Text(recorded.Metadata["EnqueuedTime"]))
	if err != nil {
		t.Fatal(err)
	}
	var number int64
	if err := json.Unmarshal([]byte(testkit.Text(recorded.Metadata["SequenceNumber"])), &number); err != nil {
		t.Fatal(err)
	}
	return local.Message{ID: m.Sent.MessageID, Body: m.body(t), DeliveryCount: 1, EnqueuedAt: enqueued, SequenceNumber: number}
}

// unknownHere are the metadata that a message of the local host does not have: objects of the Service Bus client, and what only a
// sender through Service Bus can set.
var unknownHere = []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions", "Client", "LockToken",
	"ContentType", "ReplyTo", "To", "Subject", "Label", "CorrelationId", "ExpiresAt", "ExpiresAtUtc", "ApplicationProperties", "UserProperties"}

var uniqueValues = regexp.MustCompile(`"UtcNow":"[^"]*","RandGuid":"[^"]*"`)

func compareMessageRequests(ours, recorded testkit.Invocation) (differences []string) {
	add := func(what string, got, want map[string]json.RawMessage) {
		names := slices.Sorted(maps.Keys(got))
		names = append(names, slices.Sorted(maps.Keys(want))...)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			g, w := uniqueValues.ReplaceAllString(string(got[name]), ""), uniqueValues.ReplaceAllString(string(want[name]), "")
			if g != w && !(what == "Metadata" && slices.Contains(unknownHere, name)) {
				differences = append(differences, fmt.Sprintf("%s: %s is %s, recorded is %s", what, name, g, w))
			}
		}
	}
	add("Data", ours.Data, recorded.Data)
	add("Metadata", ours.Metadata, recorded.Metadata)
	return differences
}
