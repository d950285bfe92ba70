package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// player plays the host's part against the lab app's binary: its requests, and its durable endpoint.
type player struct {
	url     string
	sidecar *sidecar
}

// answer is what came of a request.
type answer struct {
	Status              int
	Phrase, ContentType string
	Body                string
	Calls               []call // that the app made to the sidecar meanwhile
}

var buildDir string

var build = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(buildDir, "app")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, "./labapp").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./labapp: %w\n%s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "labapp"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks looks for goroutines that the tests, or what they run in this process, left behind.
func leaks() int {
	http.DefaultClient.CloseIdleConnections()
	err := goleak.Find(
		// The durable client's connections, of which package durable keeps some for as long as the process lives.
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startPlayer starts the lab app as the host does, and waits until its port answers.
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
	port := freePort(t)
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
	p := &player{url: "http://127.0.0.1:" + port, sidecar: startSidecar(t)}
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

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
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
		request, err := redirect(r.Request, p.sidecar.address)
		if err != nil {
			return answer{}, err
		}
		p.sidecar.expect(plan)
		a, err := p.send("POST", "/QueueStart", r.Headers, request)
		a.Calls = p.sidecar.calls()
		return a, err
	case "Echo", "Fail", "Orch":
		return p.send("POST", "/"+r.Function, r.Headers, r.Request)
	}
	return answer{}, fmt.Errorf("the lab app has no function %q", r.Function)
}

// hostClient takes every answer as it is.
var hostClient = &http.Client{
	Timeout:       2 * time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (p *player) send(method, path string, headers map[string][]string, body string) (answer, error) {
	var content io.Reader
	if method == "POST" {
		content = io.MultiReader(strings.NewReader(body)) // of unknown length: net/http sends chunks, as the host does
	}
	req, err := http.NewRequest(method, p.url+path, content)
	if err != nil {
		return answer{}, err
	}
	for name, values := range headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	res, err := hostClient.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, fmt.Errorf("the answer broke off: %w", err)
	}
	_, phrase, _ := strings.Cut(res.Status, " ")
	return answer{Status: res.StatusCode, Phrase: phrase, ContentType: res.Header.Get("Content-Type"), Body: string(text)}, nil
}

var rpcBaseURL = regexp.MustCompile(`(rpcBaseUrl[\\":]+http://)[^/"\\]+`)

// redirect puts our sidecar's address in place of the recorded one, in the client binding only: a message can hold the
// same words.
func redirect(request, address string) (string, error) {
	var envelope struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(request), &envelope); err != nil {
		return "", fmt.Errorf("the recorded request is no invocation: %w", err)
	}
	was := envelope.Data["starter"]
	if !rpcBaseURL.Match(was) {
		return "", fmt.Errorf("the recorded request has no durable client with an rpcBaseUrl")
	}
	now := rpcBaseURL.ReplaceAll(was, []byte("${1}"+address))
	return strings.Replace(request, `"starter":`+string(was), `"starter":`+string(now), 1), nil
}
