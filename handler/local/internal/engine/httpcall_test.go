package engine

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/wire"
)

// The host makes the call itself. A call that it cannot make fails without details, as on the real host.
func TestHTTPActivity(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/large":
			_, _ = w.Write(make([]byte, maxHTTPContent+1))
		case "/away":
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			w.Header()["X-A"] = r.Header["X-H"]
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, r.Method+" "+r.URL.RawQuery+" "+string(body)+"\xff <&>")
		}
	}))
	t.Cleanup(server.Close)
	for name, c := range map[string]struct{ input, want string }{
		"recorded form": {`[{"method":"POST","uri":"URL/p?q=1","headers":{"X-H":["a","b"]},"content":"{\"a\": 1.50}"}]`, `202 [a b] POST q=1 {"a": 1.50}` + "\uFFFD <&>"},
		"default":       {`[{"uri":"URL/"}]`, "202 [] GET  \uFFFD <&>"},
		"redirected":    {`[{"method":"GET","uri":"URL/away"}]`, "202 [] GET  \uFFFD <&>"},
		"too slow":      {`[{"method":"GET","uri":"URL/slow","timeout":"00:00:00.1"}]`, ""},
		"too large":     {`[{"method":"GET","uri":"URL/large"}]`, ""},
		"nobody there":  {`[{"method":"GET","uri":"http://127.0.0.1:1/?code=KEY"}]`, ""},
		"no URL":        {`[{"method":"GET","uri":"::"}]`, ""},
		"no method":     {`[{"method":"a b","uri":"URL/"}]`, ""},
		"identity":      {`[{"uri":"URL/","tokenSource":{"kind":"AzureManagedIdentity","resource":"r"}}]`, ""},
		"two":           {`[{"uri":"URL/"},{"uri":"URL/"}]`, ""},
		"none":          {`[]`, ""},
		"no list":       {`{"uri":"URL/"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			e := &Engine{invoker: newInvoker(t), log: slog.New(slog.NewTextHandler(&log, nil))}
			scheduled := historyevent.New("taskScheduled", time.Now())
			scheduled.EventId = 7
			scheduled.GetTaskScheduled().Name = wire.HTTPActivity
			scheduled.GetTaskScheduled().Input = wrapperspb.String(strings.ReplaceAll(c.input, "URL", server.URL))
			event, err := e.ExecuteActivity(t.Context(), "i", scheduled)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if f := event.GetTaskFailed(); f == nil || f.FailureDetails != nil || f.TaskScheduledId != 7 || strings.Contains(log.String(), "KEY") || !strings.Contains(log.String(), "could not be made") {
					t.Errorf("%v, log %s", event, log.String())
				}
				return
			}
			var r durable.HTTPResponse
			if err := json.Unmarshal([]byte(event.GetTaskCompleted().GetResult().GetValue()), &r); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(r.StatusCode, " ", r.Header["X-A"], " ", r.Body)
			if got != c.want || r.Header.Get("Retry-After") != "1" || r.Header.Get("Content-Type") != "" {
				t.Errorf("%+v, want %s", r, c.want)
			}
		})
	}
}
