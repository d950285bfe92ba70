package output

import (
	"strings"
	"testing"

	"example.com/durablefunctions/handler/internal/config"
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

// TestMailDefaults: what a mail leaves out comes from the binding; what it has stays as it is.
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
