package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// player plays the host for the lab app's binary: it sends the requests and serves the durable endpoint.
type player struct {
	testkit.Host
	sidecar *testkit.Sidecar

	mu   sync.Mutex
	plan plan // for the next call of the app
}

// answer is the lab app's answer to a request.
type answer struct {
	testkit.Answer
	Calls []testkit.Call // the calls that the app made to the sidecar before it answered
}

var buildDir string

var build = sync.OnceValues(func() (string, error) { return testkit.Build(".", "./labapp", buildDir) })

func TestMain(m *testing.M) {
	os.Exit(testkit.Main(m, func(dir string) error {
		buildDir = dir
		return nil
	}))
}

// startPlayer starts the lab app as the host does, and waits until its port accepts connections.
func startPlayer(t *testing.T) *player {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("labapp")
	if err != nil {
		t.Fatal(err)
	}
	port := testkit.FreePort(t)
	var output bytes.Buffer
	app := exec.Command(binary)
	app.Env = append(os.Environ(), "FUNCTIONS_CUSTOMHANDLER_PORT="+port, "FUNCTIONS_APP_ROOT_PATH="+root)
	app.Stdout, app.Stderr = &output, &output
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = app.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = app.Process.Kill()
		<-ended
		if t.Failed() && output.Len() > 0 {
			t.Logf("the lab app wrote:\n%s", output.String())
		}
	})
	p := &player{Host: testkit.Host{URL: "http://127.0.0.1:" + port}, sidecar: testkit.StartSidecar(t)}
	p.sidecar.Answer = p.answerCall
	for {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			return p
		}
		select {
		case <-ended:
			t.Fatal("the lab app ended at once")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// answerCall answers the durable client according to the plan.
func (p *player) answerCall(_ context.Context, c testkit.Call) (string, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c.Method == p.plan.method:
		return p.plan.reply, true, p.plan.err
	case c.Method == "GetInstance":
		return `{"exists":true,"orchestrationState":{"orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED"}}`, true, nil
	}
	return `{}`, true, nil
}

// play sends the record's request.
func (p *player) play(r record) (answer, error) {
	switch r.Function {
	case "":
		if r.Note != "GET" {
			return answer{}, fmt.Errorf("a line without a function must have the note GET, not %q", r.Note)
		}
		return p.send("GET", "/", nil, "")
	case "QueueStart":
		plan, err := planOf(r)
		if err != nil {
			return answer{}, err
		}
		request, err := redirect(r.Request, p.sidecar.Address)
		if err != nil {
			return answer{}, err
		}
		p.mu.Lock()
		p.plan = plan
		p.mu.Unlock()
		p.sidecar.Forget()
		a, err := p.send("POST", "/QueueStart", r.Headers, request)
		a.Calls = p.sidecar.Calls()
		return a, err
	case "Echo", "Fail", "Orch":
		return p.send("POST", "/"+r.Function, r.Headers, r.Request)
	}
	return answer{}, fmt.Errorf("the lab app has no function %q", r.Function)
}

func (p *player) send(method, path string, headers map[string][]string, body string) (answer, error) {
	request, err := p.NewRequest(path[1:], body)
	if err != nil {
		return answer{}, err
	}
	if request.Method = method; method == http.MethodGet {
		request.Body = nil
	}
	for name, values := range headers {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	a, err := p.Do(request)
	return answer{Answer: a}, err
}

var rpcBaseURL = regexp.MustCompile(`(rpcBaseUrl[\\":]+http://)[^/"\\]+`)

// redirect replaces the recorded address of the durable endpoint by ours. It does so in the client binding only, because a
// message can hold the same words.
func redirect(request, address string) (string, error) {
	var envelope struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(request), &envelope); err != nil {
		return "", fmt.Errorf("the recorded request is not an invocation: %w", err)
	}
	was := envelope.Data["starter"]
	if !rpcBaseURL.Match(was) {
		return "", fmt.Errorf("the recorded request has no durable client with an rpcBaseUrl")
	}
	now := rpcBaseURL.ReplaceAll(was, []byte("${1}"+address))
	return strings.Replace(request, `"starter":`+string(was), `"starter":`+string(now), 1), nil
}
