package tests

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// process is the binary, running in the background.
type process struct {
	testkit.Host // its address: of a handler's functions, or of the local host's admin endpoint
	data         string
	out          *testkit.Buffer
	cmd          *exec.Cmd
	ended        chan struct{}
	kill         func() // kills it and waits for its end
}

// launch starts a command. It is killed at the end of the test if it still runs.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{out: &testkit.Buffer{}, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	p.kill = sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-p.ended })
	t.Cleanup(p.kill)
	return p
}

// startHandler starts the binary as the Functions host does, and waits until it answers.
func startHandler(t *testing.T, env ...string) *process {
	t.Helper()
	cmd := command(context.Background(), append([]string{"FUNCTIONS_APP_ROOT_PATH=" + root, "CRM_DATABASE=" + filepath.Join(t.TempDir(), "crm.db")}, env...))
	return launchHandler(t, cmd)
}

// launchHandler starts a command with the port of a handler.
func launchHandler(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	port := testkit.FreePort(t)
	cmd.Env = append(cmd.Env, "FUNCTIONS_CUSTOMHANDLER_PORT="+port)
	p := launch(t, cmd)
	p.URL = "http://127.0.0.1:" + port
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if response, err := http.Get(p.URL); err == nil {
			response.Body.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("the handler does not answer: %s", p.out.String())
		}
	}
}

// startLocal starts the local host on a data directory, and waits until it accepts messages.
func startLocal(t *testing.T, data string, env ...string) *process {
	t.Helper()
	port := testkit.FreePort(t)
	p := launch(t, command(context.Background(), env, "start", "--data", data, "--port", port))
	p.URL, p.data = "http://127.0.0.1:"+port, data
	p.waitFor(t, "Messages go to")
	return p
}

// startProcess starts the process command, or any other that ends by itself.
func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return launch(t, command(context.Background(), env, args...))
}

// waitFor waits until the process has printed a text.
func (p *process) waitFor(t *testing.T, text string) {
	t.Helper()
	p.waitForCount(t, text, 1)
}

func (p *process) waitForCount(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); strings.Count(p.out.String(), text) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not printed %d times: %s", text, n, p.out.String())
		}
	}
}

// send posts a message to the local host's admin endpoint.
func (p *process) send(t *testing.T, message string) {
	t.Helper()
	if code := p.post(t, clientFunction, "application/json", admin(message)); code != http.StatusAccepted {
		t.Fatalf("%q: %d", message, code)
	}
}

// post sends any body to the admin endpoint and returns the status.
func (p *process) post(t *testing.T, function, contentType, body string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.URL+"/admin/functions/"+function, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// admin returns the body with which the admin endpoint accepts a message.
func admin(message string) string {
	body, _ := json.Marshal(map[string]string{"input": message})
	return string(body)
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no signals can be sent on Windows")
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code, or -1 if a signal ended the process.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("the process has not ended within a minute: %s", p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}
