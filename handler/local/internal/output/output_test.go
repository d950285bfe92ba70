package output

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for base, ok := range map[string]bool{"https://api.eu.sendgrid.com": true, "http://127.0.0.1:8080": true, "http://localhost": true, "http://example.com": false, "": false, "x": false} {
		if err := checkBaseURL(base); (err == nil) != ok {
			t.Errorf("%s: %v", base, err)
		}
	}
}

func TestSafeName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, id := range []string{"a", "A", "a/b", "a\\b", "../x", "con", "a:1", "ü", strings.Repeat("x", 500), strings.Repeat("x", 501), ""} {
		name := safeName(id)
		if seen[strings.ToLower(name)] != "" || strings.ContainsAny(name, `/\:.`) || len(name) > 100 {
			t.Errorf("%q becomes %q", id, name)
		}
		seen[strings.ToLower(name)] = "x"
	}
}

// TestMailDefaults: the binding adds what a mail leaves out, and changes nothing that the mail has.
func TestMailDefaults(t *testing.T) {
	t.Parallel()
	all := map[string]any{"from": "Shop <shop@example.com>", "to": "%ALERT%", "subject": "Failed", "text": "See the log."}
	s := &Sender{Settings: func(name string) string { return map[string]string{"ALERT": "ops@example.com"}[name] }}
	const whole = `{"from":{"email":"a@example.com"},"subject":"S","personalizations":[{"to":[{"email":"b@example.com"}]}],"content":[{"type":"text/plain","value":"T"}]}`
	for name, c := range map[string]struct {
		properties map[string]any
		mail, want string
	}{
		"nothing left out": {all, whole, whole},
		"no defaults":      {nil, `{ "subject": "S" }`, `{ "subject": "S" }`},
		"all left out":     {all, `{}`, `{"content":[{"type":"text/plain","value":"See the log."}],"from":{"email":"shop@example.com","name":"Shop"},"personalizations":[{"to":[{"email":"ops@example.com"}]}],"subject":"Failed"}`},
		"no recipient":     {map[string]any{"to": "ops@example.com"}, `{"personalizations":[{"to":[]}]}`, `{"personalizations":[{"to":[{"email":"ops@example.com"}]}]}`},
		"no setting":       {map[string]any{"to": "%NONE%"}, `{}`, `{}`},
		"not a mail":       {all, `"text"`, `"text"`},
	} {
		got, err := s.withDefaults(config.Binding{Properties: c.properties}, []byte(c.mail))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
		}
	}
	if _, err := s.withDefaults(config.Binding{Properties: map[string]any{"from": "nobody"}}, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "Invalid 'From' address") {
		t.Errorf("a bad sender: %v", err)
	}
}

// listening is an app with functions that listen to queues and topics.
func listening() *config.App {
	function := func(properties map[string]any) config.Function {
		kind, _ := properties["type"].(string)
		return config.Function{Bindings: []config.Binding{{Name: "in", Type: kind, Direction: "in", Properties: properties}}}
	}
	return &config.App{Functions: map[string]config.Function{
		"Orders":      function(map[string]any{"type": "queueTrigger", "queueName": "orders"}),
		"OrdersToo":   function(map[string]any{"type": "queueTrigger", "queueName": "Orders", "connection": "AzureWebJobsStorage"}),
		"OtherOrders": function(map[string]any{"type": "queueTrigger", "queueName": "orders", "connection": "Other"}),
		"Named":       function(map[string]any{"type": "queueTrigger", "queueName": "%PREFIX%-%NAME%"}),
		"NotSet":      function(map[string]any{"type": "queueTrigger", "queueName": "%NONE%"}),
		"Bus":         function(map[string]any{"type": "serviceBusTrigger", "queueName": "orders", "connection": "Bus"}),
		"TopicA":      function(map[string]any{"type": "serviceBusTrigger", "topicName": "news", "subscriptionName": "a", "connection": "Bus"}),
		"TopicA2":     function(map[string]any{"type": "serviceBusTrigger", "topicName": "news", "subscriptionName": "A", "connection": "Bus"}),
		"TopicB":      function(map[string]any{"type": "serviceBusTrigger", "topicName": "news", "subscriptionName": "b", "connection": "Bus"}),
		"Web":         function(map[string]any{"type": "httpTrigger", "queueName": "orders"}),
	}}
}

// TestQueues: a message for a queue or topic of the app goes to the functions that listen there, and to no file.
func TestQueues(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"PREFIX": "Shop", "NAME": "mails"}
	for name, c := range map[string]struct {
		kind       string
		properties map[string]any
		want       string // function: message, …; empty: a file
	}{
		"queue":                {"queue", map[string]any{"queueName": "ORDERS"}, "Orders: one, Orders: two"},
		"another connection":   {"queue", map[string]any{"queueName": "orders", "connection": "other"}, "OtherOrders: one, OtherOrders: two"},
		"nobody's connection":  {"queue", map[string]any{"queueName": "orders", "connection": "Third"}, ""},
		"settings":             {"queue", map[string]any{"queueName": "shop-%NAME%"}, "Named: one, Named: two"},
		"another queue":        {"queue", map[string]any{"queueName": "bills"}, ""},
		"no queue":             {"queue", nil, ""},
		"a setting not set":    {"queue", map[string]any{"queueName": "%ALSONONE%"}, ""},
		"Service Bus queue":    {"serviceBus", map[string]any{"queueName": "orders", "connection": "bus"}, "Bus: one, Bus: two"},
		"topic":                {"serviceBus", map[string]any{"topicName": "News", "connection": "Bus"}, "TopicA: one, TopicB: one, TopicA: two, TopicB: two"},
		"another kind's queue": {"serviceBus", map[string]any{"queueName": "orders"}, ""},
		"another kind":         {"blob", map[string]any{"queueName": "orders"}, ""},
	} {
		var got []string
		s := &Sender{
			App: listening(), DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Closing: t.Context(),
			Settings: func(name string) string { return settings[name] },
			Enqueue: func(_ context.Context, function string, m taskhub.Message) error {
				got = append(got, function+": "+string(m.Body))
				return nil
			},
		}
		b := config.Binding{Name: "out", Type: c.kind, Direction: "out", Properties: c.properties}
		from := Source{Function: config.Function{Name: "F", Bindings: []config.Binding{b}}}
		if err := s.Send(t.Context(), from, map[string]json.RawMessage{"out": json.RawMessage(`["one","two"]`)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		files, _ := os.ReadDir(filepath.Join(s.DataDir, "outputs", "F.out"))
		if sent := strings.Join(got, ", "); sent != c.want || (len(files) == 2) != (c.want == "") {
			t.Errorf("%s: sent %q and %d files, want %q", name, sent, len(files), c.want)
		}
	}
}

// TestQueueFails: a message that cannot be stored fails the output, in .NET's words.
func TestQueueFails(t *testing.T) {
	t.Parallel()
	s := &Sender{
		App: listening(), Log: slog.New(slog.DiscardHandler), Closing: t.Context(), Settings: func(string) string { return "" },
		Enqueue: func(context.Context, string, taskhub.Message) error { return errors.New("the disk is full") },
	}
	b := config.Binding{Name: "out", Type: "queue", Direction: "out", Properties: map[string]any{"queueName": "orders"}}
	for _, value := range []string{`"x"`, `"[not JSON]"`} {
		err := s.Send(t.Context(), Source{Function: config.Function{Name: "F", Bindings: []config.Binding{b}}}, map[string]json.RawMessage{"out": json.RawMessage(value)})
		if failure := (*funchost.Exception)(nil); !errors.As(err, &failure) || !strings.Contains(err.Error(), "parameter out after function returned") {
			t.Errorf("%s: %v", value, err)
		}
	}
}
