package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
	"example.com/durablefunctions/tests/conformance/labapp/functions"
)

// TestLocalHost delivers the recorded messages to the local host in the recorded order. Before each it waits until the instances
// are in the state in which they were recorded. The conversation must have the same meaning as the recorded one.
func TestLocalHost(t *testing.T) {
	played := 0
	for _, file := range readRecordings(t) {
		if !file.isConversation() {
			continue
		}
		played++
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(file.name, "lifecycle") && testing.Short() {
				t.Skip("waits half a minute for a timer")
			}
			recorded := file.conversation(t)
			h := openLocalHost(t, plain)
			for i, r := range recorded {
				if r.Function == "QueueStart" && !afterRewind(r) {
					h.settle(t, recorded[:i])
					h.command(t, r)
				}
			}
			h.settle(t, recorded)
			h.compareActivities(t, recorded)
			h.compareExecutions(t, recorded)
			h.compareEnds(t, recorded)
		})
	}
	if played < 3 && *recordings == ownRecordings {
		t.Errorf("%d conversations were played", played)
	}
}

// isConversation says whether the file is a whole conversation of extension 3.19 with the lab app, in which each orchestration
// was started by a message. An older extension answers differently in places.
func (f recording) isConversation() bool {
	if f.isScripted() {
		return false
	}
	started, newest := map[string]bool{}, false
	for _, line := range f.lines {
		r, ok, err := readRecord(line)
		if err != nil || !ok {
			return false
		}
		switch r.Function {
		case "QueueStart":
			id, _, _ := strings.Cut(r.Note, " err=")
			started[id] = true
			newest = newest || strings.Contains(r.Request, "useForwardedHost")
		case "Orch":
			root, _, _ := strings.Cut(r.instance(), ":")
			if !started[root] && root == r.instance() {
				return false
			}
		}
	}
	return newest
}

// TestLocalHostValues runs the lab app without changes to its answers: values that the host alters must arrive as they were sent.
func TestLocalHostValues(t *testing.T) {
	t.Parallel()
	h := openLocalHost(t, func(next http.Handler) http.Handler { return next })
	for _, r := range readConversation(t, "3.19/lab-values") {
		if r.Function != "QueueStart" {
			continue
		}
		h.command(t, r)
		p, err := planOf(r)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := h.host.Wait(t.Context(), p.id)
		if err != nil {
			t.Fatal(err)
		}
		var input struct {
			Mode string
			Vals json.RawMessage
		}
		if err := json.Unmarshal([]byte(p.want["input"]), &input); err != nil {
			t.Fatal(err)
		}
		if input.Mode != "echo" {
			continue
		}
		if got, want := jsonText(instance.Output, nil), jsonText(string(input.Vals), nil); got != want {
			t.Errorf("%s: the values came back as\n%s, sent were\n%s", p.id, got, want)
		}
	}
}

// readConversation reads one of the recordings in testdata.
func readConversation(t *testing.T, file string) []record {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(ownRecordings, file+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return recording{file, bytes.Split(bytes.TrimSpace(content), []byte("\n"))}.conversation(t)
}

// conversation returns the lines that the local host can play.
func (f recording) conversation(t *testing.T) (records []record) {
	t.Helper()
	for _, line := range f.lines {
		r, ok, err := readRecord(line)
		if !ok || err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		if r.Function == "Orch" && !isRewound(t, r) || r.Function != "Orch" && r.Function != "" {
			records = append(records, r)
		}
	}
	return records
}

// isRewound says whether the turn belongs to a rewound orchestration. TestLocalHost does not play these.
func isRewound(t *testing.T, r record) bool {
	turn, err := testkit.DecodeTurn(r.Request)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range turn.History() {
		if e.GetGenericEvent() != nil {
			return true
		}
	}
	return false
}

func afterRewind(r record) bool { return strings.Contains(r.Note, "genericEvent") }

// localHost is a local host with the lab app. It keeps their conversation.
type localHost struct {
	host *local.Host
	ids  map[string]string // our random ids, by the recorded ones

	mu    sync.Mutex
	talks []record
}

// openLocalHost opens a local host on the lab app. wrap may change the app's answers.
func openLocalHost(t *testing.T, wrap func(http.Handler) http.Handler) *localHost {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("labapp")); err != nil {
		t.Fatal(err)
	}
	trigger := filepath.Join(root, "QueueStart", "function.json")
	bindings, err := os.ReadFile(trigger)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trigger, bytes.Replace(bindings, []byte("queueTrigger"), []byte("serviceBusTrigger"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := functions.App().Handler(handler.Options{Root: root, Environ: []string{}, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	h := &localHost{ids: map[string]string{}}
	h.host, err = local.Open(t.Context(), local.Options{
		Root: root, DataDir: t.TempDir(), Handler: h.listen(wrap(app)),
		Environ: []string{"AzureFunctionsJobHost__extensions__durableTask__hubName=LabHubA"}, // as in the recordings
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.host.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// listen keeps the conversation.
func (h *localHost) listen(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a request that broke off shows when it is decoded
		r.Body = io.NopCloser(bytes.NewReader(body))
		header := r.Header.Clone()
		header["Transfer-Encoding"] = r.TransferEncoding
		answer := &held{ResponseWriter: w}
		next.ServeHTTP(answer, r)
		h.mu.Lock()
		h.talks = append(h.talks, record{
			Function: strings.TrimPrefix(r.URL.Path, "/"), Headers: header,
			Request: string(body), Response: answer.body.String(),
		})
		h.mu.Unlock()
		if answer.body.Len() > 0 { // otherwise the app may have answered on a connection that it took over
			_, _ = w.Write(answer.body.Bytes())
		}
	})
}

// conversation returns the conversation so far.
func (h *localHost) conversation() []record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.talks)
}

// plain makes the app answer as the recorded one did, without markers around values and phrases.
func plain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var request struct{ Data map[string]json.RawMessage }
		_ = json.Unmarshal(body, &request)
		input := testkit.Text(request.Data["input"])
		switch r.URL.Path {
		case "/Echo":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"Outputs":null,"Logs":null,"ReturnValue":%s}`, input)
		case "/Fail":
			var phrase string
			_ = json.Unmarshal([]byte(input), &phrase)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 500 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", phrase)
		case "/Orch":
			answer := &held{ResponseWriter: w}
			next.ServeHTTP(answer, r)
			_, _ = w.Write(unmarkInputs(answer.body.Bytes()))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// held keeps the body of an answer and does not send it.
type held struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }

// Unwrap gives http.ResponseController the connection.
func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }

var note = regexp.MustCompile(`msg=outcome note=(".*")$`)

// command delivers the record's message, and compares the request that the app gets and the outcome that it logs.
func (h *localHost) command(t *testing.T, r record) {
	t.Helper()
	var request struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(r.Request), &request); err != nil {
		t.Fatal(err)
	}
	message := local.Message{ID: "m-1", Body: []byte(testkit.Text(request.Data["item"])), DeliveryCount: 1, EnqueuedAt: time.Now()}
	if _, err := h.host.Deliver(t.Context(), "QueueStart", message); err != nil {
		t.Fatalf("%s: %v", message.Body, err)
	}
	var ours record
	for _, talk := range h.conversation() {
		if talk.Function == "QueueStart" {
			ours = talk
		}
	}
	for _, d := range compareTriggers(ours, r) {
		t.Errorf("%s: %s", message.Body, d)
	}
	var answer struct{ Logs []string }
	if err := json.Unmarshal([]byte(ours.Response), &answer); err != nil || len(answer.Logs) != 1 {
		t.Fatalf("%s: answer %s", message.Body, ours.Response)
	}
	seen, err := strconv.Unquote(append(note.FindStringSubmatch(answer.Logs[0]), "", "")[1])
	if err != nil {
		t.Fatalf("%s: log %s", message.Body, answer.Logs[0])
	}
	h.compareNotes(t, r, seen)
}

// compareNotes compares the outcome that the app saw: results exactly except for times, and of errors the host's part.
func (h *localHost) compareNotes(t *testing.T, r record, seen string) {
	t.Helper()
	p, err := planOf(r)
	if err != nil {
		t.Fatal(err)
	}
	ours, ourErr, _ := strings.Cut(seen, " err=")
	want, wantErr, _ := strings.Cut(r.Note, " err=")
	if p.method == "StartInstance" && p.want["instanceId"] == "" {
		h.ids[want], want = ours, ours
	}
	if ours, want := withoutTimes(ours), withoutTimes(want); ours != want && p.err == nil {
		t.Errorf("the client saw %q, recorded is %q", ours, want)
	}
	wanted := rpcError.FindString(strings.TrimPrefix(wantErr, failed[p.method]))
	switch {
	case wantErr == "<nil>":
		if ourErr != wantErr {
			t.Errorf("the client saw the error %s, recorded is none: %s", ourErr, r.Note)
		}
	case strings.Contains(wanted, "code = Unknown"): // our client asks for the state to say why
		if ourErr == "<nil>" {
			t.Errorf("the client saw no error, recorded is %s", wantErr)
		}
	case !strings.Contains(ourErr, cmp.Or(wanted, wantErr)):
		t.Errorf("the client saw the error %s, recorded is %s", ourErr, wantErr)
	}
}

var times = regexp.MustCompile(`(CreatedAt|LastUpdatedAt):.* UTC `)

func withoutTimes(note string) string { return times.ReplaceAllString(note, "$1 ") }

var (
	sysValues    = regexp.MustCompile(`"UtcNow":"[^"]*Z","RandGuid":"[0-9a-f-]{36}"`)
	clientValues = regexp.MustCompile(`((?:requiredQueryStringParameters|rpcBaseUrl|httpBaseUrl)\\*":\\*")[^\\"]*`)
	base64Text   = regexp.MustCompile(`"context":"\\"[A-Za-z0-9+/]+=*\\""`)
)

// shape is a request without the values that differ each time.
func shape(request string) string {
	request = sysValues.ReplaceAllString(request, "TIME AND GUID")
	return base64Text.ReplaceAllString(request, "TURN")
}

// compareTriggers compares two requests for QueueStart: Data byte for byte, and in Metadata what the message put in place of the
// queue's own values.
func compareTriggers(ours, recorded record) (differences []string) {
	var got, want struct {
		Data     json.RawMessage
		Metadata map[string]json.RawMessage
	}
	if json.Unmarshal([]byte(ours.Request), &got) != nil || json.Unmarshal([]byte(recorded.Request), &want) != nil {
		return []string{"no invocation: " + ours.Request}
	}
	g, w := clientValues.ReplaceAll(got.Data, []byte("$1")), clientValues.ReplaceAll(want.Data, []byte("$1"))
	if !bytes.Equal(g, w) {
		differences = append(differences, fmt.Sprintf("Data is\n%s, recorded is\n%s", g, w))
	}
	for _, ofQueue := range []string{"DequeueCount", "ExpirationTime", "Id", "InsertionTime", "NextVisibleTime", "PopReceipt"} {
		if !strings.Contains(strings.ToLower(string(want.Data)), `\"`+strings.ToLower(ofQueue)+`\\\":`) {
			delete(want.Metadata, ofQueue)
		}
	}
	for name, w := range want.Metadata {
		g := json.RawMessage("nothing")
		for key, v := range got.Metadata {
			if strings.EqualFold(key, name) {
				g = v
			}
		}
		if shape(string(g)) != shape(string(w)) {
			differences = append(differences, fmt.Sprintf("Metadata's %s is %s, recorded is %s", name, g, w))
		}
	}
	return append(differences, compareHeaders(ours, recorded)...)
}

func compareHeaders(ours, recorded record) (differences []string) {
	for name, want := range recorded.Headers {
		got := ours.Headers[name]
		if name == "X-Azure-Functions-Invocationid" && len(got) == 1 && len(got[0]) == len(want[0]) {
			continue
		}
		if !slices.Equal(got, want) {
			differences = append(differences, fmt.Sprintf("header %s is %q, recorded is %q", name, got, want))
		}
	}
	if !slices.Equal(ours.Headers["Transfer-Encoding"], []string{"chunked"}) {
		differences = append(differences, "the body is not chunked")
	}
	return differences
}

// compareActivities compares the requests for activities byte for byte: those of one instance in order, those with a forged
// instance id in any order.
func (h *localHost) compareActivities(t *testing.T, recorded []record) {
	t.Helper()
	ours, want := activities(h.conversation()), activities(recorded)
	for instance := range want {
		if !slices.Equal(ours[instance], want[instance]) {
			t.Errorf("%s: activities got\n%s\nrecorded are\n%s", instance, strings.Join(ours[instance], "\n"), strings.Join(want[instance], "\n"))
		}
	}
	if len(ours) != len(want) {
		t.Errorf("activities of %d instances ran, recorded are %d", len(ours), len(want))
	}
	byFunction := map[string]record{}
	for _, r := range recorded {
		byFunction[r.Function] = r
	}
	for _, r := range h.conversation() {
		for _, d := range compareHeaders(r, byFunction[r.Function]) {
			t.Errorf("%s %s: %s", r.Function, r.instance(), d)
		}
	}
}

func activities(conversation []record) map[string][]string {
	byInstance := map[string][]string{}
	for _, r := range conversation {
		if r.Function == "Echo" || r.Function == "Fail" {
			byInstance[r.instance()] = append(byInstance[r.instance()], r.Function+" "+shape(r.Request))
		}
	}
	slices.Sort(byInstance["forged"])
	return byInstance
}

// settle waits until every instance is in the state in which the recorded conversation leaves it.
func (h *localHost) settle(t *testing.T, recorded []record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := executions(t, recorded, nil)
	for {
		missing := h.missing(ctx, executions(t, h.conversation(), nil), want)
		if missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after a minute there is still missing: %s", missing)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (h *localHost) missing(ctx context.Context, ours, want map[string][]execution) string {
	for id, executions := range want {
		id = cmp.Or(h.ids[id], id)
		last := executions[len(executions)-1]
		if n := len(executions); len(ours[id]) < n || len(ours[id][n-1].events) < len(last.events) {
			return fmt.Sprintf("events of %s: %q", id, last.events)
		}
		if last.completion() == "" {
			continue
		}
		if i, err := h.host.Instance(ctx, id); err == nil && (i.Status == api.RUNTIME_STATUS_RUNNING || i.Status == api.RUNTIME_STATUS_PENDING) {
			return "the end of " + id
		}
	}
	return ""
}

// compareEnds compares what the host says about each instance with the instance's last answer.
func (h *localHost) compareEnds(t *testing.T, recorded []record) {
	t.Helper()
	for id, all := range executions(t, recorded, nil) {
		here := cmp.Or(h.ids[id], id)
		last := all[len(all)-1]
		want := func(field string) string { return last.answer[last.completion()+field] }
		i, err := h.host.Instance(t.Context(), here)
		if errors.Is(err, api.ErrInstanceNotFound) && isPurged(recorded, id) {
			continue
		}
		if err != nil || i.Status.String() != want(".orchestrationStatus") {
			t.Errorf("%s is %v (%v), recorded is %s", here, i.Status, err, want(".orchestrationStatus"))
		}
		output := want(".result")
		if i.Status == api.RUNTIME_STATUS_FAILED {
			output = "text: " + want(".failureDetails.errorType") + ": " + want(".failureDetails.errorMessage")
		}
		if got := jsonText(i.Output, upToError); got != output && (i.Output != "" || output != "") {
			t.Errorf("%s has the output %s, recorded is %s", here, got, output)
		}
	}
	for _, r := range recorded {
		h.compareUnknown(t, r)
	}
}

func isPurged(recorded []record, id string) bool {
	return slices.ContainsFunc(recorded, func(r record) bool {
		p, err := planOf(r)
		return r.Function == "QueueStart" && err == nil && p.err == nil && p.method == "PurgeInstances" && p.id == id
	})
}

// compareUnknown checks that an orchestration without a function has failed with the host's message.
func (h *localHost) compareUnknown(t *testing.T, r record) {
	t.Helper()
	if r.Function != "QueueStart" {
		return
	}
	p, err := planOf(r)
	if err != nil || p.method != "StartInstance" || strings.EqualFold(p.want["name"], "Orch") {
		return
	}
	i, err := h.host.Wait(t.Context(), p.id)
	if err != nil || i.Status != api.RUNTIME_STATUS_FAILED ||
		!strings.Contains(i.Output, "'"+p.want["name"]+"' doesn't exist, is disabled, or is not an orchestrator function.") {
		t.Errorf("%s of the unknown orchestrator %s: %+v (%v)", p.id, p.want["name"], i, err)
	}
}
