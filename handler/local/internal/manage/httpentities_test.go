package manage

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/internal/entity"
)

// settle completes the entity's waiting operations with that state, and returns them.
func settle(t *testing.T, h *HTTP, state string) (operations []string) {
	t.Helper()
	w, err := h.hub.NextEntity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &entity.Result{}
	if state != "" {
		r.State = []byte(state)
	}
	for _, o := range w.Batch.Operations {
		operations = append(operations, w.Batch.ID+" "+o.Name+" "+string(o.Input))
		r.Outcomes = append(r.Outcomes, entity.Outcome{})
	}
	if err := h.hub.CompleteEntity(t.Context(), w, r); err != nil {
		t.Fatal(err)
	}
	return operations
}

// TestHTTPSignals: a posted body reaches the entity as the extension passes it on.
func TestHTTPSignals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ method, path, body, contentType, want string }{
		"JSON":                   {"POST", "/entities/Counter/a%20b?op=add", `{"x": 1.0}`, "application/json; charset=utf-8", `@counter@a b add {"x":1.0}`},
		"another type":           {"POST", "/ENTITIES/counter/k?OP=add", `{"x": 1}`, "text/plain", `@counter@k add "{\"x\": 1}"`},
		"no body":                {"POST", "/entities/counter/k?op=reset", "", "application/json", `@counter@k reset `},
		"no operation":           {"POST", "/entities/counter/k", "", "", `@counter@k  `},
		"no key":                 {"POST", "/entities/counter?op=add", "1", "application/json", `@counter@ add 1`},
		"the empty key's symbol": {"POST", "/entities/counter/$?op=add", "1", "application/json", `@counter@$ add 1`},
		"delete":                 {"DELETE", "/entities/Counter/k?op=add", "", "", `@counter@k delete `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := openHTTP(t)
			if w := ask(h, c.method, c.path, c.body, "Content-Type", c.contentType); w.Code != 202 || w.Body.Len() > 0 {
				t.Fatalf("%d %s, want 202 and no body", w.Code, w.Body)
			}
			if got := settle(t, h, "1"); len(got) != 1 || got[0] != c.want {
				t.Errorf("the entity got %q, want %q", got, c.want)
			}
		})
	}
}

var anyTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z`)

func plainTimes(text string) string { return anyTime.ReplaceAllString(text, "TIME") }

func TestHTTPEntities(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	for path, state := range map[string]string{"/entities/counter/a": `{"value": 1, "at": "2026-01-02T03:04:05Z"}`, "/entities/counter/b": "2", "/entities/counter": "0", "/entities/stock/tea": `"text"`, "/entities/stock/gone": ""} {
		ask(h, "POST", path+"?op=set", "")
		settle(t, h, state)
	}
	const gone = "404 "
	for name, c := range map[string]struct{ method, path, body, want string }{
		"state":                {"GET", "/entities/Counter/a", "", `200 {"value":1,"at":"TIME"}`},
		"state, a text":        {"GET", "/entities/stock/tea", "", `200 "text"`},
		"the empty key":        {"GET", "/entities/counter/$", "", `200 0`},
		"unknown":              {"GET", "/entities/counter/c", "", gone},
		"no state any more":    {"GET", "/entities/stock/gone", "", gone},
		"a slash in the key":   {"GET", "/entities/counter/a%2Fb", "", gone},
		"too long a path":      {"GET", "/entities/counter/a/b", "", gone},
		"another method":       {"PUT", "/entities/counter/a", "", gone},
		"another task hub":     {"GET", "/entities/counter/a?taskHub=Other", "", gone},
		"list":                 {"GET", "/entities/stock", "", `200 [{"entityId":{"name":"stock","key":"tea"},"lastOperationTime":"TIME","state":null}]`},
		"list with states":     {"GET", "/entities/COUNTER/?fetchState=true&top=2", "", `200 [{"entityId":{"name":"counter","key":""},"lastOperationTime":"TIME","state":0},{"entityId":{"name":"counter","key":"a"},"lastOperationTime":"TIME","state":{"value":1,"at":"TIME"}}]`},
		"list of a name's end": {"GET", "/entities/count", "", `200 []`},
		"list by time":         {"GET", "/entities?lastOperationTimeFrom=2999-01-01", "", `200 []`},
		"list of the past":     {"GET", "/entities?lastOperationTimeTo=2020-01-01", "", `200 []`},
		"no name":              {"POST", "/entities?op=add", "", `400 {"Message":"Invalid entity id: entity name must not be a null or empty string. (Parameter 'entityName')"}`},
		"a key that is none":   {"POST", "/entities/counter/a%3Fb?op=add", "", `400 {"Message":"entityKey (Parameter 'Entity keys must not contain /, \\, #, ?, or control characters.')"}`},
		"input that is none":   {"POST", "/entities/counter/a?op=add", "nonsense", `400 {"Message":"Could not parse JSON content: Unexpected character encountered while parsing value: n. Path '', line 0, position 0."}`},
		"the only app":         {"POST", "/makeprimary", "", "200 "},
	} {
		w := ask(h, c.method, c.path, c.body, "Content-Type", "application/json")
		if got := strings.TrimSpace(w.Result().Status[:3]) + " " + plainTimes(w.Body.String()); got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
}

// tokenOf returns the header with the token of the next page. Its name is in lower case, as the extension sends it.
func tokenOf(w *httptest.ResponseRecorder) []string {
	for name, values := range w.Header() {
		if name == continuation {
			return values
		}
	}
	return nil
}

func TestHTTPEntityPaging(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	for _, key := range []string{"a", "b", "c"} {
		ask(h, "POST", "/entities/counter/"+key+"?op=set", "")
		settle(t, h, "1")
	}
	first := ask(h, "GET", "/entities/counter?top=2", "")
	token := tokenOf(first)
	if len(token) != 1 || !strings.HasSuffix(token[0], " ") || strings.Count(first.Body.String(), "entityId") != 2 {
		t.Fatalf("the token %q, the page %s", token, first.Body)
	}
	second := ask(h, "GET", "/entities/counter?top=2", "", continuation, token[0])
	if got := second.Body.String(); !strings.Contains(got, `"key":"c"`) || strings.Count(got, "entityId") != 1 || tokenOf(second) != nil {
		t.Errorf("%s %v", got, second.Header())
	}
	if w := ask(h, "GET", "/entities?top=2", "", continuation, "%"); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestHTTPRestartWithOptions: the instance starts again with the given id and version.
func TestHTTPRestartWithOptions(t *testing.T) {
	t.Parallel()
	h := openHTTP(t)
	ask(h, "POST", "/orchestrators/Orch/a", `{"x":1}`)
	for name, c := range map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"no id":       {"/instances/a/restartWithOptions", `{"newInstanceId":"b"}`, 400, `{"Message":"A new orchestration instance ID must be provided."}`},
		"unknown":     {"/instances/nobody/restartWithOptions?newInstanceId=b", "", 404, ""},
		"a bad id":    {"/instances/a/restartWithOptions?newInstanceId=%40b", "", 400, "@"},
		"one runs":    {"/instances/a/restartWithOptions?newInstanceId=a", "", 409, `{"Message":"An Orchestration instance with the status Pending already exists."}`},
		"another one": {"/instances/a/restartwithoptions?newInstanceId=b&version=2.0", "", 202, `{"id":"b","statusQueryGetUri":"http://127.0.0.1:7071/runtime/webhooks/durabletask/instances/b?taskHub=Hub`},
	} {
		if w := ask(h, "POST", c.path, c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, c.want)
		}
	}
	if w := ask(h, "GET", "/instances/b", ""); !strings.Contains(w.Body.String(), `"input":{"x":1}`) {
		t.Errorf("%s", w.Body)
	}
}
