package front

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const adminJSON = "application/json"

var adminCalls = map[string]struct {
	function, contentType, body string
	header                      map[string]string
	want                        int
	message                     string // what the function gets, "-": nothing
}{
	"text":            {"Start", adminJSON, `{"input":"hello"}`, nil, 202, "hello"},
	"other case":      {"START", adminJSON + "; charset=utf-8", `{"Input":"hello"}`, nil, 202, "hello"},
	"number":          {"Start", adminJSON, `{"input": 5}`, nil, 202, "5"},
	"empty text":      {"Start", adminJSON, `{"input":""}`, nil, 202, ""},
	"empty object":    {"Start", adminJSON, `{}`, nil, 202, "-"},
	"null":            {"Start", adminJSON, `{"input":null}`, nil, 202, "-"},
	"no content type": {"Start", "", "", nil, 415, "-"},
	"text type":       {"Start", "text/plain", `{"input":"x"}`, nil, 415, "-"},
	"no body":         {"Start", adminJSON, "", nil, 400, "-"},
	"not JSON":        {"Start", adminJSON, "nonsense", nil, 400, "-"},
	"object input":    {"Start", adminJSON, `{"input":{"a":1}}`, nil, 400, "-"},
	"array":           {"Start", adminJSON, "[]", nil, 400, "-"},
	"body null":       {"Start", adminJSON, "null", nil, 400, "-"},
	"unknown":         {"Nope", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"no message":      {"Echo", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"rebinding":       {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "evil.example.com:7071"}, 403, "-"},
	"cross-site":      {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "https://evil.example.com"}, 403, "-"},
	"fetch metadata":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "-"},
	"null origin":     {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "null"}, 403, "-"},
	"name in a name":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "127.0.0.1.evil.example.com"}, 403, "-"},
	"subdomain":       {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "evil.localhost:7071"}, 403, "-"},
	"other address":   {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "0.0.0.0:7071"}, 403, "-"},
	"user in origin":  {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "http://localhost@evil.example.com"}, 403, "-"},
	"file":            {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "file://"}, 403, "-"},
	"no origin's URL": {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "localhost"}, 403, "-"},
	"IPv6":            {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "[::1]"}, 202, "x"},
	"not this IPv6":   {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Host": "[2001:db8::1]:7071"}, 403, "-"},
	"upward":          {"..%2FStart", adminJSON, `{"input":"x"}`, nil, 404, "-"},
	"own page":        {"Start", adminJSON, `{"input":"x"}`, map[string]string{"Origin": "http://localhost:7071", "Host": "[::1]:7071"}, 202, "x"},
}

// TestAdmin: which calls the admin endpoint accepts.
func TestAdmin(t *testing.T) {
	t.Parallel()
	for name, c := range adminCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, http.NotFoundHandler(), plain, nil)
			header := map[string]string{}
			if c.contentType != "" {
				header["Content-Type"] = c.contentType
			}
			maps.Copy(header, c.header)
			w := s.do(http.MethodPost, "/admin/functions/"+c.function, c.body, header)
			if w.Code != c.want || w.Body.Len() != 0 {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
			if c.message != "-" {
				if m := <-s.delivered; string(m.Body) != c.message {
					t.Errorf("delivered %q", m.Body)
				}
			} else if n := s.messagesLeft(t); n != 0 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// TestAdminLimits: a request that is too large, a request without a host, and anything but a POST are refused.
func TestAdminLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), plain, nil)
	const path = "http://127.0.0.1:7071/admin/functions/Start"
	post := func(body io.Reader) *http.Request {
		r := httptest.NewRequest(http.MethodPost, path, body)
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	noHost := post(strings.NewReader(`{"input":"x"}`))
	noHost.Host = ""
	for name, c := range map[string]struct {
		r    *http.Request
		want int
	}{
		"too large": {post(io.MultiReader(strings.NewReader(`{"input":"`), io.LimitReader(endless{}, maxAdminBody))), http.StatusRequestEntityTooLarge},
		"no host":   {noHost, http.StatusForbidden},
		"GET":       {httptest.NewRequest(http.MethodGet, path, nil), http.StatusMethodNotAllowed},
		"preflight": {httptest.NewRequest(http.MethodOptions, path, nil), http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, c.r)
		if w.Code != c.want || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: got %d %v, want %d", name, w.Code, w.Header(), c.want)
		}
	}
	if n := s.messagesLeft(t); n != 0 {
		t.Errorf("%d messages", n)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestPostedMessages: a message keeps the id that its poster gives it, and one that is too large is not stored.
func TestPostedMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		want int
		id   string // that the function sees, "": any
	}{
		"id":            {`{"input":"hello","messageId":"mine"}`, 202, "mine"},
		"id, any case":  {`{"INPUT":"hello","MessageID":"mine"}`, 202, "mine"},
		"none":          {`{"input":"hello"}`, 202, ""},
		"empty id":      {`{"input":"hello","messageId":""}`, 202, ""},
		"number as id":  {`{"input":"hello","messageId":7}`, 400, ""},
		"largest":       {`{"input":"1234567890"}`, 202, ""},
		"too large":     {`{"input":"12345678901"}`, 413, ""},
		"bytes count":   {`{"input":"üüüüü."}`, 413, ""},
		"escapes don't": {`{"input":"\u0031234567890"}`, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, http.NotFoundHandler(), plain, nil)
			w := s.do(http.MethodPost, "/admin/functions/Start", c.body, map[string]string{"Content-Type": adminJSON})
			if w.Code != c.want {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, c.want)
			}
			if w.Code != http.StatusAccepted {
				if n := s.messagesLeft(t); n != 0 {
					t.Errorf("%d messages", n)
				}
				return
			}
			if m := <-s.delivered; m.ID == "" || c.id != "" && m.ID != c.id {
				t.Errorf("the message has the id %q", m.ID)
			}
		})
	}
}
