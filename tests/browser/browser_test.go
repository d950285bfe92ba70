// Package browser tests the web page in a real browser: Debian's chromium, Chrome, or the program that the environment variable
// CHROME names. Without a browser the tests are skipped. With -screenshots DIR they save pictures of the main views in DIR.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

var screenshots = flag.String("screenshots", "", "directory for screenshots of the main views")

// hostile is a payload that tries to run as code in the page.
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`

// newApp has one orchestration that completes, one that fails, one that waits, and one with hostile payloads.
func newApp() *handler.App {
	app := handler.New()
	var declinedOnce atomic.Bool
	app.Activity("Charge", durable.Activity(func(_ context.Context, card string) (string, error) {
		if card == "declined" || card == "declined once" && !declinedOnce.Swap(true) {
			return "", errors.New("card declined: 42")
		}
		return "charged " + card, nil
	}))
	app.Activity("Slow", durable.Activity(func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}))
	charge := durable.ActivityName[string, string]("Charge")
	app.Orchestrator("Order", durable.Orchestrator(func(ctx *task.OrchestrationContext, card string) (string, error) {
		for range 2 {
			if _, err := charge.Call(ctx, "card").Await(); err != nil {
				return "", err
			}
		}
		return charge.Call(ctx, card).Await()
	}))
	app.Orchestrator("Approval", durable.Orchestrator(func(ctx *task.OrchestrationContext, in string) (string, error) {
		if _, err := charge.Call(ctx, "deposit").Await(); err != nil {
			return "", err
		}
		slow := durable.ActivityName[string, string]("Slow").Call(ctx, in)
		_ = slow
		var answer string
		if err := ctx.WaitForSingleEvent("Approved", time.Hour).Await(&answer); err != nil {
			return "", err
		}
		return "approved by " + answer, nil
	}))
	app.Orchestrator("Batch", durable.Orchestrator(func(ctx *task.OrchestrationContext, cards []string) (int, error) {
		if _, err := durable.OrchestratorName[string, string]("Order").Call(ctx, "visa", durable.WithInstanceID(string(ctx.ID)+"-order")).Await(); err != nil {
			return 0, err
		}
		failed := 0
		for _, o := range durable.FanOut(ctx, charge, cards, nil) {
			if o.Err != nil {
				failed++
			}
		}
		durable.SetCustomStatus(ctx, map[string]int{"Total": len(cards), "Completed": len(cards), "Failed": failed})
		return failed, nil
	}))
	app.Queue("Intake", func(_ context.Context, m handler.Message) error {
		if strings.Contains(string(m.Body), "bad") {
			return errors.New("not an order: " + string(m.Body))
		}
		return nil
	})
	app.Entity("Basket", durable.Entity(durable.NewOperation(durable.EntityName[map[string]int]("Basket"), "put", func(b *map[string]int, _ context.Context, item string) (int, error) {
		if *b == nil {
			*b = map[string]int{}
		}
		(*b)[item]++
		return len(*b), nil
	})))
	app.Timer("Nightly", func(context.Context, handler.Timer) error { return nil })
	app.HTTP("Hello", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"hello":`+quote(r.URL.Query().Get("name"))+`}`)
	}))
	return app
}

// functions are the app's function.json files.
var functions = map[string]string{
	"Charge": `{"type":"activityTrigger","direction":"in","name":"input"}`, "Slow": `{"type":"activityTrigger","direction":"in","name":"input"}`,
	"Order": `{"type":"orchestrationTrigger","direction":"in","name":"context"}`, "Approval": `{"type":"orchestrationTrigger","direction":"in","name":"context"}`, "Batch": `{"type":"orchestrationTrigger","direction":"in","name":"context"}`,
	"Basket":  `{"type":"entityTrigger","direction":"in","name":"context"}`,
	"Intake":  `{"type":"queueTrigger","direction":"in","name":"message","queueName":"orders","connection":"OrdersStorage","dataType":"binary"}`,
	"Nightly": `{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 0 3 * * *"}`,
	"Hello":   `{"type":"httpTrigger","direction":"in","name":"req","methods":["get","post"],"authLevel":"anonymous"},{"type":"http","direction":"out","name":"res"}`,
}

// openPage starts some instances on a local host, and opens a browser on its page.
func openPage(t *testing.T) (browser context.Context, url string) {
	t.Helper()
	browser, url, _ = openData(t)
	return browser, url
}

// openData is openPage, and also returns the data directory.
func openData(t *testing.T) (browser context.Context, url, data string) {
	t.Helper()
	browser = openBrowser(t) // skips the test if there is no browser
	root, data := t.TempDir(), t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	for name, bindings := range functions {
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), `{"bindings":[`+bindings+`]}`)
	}
	h, err := newApp().Handler(handler.Options{Root: root, Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	host, err := local.Open(t.Context(), local.Options{Root: root, DataDir: data, Handler: h, MaxDeliveryCount: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(host.Handler())
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = host.Close(ctx)
	})
	for path, input := range map[string]string{"Order/order-1": `"visa"`, "Order/order-2": `"declined"`, "Approval/approval-1": `"x"`, "Approval/approval-2": `"x"`, "Order/hostile": quote(hostile)} {
		post(t, server.URL+"/runtime/webhooks/durabletask/orchestrators/"+path, input)
	}
	return browser, server.URL, data
}

// openBrowser opens a browser. It closes at the end of the test.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	chrome := ""
	for _, name := range []string{os.Getenv("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil && chrome == "" {
			chrome = path
		}
	}
	if chrome == "" {
		t.Skip("there is no chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chrome), chromedp.NoSandbox, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	browser, cancel := context.WithTimeout(browser, 3*time.Minute)
	t.Cleanup(cancel)
	return browser
}

func post(t *testing.T, url, body string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %s", url, response.Status)
	}
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// has waits until the page shows a text.
func has(text string) chromedp.Action {
	return chromedp.Poll(`document.getElementById("main").innerText.includes(`+quote(text)+`)`, nil, chromedp.WithPollingTimeout(time.Minute))
}

// is waits until an expression is true. The elements in it need not exist yet.
func is(expression string) chromedp.Action {
	return chromedp.Poll(`(() => { try { return `+expression+`; } catch { return false; } })()`, nil, chromedp.WithPollingTimeout(time.Minute))
}

// types replaces the text in a field, and notifies the page as a keyboard would.
func types(selector, text string) chromedp.Action {
	return chromedp.Tasks{chromedp.WaitVisible(selector), chromedp.Evaluate(`(() => {
		const field = document.querySelector(`+quote(selector)+`);
		field.value = `+quote(text)+`;
		field.dispatchEvent(new Event("input", { bubbles: true }));
	})()`, nil)}
}

// drawn waits until the drawer shows a text.
func drawn(text string) chromedp.Action {
	return is(`document.getElementById("drawer").open && document.getElementById("drawer").innerText.includes(` + quote(text) + `)`)
}

// click clicks the button with this label, in the question if one is open.
func click(label string) chromedp.Action {
	return chromedp.Click(`//button[normalize-space()=`+quote(label)+`]`, chromedp.BySearch)
}

// yes confirms the open question.
func yes() chromedp.Action { return chromedp.Click(`#form button[value=yes]`) }

// closed closes the drawer with the keyboard.
func closed() chromedp.Action {
	return chromedp.Tasks{chromedp.KeyEvent(kb.Escape), is(`!document.getElementById("drawer").open`)}
}

func shot(t *testing.T, name string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		if *screenshots == "" {
			return nil
		}
		var png []byte
		if err := chromedp.FullScreenshot(&png, 100).Do(ctx); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644)
	})
}

// steps runs actions. If one fails, the error says which one, and what the page showed then.
func steps(t *testing.T, browser context.Context, actions ...chromedp.Action) {
	t.Helper()
	for n, action := range actions {
		if err := chromedp.Run(browser, action); err != nil {
			var text string
			if chromedp.FromContext(browser).Target != nil { // otherwise the browser has not started
				_ = chromedp.Run(browser, chromedp.Evaluate(`document.body.innerText`, &text))
			}
			t.Fatalf("step %d: %v; the page shows\n%s", n+1, err, text)
		}
	}
}

// TestPage checks the list, a filter, a failed instance that shows its error first, a running instance that completes after an
// event, and that hostile payloads stay text.
func TestPage(t *testing.T) {
	browser, url := openPage(t)
	var title string
	var scripts int
	steps(t, browser,
		chromedp.Navigate(url),
		has("approval-1"),
		has("order-2"),
		chromedp.Poll(`document.querySelectorAll("tbody .status.Completed").length === 2 && document.querySelectorAll("tbody .status.Failed").length === 1`, nil, chromedp.WithPollingTimeout(time.Minute)),
		shot(t, "page-instances"),
		chromedp.Click(`//button[contains(., "Failed")]`, chromedp.BySearch),
		chromedp.Poll(`document.querySelectorAll("tr[data-row]").length === 1`, nil, chromedp.WithPollingTimeout(time.Minute)),
		chromedp.Click(`a[href="#/i/order-2"]`),
		has("It failed"),
		has("card declined: 42"),
		chromedp.WaitVisible(`.gantt .span.failed`),
		shot(t, "page-failed"),
		chromedp.Navigate(url+"#/i/hostile"),
		has("charged <img"),
		chromedp.Title(&title),
		chromedp.Evaluate(`document.querySelectorAll("main script, main img").length`, &scripts),
		chromedp.Navigate(url+"#/i/approval-1"),
		chromedp.WaitVisible(`.gantt .span.wait`),
		chromedp.WaitVisible(`.gantt .span.open`),
		shot(t, "page-running"),
		click("Raise event"),
		chromedp.SendKeys(`#f-event`, "Approved"),
		chromedp.SetValue(`#f-data`, `{"no`),
		click("Raise"),
		chromedp.Poll(`document.querySelector("dialog").innerText.includes("is not JSON")`, nil, chromedp.WithPollingTimeout(time.Minute)),
		chromedp.SetValue(`#f-data`, `"Ann"`),
		click("Raise"),
		has("approved by Ann"),
		has("EventRaised"),
	)
	if title == "owned" || scripts != 0 {
		t.Errorf("a payload became markup: title %q, %d elements", title, scripts)
	}
}

// TestSteer: suspend, resume, terminate, restart and purge work, each after a question.
func TestSteer(t *testing.T) {
	browser, url := openPage(t)
	steps(t, browser,
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Navigate(url+"#/i/approval-2"),
		has("Running"),
		click("Suspend"),
		chromedp.SendKeys(`#f-reason`, "stocktaking"),
		yes(),
		has("Suspended"),
		shot(t, "page-dark"),
		click("Resume"),
		yes(),
		has("ExecutionResumed"),
		click("Terminate"),
		chromedp.SendKeys(`#f-reason`, "no longer wanted"),
		yes(),
		has("It was terminated"),
		has("no longer wanted"),
		click("Purge"),
		yes(),
		chromedp.Poll(`location.hash === "#/"`, nil, chromedp.WithPollingTimeout(time.Minute)),
		has("approval-1"),
		chromedp.Poll(`!document.getElementById("main").innerText.includes("approval-2")`, nil, chromedp.WithPollingTimeout(time.Minute)),
		chromedp.Navigate(url+"#/i/order-1"),
		has("Completed"),
		click("Restart"),
		yes(),
		chromedp.Poll(`location.hash.startsWith("#/i/") && location.hash !== "#/i/order-1"`, nil, chromedp.WithPollingTimeout(time.Minute)),
		has("Completed"),
	)
}

// TestTryAgain: a failed instance is rewound and completes. It is started again with another input, in a new instance.
func TestTryAgain(t *testing.T) {
	browser, url := openPage(t)
	post(t, url+instances+"Order/rewound", quote("declined once"))
	steps(t, browser,
		chromedp.Navigate(url+"#/i/rewound"),
		has("It failed"),
		has("card declined: 42"),
		click("Rewind"),
		chromedp.SendKeys(`#f-reason`, "the card is good now"),
		yes(),
		is(`document.querySelector(".facts .status").innerText === "Completed"`),
		has("charged declined once"),
		is(`!document.getElementById("main").innerText.includes("It failed") && document.querySelector("button[data-key=Rewind]").disabled`),
		chromedp.Evaluate(`location.hash = "#/i/order-2"`, nil),
		is(`document.querySelector("h1").innerText === "order-2"`),
		has("It failed"),
		click("Start with changed input"),
		is(`document.getElementById("f-name").value === "Order" && document.getElementById("f-input").value === '"declined"'`),
		chromedp.SetValue(`#f-input`, `"visa`),
		yes(),
		is(`document.getElementById("form").innerText.includes("is not JSON")`),
		chromedp.SetValue(`#f-id`, "order-2-changed"),
		chromedp.SetValue(`#f-input`, `"visa"`),
		yes(),
		is(`location.hash === "#/i/order-2-changed" && document.querySelector("h1").innerText === "order-2-changed"`),
		has("charged visa"),
		is(`[...document.querySelectorAll("main > .two .payload")].some((p) => p.querySelector("h3").innerText === "Input" && p.querySelector(".content").innerText === "visa")`),
		chromedp.Click(`header a[href="#/"]`),
		has("order-2-changed"),
		is(`document.querySelectorAll("tbody .status.Completed").length === 4 && document.querySelectorAll("tbody .status.Failed").length === 1`),
	)
}
