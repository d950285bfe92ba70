package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/internal/testkit"
)

const goodMail = `{"from":{"email":"from@example.com"},"subject":"Hello","personalizations":[{"to":[{"email":"to@example.com"}]}],"content":[{"type":"text/html","value":"<b>hi</b> ü"}],"custom_args":{"n":1}}`

// mailingApp is an app whose orchestration's input is its Outputs.
func mailingApp(t testing.TB) *testkit.App {
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) { return "mailed", nil })
	app.Outputs = func(input string) any { return json.RawMessage(input) }
	return app
}

func settings(values map[string]string) func(*Options) {
	return func(o *Options) { o.Settings = func(name string) string { return values[name] } }
}

func TestMailToFile(t *testing.T) {
	t.Parallel()
	h := open(t, mailingApp(t))
	expect(t, run(t, h, "one", `{"mail":`+goodMail+`,"no binding":1,"other":null}`), api.RUNTIME_STATUS_COMPLETED, "mailed")
	mails, err := h.Mails(t.Context(), "one")
	if err != nil || len(mails) != 1 {
		t.Fatalf("mails %+v, %v", mails, err)
	}
	m := mails[0]
	if m.InstanceID != "one" || m.To[0] != "to@example.com" || m.Subject != "Hello" || m.Failed || m.Path != filepath.Join(h.dataDir, "mails", "one.json") {
		t.Errorf("got %+v", m)
	}
	sameJSON(t, readFile(t, m.Path), goodMail)

	run(t, h, "two", `{"mail":[`+goodMail+`,null,`+goodMail+`]}`)
	if mails, err := h.Mails(t.Context(), "two"); err != nil || len(mails) != 2 || mails[0].Path == mails[1].Path {
		t.Errorf("mails %+v, %v", mails, err)
	}
}

// TestMailsOfOneID: an instance that is started again, or after its purge, does not touch the mail of its predecessor.
func TestMailsOfOneID(t *testing.T) {
	t.Parallel()
	h := open(t, mailingApp(t))
	paths := map[string]bool{}
	for n := range 3 {
		run(t, h, "one", `{"mail":[`+strings.Replace(goodMail, "Hello", fmt.Sprint("Hello ", n), 1)+`,`+goodMail+`]}`)
		mails, err := h.Mails(t.Context(), "one")
		if err != nil || len(mails) != 2 {
			t.Fatalf("mails %+v, %v", mails, err)
		}
		for _, m := range mails {
			paths[m.Path] = true
		}
		if n == 1 {
			if err := h.hub.PurgeOrchestrationState(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(paths) != 6 {
		t.Errorf("six mails are in %v", paths)
	}
	if first := readFile(t, filepath.Join(h.dataDir, "mails", "one.json")); !strings.Contains(first, "Hello 0") {
		t.Errorf("the first mail was overwritten: %s", first)
	}
}

// TestMailAfterCrash: a turn that runs again after its mail was written makes no second mail.
func TestMailAfterCrash(t *testing.T) {
	t.Parallel()
	h := open(t, mailingApp(t))
	from := output.Source{Function: h.app.Functions["Orch"], Instance: "crashed", Execution: "e", Turn: 2}
	answer := &funchost.Answer{Outputs: map[string]json.RawMessage{"mail": json.RawMessage(goodMail)}}
	for range 2 {
		if err := h.invoker.SendOutputs(t.Context(), from, answer); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(filepath.Join(h.dataDir, "mails"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func sameJSON(t testing.TB, got, want string) {
	t.Helper()
	var gotValue, wantValue any
	if err := errors.Join(json.Unmarshal([]byte(got), &gotValue), json.Unmarshal([]byte(want), &wantValue)); err != nil || !reflect.DeepEqual(gotValue, wantValue) {
		t.Errorf("got %s, want %s, %v", got, want, err)
	}
}

func TestSendGrid(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	received := make(chan string, 10)
	sendGrid := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v3/mail/send" || r.Header.Get("Authorization") != "Bearer made-up-key" {
			t.Errorf("got %s with %s", r.URL.Path, r.Header.Get("Authorization"))
		}
		received <- string(content)
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, `{"errors":[{"message":"made-up-key is not accepted"}]}`)
	}))
	defer sendGrid.Close()
	h := open(t, mailingApp(t), settings(map[string]string{"Key": "made-up-key", "SENDGRID_BASE_URL": sendGrid.URL}))

	status.Store(http.StatusAccepted)
	expect(t, run(t, h, "sent", `{"mail":`+goodMail+`}`), api.RUNTIME_STATUS_COMPLETED, "mailed")
	sameJSON(t, <-received, goodMail)
	if mails, err := h.Mails(t.Context(), "sent"); err != nil || len(mails) != 1 || mails[0].Path != "" || mails[0].Failed {
		t.Errorf("mails %+v, %v", mails, err)
	}

	// A turn that runs again after its mail was sent sends no second one.
	from := output.Source{Function: h.app.Functions["Orch"], Instance: "crashed", Execution: "e", Turn: 2}
	for range 2 {
		if err := h.invoker.SendOutputs(t.Context(), from, &funchost.Answer{Outputs: map[string]json.RawMessage{"mail": json.RawMessage(goodMail)}}); err != nil {
			t.Error(err)
		}
	}
	<-received

	for _, code := range []int{400, 401, 413, 429, 500, 503, 200} {
		status.Store(int64(code))
		id := "refused-" + http.StatusText(code)
		i := run(t, h, id, `{"mail":`+goodMail+`}`)
		expect(t, i, api.RUNTIME_STATUS_FAILED, "Error while handling parameter mail after function returned")
		expect(t, i, api.RUNTIME_STATUS_FAILED, http.StatusText(code))
		mails, err := h.Mails(t.Context(), id)
		if err != nil || len(mails) != 1 || !mails[0].Failed || !strings.Contains(mails[0].Reason, http.StatusText(code)) {
			t.Fatalf("mails %+v, %v", mails, err)
		}
		if kept := readFile(t, mails[0].Path); !strings.Contains(kept, "to@example.com") || strings.Contains(kept+i.Output+mails[0].Reason, "made-up-key") {
			t.Errorf("kept %s, output %s", kept, i.Output)
		}
		<-received
	}
	if len(received) != 0 {
		t.Error("a mail was sent twice")
	}
}

// TestSendGridRedirects: the key goes only to the address that is configured.
func TestSendGridRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was followed, with %q", r.Method, r.URL, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer elsewhere.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		sendGrid := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/v3/mail/send", code))
		h := open(t, mailingApp(t), settings(map[string]string{"Key": "made-up-key", "SENDGRID_BASE_URL": sendGrid.URL}))
		expect(t, run(t, h, "redirected", `{"mail":`+goodMail+`}`), api.RUNTIME_STATUS_FAILED, http.StatusText(code))
		sendGrid.Close()
	}
}

func TestBadMails(t *testing.T) {
	t.Parallel()
	h := open(t, mailingApp(t))
	for mail, want := range map[string]string{
		`{"from":{"email":"a@example.com"}}`:                        "A 'To' address must be specified for the message.",
		`{"personalizations":[{"to":[{"email":"a@example.com"}]}]}`: "A 'From' address must be specified for the message.",
		`"no mail"`:                "no SendGrid v3 mail",
		`{"personalizations":"x"}`: "no SendGrid v3 mail",
		`{"from":{"email":"a@example.com"},"personalizations":[null]}`: "A 'To' address",
	} {
		expect(t, run(t, h, idOf("bad", mail), `{"mail":`+mail+`}`), api.RUNTIME_STATUS_FAILED, want)
	}
}

// TestOutputToFile: an output of a type that this host does not know becomes a file with the content of the output.
func TestOutputToFile(t *testing.T) {
	t.Parallel()
	h := open(t, mailingApp(t))
	for output, want := range map[string][]string{
		`"aGVsbG8="`:         {"hello"},
		`"no base64."`:       {"no base64."},
		`{"a":[1]}`:          {"{\n  \"a\": [\n    1\n  ]\n}"},
		`["one","two",null]`: {"one", "two", ""},
		`null`:               nil,
	} {
		before := len(outputFiles(t, h))
		expect(t, run(t, h, idOf("out", output), `{"other":`+output+`}`), api.RUNTIME_STATUS_COMPLETED, "mailed")
		files := outputFiles(t, h)
		if len(files)-before != len(want) {
			t.Errorf("%s: %d files", output, len(files)-before)
		}
		for _, content := range want {
			if !strings.Contains("\x00"+strings.Join(files, "\x00")+"\x00", "\x00"+content+"\x00") {
				t.Errorf("%s: no file holds %q", output, content)
			}
		}
	}
}

func outputFiles(t testing.TB, h *Host) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(h.dataDir, "outputs", "Orch.other", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var contents []string
	for _, path := range paths {
		contents = append(contents, readFile(t, path))
	}
	return contents
}

// TestFailedOutputOfChild: the parent gets the failure of a child whose mail failed, without details, and continues.
func TestFailedOutputOfChild(t *testing.T) {
	t.Parallel()
	app := testkit.NewApp(t).Orchestrator(func(ctx *task.OrchestrationContext) (any, error) {
		var input map[string]any
		if err := ctx.GetInput(&input); err != nil {
			return nil, err
		}
		if input["mail"] != nil {
			return "mailed", nil
		}
		child := func(id string, mail any) error {
			return ctx.CallSubOrchestrator("Orch", task.WithSubOrchestrationInstanceID(id), task.WithSubOrchestratorInput(map[string]any{"mail": mail})).Await(nil)
		}
		if err := child("bad-child", "no mail"); err != nil {
			return nil, err
		}
		return "went on", child("good-child", json.RawMessage(goodMail))
	})
	app.Outputs = func(input string) any { return json.RawMessage(input) }
	h := open(t, app)
	expect(t, run(t, h, "parent", `{}`), api.RUNTIME_STATUS_COMPLETED, "went on")
	expect(t, wait(t, h, "bad-child"), api.RUNTIME_STATUS_FAILED, "no SendGrid v3 mail")
	var failures int
	for _, r := range app.Seen("Orch") {
		for _, e := range decodeTurn(t, r).New {
			if failure := e.GetSubOrchestrationInstanceFailed(); failure != nil {
				failures++
				if failure.GetFailureDetails() != nil {
					t.Errorf("details %v", failure.GetFailureDetails())
				}
			}
		}
	}
	if failures != 1 {
		t.Errorf("%d failures", failures)
	}
	if mails, err := h.Mails(t.Context(), "parent"); err != nil || len(mails) != 1 || filepath.Base(mails[0].Path) != "good-child.json" {
		t.Errorf("the root's mails: %+v, %v", mails, err)
	}
}

// TestOutputsStay: the files of an instance are in the data directory, whatever its id is.
func TestOutputsStay(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "a", "b")
	h := open(t, mailingApp(t), func(o *Options) { o.DataDir = data })
	for _, id := range []string{"../../evil", "/evil", `..\evil`, "C:evil", "mail/../../../evil"} {
		run(t, h, id, `{"mail":`+goodMail+`,"other":"x"}`)
	}
	for folder, want := range map[string]int{filepath.Join(data, "mails"): 5, filepath.Join(data, "outputs", "Orch.other"): 5, filepath.Dir(data): 1, filepath.Dir(filepath.Dir(data)): 1} {
		if files, err := os.ReadDir(folder); err != nil || len(files) != want {
			t.Errorf("%s holds %v, %v", folder, files, err)
		}
	}
}
