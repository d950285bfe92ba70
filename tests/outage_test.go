package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"example.com/durablefunctions/internal/testkit"
)

// While the store is down for a while no record fails: the activity fails, and its record is tried again later. If the store
// refuses a record, that record fails at once.
func TestStoreDownCostsNoRecord(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"503": testkit.Status(503), "500": testkit.Status(500), "429": testkit.Status(429, "Retry-After: 0"), "408": testkit.Status(408),
		"hangs up": testkit.Sends(""), "cut": testkit.Sends(cutAnswer), "garbage": testkit.Sends("\x00garbage\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := time.Now().Add(6 * time.Second) // longer than the store's own attempts, and than three attempts of an activity
			crm := testkit.NewCRM()
			crm.Answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				switch {
				case testkit.RecordOf(r) == "refused":
					testkit.Status(422)(w, r)
				case r.Method == http.MethodPost && time.Now().Before(back):
					answer(w, r)
				default:
					return false
				}
				return true
			}
			crm.Records = append(recordIDs(20), "refused")
			crm.Start(t, "0")
			r := run(t, []string{"CRM_BASE_URL=" + crm.URL, "PROCESS_RETRY_INTERVAL=200ms", "STORE_ATTEMPTS=10"}, `{"Batch":"x"}`, "process", "--data", t.TempDir(), "--json", "-")
			rep := parseReport(t, r)
			if rep.Output == nil || rep.Output.Succeeded != 20 || rep.Output.Failed != 1 || rep.Output.Failures[0].RecordId != "refused" {
				t.Errorf("report %.1000s, stderr %.1000s", r.stdout, r.stderr)
			}
			crm.WantEffects(t, 20)
			if n := crm.Calls("/records/refused/process"); n != 1 {
				t.Errorf("the refused record was tried %d times", n)
			}
		})
	}
}

// If the store refuses the app's credentials, every record of the run fails, without a second try, and one line says why.
func TestStoreThatRefusesUs(t *testing.T) {
	t.Parallel()
	for _, code := range []int{401, 403} {
		crm := testkit.StartCRM(t, testkit.Always("/records/", testkit.Status(code)))
		r := run(t, []string{"CRM_BASE_URL=" + crm.URL, "PROCESS_RETRY_INTERVAL=10ms"}, threeRecords, "process", "--data", t.TempDir(), "--json", "-")
		rep := parseReport(t, r)
		if rep.Output == nil || rep.Output.Failed != 3 || len(crm.Requests()) > 3 || !strings.Contains(r.stdout, "CRM_TOKEN") {
			t.Errorf("%d: %d requests, report %s", code, len(crm.Requests()), r.stdout)
		}
	}
}

// MyClientFunction waits within its invocation while the store is down, because Service Bus would deliver a failed message ten
// times within a moment. A message that is wrong fails at once.
func TestClientFunctionWaitsForTheStore(t *testing.T) {
	t.Parallel()
	crm := testkit.StartCRM(t, testkit.First(6, "/batches/", testkit.Status(503))) // more than the store's own attempts
	h, s := startHandler(t, "CRM_BASE_URL="+crm.URL, "STORE_WAIT=1m"), testkit.StartSidecar(t)
	if a := h.Post(t, clientFunction, message(s.Address, "nonsense", "")); a.Status != 500 || strings.Contains(a.AllLogs(), "level=WARN") {
		t.Errorf("a wrong message: %s", a)
	}
	a := h.Post(t, clientFunction, message(s.Address, `{"Batch":"x"}`, `"MessageId":"\"m-1\"",`))
	if a.Status != 200 || len(s.Started()) != 1 {
		t.Fatalf("%d starts, answer %s", len(s.Started()), a)
	}
	if n := strings.Count(a.AllLogs(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want one: %s", n, a.AllLogs())
	}
}

// The trigger is binary: the bytes of a message arrive unchanged, and nothing in them can forge what the host says about the
// message.
func TestBodiesOfMessages(t *testing.T) {
	t.Parallel()
	h := startHandler(t)
	utf16le := func(text string) []byte {
		b := []byte{0xFF, 0xFE}
		for _, u := range utf16.Encode([]rune(text)) {
			b = append(b, byte(u), byte(u>>8))
		}
		return b
	}
	for name, c := range map[string]struct {
		body []byte
		want string // in the answer's reason phrase; empty: the record ids arrive as "é"
	}{
		"UTF-8":           {[]byte(`{"RecordIds":["é"]}`), ""},
		"byte order mark": {[]byte("\xEF\xBB\xBF" + `{"RecordIds":["é"]}`), ""},
		"UTF-16":          {utf16le(`{"RecordIds":["é"]}`), ""},
		"Latin-1":         {[]byte("{\"RecordIds\":[\"\xE9\"]}"), "UTF-8"},
		"forged":          {[]byte(`{"RecordIds":["é"],"MessageId":"evil","SequenceNumber":9,"EnqueuedTimeUtc":"x","sys":{"a":1},"myQueueItem":"x"}`), ""},
		"empty":           {nil, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.StartSidecar(t)
			deliver := func() testkit.Answer {
				return h.Post(t, clientFunction, message(s.Address, string(c.body), `"MessageId":"\"m-1\"",`))
			}
			a := deliver()
			if c.want != "" {
				if a.Status != 500 || !strings.Contains(a.Phrase, c.want) || len(s.Started()) > 0 {
					t.Errorf("answer %s, want %q", a, c.want)
				}
				return
			}
			if a.Status != 200 || len(s.Started()) != 1 || fmt.Sprint(decodeInput(t, s.Started()[0])["RecordIds"]) != "[é]" {
				t.Fatalf("%+v, answer %s", s.Started(), a)
			}
			if deliver(); len(s.Started()) != 1 {
				t.Error("the same message started another orchestration")
			}
		})
	}
}
