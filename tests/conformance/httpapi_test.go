package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler/local"
)

// apiLine is a call of the Durable HTTP API or of the admin endpoint, with the real host's answer.
type apiLine struct {
	Request  struct{ Method, Path, Body string }
	Response apiAnswer
	Note     string
}

type apiAnswer struct {
	Status  int
	Headers map[string]string
	Body    string
}

// TestHTTPAPI makes the recorded calls of the Durable HTTP API to the local host, in their order. The answers must be the
// recorded ones: status, headers and body.
func TestHTTPAPI(t *testing.T) {
	t.Parallel()
	played := 0
	for _, file := range readRecordings(t) {
		lines := apiLines(file)
		if len(lines) == 0 {
			continue
		}
		played++
		t.Run(strings.TrimSuffix(file.name, ".jsonl"), func(t *testing.T) {
			t.Parallel()
			p := openAPI(t, lines)
			for i, l := range lines {
				p.play(t, fmt.Sprintf("%s:%d %s %s (%s)", file.name, i+1, l.Request.Method, l.Request.Path, l.Note), l)
			}
			t.Logf("%d calls compared, %d skipped", p.compared, len(lines)-p.compared)
		})
	}
	if played == 0 && *recordings == ownRecordings {
		t.Error("no recording of the HTTP API was played")
	}
}

func apiLines(f recording) (lines []apiLine) {
	for _, text := range f.lines {
		var l apiLine
		if json.Unmarshal(text, &l) == nil && l.Request.Path != "" && l.Response.Status != 0 {
			lines = append(lines, l)
		}
	}
	return lines
}

// apiPlayer makes the recorded calls. It knows which names here stand for the recorded ones.
type apiPlayer struct {
	server   *httptest.Server
	ids      map[string]string // our random instance ids, by the recorded ones
	started  map[string]bool   // the ids of the instances that were started here
	hub      string            // the recorded task hub
	rewound  map[string]bool
	compared int
}

const apiHub = "LabHubA"

var hubParam = regexp.MustCompile(`taskHub=(\w+)`)

// openAPI opens a local host on the recorded app: the lab app, or the scripted handler if the recording begins with an instance
// that was started before.
func openAPI(t *testing.T, lines []apiLine) *apiPlayer {
	t.Helper()
	p := &apiPlayer{ids: map[string]string{}, started: map[string]bool{}, rewound: map[string]bool{}, hub: apiHub}
	for _, l := range lines {
		if hub := hubParam.FindStringSubmatch(l.Request.Path + l.Response.Body); hub != nil {
			p.hub = hub[1]
			break
		}
	}
	serve := func(h *local.Host) {
		p.server = httptest.NewServer(h.Handler())
		t.Cleanup(p.server.Close)
	}
	first := lines[0]
	if strings.Contains(first.Request.Path, "/orchestrators/") {
		serve(openLocalHost(t, plain).host)
		return p
	}
	serve(openScripted(t).Host)
	id, _, _ := strings.Cut(first.Request.Path[strings.LastIndex(first.Request.Path, "/")+1:], "?")
	p.started[id] = true
	var shown struct{ Input json.RawMessage }
	_ = json.Unmarshal([]byte(first.Response.Body), &shown)
	if a, err := p.call("POST", "/runtime/webhooks/durabletask/orchestrators/Orch/"+id, string(shown.Input), ""); err != nil || a.Status != http.StatusAccepted {
		t.Fatalf("the instance %s could not be started: %+v (%v)", id, a, err)
	}
	return p
}

// call makes a call in the way in which the recorded client made it.
func (p *apiPlayer) call(method, path, body, contentType string) (a apiAnswer, err error) {
	request, err := http.NewRequest(method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		request.Header.Set("Content-Type", cmp.Or(contentType, "application/json"))
	}
	response, err := p.server.Client().Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a = apiAnswer{Status: response.StatusCode, Headers: map[string]string{}, Body: string(text)}
	for _, name := range []string{"Content-Type", "Location", "Retry-After"} {
		if v := response.Header.Get(name); v != "" {
			a.Headers[name] = v
		}
	}
	return a, err
}

// here returns a recorded path with the names that are used here.
func (p *apiPlayer) here(path string) string {
	if at := strings.Index(path, "//"); at >= 0 && strings.HasPrefix(path, "http") {
		path = path[at+2+strings.Index(path[at+2:], "/"):]
	}
	for recorded, ours := range p.ids {
		path = strings.ReplaceAll(path, recorded, ours)
	}
	hub := apiHub
	if strings.Contains(path, "taskHub="+p.hub) && p.hub != apiHub {
		hub = "ProtoA20"
	}
	return strings.ReplaceAll(path, "taskHub="+p.hub, "taskHub="+hub)
}

// play makes a call and compares the answers. It repeats a read until the instance is in the recorded state.
func (p *apiPlayer) play(t *testing.T, where string, l apiLine) {
	t.Helper()
	if !strings.Contains(l.Request.Path, "code=") {
		return // this call is about a missing key, and the local host needs no key
	}
	p.compared++
	contentType := ""
	if strings.Contains(l.Note, "another content type") {
		contentType = "text/plain"
	}
	if strings.Contains(l.Request.Path, "/rewind") {
		p.rewound[strings.Split(l.Request.Path, "/")[5]] = true
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := p.call(l.Request.Method, p.here(l.Request.Path), l.Request.Body, contentType)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		differences := p.compare(l, got)
		if len(differences) > 0 && l.Request.Method == http.MethodGet && time.Now().Before(deadline) {
			continue
		}
		for _, d := range differences {
			t.Errorf("%s: %s", where, d)
		}
		if l.Request.Method == http.MethodPost && strings.Contains(l.Request.Path, "/orchestrators/") {
			p.untilItRuns(t, got)
		}
		return
	}
}

// untilItRuns waits for a new instance's first turn, as the recorded client did.
func (p *apiPlayer) untilItRuns(t *testing.T, a apiAnswer) {
	t.Helper()
	var started struct{ ID string }
	if json.Unmarshal([]byte(a.Body), &started) != nil || started.ID == "" {
		return
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		shown, err := p.call("GET", "/runtime/webhooks/durabletask/instances/"+started.ID, "", "")
		if err != nil || !strings.Contains(shown.Body, `"Pending"`) {
			return
		}
	}
}

func (p *apiPlayer) compare(l apiLine, got apiAnswer) (differences []string) {
	differ := func(what string, got, want any) {
		differences = append(differences, fmt.Sprintf("%s\n%v, recorded is\n%v", what, got, want))
	}
	want := l.Response
	if got.Status != want.Status {
		differ("the status is", got.Status, want.Status)
		return differences
	}
	p.learn(got.Body, want.Body)
	headers := maps.Clone(want.Headers)
	maps.DeleteFunc(headers, func(name, _ string) bool {
		return !slices.Contains([]string{"Content-Type", "Location", "Retry-After"}, name)
	})
	for name := range headers {
		headers[name] = p.plain(headers[name])
	}
	for name := range got.Headers {
		got.Headers[name] = p.plain(got.Headers[name])
	}
	if !maps.Equal(got.Headers, headers) {
		differ("the headers are", got.Headers, headers)
	}
	switch {
	case strings.HasPrefix(want.Body, "["):
		if g, w := p.listed(got.Body), p.listed(want.Body); g != w && !strings.Contains(l.Request.Path, "top=") {
			differ("the list is", g, w)
		}
	case strings.HasPrefix(want.Body, `{"instancesDeleted":`) && !strings.Contains(want.Body, ":1}"): // of other recordings too
	default:
		if g, w := p.plain(got.Body), p.plain(want.Body); g != w {
			differ("the body is", g, w)
		}
	}
	return differences
}

// learn remembers the id that a new instance has here.
func (p *apiPlayer) learn(got, want string) {
	var g, w struct{ ID string }
	if json.Unmarshal([]byte(got), &g) == nil && json.Unmarshal([]byte(want), &w) == nil && w.ID != "" {
		p.started[w.ID] = true
		if g.ID != w.ID {
			p.ids[w.ID] = g.ID
		}
	}
}

// listed returns, ordered by id, those instances of a list that this recording has started with an id that it chose.
func (p *apiPlayer) listed(body string) string {
	var list []json.RawMessage
	_ = json.Unmarshal([]byte(body), &list)
	var shown []string
	for _, i := range list {
		var instance struct{ InstanceID, Output any }
		_ = json.Unmarshal(i, &instance)
		if id := instance.InstanceID.(string); p.started[id] && p.ids[id] == "" && !p.rewound[id] {
			shown = append(shown, p.plain(string(i)))
		}
	}
	slices.Sort(shown)
	return strings.Join(shown, "\n")
}

var apiNoise = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?`), "TIME"},
	{regexp.MustCompile(`"StackTrace":("(\\.|[^"\\])*"|null)`), `"StackTrace"`},
	{regexp.MustCompile(`http://(127\.0\.0\.1|localhost):\d+`), "http://HOST"},
	{regexp.MustCompile(`taskHub=\w+`), "taskHub=HUB"},
	{regexp.MustCompile(`"customStatus":("?"|null)`), `"customStatus":none`}, // the recorded app sent an empty one
	{regexp.MustCompile(`"Generation":\d`), `"Generation":N`},
}

// plain removes times, ports and everything else that differs each time. The two activities of the recorded fan-out may end in
// either order.
func (p *apiPlayer) plain(text string) string {
	for recorded, ours := range p.ids {
		text = strings.ReplaceAll(text, recorded, ours)
	}
	for _, n := range apiNoise {
		text = n.pattern.ReplaceAllString(text, n.replacement)
	}
	return strings.ReplaceAll(text, `"RecordId":"1"`, `"RecordId":"0"`)
}

// TestHTTPAPIComparison changes one thing at a time in a recorded answer: each change must be found.
func TestHTTPAPIComparison(t *testing.T) {
	t.Parallel()
	p := &apiPlayer{ids: map[string]string{}, started: map[string]bool{"h-ev": true}, rewound: map[string]bool{}, hub: apiHub}
	var status apiLine
	for _, file := range readRecordings(t) {
		for _, l := range apiLines(file) {
			if l.Note == "status, running" {
				status = l
			}
		}
	}
	if status.Response.Status == 0 && *recordings != ownRecordings {
		t.Skip("no recording has the status of a running instance")
	}
	if d := p.compare(status, status.Response); status.Response.Status == 0 || hasBodyDifference(d) {
		t.Fatalf("unchanged, it differs: %q", d)
	}
	for name, change := range map[string]func(*apiAnswer){
		"status":      func(a *apiAnswer) { a.Status = 200 },
		"location":    func(a *apiAnswer) { a.Headers["Location"] += "x" },
		"retry":       func(a *apiAnswer) { a.Headers["Retry-After"] = "6" },
		"null":        func(a *apiAnswer) { a.Body = strings.Replace(a.Body, `"output":null,`, ``, 1) },
		"spelling":    func(a *apiAnswer) { a.Body = strings.Replace(a.Body, `createdTime`, `createdtime`, 1) },
		"order":       func(a *apiAnswer) { a.Body = strings.Replace(a.Body, `"name":"Orch",`, ``, 1) + `"name":"Orch",` },
		"input":       func(a *apiAnswer) { a.Body = strings.Replace(a.Body, `event`, `events`, 1) },
		"time's kind": func(a *apiAnswer) { a.Body = strings.Replace(a.Body, `Z"`, `"`, 1) },
	} {
		changed := status.Response
		changed.Headers = maps.Clone(changed.Headers)
		change(&changed)
		if len(p.compare(status, changed)) == 0 {
			t.Errorf("%s: the change was not found", name)
		}
	}
}

// hasBodyDifference ignores the headers that a recording has and that call does not read.
func hasBodyDifference(differences []string) bool {
	return slices.ContainsFunc(differences, func(d string) bool { return !strings.HasPrefix(d, "the headers") })
}
