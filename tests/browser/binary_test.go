package browser

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"example.com/durablefunctions/internal/testkit"
)

// launch builds this app as a user does, and runs a command of it that serves the page on a free port.
func launch(t *testing.T, args ...string) (url string, printed *testkit.Buffer) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := testkit.Build(root, ".", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	port := testkit.FreePort(t)
	printed = &testkit.Buffer{}
	cmd := exec.Command(binary, append(args, "--port", port)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, printed, printed
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SystemRoot", "TEMP", "TMP", "USERPROFILE", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url = "http://127.0.0.1:" + port
	if !printed.Has(url) {
		t.Fatalf("it does not say where the page is: %s", printed.String())
	}
	return url, printed
}

// traffic holds the requests of a browser and the answers to them.
type traffic struct {
	mu       sync.Mutex
	urls     []string
	heads    []string // the requests, and the headers of the answers
	finished []network.RequestID
}

// watch collects the traffic of a browser.
func watch(browser context.Context) *traffic {
	var c traffic
	chromedp.ListenTarget(browser, func(event any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			sent := ""
			for _, part := range e.Request.PostDataEntries {
				sent += part.Bytes
			}
			c.urls = append(c.urls, e.Request.URL)
			c.heads = append(c.heads, fmt.Sprint(e.Request.URL, e.Request.Headers, sent))
		case *network.EventRequestWillBeSentExtraInfo:
			c.heads = append(c.heads, fmt.Sprint(e.Headers))
		case *network.EventResponseReceived:
			c.heads = append(c.heads, fmt.Sprint(e.Response.URL, e.Response.Headers))
		case *network.EventResponseReceivedExtraInfo:
			c.heads = append(c.heads, e.HeadersText, fmt.Sprint(e.Headers))
		case *network.EventLoadingFinished:
			c.finished = append(c.finished, e.RequestID)
		}
	})
	return &c
}

// keepsKey fails the test if the browser asked another address than the page's, or if the key appears anywhere in the traffic.
func (c *traffic) keepsKey(t *testing.T, browser context.Context, page string) {
	t.Helper()
	c.mu.Lock() // not during calls to the browser: its events wait for the lock, and its answers wait behind the events
	urls, texts, finished := c.urls, slices.Clone(c.heads), c.finished
	c.mu.Unlock()
	for _, asked := range urls {
		if u, err := url.Parse(asked); err != nil || u.Scheme != "data" && u.Scheme+"://"+u.Host != page {
			t.Errorf("the browser asked %s", asked)
		}
	}
	bodies := 0
	steps(t, browser, chromedp.ActionFunc(func(ctx context.Context) error {
		for _, id := range finished {
			if body, err := network.GetResponseBody(id).Do(ctx); err == nil { // an error means that it was empty or is no longer kept
				bodies++
				texts = append(texts, string(body))
			}
		}
		return nil
	}))
	for _, text := range texts {
		if strings.Contains(text, testkit.RecordedKey) {
			t.Errorf("the browser has the key: %s", text)
		}
	}
	if bodies < 5 {
		t.Errorf("only %d answers could be looked into", bodies)
	}
}

// TestRealHost: the dashboard command serves the page of a deployed app. The app answers with recordings of two versions of the
// real host.
func TestRealHost(t *testing.T) {
	browser := openBrowser(t)
	steps(t, browser, chromedp.Navigate("about:blank")) // now the browser has started, and closing its tabs does not close it
	for _, recordings := range [][]string{{"http-api.jsonl"}, {"3.19/check-status.jsonl", "3.19/lab-http-api.jsonl"}} {
		app := testkit.RecordedHost(t, recordings...)
		page, printed := launch(t, "dashboard", "--url", app.URL, "--code", testkit.RecordedKey)
		tab, closeTab := chromedp.NewContext(browser)
		defer closeTab()
		steps(t, tab, network.Enable())
		seen := watch(tab)
		steps(t, tab, chromedp.Navigate(page), is(`document.querySelector(".app").innerText === `+quote(app.URL)))
		if len(recordings) > 1 {
			steps(t, tab, ofOneThatRuns()...)
		}
		steps(t, tab, ofTheList()...)
		steps(t, tab, ofOneThatCompleted()...)
		steps(t, tab, refused(t, app.URL)...)
		steps(t, tab, ofOneThatFailed()...)
		seen.keepsKey(t, tab, page)
		if strings.Contains(printed.String(), testkit.RecordedKey) {
			t.Errorf("dashboard printed the key: %s", printed.String())
		}
	}
}

// view opens a view without loading the page again.
func view(hash, heading string) chromedp.Action {
	return chromedp.Tasks{chromedp.Evaluate(`location.hash = `+quote(hash), nil), is(`document.querySelector("h1").innerText === ` + quote(heading))}
}

// shown waits until an instance's page shows this status.
func shown(status string) chromedp.Action {
	return is(`document.querySelector(".facts .status").innerText === ` + quote(status))
}

// toasts waits until the page reports what was done, or why it failed.
func toasts(text string) chromedp.Action {
	return is(`!document.getElementById("toast").hidden && document.getElementById("toast").innerText.includes(` + quote(text) + `)`)
}

func ofTheList() []chromedp.Action {
	rows := func(n int) chromedp.Action {
		return is(fmt.Sprintf(`document.querySelectorAll("tr[data-row]").length === %d`, n))
	}
	return []chromedp.Action{
		view("#/", "Instances"),
		has("h-nobody"),
		types(`input[type=search]`, "c-status"),
		rows(1),
		has("plain text, not JSON"),
		types(`input[type=search]`, ""),
		types(`input[aria-label="Id begins with"]`, "h-e"),
		rows(2),
		has("h-ev"),
		types(`input[aria-label="Id begins with"]`, ""),
		has("h-nobody"),
	}
}

func ofOneThatRuns() []chromedp.Action {
	return []chromedp.Action{
		view("#/i/urls1", "urls1"), shown("Running"),
		click("Terminate"), chromedp.SetValue(`#f-reason`, "why not"), yes(),
		shown("Terminated"), has("It was terminated"), has("why not"),
	}
}

func ofOneThatCompleted() []chromedp.Action {
	return []chromedp.Action{
		view("#/i/h-1", "h-1"), shown("Completed"),
		is(`document.querySelectorAll(".gantt .line.done").length === 2 && document.querySelector(".gantt").innerText.includes("Echo")`),
		has("ExecutionStarted"), has("TaskCompleted"), has("ExecutionCompleted"),
		is(`document.querySelector("button[data-key=Rewind]").disabled`),
	}
}

// refused: the host refuses a second instance with the same id, and to suspend a suspended instance. The page reports it in the
// host's words.
func refused(t *testing.T, app string) []chromedp.Action {
	start := chromedp.Tasks{view("#/", "Instances"), click("Start an orchestration"), chromedp.SetValue(`#f-name`, "Orch"), chromedp.SetValue(`#f-id`, "h-ev"), chromedp.SetValue(`#f-input`, `{"mode": "event"}`), yes()}
	someoneElse := chromedp.ActionFunc(func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, app+"/runtime/webhooks/durabletask/instances/h-ev/suspend?reason=wait", nil)
		if err != nil {
			return err
		}
		r.Header.Set("X-Functions-Key", testkit.RecordedKey)
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusAccepted {
				t.Errorf("the first suspend: %s", response.Status)
			}
		}
		return err
	})
	return []chromedp.Action{
		start, is(`document.querySelector("h1").innerText === "h-ev"`), shown("Running"),
		start, toasts("An Orchestration instance with the status Running already exists."),
		view("#/i/h-ev", "h-ev"), shown("Running"),
		click("Suspend"), chromedp.SetValue(`#f-reason`, "wait"), someoneElse, yes(),
		toasts("Cannot suspend the orchestration instance h-ev because instance is in the Suspended state."),
		shown("Suspended"),
		click("Resume"), chromedp.SetValue(`#f-reason`, "go"), yes(),
		shown("Completed"),
	}
}

func ofOneThatFailed() []chromedp.Action {
	return []chromedp.Action{
		view("#/i/h-e", "h-e"), shown("Failed"), has("It failed"), has("*errors.errorString: broken"),
		click("Rewind"), chromedp.SetValue(`#f-reason`, "again"), yes(), toasts("Done: the instance is told."),
		chromedp.Evaluate(`location.hash = "#/i/nobody"`, nil), has("There is no such thing here: it may be gone."),
	}
}

// TestNewUser goes from the start of this app to the error of a failed record, with nothing but what the page offers.
func TestNewUser(t *testing.T) {
	browser := openBrowser(t)
	message, err := os.ReadFile(filepath.Join("..", "..", "samples", "november.json"))
	if err != nil {
		t.Fatal(err)
	}
	const why = `record C-131 has the malformed e-mail address "clarke.jack.example.com": it has no @`
	page, _ := launch(t, "start", "--data", t.TempDir())
	steps(t, browser,
		chromedp.Navigate(page),
		has("No instances yet"),
		chromedp.Click(`header a[href="#/functions"]`),
		chromedp.Click(`button[aria-label="Send a message: MyClientFunction"]`),
		chromedp.SetValue(`#f-body`, string(message)),
		yes(),
		toasts("The message is on its way to MyClientFunction."),
		chromedp.Click(`header a[href="#/"]`),
		has("120 of 120, 6 failed"),
		chromedp.Click(`//tr[@data-row][contains(., "120 of 120")]//a`, chromedp.BySearch),
		shown("Completed"),
		has(why),
	)
}
