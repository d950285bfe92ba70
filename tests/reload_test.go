package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// reloaded is an app with one orchestration: it gets a word from an activity, waits for an event, and gets the word again.
const reloaded = `package main

import (
	"context"
	_ "embed"
	"io"
	"os"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/durable"
)

//go:embed word.txt
var embedded string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.App{Name: "app", New: func(string) (*handler.App, io.Closer, error) {
		app := handler.New()
		app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
			word := durable.ActivityName[any, string]("Word")
			first, err := word.Call(ctx, nil).Await()
			if err == nil {
				_, err = durable.WaitForEvent[any](ctx, "Go", -1).Await()
			}
			if err != nil {
				return "", err
			}
			second, err := word.Call(ctx, nil).Await()
			return first + " " + second, err
		}))
		app.Activity("Word", durable.Activity(func(context.Context, any) (string, error) { return "one" + embedded, nil }))
		return app, io.NopCloser(nil), nil
	}}))
}
`

// reloadedApp writes the app's files outside this module.
func reloadedApp(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, requirements, _ := strings.Cut(string(mod), "\n")
	for name, text := range map[string]string{
		"go.mod":             "module reloaded\n" + requirements + "\nrequire example.com/durablefunctions v0.0.0\nreplace example.com/durablefunctions => " + root + "\n",
		"go.sum":             string(sums),
		"main.go":            reloaded,
		"word.txt":           "",
		"host.json":          `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"app"}}}`,
		"Orch/function.json": `{"bindings":[{"type":"orchestrationTrigger","direction":"in","name":"context"}]}`,
		"Word/function.json": `{"bindings":[{"type":"activityTrigger","direction":"in","name":"input"}]}`,
	} {
		testkit.WriteFile(t, filepath.Join(dir, name), text)
	}
	return dir
}

// TestReload: start --watch continues with the new build and loses nothing: not an orchestration in flight, not its history, not
// a caller. A build that fails changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	dir, port := reloadedApp(t), testkit.FreePort(t)
	cmd := command(t.Context(), nil, "start", "--data", t.TempDir(), "--port", port, "--watch", "--", "go", "build", "-mod=mod", "-o", "app", ".")
	cmd.Dir = dir
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "LOCALAPPDATA"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	p := launch(t, cmd)
	p.URL = "http://127.0.0.1:" + port
	p.patientlyWaitFor(t, "Messages go to", 1)
	api := p.URL + "/runtime/webhooks/durabletask/"
	for _, id := range []string{"a", "b"} {
		call(t, http.MethodPost, api+"orchestrators/Orch/"+id, "{}")
		waitUntil(t, "the orchestration waits for its event", func() bool {
			return strings.Contains(call(t, http.MethodGet, api+"instances/"+id+"?showHistory=true", ""), "TaskCompleted")
		})
	}

	var refused atomic.Value // the error that a caller got
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			response, err := http.Get(api + "instances/a")
			if err == nil {
				response.Body.Close()
			} else if strings.Contains(err.Error(), "refused") {
				refused.Store(err.Error())
			}
		}
	}()

	testkit.WriteFile(t, filepath.Join(dir, "main.go"), "package main\n\nthis is no Go\n")
	p.patientlyWaitFor(t, "the app goes on as it was", 1)
	if out := p.out.String(); !strings.Contains(out, "main.go:3:1: syntax error") {
		t.Errorf("the compiler's words are missing: %s", out)
	}
	letGo(t, api, "a", "one one")

	testkit.WriteFile(t, filepath.Join(dir, "main.go"), strings.Replace(reloaded, `"one" +`, `"two" +`, 1))
	p.patientlyWaitFor(t, "The new build goes on with orchestrations: 1, messages: 0", 1)
	p.patientlyWaitFor(t, "Messages go to", 2)
	letGo(t, api, "b", "one two")

	testkit.WriteFile(t, filepath.Join(dir, "word.txt"), "!") // the binary embeds this file
	p.patientlyWaitFor(t, "Messages go to", 3)
	call(t, http.MethodPost, api+"orchestrators/Orch/c", "{}")
	letGo(t, api, "c", "two! two!")
	if why := refused.Load(); why != nil && runtime.GOOS != "windows" {
		t.Errorf("a caller was refused: %v", why)
	}
	if runtime.GOOS == "windows" {
		return // signals cannot be sent here
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t); code != 0 || !strings.Contains(p.out.String(), "Stopped: nothing is left to do") {
		t.Errorf("exit code %d: %s", code, p.out.String())
	}
}

// patientlyWaitFor is waitForCount with the patience that a build needs.
func (p *process) patientlyWaitFor(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); strings.Count(p.out.String(), text) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not printed %d times: %s", text, n, p.out.String())
		}
	}
}

// call calls the HTTP API and returns the answer. It tries again, because an answer can be lost between two builds.
func call(t *testing.T, method, url, body string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		request, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err == nil {
				return string(text)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %s: %v", method, url, err)
		}
	}
}

// letGo raises the event and waits for the orchestration's output.
func letGo(t *testing.T, api, id, want string) {
	t.Helper()
	call(t, http.MethodPost, api+"instances/"+id+"/raiseEvent/Go", "{}")
	var i struct{ RuntimeStatus, Output string }
	waitUntil(t, fmt.Sprintf("orchestration %s ends", id), func() bool {
		i.Output = ""
		_ = json.Unmarshal([]byte(call(t, http.MethodGet, api+"instances/"+id, "")), &i)
		return i.RuntimeStatus == "Completed"
	})
	if i.Output != want {
		t.Errorf("the output of %s is %q, want %q", id, i.Output, want)
	}
}
