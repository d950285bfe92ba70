package browser

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	_ "modernc.org/sqlite"

	"example.com/durablefunctions/handler/payload"
)

const instances = "/runtime/webhooks/durabletask/orchestrators/"

func dark() chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}})
}

// TestFanOut: a fan-out is one line until the user unfolds it, each activity shows its input, output and error, and an ended
// child and its parent link to each other.
func TestFanOut(t *testing.T) {
	browser, url := openPage(t)
	cards := strings.Repeat(`"visa",`, 30) + `"declined","declined"`
	post(t, url+instances+"Batch/batch-1", "["+cards+"]")
	steps(t, browser,
		chromedp.Navigate(url+"#/i/batch-1"),
		has("Completed"),
		has("32 of 32, 2 failed"),
		has("×30"),
		has("card declined: 42"),
		is(`document.querySelectorAll(".gantt .line").length === 4`), // the child, the folded line, and two that failed
		shot(t, "page-fanout"),
		chromedp.Click(`.line.failed .name button`),
		drawn("card declined: 42"),
		is(`[...document.querySelectorAll("#drawer .payload")].some((p) => p.innerText.includes("Input") && p.innerText.includes("declined"))`),
		closed(),
		chromedp.Click(`.gantt .fold`),
		is(`document.querySelectorAll(".gantt .line").length === 33`),
		chromedp.Click(`.line.done:not(:has(a)) .name button`),
		drawn("charged visa"),
		is(`[...document.querySelectorAll("#drawer .payload")].some((p) => p.innerText.includes("Input") && p.innerText.includes("visa"))`),
		closed(),
		click("Fold"),
		is(`document.querySelectorAll(".gantt .line").length === 4`),
		chromedp.Click(`a[href="#/i/batch-1-order"]`),
		is(`location.hash === "#/i/batch-1-order"`),
		is(`document.querySelector("h1").innerText === "batch-1-order"`),
		chromedp.Click(`.crumbs a[href="#/i/batch-1"]`),
		is(`document.querySelector("h1").innerText === "batch-1"`),
	)
}

// TestFunctions shows the functions and the missing settings, runs a timer, calls an HTTP function and starts an orchestration.
func TestFunctions(t *testing.T) {
	browser, url := openPage(t)
	steps(t, browser,
		chromedp.Navigate(url+"#/functions"),
		has("Nightly"),
		has("0 0 3 * * *"),
		has("/api/Hello"),
		has("OrdersStorage"),
		has("FUNCTIONS_WORKER_RUNTIME is missing"),
		shot(t, "page-functions"),
		chromedp.Click(`button[aria-label="Run now: Nightly"]`),
		is(`document.getElementById("toast").innerText === "Nightly ran."`),
		chromedp.Click(`button[aria-label="Call: Hello"]`),
		chromedp.SetValue(`#f-path`, "/api/Hello?name=<b>Ann"),
		yes(),
		drawn("200"),
		drawn("<b>Ann"),
		closed(),
		chromedp.Click(`button[aria-label="Call: Hello"]`),
		chromedp.SetValue(`#f-path`, "//evil.example/"),
		yes(),
		is(`document.getElementById("toast").innerText.includes("must begin with one slash")`),
		chromedp.Click(`button[data-key="Hello"]`),
		drawn("authLevel anonymous"),
		closed(),
		chromedp.Click(`button[aria-label="Start: Order"]`),
		chromedp.SetValue(`#f-id`, "started-here"),
		chromedp.SetValue(`#f-input`, `"visa"`),
		yes(),
		is(`location.hash === "#/i/started-here"`),
		has("Completed"),
	)
}

// TestMessages: a message that its function refuses is a dead letter. Its body is shown as text. It is edited and put back.
func TestMessages(t *testing.T) {
	browser, url := openPage(t)
	var title string
	steps(t, browser,
		chromedp.Navigate(url+"#/messages"),
		has("No dead letters"),
		click("Send a message"),
		chromedp.SetValue(`#f-body`, `{"order": 17, "note": "bad `+strings.ReplaceAll(hostile, `"`, `\"`)+`"}`),
		yes(),
		has("not an order"),
		is(`document.getElementById("dead").innerText === "1" && !document.getElementById("dead").hidden`),
		dark(),
		shot(t, "page-messages"),
		chromedp.Click(`tr[data-row] button`),
		drawn("Why the function did not take it"),
		drawn("order: 17"),
		click("Edit and put back"),
		chromedp.SetValue(`#f-body`, `{"order": 17, "note": "good"}`),
		yes(),
		has("No dead letters"),
		is(`document.getElementById("dead").hidden`),
		chromedp.Title(&title),
	)
	if !strings.HasPrefix(title, "Messages") {
		t.Errorf("a message became markup: %q", title)
	}
}

// TestEntities: an entity is listed with its state, is signalled and is deleted.
func TestEntities(t *testing.T) {
	browser, url := openPage(t)
	post(t, url+"/runtime/webhooks/durabletask/entities/basket/ann?op=put", quote("<b>tea"))
	steps(t, browser,
		chromedp.Navigate(url+"#/entities"),
		has("basket"),
		chromedp.Click(`tr[data-row] button`),
		drawn("<b>tea: 1"),
		click("Signal"),
		chromedp.SetValue(`#f-operation`, "put"),
		chromedp.SetValue(`#f-input`, `"milk"`),
		yes(),
		has("milk"),
		types(`input[type=search]`, "bob"),
		has("Nothing matches"),
		types(`input[type=search]`, "ANN"),
		chromedp.Click(`tr[data-row] button`),
		drawn("milk"),
		click("Delete"),
		yes(),
		types(`input[type=search]`, ""),
		has("No entities"),
	)
}

// many is the number of instances and events in TestLarge.
const many = 10000

// fill adds many instances to the task hub, and one with a history of as many events, which are copies of another instance's
// events.
func fill(t *testing.T, data string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "taskhub.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	numbers := fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", many)
	for _, statement := range []string{
		numbers + `INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root)
			SELECT printf('many-%05d', i), 'x', CASE i % 100 WHEN 0 THEN 'Rare' ELSE 'Common' END, CASE i % 50 WHEN 0 THEN 3 ELSE 1 END, 1700000000000000000 + i * 1000000000, 1700000001000000000 + i * 1000000000, '"x"', '', printf('many-%05d', i) FROM n`,
		`INSERT INTO instances (id, execution, name, status, created, updated, input, parent, root) SELECT 'long', 'long', name, status, created, updated, input, '', 'long' FROM instances WHERE id = 'order-1'`,
		numbers + `INSERT INTO history (instance, seq, payload) SELECT 'long', i * 100 + seq, payload FROM history, n WHERE instance = 'order-1'`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLarge: of 10,000 instances, and of as many events, only the visible ones are elements of the page, and the user can reach
// all of them.
func TestLarge(t *testing.T) {
	browser, url, data := openData(t)
	steps(t, browser, chromedp.Navigate(url), has("order-1"), is(`document.querySelectorAll("tbody .status.Completed").length === 2`))
	fill(t, data)
	steps(t, browser,
		chromedp.Navigate(url+"?again"),
		has("many-"),
		is(`document.querySelector(".tile:nth-child(5) b").innerText.replace(/\D/g, "") >= 9000`),
		is(`document.querySelectorAll("*").length < 1500`),
		types(`input[type=search]`, "rare"),
		is(`document.querySelector(".foot").innerText.startsWith("100 instances")`),
		is(`[...document.querySelectorAll("tr[data-row]")].every((r) => r.innerText.includes("Rare"))`),
		types(`input[type=search]`, ""),
		types(`input[aria-label="Id begins with"]`, "many-0999"),
		is(`document.querySelector(".foot").innerText.startsWith("10 instances")`),
		chromedp.Evaluate(`location.hash = "#/?prefix=many-"`, nil),
		// Scroll down to the last one; each time the page loads more.
		chromedp.Poll(`(() => { scrollTo(0, document.body.scrollHeight); return document.querySelector(".foot").innerText.startsWith("10,000 instances") && document.getElementById("main").innerText.includes("many-00001"); })()`, nil, chromedp.WithPollingTimeout(2*time.Minute), chromedp.WithPollingInterval(50*time.Millisecond)),
		is(`document.querySelectorAll("*").length < 1500`),
		chromedp.Evaluate(`scrollTo(0, 0)`, nil),
		has("many-10000"),
		chromedp.Evaluate(`location.hash = "#/i/long"`, nil),
		is(`Number(document.querySelector(".inset .quiet").innerText.replace(/\D/g, "")) >= 10000`),
		is(`document.querySelectorAll("*").length < 3000`),
		has("×"), // the line is folded
		chromedp.Evaluate(`document.querySelector(".scroll.inside").scrollTop = 1e9`, nil),
		is(`Number([...document.querySelectorAll("tr[data-row]")].at(-1).dataset.row) >= 9999`),
		types(`input[aria-label="Find in the history"]`, "executionstarted"),
		is(`[...document.querySelectorAll("tr[data-row]")].every((r) => r.innerText.includes("ExecutionStarted"))`),
		is(`document.querySelectorAll("*").length < 3000`),
	)
}

// TestPayloads: a compressed payload is shown decompressed, a large one is cut and can be downloaded, numbers do not change, and
// nothing in a payload, an id or an error becomes markup.
func TestPayloads(t *testing.T) {
	browser, url := openPage(t)
	post(t, url+instances+"Order/packed", quote(payload.Compress(`{"RecordIds":["C-001"],"n":12345678901234567890,"d":1.0}`)))
	post(t, url+instances+"Order/large", quote(strings.Repeat("0123456789", 10000)))
	post(t, url+instances+"Order/deep", `{"a":{"b":{"c":[1,2,{"d":`+quote(hostile)+`}]}},"list":[`+strings.Repeat("1,", 999)+`1]}`)
	post(t, url+instances+`%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E/%3Cb%3Ebold`, `"x"`)
	var owned bool
	steps(t, browser,
		chromedp.Navigate(url),
		has("<img src=x onerror=alert(1)>"),
		chromedp.Evaluate(`location.hash = "#/i/packed"`, nil),
		has("was compressed"),
		has("12345678901234567890"),
		has("1.0"),
		has("C-001"),
		chromedp.Evaluate(`location.hash = "#/i/large"`, nil),
		has("characters more: download it to see all."),
		is(`[...document.querySelectorAll(".payload button")].some((b) => b.innerText === "Download")`),
		is(`document.getElementById("main").innerText.length < 60000`),
		chromedp.Evaluate(`location.hash = "#/i/deep"`, nil),
		has("900 more"),
		chromedp.Evaluate(`location.hash = "#/i/%3Cb%3Ebold"`, nil),
		is(`document.querySelector("h1").innerText === "<b>bold"`),
		has("It failed"),
		chromedp.Evaluate(`document.title === "owned" || document.querySelectorAll("main img, main b b, main script, h1 b").length > 0`, &owned),
	)
	if owned {
		t.Error("what the app says became markup")
	}
}

// TestKeyboard: everything can be reached without a pointer; a question takes the focus and gives it back.
func TestKeyboard(t *testing.T) {
	browser, url := openPage(t)
	focused := func(expression string) chromedp.Action {
		return is(`(() => { const a = document.activeElement; return ` + expression + `; })()`)
	}
	steps(t, browser,
		chromedp.Navigate(url),
		has("order-2"),
		chromedp.Evaluate(`document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true, cancelable: true }))`, nil),
		focused(`a.type === "search"`),
		chromedp.KeyEvent("order-2"),
		is(`document.querySelectorAll("tr[data-row]").length === 1`),
		chromedp.Focus(`tr[data-row] input`),
		chromedp.KeyEvent(" "),
		has("1 instance selected"),
		chromedp.KeyEvent("\t"),
		focused(`a.innerText === "order-2"`),
		chromedp.KeyEvent(kb.Enter),
		has("It failed"),
		chromedp.Focus(`button[data-key=Rewind]`),
		chromedp.KeyEvent(kb.Enter),
		focused(`a.id === "f-reason"`),
		chromedp.KeyEvent(kb.Escape),
		focused(`a.dataset.key === "Rewind"`),
		chromedp.Focus(`.line.failed .name button`),
		chromedp.KeyEvent(kb.Enter),
		drawn("card declined"),
		closed(),
		focused(`a.closest(".line.failed") !== null`),
		// Every control has a name, and every symbol of a status has a text.
		is(`[...document.querySelectorAll("button, input, select, a")].every((e) => e.innerText.trim() || e.getAttribute("aria-label") || e.labels?.length)`),
	)
}

// TestBulk terminates and purges the selected instances. Each action applies to those for which it is possible.
func TestBulk(t *testing.T) {
	browser, url := openPage(t)
	steps(t, browser,
		chromedp.Navigate(url),
		has("approval-2"),
		is(`document.querySelectorAll("tbody .status.Running").length === 2 && document.querySelectorAll("tbody .status.Completed").length === 2`),
		chromedp.Click(`thead input`),
		has("5 instances selected"),
		click("Terminate 2"),
		chromedp.SendKeys(`#f-reason`, "closing time"),
		yes(),
		is(`document.querySelectorAll("tbody .status.Terminated").length === 2`),
		click("Purge 5"),
		yes(),
		has("No instances yet"),
	)
}

// TestNarrow: on a telephone nothing is wider than the screen, in both themes.
func TestNarrow(t *testing.T) {
	browser, url := openPage(t)
	post(t, url+instances+"Order/"+strings.Repeat("long-", 18), quote(strings.Repeat("x", 300)))
	fits := is(`document.documentElement.scrollWidth <= innerWidth`)
	actions := []chromedp.Action{chromedp.EmulateViewport(390, 844), dark(), chromedp.Navigate(url), has("order-2"), fits, shot(t, "page-narrow")}
	for hash, text := range map[string]string{"#/functions": "Nightly", "#/messages": "No dead letters", "#/entities": "No entities", "#/i/approval-1": "Timeline", "#/i/" + strings.Repeat("long-", 18): "Timeline"} {
		actions = append(actions, chromedp.Evaluate(`location.hash = `+quote(hash), nil), has(text), fits)
	}
	steps(t, browser, append(actions, shot(t, "page-narrow-instance"))...)
}
