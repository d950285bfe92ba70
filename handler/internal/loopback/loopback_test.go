package loopback

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestIs(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:7071": true, "127.1.2.3": true, "localhost": true, "LOCALHOST:80": true, "::1": true, "[::1]": true, "[::1]:7071": true,
		"": false, ":80": false, "example.com": false, "localhost.example.com": false, "127.0.0.1.example.com:80": false, "192.168.1.5": false, "0.0.0.0": false, "[::]:1": false,
	} {
		if got := Is(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestOnly(t *testing.T) {
	t.Parallel()
	named := func(origin string) bool { return origin == "https://named.example" }
	for name, c := range map[string]struct {
		host, origin, site string
		status             int
	}{
		"no page":                    {"127.0.0.1:7071", "", "", 200},
		"another name":               {"evil.example:7071", "", "", 403},
		"no name":                    {"", "", "", 403},
		"own page":                   {"localhost:7071", "http://localhost:7071", "same-origin", 200},
		"another local page":         {"localhost:7071", "http://127.0.0.1:3000", "same-site", 200},
		"another site":               {"localhost:7071", "https://evil.example", "cross-site", 403},
		"another site hides":         {"localhost:7071", "", "cross-site", 403},
		"a file":                     {"localhost:7071", "null", "", 403},
		"user in an origin":          {"localhost:7071", "http://localhost@evil.example", "", 403},
		"named page":                 {"localhost:7071", "https://named.example", "cross-site", 200},
		"named page, another name":   {"named.example:7071", "https://named.example", "same-site", 403},
		"local page, another's call": {"localhost:7071", "http://localhost:7071", "cross-site", 403},
	} {
		r := httptest.NewRequest("GET", "http://127.0.0.1:7071/", nil)
		r.Host = c.host
		for header, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(header, value)
			}
		}
		w := httptest.NewRecorder()
		Only(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), named).ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", name, w.Code, c.status)
		}
	}
}
