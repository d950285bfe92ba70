package manage

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// openHTTP returns the API of an empty task hub without workers.
func openHTTP(t testing.TB) *HTTP {
	t.Helper()
	hub, err := taskhub.Open(t.Context(), taskhub.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	return NewHTTP(hub, "Hub", slog.New(slog.DiscardHandler))
}

func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:7071"+httpapi.Path+path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	if w := ask(h, "POST", "/orchestrators/Orch/a%20b", `{"x": 1.0}`); w.Code != 202 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		want               string // text in the body
	}{
		"status of a pending one":     {"GET", "/instances/a%20b", "", 202, `"runtimeStatus":"Pending","input":{"x":1.0},"customStatus":null,"output":null,`},
		"routes in any case":          {"GET", "/Instances/a%20b/", "", 202, `"instanceId":"a b"`},
		"no input":                    {"GET", "/instances/a%20b?SHOWINPUT=False", "", 202, `"input":null`},
		"another task hub":            {"GET", "/instances/a%20b?taskHub=Other", "", 404, ``},
		"its own task hub":            {"GET", "/instances/a%20b?taskHub=hub&connection=Storage", "", 202, ``},
		"another connection":          {"GET", "/instances/a%20b?connection=Nope", "", 500, `"ExceptionMessage":"Unable to resolve the Azure Storage connection named 'Nope'.","ExceptionType":"System.InvalidOperationException"`},
		"a slash in an id":            {"GET", "/instances/a%2Fb", "", 404, ``},
		"prefix of an id":             {"GET", "/instances/a", "", 404, ``},
		"start without JSON":          {"POST", "/orchestrators/Orch", `not JSON`, 400, `{"Message":"Invalid JSON content","ExceptionMessage":"Unexpected character encountered while parsing value: n. Path '', line 0, position 0.","ExceptionType":"Newtonsoft.Json.JsonReaderException"`},
		"start with an entity's id":   {"POST", "/orchestrators/Orch/@a", ``, 400, `"ExceptionType":"System.ArgumentException"`},
		"start what runs":             {"POST", "/orchestrators/Orch/a%20b", ``, 409, `{"Message":"An Orchestration instance with the status Pending already exists."}`},
		"wait less than a poll":       {"POST", "/orchestrators/Orch?timeout=1&pollingInterval=2", ``, 400, `should be bigger than`},
		"wait in vain":                {"POST", "/orchestrators/Orch?timeout=0.01&pollingInterval=0.01", ``, 202, `"statusQueryGetUri"`},
		"purge what runs":             {"DELETE", "/instances/a%20b", "", 412, `"Only orchestrations in a terminal state can be purged, but the orchestration with instance ID a b has status Pending"`},
		"purge all that runs":         {"DELETE", "/instances?createdTimeFrom=2020-01-01&runtimeStatus=Running", "", 400, `delete instances that have not finished`},
		"purge by no status":          {"DELETE", "/instances?createdTimeFrom=2020-01-01&runtimeStatus=failed", "", 400, `runtimeStatus`},
		"purge all that has ended":    {"DELETE", "/instances?createdTimeFrom=2020-01-01&runtimeStatus=Completed,Failed,Terminated,Canceled", "", 404, ``},
		"purge until no time":         {"DELETE", "/instances?createdTimeFrom=2020-01-01&createdTimeTo=soon", "", 400, `createdTimeTo`},
		"purge without a filter":      {"DELETE", "/instances/", "", 400, `"Please provide value for 'createdTimeFrom' parameter."`},
		"purge nothing":               {"DELETE", "/instances?createdTimeFrom=2020-01-01T00:00:00Z", "", 404, ``},
		"event without a type":        {"POST", "/instances/a%20b/raiseEvent/Go", `1`, 400, `{"Message":"Only application/json request content is supported"}`},
		"rewind what has not failed":  {"POST", "/instances/a%20b/rewind", "", 412, `"This orchestration has status Pending, but only orchestrations in the \"Failed\" state can be rewound."`},
		"restart what runs":           {"POST", "/instances/a%20b/restart?restartWithNewInstanceId=false", "", 409, `status Pending already exists`},
		"an operation that is none":   {"POST", "/instances/a%20b/explode", "", 404, ``},
		"a method that is none":       {"PUT", "/instances/a%20b", "", 404, ``},
		"no path":                     {"GET", "", "", 404, ``},
		"a token that is none":        {"GET", "/instances?top=1", "token", 400, continuation},
		"times with a + that was not": {"GET", "/instances?createdTimeFrom=2020-01-01T00:00:00+00:00", "", 200, `"a b"`},
		"instances of the future":     {"GET", "/instances?createdTimeFrom=2999-01-01", "", 200, `[]`},
	} {
		var header []string
		if c.body == "token" {
			header = []string{continuation, "%"}
		}
		if w := ask(h, c.method, c.path, c.body, header...); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || c.want == "" && c.status == 404 && w.Body.Len() > 0 {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, c.want)
		}
	}
}

func TestHTTPCheckStatus(t *testing.T) {
	t.Parallel()
	w := ask(openHTTP(t), "POST", "/orchestrators/Orch/a%20(b)~?code=K%2B", "")
	const base = "http://127.0.0.1:7071/runtime/webhooks/durabletask/instances/a%20(b)%7E"
	if got := w.Header().Get("Location"); got != base+"?taskHub=Hub&connection=Storage&code=K%2B" || w.Header().Get("Retry-After") != "10" {
		t.Errorf("Location %s, %v", got, w.Header())
	}
	var links map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &links); err != nil || links["resumePostUri"] != base+"/resume?reason={text}&taskHub=Hub&connection=Storage&code=K%2B" || len(links) != 8 {
		t.Errorf("%v %s", err, w.Body)
	}
}

func TestHTTPPaging(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	for i := range 5 {
		ask(h, "POST", fmt.Sprint("/orchestrators/Orch/p", i), "")
	}
	var ids []string
	for token, pages := "", 0; ; pages++ {
		w := ask(h, "GET", "/instances/?top=2&instanceIdPrefix=p", "", continuation, token)
		var list []struct{ InstanceID string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) > 2 || pages > 3 {
			t.Fatalf("%v %s", err, w.Body)
		}
		for _, i := range list {
			ids = append(ids, i.InstanceID)
		}
		//lint:ignore SA1008 the real host's spelling
		tokens := w.Header()[continuation]
		if len(tokens) == 0 {
			break
		}
		token = tokens[0]
	}
	if strings.Join(ids, " ") != "p0 p1 p2 p3 p4" {
		t.Errorf("the pages hold %v", ids)
	}
}

// TestHTTPNewestFirst: the list for the page has the newest instances first, can be searched, and has totals.
func TestHTTPNewestFirst(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	for i := range 5 {
		ask(h, "POST", fmt.Sprint("/orchestrators/Orch/p", (i*3)%5), "")
	}
	ask(h, "POST", "/orchestrators/Other/q", "")
	var ids []string
	for token, pages := "", 0; ; pages++ {
		w := ask(h, "GET", "/instances/?top=2&newestFirst=true&showTotals=true&search=ORCH", "", continuation, token)
		var list []struct{ InstanceID string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) > 2 || pages > 3 || w.Header().Get("X-Totals") != "Pending=5" {
			t.Fatalf("%v %s %v", err, w.Body, w.Header())
		}
		for _, i := range list {
			ids = append(ids, i.InstanceID)
		}
		//lint:ignore SA1008 the real host's spelling
		tokens := w.Header()[continuation]
		if len(tokens) == 0 {
			break
		}
		token = tokens[0]
	}
	if strings.Join(ids, " ") != "p2 p4 p1 p3 p0" {
		t.Errorf("the pages hold %v", ids)
	}
	for query, want := range map[string]string{"": "Pending=6", "&search=%25": "", "&instanceIdPrefix=q": "Pending=1", "&runtimeStatus=Failed": "Pending=6"} {
		if got := ask(h, "GET", "/instances/?showTotals=true"+query, "").Header().Get("X-Totals"); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if w := ask(h, "GET", "/instances/?newestFirst=true", "", continuation, pageToken("p0")); w.Code != 400 {
		t.Errorf("another list's token: %d", w.Code)
	}
}

func TestHistoryJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 0, 33, 54, 907543900, time.UTC)
	event := func(kind string, id int32, fill func(*backend.HistoryEvent)) *backend.HistoryEvent {
		e := historyevent.New(protoName(kind), at)
		e.EventId = id
		fill(e)
		return e
	}
	none := func(*backend.HistoryEvent) {}
	done := event("taskCompleted", -1, func(e *backend.HistoryEvent) {
		e.GetTaskCompleted().TaskScheduledId, e.GetTaskCompleted().Result = 3, wrapperspb.String(`{"a": 1}`)
	})
	scheduledTask := event("taskScheduled", 3, func(e *backend.HistoryEvent) { e.GetTaskScheduled().Name = "Echo" })
	raised := event("eventRaised", -1, func(e *backend.HistoryEvent) {
		e.GetEventRaised().Name, e.GetEventRaised().Input = "Go", wrapperspb.String(`"<x>"`)
	})
	for name, c := range map[string]struct {
		events          []*backend.HistoryEvent
		inputs, outputs bool
		want            string
	}{
		"nothing": {nil, true, true, `[]`},
		"turns":   {[]*backend.HistoryEvent{event("orchestratorStarted", -1, none), event("orchestratorCompleted", -1, none)}, true, true, `[]`},
		"activity that runs": {[]*backend.HistoryEvent{scheduledTask}, true, true,
			`[{"EventType":"TaskScheduled","Name":"Echo","Input":null,"ParentTraceContext":null,"Tags":null,"Timestamp":"2026-11-26T00:33:54.9075439Z"}]`},
		"activity that has ended": {[]*backend.HistoryEvent{scheduledTask, done}, true, true,
			`[{"EventType":"TaskCompleted","Result":{"a":1},"Timestamp":"2026-11-26T00:33:54.9075439Z","ScheduledTime":"2026-11-26T00:33:54.9075439+00:00","FunctionName":"Echo","Input":null}]`},
		"without outputs": {[]*backend.HistoryEvent{scheduledTask, done}, false, false,
			`[{"EventType":"TaskCompleted","Timestamp":"2026-11-26T00:33:54.9075439Z","ScheduledTime":"2026-11-26T00:33:54.9075439+00:00","FunctionName":"Echo"}]`},
		"event": {[]*backend.HistoryEvent{raised}, true, false,
			`[{"EventType":"EventRaised","Name":"Go","Input":"\"<x>\"","ParentTraceContext":null,"Timestamp":"2026-11-26T00:33:54.9075439Z"}]`},
	} {
		if got := string(historyJSON(c.events, c.inputs, c.outputs, nil)); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

// TestHistoryDetails: what the task hub keeps of the runs adds an activity's input and start time, and the id of a finished child.
func TestHistoryDetails(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 0, 33, 54, 0, time.UTC)
	scheduled, done := historyevent.New("taskScheduled", at), taskhub.TaskCompleted(1, []byte(`2`))
	scheduled.EventId, scheduled.GetTaskScheduled().Name = 1, "Echo"
	open := historyevent.New("taskScheduled", at)
	open.EventId, open.GetTaskScheduled().Name = 2, "Echo"
	child, ended := historyevent.New("subOrchestrationInstanceCreated", at), historyevent.New("subOrchestrationInstanceCompleted", at)
	child.EventId, child.GetSubOrchestrationInstanceCreated().Name, child.GetSubOrchestrationInstanceCreated().InstanceId = 3, "Child", "c-1"
	ended.GetSubOrchestrationInstanceCompleted().TaskScheduledId = 3
	input := `{"n":1}`
	runs := map[int32]taskhub.Run{1: {Started: at.Add(time.Second), Input: &input}, 2: {Input: &input}}
	got := string(historyJSON([]*backend.HistoryEvent{scheduled, done, open, child, ended}, true, true, runs))
	for _, want := range []string{
		`"FunctionName":"Echo","Input":"{\"n\":1}","StartedTime":"2026-11-26T00:33:55Z"}`,
		`{"EventType":"TaskScheduled","Name":"Echo","Input":"{\"n\":1}","ParentTraceContext":null,"Tags":null,"Timestamp":"2026-11-26T00:33:54Z"}`,
		`"FunctionName":"Child","Input":null,"InstanceId":"c-1"}`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}

func TestValueOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": `null`, " ": `null`, "2": `2`, `{"a": 1.0}`: `{"a":1.0}`, `"2026-11-22T08:11:12Z"`: `"2026-11-22T08:11:12Z"`,
		"why": `"why"`, "2 failed": `"2 failed"`, "*errors: <ü> \"x\"\n": `"*errors: <ü> \"x\""`, `plain text, not JSON`: `"plain text, not JSON"`,
	} {
		if got := string(valueOf(text)); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
}

// FuzzHTTP: no request makes the API panic. Every answer is JSON or empty.
func FuzzHTTP(f *testing.F) {
	h := openHTTP(f)
	f.Add("GET", "/instances/a?showHistory=true", "", "")
	f.Add("POST", "/orchestrators/Orch/a", `{"x":1}`, "application/json")
	f.Add("DELETE", "/instances?createdTimeFrom=2020-01-01", "", "")
	f.Add("POST", "/instances/a/raiseEvent/Go", `[`, "application/json")
	f.Add("GET", "/entities/counter?top=1&fetchState=true", "", "")
	f.Add("POST", "/entities/counter/k?op=add", `1`, "application/json")
	f.Fuzz(func(t *testing.T, method, path, body, contentType string) {
		u, err := url.Parse("http://127.0.0.1:1" + httpapi.Path + path)
		if err != nil || strings.Contains(strings.ToLower(path), "timeout") {
			t.Skip()
		}
		r := &http.Request{Method: method, URL: u, Host: "127.0.0.1:1", Header: http.Header{"Content-Type": {contentType}}, Body: http.NoBody}
		r.Body = httptest.NewRequest("POST", "/", strings.NewReader(body)).Body
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	})
}

func protoName(kind string) protoreflect.Name { return protoreflect.Name(kind) }
