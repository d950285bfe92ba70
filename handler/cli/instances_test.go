package cli

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

// runCommand runs a command against an app and returns what it printed and its exit code.
func runCommand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var c commands
	run, err := newParser(&c, "app", App{}).Parse(args)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	var out, errs bytes.Buffer
	err = run.Run(&Environment{Context: t.Context(), Stdout: &out, Stderr: &errs})
	e := exit{}
	switch {
	case err == nil:
	case errors.As(err, &e):
		code = e.code
	default:
		code = ExitRejected
	}
	if err != nil {
		errs.WriteString(err.Error())
	}
	return out.String(), errs.String(), code
}

// TestInstancesOfTheRealHost: each command understands the recorded answers of the real host.
func TestInstancesOfTheRealHost(t *testing.T) {
	t.Parallel()
	const recording = "3.19/lab-http-api.jsonl"
	for _, c := range []struct {
		args string
		code int
		want []string // in the output
	}{
		{"instances list --top 2", 0, []string{"2458d74668764a0da979c5680ec743f4", "there are more"}},
		{"instances list --status completed --status FAILED --top 0", 0, []string{"c-noorch", "10 failed", "plain text, not JSON"}},
		{"instances list --prefix h-e --json", 0, []string{`"instanceId":"h-ev"`, `"output":{"a":[1,2]}`}},
		{"instances list --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z", 0, []string{"No instances."}},
		{"instances list --status nonsense", 2, []string{"--status nonsense is none"}},
		{"instances show h-1", 0, []string{"Status", "Completed", "Echo", "█", `{"mode":"fanout","n":2}`}},
		{"instances history h-1", 0, []string{"TaskCompleted", "Echo", `{"mode": "fanout", "n": 2}`}},
		{"instances list --status completed --status FAILED --top 0 --name nobody", 0, []string{"No instances."}},
		{"instances suspend h-ev nobody --reason wait --json", 4, []string{`[{"instanceId":"h-ev","result":"told to pause"},{"instanceId":"nobody","error":"nobody: not found"}]`}},
		{"instances restart h-1 --same-id --json", 0, []string{`{"instanceId":"h-1"}`}},
		{"instances purge h-t --json", 0, []string{`[{"instanceId":"h-t","result":"purged"}]`}},
		{"instances purge --from 2020-01-01T00:00:00Z --status Failed --json", 0, []string{`{"purged":10}`}},
		{"instances history h-1 --watch", 0, []string{"TaskCompleted"}},
		{"instances history h-1 --json", 0, []string{`"EventType":"ExecutionStarted"`}},
		{"instances wait h-1", 0, []string{"2"}},
		{"instances wait h-t", 1, []string{"h-t is Terminated: stop"}},
		{"instances wait h-ev --timeout 10ms", 5, []string{"has not ended yet"}},
		{"instances show nobody", 4, []string{"nobody: not found"}},
		{"instances suspend h-ev --reason wait", 0, []string{"h-ev: told to pause"}},
		{"instances terminate nobody --reason stop", 4, []string{"not found"}},
		{"instances rewind h-1 --reason again", 2, []string{`This orchestration has status Completed`}},
		{"instances rewind nobody --reason again", 4, []string{`No orchestration with instance ID`}},
		{"instances raise h-1 Go --input 1", 2, []string{"h-1: it has finished already"}},
		{"instances raise h-ev Go --input nonsense", 2, []string{"--input is not JSON"}},
		{"instances restart h-1 --same-id", 0, []string{"h-1"}},
		{"instances purge nobody", 4, []string{"not found"}},
		{"instances purge h-t", 0, []string{"h-t: purged"}},
		{"instances purge h-ev", 2, []string{"terminate it before you purge it"}},
		{"instances purge", 2, []string{"nothing was deleted"}},
		{"instances purge --status Failed", 2, []string{"nothing was deleted"}},
		{"instances purge --from 2020-01-01T00:00:00Z --status Failed", 0, []string{"purged: 10"}},
		{`start-new Orch --id h-1 --input {"mode":"fanout","n":2}`, 0, []string{"h-1"}},
	} {
		s := testkit.RecordedHost(t, recording) // each a host that has been told nothing
		out, errs, code := runCommand(t, append(strings.Fields(c.args), "--url", s.URL, "--code", testkit.RecordedKey)...)
		for _, want := range c.want {
			if !strings.Contains(out+errs, want) {
				t.Errorf("%s: the output has no %q:\n%s%s", c.args, want, out, errs)
			}
		}
		if code != c.code || strings.Contains(out+errs, testkit.RecordedKey) {
			t.Errorf("%s: exit code %d, want %d: %s", c.args, code, c.code, errs)
		}
	}
	s := testkit.RecordedHost(t, recording)
	if _, errs, code := runCommand(t, "instances", "list", "--url", s.URL, "--code", "wrong"); code != 2 || !strings.Contains(errs, "refuses the key") || strings.Contains(errs, "wrong") {
		t.Errorf("a wrong key: %d %s", code, errs)
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"https://app.azurewebsites.net": true, "https://app.azurewebsites.net/": true, "http://127.0.0.1:7071": true, "https://x/runtime/webhooks/durabletask": true,
		"http://app.azurewebsites.net": false, "app.azurewebsites.net": false, "https://x?code=KEY": false, "https://u:p@x": false, "ftp://127.0.0.1": false, "": false,
	} {
		c, err := httpapi.New(address, "KEY")
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), "KEY") {
			t.Errorf("%q: %v", address, err)
		} else if good && strings.Contains(c.Address(), "durabletask") {
			t.Errorf("%q became %s", address, c.Address())
		}
	}
}

// TestInstancesOfTheLocalHost: the commands see and steer what the local host runs.
func TestInstancesOfTheLocalHost(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"host.json":          `{"version":"2.0"}`,
		"Orch/function.json": `{"bindings":[{"type":"orchestrationTrigger","direction":"in","name":"context"}]}`,
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Every turn gets an empty answer, so the instance waits.
	waits := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ReturnValue":"CgF4"}`))
	})
	h, err := local.Open(t.Context(), local.Options{Root: root, DataDir: t.TempDir(), Handler: waits})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	s := httptest.NewServer(h.Handler())
	defer s.Close()
	for _, step := range []struct {
		args, want string
		code       int
		until      string // the status that the instance reaches
	}{
		{"start-new Orch --id x --input 1", "x", 0, "Running"},
		{"instances suspend x --reason why", "told to pause", 0, "Suspended"},
		{"instances show x", "why", 0, ""},
		{"instances resume x", "told to go on", 0, "Running"},
		{"instances purge x", "has not finished", 2, ""},
		{"instances terminate x --reason enough", "told to end", 0, "Terminated"},
		{"instances wait x", "enough", 1, ""},
		{"instances list --status terminated", "1 terminated", 0, ""},
		{"instances list --name orch --top 1 --json", `[{"name":"Orch"`, 0, ""},
		{"instances list --name other", "No instances.", 0, ""},
		{"entities list", "No entities.", 0, ""},
		{"entities list counter --json", "[]", 0, ""},
		{"entities show counter/k", "counter/k: not found", 4, ""},
		{"entities show counter", "write NAME/KEY", 2, ""},
		{"entities signal counter/k add --input 1", "counter/k: sent", 0, ""},
		{"entities signal counter/k add --input nonsense", "--input is not JSON", 2, ""},
		{"entities delete counter/k", "counter/k: sent", 0, ""},
		{"instances restart x --same-id", "x", 0, "Running"},
		{"instances terminate x", "told to end", 0, "Terminated"},
		{"instances purge --from 1h", "purged: 1", 0, ""},
		{"instances show x", "not found", 4, ""},
	} {
		out, errs, code := runCommand(t, append(strings.Fields(step.args), "--url", s.URL)...)
		if code != step.code || !strings.Contains(out+errs, step.want) {
			t.Errorf("%s: %d %s%s, want %d %s", step.args, code, out, errs, step.code, step.want)
		}
		for deadline := time.Now().Add(20 * time.Second); step.until != ""; time.Sleep(5 * time.Millisecond) {
			shown, _, _ := runCommand(t, "instances", "show", "x", "--json", "--url", s.URL)
			if strings.Contains(shown, `"runtimeStatus":"`+step.until+`"`) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: after it the instance is %s", step.args, shown)
			}
		}
	}
}

// TestEntities: the command joins the pages of entities; the host spells entity names in lower case.
func TestEntities(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entity := func(key, state string) string {
			return `{"entityId":{"name":"counter","key":"` + key + `"},"lastOperationTime":"2026-11-26T12:00:00.1234567Z","state":` + state + `}`
		}
		switch r.Method + " " + r.URL.String() + " " + r.Header.Get("x-ms-continuation-token") {
		case "GET /runtime/webhooks/durabletask/entities/Counter?fetchState=true ":
			w.Header().Set("x-ms-continuation-token", "more")
			_, _ = w.Write([]byte("[" + entity("a", `{"n":1}`) + "]"))
		case "GET /runtime/webhooks/durabletask/entities/Counter?fetchState=true&top=1 ":
			w.Header().Set("x-ms-continuation-token", "more")
			_, _ = w.Write([]byte("[" + entity("a", `{"n":1}`) + "]"))
		case "GET /runtime/webhooks/durabletask/entities/Counter?fetchState=true more":
			_, _ = w.Write([]byte("[" + entity("b", `null`) + "]"))
		case "GET /runtime/webhooks/durabletask/entities/counter/a ":
			_, _ = w.Write([]byte(`{"n":1}`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	for args, want := range map[string]string{
		"entities list Counter --top 0":        "counter  b",
		"entities list Counter --top 1":        "There are more",
		"entities list Counter --top 0 --json": `"key":"b"},"lastOperationTime":"2026-11-26T12:00:00.1234567Z","state":null}]`,
		"entities show counter/a":              `{"n":1}`,
	} {
		out, errs, code := runCommand(t, append(strings.Fields(args), "--url", s.URL)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s%s, want %s", args, code, out, errs, want)
		}
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) *time.Time { t := begin.Add(time.Duration(seconds) * time.Second); return &t }
	i := httpapi.Instance{ID: "x", Status: "Running", Created: begin, History: []httpapi.Event{
		{Type: "ExecutionStarted", Timestamp: begin},
		{Type: "TaskCompleted", FunctionName: "Echo", ScheduledTime: at(0), Timestamp: *at(10)},
		{Type: "TaskFailed", FunctionName: "Pay", ScheduledTime: at(10), Timestamp: *at(20), FailureDetails: &httpapi.Failure{ErrorMessage: "outer", InnerFailure: &httpapi.Failure{ErrorMessage: "Response status code does not indicate success: 500 (durable/failed: card\x1b declined)."}}},
		{Type: "TimerCreated", FireAt: at(60), Timestamp: *at(20)},
		{Type: "TaskScheduled", Name: "Slow", Timestamp: *at(30)},
	}}
	for range 10 {
		i.History = append(i.History, httpapi.Event{Type: "TaskCompleted", FunctionName: "Many", ScheduledTime: at(0), Timestamp: *at(20)})
	}
	var b bytes.Buffer
	printTimeline(&b, i, *at(40))
	want := `
  Echo     |███████████                             | 10s
  Many ×10 |█████████████████████                   | 20s
  Pay      |          ███████████                   | 10s  failed: card\x1b declined
  timer    |                    ░░░░░░░░░░░░░░░░░░░▶| for 20s more
  Slow     |                              ▒▒▒▒▒▒▒▒▒▶| 10s
`
	want = strings.ReplaceAll(want, "▒", "█")
	if !strings.HasPrefix(b.String(), want) {
		t.Errorf("the timeline is\n%s, want\n%s", b.String(), want)
	}
}
