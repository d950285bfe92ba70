package output

import (
	"strings"
	"testing"
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
