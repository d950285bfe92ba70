package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// TestRecordThatKillsTheProcess: a record that kills process after process is given up after the fifth, and is in the result with
// the reason. The other records are processed.
func TestRecordThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	const deadly = "R-3"
	asked := make(chan struct{})
	crm := testkit.StartCRM(t, func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodGet || testkit.RecordOf(r) != deadly {
			return false
		}
		select {
		case asked <- struct{}{}:
		case <-r.Context().Done():
		}
		<-r.Context().Done() // returns when the process is dead
		return true
	})
	crm.Records = recordIDs(10)
	env := []string{"CRM_BASE_URL=" + crm.URL, "CRM_TOKEN=secret", "PROCESS_ATTEMPTS=2"}
	message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
	data := t.TempDir()
	deaths := 0
	for ended := false; !ended; {
		p := startProcess(t, env, "process", "--data", data, message)
		select {
		case <-asked:
			if deaths++; deaths > 5 {
				t.Fatal("the record is tried for ever")
			}
			p.kill()
		case <-p.ended:
			ended = true
			if out := p.out.String(); !strings.Contains(out, "9 succeeded, 1 failed") || !strings.Contains(out, deadly) || !strings.Contains(out, "5 times the process died") {
				t.Errorf("it ends with %s", out)
			}
		}
		p.kill()
	}
	if deaths != 5 {
		t.Errorf("%d processes died", deaths)
	}
}

// TestTurnAndOperationThatKillTheProcess: an orchestration whose turn kills process after process fails after the fifth, with the
// reason. Of an entity's operations, the one that kills is given up and the others are done.
func TestTurnAndOperationThatKillTheProcess(t *testing.T) {
	t.Parallel()
	binary, err := testkit.Build(root, "./tests/deadlyapp", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	app, data, port := t.TempDir(), t.TempDir(), testkit.FreePort(t)
	testkit.WriteFile(t, filepath.Join(app, "host.json"), `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"}}}`)
	for name, trigger := range map[string]string{"Turns": "orchestration", "Counter": "entity"} {
		testkit.WriteFile(t, filepath.Join(app, name, "function.json"), fmt.Sprintf(`{"bindings":[{"name":"context","type":"%sTrigger","direction":"in"}]}`, trigger))
	}
	url := "http://127.0.0.1:" + port
	start := func() *process {
		cmd := exec.CommandContext(context.Background(), binary, "start", "--data", data, "--port", port)
		cmd.Dir = app
		return launch(t, cmd)
	}
	const api = "/runtime/webhooks/durabletask"
	startNew := func(id, input string) {
		r, err := http.Post(url+api+"/orchestrators/Turns/"+id, "application/json", strings.NewReader(strconv.Quote(input)))
		if err == nil { // otherwise the process has died before it answered
			r.Body.Close()
		}
	}
	// deaths starts the app again and again until the instance shows the text, and returns how often the app died.
	deaths := func(p *process, id, text string) (n int) {
		for {
			select {
			case <-p.ended:
				if n++; n > 5 {
					t.Fatalf("it dies for ever: %s", p.out.String())
				}
				p = start()
			case <-time.After(20 * time.Millisecond):
			}
			if strings.Contains(get(url+api+"/instances/"+id), text) {
				p.kill()
				return n
			}
		}
	}
	p := start()
	p.waitFor(t, "Messages go to")
	startNew("good", "nothing")
	waitUntil(t, "the good one completes", func() bool { return strings.Contains(get(url+api+"/instances/good"), "Completed") })
	startNew("bad", "die")
	if n := deaths(p, "bad", "5 times the process died in a turn of it"); n != 5 {
		t.Errorf("%d processes died of a turn", n)
	}
	p = start()
	p.waitFor(t, "Messages go to")
	startNew("operations", "call")
	if n := deaths(p, "operations", `"output":3`); n != 5 {
		t.Errorf("%d processes died of an operation", n)
	}
}

// get returns the body of the answer, or "" without an answer.
func get(url string) string {
	r, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return string(body)
}
