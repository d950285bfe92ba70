package conformance

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// TestCheckStatusAsRecorded checks that durable.CheckStatusResponse answers, byte for byte, as the host's HTTP API answers a
// start.
func TestCheckStatusAsRecorded(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, file := range readRecordings(t) {
		for i, line := range file.lines {
			var l struct {
				Response struct {
					Status  int
					Headers map[string]string
					Body    string
				}
			}
			if json.Unmarshal(line, &l) != nil || l.Response.Status != http.StatusAccepted || !strings.Contains(l.Response.Body, `"restartPostUri"`) {
				continue
			}
			location, err := url.Parse(l.Response.Headers["Location"])
			if err != nil {
				t.Fatal(err)
			}
			id := location.Path[strings.LastIndexByte(location.Path, '/')+1:]
			client, err := durable.NewClient(testkit.ClientBinding("127.0.0.1:1", "LabHub", location.Query().Get("taskHub")), durable.MaxPayload)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, location.Scheme+"://"+location.Host+"/api/start", nil)
			if err := durable.CheckStatusResponse(w, r, client, id); err != nil || w.Code != l.Response.Status || w.Body.String() != l.Response.Body {
				t.Errorf("%s:%d: got %d %s, %v, recorded is %s", file.name, i+1, w.Code, w.Body, err, l.Response.Body)
			}
			delete(l.Response.Headers, "Connection")     // belongs to the connection, not to the answer
			delete(l.Response.Headers, "Content-Length") // it counts the real key, which the recording does not show
			for name, want := range l.Response.Headers {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s:%d: %s is %q, recorded is %q", file.name, i+1, name, got, want)
				}
			}
			compared++
		}
	}
	t.Logf("%d answers compared", compared)
	if compared < 5 && *recordings == ownRecordings {
		t.Error("too few answers were compared")
	}
}
