package front

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// bury makes a message the only dead letter, and returns its number.
func (s *served) bury(t testing.TB, body string) int64 {
	t.Helper()
	s.refuses.Store(true)
	defer s.refuses.Store(false)
	if err := s.inbox.Put(t.Context(), "Nobody", taskhub.Message{ID: "m", Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	for {
		letters, err := s.hub.Messages(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if len(letters) > 0 {
			return letters[0].SequenceNumber
		}
		time.Sleep(time.Millisecond)
	}
}

const hurts = "it <b>hurts</b>"

// TestPageGuards attacks each endpoint of the page: under a foreign name, from a foreign page, and from a browser without the
// token of the page.
func TestPageGuards(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), plain, func(o *Options) { o.Origins = []string{"https://named.example"} })
	token := s.token(t)
	own := map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: token}
	for name, c := range map[string]struct {
		header      map[string]string
		read, write bool // is taken
	}{
		"curl":                        {map[string]string{}, true, true},
		"own page":                    {own, true, true},
		"own page without the token":  {map[string]string{"Origin": "http://localhost:7071", "Sec-Fetch-Site": "same-origin"}, true, false},
		"another local page":          {map[string]string{"Origin": "http://localhost:3000"}, true, false},
		"another token":               {map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: strings.Repeat("A", 26)}, true, false},
		"no token in an empty header": {map[string]string{"Origin": "http://localhost:7071", dashboard.TokenHeader: ""}, true, false},
		"rebinding":                   {map[string]string{"Host": "evil.example:7071", dashboard.TokenHeader: token}, false, false},
		"foreign page with the token": {map[string]string{"Origin": "https://evil.example", dashboard.TokenHeader: token}, false, false},
		"a page that CORS names":      {map[string]string{"Origin": "https://named.example", dashboard.TokenHeader: token}, false, false},
		"a frame of another site":     {map[string]string{"Sec-Fetch-Site": "cross-site"}, false, false},
		"sandboxed":                   {map[string]string{"Origin": "null"}, false, false},
		"a form's navigation":         {map[string]string{"Sec-Fetch-Site": "none"}, true, false},
	} {
		for _, call := range []struct{ method, path string }{
			{"GET", "/local/functions"}, {"GET", "/local/messages"}, {"GET", "/local/messages/99"}, {"POST", "/local/messages/99"}, {"POST", "/local/timers/Nope"}, {"POST", "/local/timers/Nightly2"},
		} {
			w := s.do(call.method, call.path, "", c.header)
			taken := map[string]bool{"GET": c.read, "POST": c.write}[call.method]
			if (w.Code != http.StatusForbidden) != taken || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s %s: %d %v", name, call.method, call.path, w.Code, w.Header())
			}
			if w.Code == http.StatusForbidden && w.Body.Len() > 0 {
				t.Errorf("%s: %s %s tells %s", name, call.method, call.path, w.Body)
			}
		}
	}
	if w := s.do("OPTIONS", "/local/messages/1", "", map[string]string{"Origin": "https://named.example", "Access-Control-Request-Method": "POST"}); w.Code != http.StatusForbidden {
		t.Errorf("a preflight is answered %d", w.Code)
	}
}

func TestPageFunctions(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), `{"version":"2.0","functions":["Start","Echo","Nightly","Grid","Hello"]}`, nil)
	w := s.do("GET", "/local/functions", "", nil)
	var got struct {
		Functions []shownFunction
		Problems  []shownProblem
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	byName := map[string]shownFunction{}
	for _, f := range got.Functions {
		byName[f.Name] = f
	}
	if f := byName["Start"]; !f.Sends || f.Why != "" || f.Bindings[0].Detail != "queueName q, connection C" {
		t.Errorf("Start: %+v", f)
	}
	if f := byName["Grid"]; !f.Sends || !strings.Contains(f.Why, "eventGrid") {
		t.Errorf("Grid: %+v", f)
	}
	if f := byName["Nightly"]; f.Next == nil || f.Next.Hour() != 3 || f.Sends {
		t.Errorf("Nightly: %+v", f)
	}
	if f := byName["Hello"]; f.Path != "/api/Hello" || f.Methods != nil {
		t.Errorf("Hello: %+v", f)
	}
	if f := byName["Echo"]; f.Sends || f.Path != "" {
		t.Errorf("Echo: %+v", f)
	}
	missing := false
	for _, p := range got.Problems {
		missing = missing || strings.Contains(p.Text, "FUNCTIONS_WORKER_RUNTIME")
	}
	if !missing {
		t.Errorf("the missing setting is not told: %+v", got.Problems)
	}
}

// TestPageMessages: dead letters are listed with their beginnings, shown whole, and put back as they are or changed.
func TestPageMessages(t *testing.T) {
	t.Parallel()
	s := serve(t, http.NotFoundHandler(), plain, nil)
	long := strings.Repeat("ä", 500)
	number := s.bury(t, long)
	path := "/local/messages/" + strconv.FormatInt(number, 10)
	var list struct {
		Dead, Waiting []shownMessage
		DeadTotal     int
	}
	if w := s.do("GET", "/local/messages", "", nil); json.Unmarshal(w.Body.Bytes(), &list) != nil || list.DeadTotal != 1 || len(list.Waiting) != 0 || list.Dead[0].Reason != "it <b>hurts</b>" || len(list.Dead[0].Body) > 250 || strings.Contains(w.Body.String(), "<b>") {
		t.Fatalf("the list is %s", w.Body)
	}
	var whole shownMessage
	if w := s.do("GET", path, "", nil); json.Unmarshal(w.Body.Bytes(), &whole) != nil || whole.Body != long || whole.Size != 1000 || whole.Time == nil {
		t.Errorf("the message is %s", w.Body)
	}
	for name, c := range map[string]struct {
		path, body string
		want       int
	}{
		"no number":    {"/local/messages/x", "", 404},
		"unknown":      {"/local/messages/999", "", 404},
		"not JSON":     {path, "nonsense", 400},
		"a number":     {path, `{"body":5}`, 400},
		"too large":    {path, `{"body":"12345678901"}`, 413},
		"no such path": {path + "/x", "", 404},
	} {
		if w := s.do("POST", c.path, c.body, nil); w.Code != c.want || c.want != 404 && !strings.Contains(w.Body.String(), `"Message"`) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest("POST", "http://localhost:7071"+path, io.MultiReader(strings.NewReader(`{"body":"`), io.LimitReader(endless{}, maxAdminBody)))
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without an end: %d", w.Code)
	}
	for _, unknown := range []string{"x", "0", "999"} {
		if w := s.do("GET", "/local/messages/"+unknown, "", nil); w.Code != http.StatusNotFound {
			t.Errorf("message %s: %d", unknown, w.Code)
		}
	}
	if w := s.do("POST", path, `{"body":"mended"}`, nil); w.Code != http.StatusNoContent {
		t.Fatalf("put back: %d %s", w.Code, w.Body)
	}
	if m := <-s.delivered; string(m.Body) != "mended" || m.ID != "m" || m.DeliveryCount != 1 {
		t.Errorf("delivered %+v", m)
	}
	if w := s.do("POST", path, "", nil); w.Code != http.StatusNotFound {
		t.Errorf("put back twice: %d", w.Code)
	}
	binary := s.bury(t, "\xff\xfe")
	if w := s.do("GET", "/local/messages/"+strconv.FormatInt(binary, 10), "", nil); !strings.Contains(w.Body.String(), `"body":"//4=","binary":true`) {
		t.Errorf("what is no text is shown as %s", w.Body)
	}
	if w := s.do("POST", "/local/messages/"+strconv.FormatInt(binary, 10), "", nil); w.Code != http.StatusNoContent {
		t.Errorf("put back as it is: %d", w.Code)
	}
	if m := <-s.delivered; string(m.Body) != "\xff\xfe" {
		t.Errorf("delivered %q", m.Body)
	}
}

// TestPageTimer: a timer's function runs now, and the answer reports its failure.
func TestPageTimer(t *testing.T) {
	t.Parallel()
	fails := false
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	}), plain, nil)
	if w := s.do("POST", "/local/timers/nightly", "", nil); w.Code != 200 || w.Body.String() != `{"started":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	fails = true
	if w := s.do("POST", "/local/timers/Nightly", "", nil); w.Code != 500 || !strings.Contains(w.Body.String(), "the function failed") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, name := range []string{"Start", "Nope"} {
		if w := s.do("POST", "/local/timers/"+name, "", nil); w.Code != 404 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}
