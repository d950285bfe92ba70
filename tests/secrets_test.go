package tests

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// Every secret in these tests contains this word, which must then appear nowhere.
const planted = "planted"

var secrets = []string{
	"SendGridKey=SG.planted-mail-key",
	"CRM_TOKEN=planted-crm-token",
	"MyServiceBusConnection=Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=planted+sas/key==",
	"AlertEmailTo=ops@example.com",
	"HANDLER_LOG_LEVEL=debug",
}

// hidden fails the test if a text shows a secret.
func hidden(t *testing.T, where, text string) {
	t.Helper()
	if i := strings.Index(text, planted); i >= 0 {
		t.Errorf("%s shows a secret: …%q…", where, text[max(0, i-200):min(len(text), i+100)])
	}
}

// hiddenInFiles fails the test if a file below a directory shows a secret.
func hiddenInFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		hidden(t, path, string(text))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// repeats answers with a status and with the secrets that it was sent, as careless servers do.
func repeats(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Authorization", r.Header.Get("Authorization"))
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"message":"no good: %s","errors":[{"message":"Authorization: %s"}]}`, r.Header.Get("Authorization"), r.Header.Get("Authorization"))
	}
}

// repeatsBadly answers with the secrets in place of an HTTP status line.
func repeatsBadly(w http.ResponseWriter, r *http.Request) {
	testkit.Sends("HTTP/1.1 "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+"\r\n\r\n")(w, r)
}

func redirects(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/elsewhere?token="+r.Header.Get("Authorization"), http.StatusFound)
}

// TestSecretsOfCommands lets the commands succeed, and fail in every way that is cheap to reach, and searches for secrets in all
// that they print and keep.
func TestSecretsOfCommands(t *testing.T) {
	t.Parallel()
	refuseB := testkit.Always("/records/b/", testkit.Status(422)) // so that a mail is sent
	badly := map[string]http.HandlerFunc{"a": repeats(401), "b": repeats(500), "c": repeatsBadly, "d": redirects}
	failsRecords := func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasPrefix(r.URL.Path, "/batches/") {
			fmt.Fprint(w, `{"RecordIds":["a","b","c","d"]}`)
			return true
		}
		badly[testkit.RecordOf(r)](w, r)
		return true
	}
	for name, c := range map[string]struct {
		crm      testkit.Fault
		sendGrid http.HandlerFunc
		env      []string
		code     int
	}{
		"success":                     {crm: refuseB, sendGrid: testkit.Status(202), code: 0},
		"SendGrid says 401":           {crm: refuseB, sendGrid: repeats(401), code: 0},
		"SendGrid says 500":           {crm: refuseB, sendGrid: repeats(500), code: 0},
		"SendGrid redirects":          {crm: refuseB, sendGrid: redirects, code: 0},
		"SendGrid says nonsense":      {crm: refuseB, sendGrid: repeatsBadly, code: 0},
		"SendGrid hangs up":           {crm: refuseB, sendGrid: testkit.Sends(""), code: 0},
		"SendGrid is not there":       {crm: refuseB, env: []string{"SENDGRID_BASE_URL=http://user:planted@127.0.0.1:1"}, code: 0},
		"SendGrid's URL is malformed": {crm: refuseB, env: []string{"SENDGRID_BASE_URL=planted:\x7f//"}, code: 0},
		"SendGrid's URL is open":      {crm: refuseB, env: []string{"SENDGRID_BASE_URL=http://user:planted@mail.example.com"}, code: 0},
		"SendGrid's key is malformed": {crm: refuseB, sendGrid: testkit.Status(202), env: []string{"SendGridKey=planted\nkey"}, code: 2},
		"records fail":                {crm: failsRecords, sendGrid: repeats(401), code: 0},
		"batch refused":               {crm: testkit.Always("/batches/", repeats(401)), code: 2},
		"batch fails":                 {crm: testkit.Always("/batches/", repeats(503)), code: 2},
		"batch redirected":            {crm: testkit.Always("/batches/", redirects), code: 2},
		"batch, nonsense":             {crm: testkit.Always("/batches/", repeatsBadly), code: 2},
		"batch, other JSON":           {crm: testkit.Always("/batches/", repeats(200)), code: 2},
		"CRM is not there":            {env: []string{"CRM_BASE_URL=http://127.0.0.1:1"}, code: 2},
		"CRM's URL has a password":    {env: []string{"CRM_BASE_URL=https://user:planted@crm.example.com"}, code: 2},
		"CRM's URL has a query":       {env: []string{"CRM_BASE_URL=https://crm.example.com?key=planted"}, code: 2},
		"CRM's URL is malformed":      {env: []string{"CRM_BASE_URL=https://user:planted@crm.example.com:port"}, code: 2},
		"CRM's token is malformed":    {env: []string{"CRM_TOKEN=planted\ntoken"}, code: 2},
		"a setting is wrong":          {env: []string{"MAIL_ATTEMPTS=many"}, code: 2},
		"host.json is overridden":     {env: []string{"AzureFunctionsJobHost__functionTimeout=soon"}, code: 2},
		"the message is too large":    {env: []string{"MESSAGE_MAX_BYTES=3"}, code: 2},
		"the import is not for CRM":   {code: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm, data := testkit.StartCRM(t, c.crm), t.TempDir()
			env := append([]string{"CRM_BASE_URL=" + crm.URL, "MAIL_RETRY_INTERVAL=10ms"}, secrets...)
			if c.sendGrid != nil {
				server := httptest.NewServer(c.sendGrid)
				t.Cleanup(server.Close)
				env = append(env, "SENDGRID_BASE_URL="+server.URL)
			}
			env = append(env, c.env...)
			args := []string{"process", "--data", data, "-"}
			if strings.HasPrefix(name, "the import") {
				args[0] = "import"
			}
			r := run(t, env, `{"Batch":"x"}`, args...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d: %s %s", r.code, c.code, r.stdout, r.stderr)
			}
			hidden(t, "stdout", r.stdout)
			hidden(t, "stderr", r.stderr)
			hiddenInFiles(t, data)
		})
	}
}

// A settings file is full of secrets: an error names the place of a mistake and does not quote it.
func TestSecretsOfLocalSettings(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"not JSON":       `{"Values":{"SendGridKey": planted}}`,
		"cut off":        `{"Values":{"SendGridKey": "planted`,
		"no object":      `"planted"`,
		"no values":      `{"Values":"planted"}`,
		"no text":        `{"Values":{"SendGridKey":["planted"]}}`,
		"no environment": `{"Values":{"SendGridKey":"planted\u0000"}}`,
		"no name":        `{"Values":{"":"planted"}}`,
		"encrypted":      `{"IsEncrypted":true,"Values":{"SendGridKey":"planted"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			testkit.WriteFile(t, filepath.Join(dir, "local.settings.json"), text)
			cmd := command(t.Context(), nil, "process", "-")
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(`{"RecordIds":[1]}`)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "local.settings.json") {
				t.Errorf("%v, %s", err, out)
			}
			hidden(t, "the output", string(out))
		})
	}
}

// TestSecretsOfStart searches for secrets in all that start prints, answers and keeps, while it runs and afterwards.
func TestSecretsOfStart(t *testing.T) {
	t.Parallel()
	sendGrid := httptest.NewServer(repeats(401))
	t.Cleanup(sendGrid.Close)
	crm := testkit.StartCRM(t, func(w http.ResponseWriter, r *http.Request, n int) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/batches/") && n == 1:
			repeats(401)(w, r) // so that the first delivery of the message fails
		case strings.HasPrefix(r.URL.Path, "/records/b/"):
			repeats(400)(w, r)
		default:
			return false
		}
		return true
	})
	data := t.TempDir()
	s := startLocal(t, data, append([]string{"CRM_BASE_URL=" + crm.URL, "SENDGRID_BASE_URL=" + sendGrid.URL, "MAIL_RETRY_INTERVAL=10ms"}, secrets...)...)
	for _, path := range []string{"/", "/admin/functions/MyClientFunction", "/admin/functions/Nope", "/admin/host/status"} {
		for _, body := range []string{`{"input":"{\"Batch\":\"x\"}"}`, `nonsense`} {
			res, err := http.Post(s.URL+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			hidden(t, path, fmt.Sprint(res.Status, res.Header, string(text)))
		}
	}
	s.waitFor(t, "a message was not taken")
	s.waitFor(t, "completed: 3 records, 2 succeeded, 1 failed, mail failed")
	hidden(t, "the output", s.out.String())
	hiddenInFiles(t, data)
}

// TestSecretsOfHandler searches for secrets in all that the Functions host gets: answers, reason phrases, Logs and output.
func TestSecretsOfHandler(t *testing.T) {
	t.Parallel()
	badly := map[string]http.HandlerFunc{"refused": repeats(401), "failed": repeats(500), "nonsense": repeatsBadly, "redirected": redirects}
	crm := testkit.StartCRM(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		f := badly[testkit.RecordOf(r)] // by the batch or the record in the path
		if f != nil {
			f(w, r)
		}
		return f != nil
	})
	h, s := startHandler(t, append([]string{"CRM_BASE_URL=" + crm.URL}, secrets...)...), testkit.StartSidecar(t)
	see := func(function, body, want string) {
		t.Helper()
		r := h.Post(t, function, body)
		text := fmt.Sprintf("%d %s %s", r.Status, r.Phrase, r.Body)
		hidden(t, "the answer", text)
		if !strings.Contains(text, want) {
			t.Errorf("answer %s, want %q", text, want)
		}
	}
	message := func(address, text string) string {
		return strings.ReplaceAll(message(address, text, ""), "code=LOCALKEY", "code=planted-system-key")
	}
	record := func(id string) string {
		return `{"Data":{"input":` + testkit.Twice(`{"RecordId":"`+id+`","JobId":"j"}`) + `},"Metadata":{}}`
	}
	see("ProcessActivity", record("good"), `"Success":true`) // before the 401, after which every record fails
	var wg sync.WaitGroup
	for name := range badly {
		wg.Go(func() { see(clientFunction, message(s.Address, `{"Batch":"`+name+`"}`), "500") })
		wg.Go(func() { see("ProcessActivity", record(name), "crm at ") })
	}
	wg.Wait()
	see(clientFunction, message(s.Address, `nonsense`), "500")
	see(clientFunction, message("127.0.0.1:1", `{"Batch":"good"}`), "500")
	see(clientFunction, message(s.Address, `{"Batch":"good"}`), "200")

	start := s.Started()[0]
	hidden(t, "the orchestration's input", fmt.Sprint(decodeInput(t, start)))
	c := &testkit.Conversation{Name: "MyOrchestration", ID: start.ID, Input: start.Input}
	r, _ := c.Turn(t, h.Host)
	hidden(t, "the first turn", fmt.Sprintf("%s %s", r.Logs, r.ReturnValue))
	hidden(t, "the output", h.out.String())
}
