package crm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/durablefunctions/internal/testkit"
)

const testToken = "t0ken-of-the-test"

// server is a CRM, and how long the store would have waited between attempts.
type server struct {
	*testkit.CRM
	waits []time.Duration
}

type request = testkit.CRMRequest

// newREST starts a CRM that answers with handler. The handler is told which attempt it answers, from 1. The waits of the store
// between attempts are recorded and cut short.
func newREST(t *testing.T, handler func(w http.ResponseWriter, r *http.Request, attempt int)) (*REST, *server) {
	t.Helper()
	s := &server{CRM: testkit.NewCRM()}
	s.Answer = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		handler(w, r, len(s.Requests()))
		return true
	}
	s.Start(t, "0")
	store, err := NewREST(s.URL+"/api/", testToken, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	shortWait := func(min, max time.Duration, attempt int, resp *http.Response) time.Duration {
		s.waits = append(s.waits, boundedBackoff(min, max, attempt, resp))
		return time.Millisecond
	}
	store.batches.Backoff, store.records.Backoff = shortWait, shortWait
	return store, s
}

func answering(status int, body string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestRESTRecords(t *testing.T) {
	t.Parallel()
	const big = "123456789012345678901234567890"
	tests := map[string]struct {
		status  int
		body    string
		want    []string
		noBatch bool
		err     string
	}{
		"strings and numbers": {body: `{"RecordIds":["C-2", 17, "é", "17", -3, ` + big + `]}`, want: []string{"C-2", "17", "é", "17", "-3", big}},
		"other case":          {body: `{"recordIds":["a"],"next":null}`, want: []string{"a"}},
		"none":                {body: `{"RecordIds":[]}`, want: []string{}},

		"no such batch": {status: 404, body: `{"message":"gone"}`, noBatch: true, err: `batch "2026-10": no such batch`},
		"no list":       {body: `{}`, err: "has no RecordIds"},
		"null":          {body: `null`, err: "has no RecordIds"},
		"null list":     {body: `{"RecordIds":null}`, err: "has no RecordIds"},
		"fraction":      {body: `{"RecordIds":["a",1.5]}`, err: "RecordIds[1] is 1.5, not a string or a whole number"},
		"exponent":      {body: `{"RecordIds":[1e3]}`, err: "RecordIds[0]"},
		"null id":       {body: `{"RecordIds":[null]}`, err: "RecordIds[0]"},
		"empty id":      {body: `{"RecordIds":[""]}`, err: "RecordIds[0]"},
		"object":        {body: `{"RecordIds":[{"id":1}]}`, err: "RecordIds[0]"},
		"garbage":       {body: "<html>\nlogin</html>", err: "it is not {\"RecordIds\":[…]}"},
		"empty":         {body: "", err: "it is not {\"RecordIds\":[…]}"},
		"two values":    {body: `{"RecordIds":[]}{}`, err: "it is not {\"RecordIds\":[…]}"},
		"wrong token":   {status: 401, body: "who are you?", err: "who are you? (status 401 Unauthorized); check CRM_TOKEN"},
		"bad request":   {status: 400, body: `{"title":"bad batch"}`, err: "bad batch (status 400 Bad Request)"},
		"too large":     {body: strings.Repeat(" ", maxResponseBody+1), err: "larger than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := test.status
			if status == 0 {
				status = 200
			}
			store, server := newREST(t, answering(status, test.body))
			got, err := store.Records(t.Context(), "2026-10")
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if errors.Is(err, ErrNoBatch) != test.noBatch {
				t.Errorf("ErrNoBatch: %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantRequests := []request{{Method: "GET", Path: "/api/batches/2026-10/records", Authorization: "Bearer " + testToken}}
			if diff := cmp.Diff(wantRequests, server.Requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			checkError(t, err, server)
		})
	}
}

// checkError checks what holds for every error: it is one line without the token, with the host of the CRM unless it is about a
// record or a batch.
func checkError(t *testing.T, err error, server *server) {
	t.Helper()
	if err == nil {
		return
	}
	if strings.Contains(err.Error(), testToken) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q holds the token or a line break", err)
	}
	_, ofRecord := errors.AsType[*RecordError](err)
	host := strings.TrimPrefix(server.URL, "http://")
	if !ofRecord && !errors.Is(err, ErrNoBatch) && !strings.Contains(err.Error(), host) {
		t.Errorf("%q does not name %s", err, host)
	}
}

func TestRESTProcess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status   int
		body     string
		recordOf string // the record error
		err      string // any other error
	}{
		"done":             {status: 200, body: "whatever"},
		"no content":       {status: 204},
		"message":          {status: 422, body: `{"error":"x","message":"the e-mail\nis bad"}`, recordOf: "record C-1 was refused by the CRM: the e-mail is bad (status 422 Unprocessable Entity)"},
		"error":            {status: 423, body: `{"error":"it is locked","title":"x"}`, recordOf: "record C-1 was refused by the CRM: it is locked (status 423 Locked)"},
		"title":            {status: 400, body: `{"type":"about:blank","title":"Bad id"}`, recordOf: "record C-1 was refused by the CRM: Bad id (status 400 Bad Request)"},
		"nested":           {status: 400, body: `{"error":{"code":"E1"}}`, recordOf: `record C-1 was refused by the CRM: {"error":{"code":"E1"}} (status 400 Bad Request)`},
		"plain text":       {status: 404, body: "not here\r\n", recordOf: "record C-1 was refused by the CRM: not here (status 404 Not Found)"},
		"no words":         {status: 404, recordOf: "record C-1 was refused by the CRM: status 404 Not Found"},
		"many words":       {status: 400, body: strings.Repeat("x", 2000), recordOf: "record C-1 was refused by the CRM: " + strings.Repeat("x", 499) + "… (status 400 Bad Request)"},
		"token in it":      {status: 400, body: "bad token " + testToken, recordOf: "record C-1 was refused by the CRM: bad token (token) (status 400 Bad Request)"},
		"redirect":         {status: 302, err: "status 302 Found; redirects are not followed"},
		"too large answer": {status: 200, body: strings.Repeat("x", maxResponseBody+1), err: "larger than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, server := newREST(t, answering(test.status, test.body))
			err := store.Process(t.Context(), "job-1", "C-1")
			switch {
			case test.recordOf != "":
				wantRecordError(t, err, test.recordOf)
			case test.err != "":
				wantStoreError(t, err, test.err)
			case err != nil:
				t.Error(err)
			}
			wantRequests := []request{{
				Method: "POST", Path: "/api/records/C-1/process", Key: "job-1/C-1", Authorization: "Bearer " + testToken, Body: `{"JobId":"job-1"}`,
			}}
			if diff := cmp.Diff(wantRequests, server.Requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			checkError(t, err, server)
		})
	}
}

func wantStoreError(t *testing.T, err error, want string) {
	t.Helper()
	if _, ok := errors.AsType[*RecordError](err); err == nil || ok || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error of the store with %q", err, want)
	}
}

func TestRESTEscapes(t *testing.T) {
	t.Parallel()
	store, server := newREST(t, answering(200, `{"RecordIds":[]}`))
	if _, err := store.Records(t.Context(), "a/b ?#%é"); err != nil {
		t.Error(err)
	}
	if err := store.Process(t.Context(), "job:ä", "../x;y"); err != nil {
		t.Error(err)
	}
	want := []request{
		{Method: "GET", Path: "/api/batches/a%2Fb%20%3F%23%25%C3%A9/records", Authorization: "Bearer " + testToken},
		{Method: "POST", Path: "/api/records/..%2Fx%3By/process", Key: "job:ä/../x;y", Authorization: "Bearer " + testToken, Body: `{"JobId":"job:ä"}`},
	}
	if diff := cmp.Diff(want, server.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// Two records never have the same key, whatever HTTP does to the ends of a header.
func TestRESTKeys(t *testing.T) {
	t.Parallel()
	store, server := newREST(t, answering(200, ""))
	ids := []string{"1", "1 ", "1\u00a0", "1%20", "1%2520", "é", "a/b"}
	for _, id := range ids {
		if err := store.Process(t.Context(), "job", id); err != nil {
			t.Error(err)
		}
	}
	keys := map[string]string{}
	for i, r := range server.Requests() {
		if other, ok := keys[r.Key]; ok {
			t.Errorf("%q and %q have the key %q", other, ids[i], r.Key)
		}
		keys[r.Key] = ids[i]
	}
	if keys["job/1"] != "1" || keys["job/é"] != "é" || keys["job/a/b"] != "a/b" || len(keys) != len(ids) {
		t.Errorf("keys %q", keys)
	}
}

func TestRESTIDsThatNoURLCarries(t *testing.T) {
	t.Parallel()
	store, server := newREST(t, answering(200, `{"RecordIds":["a"]}`))
	for _, id := range []string{"", ".", "..", "a\nb", "a\x00"} {
		if _, err := store.Records(t.Context(), id); !errors.Is(err, ErrNoBatch) {
			t.Errorf("batch %q: %v", id, err)
		}
		if _, ok := errors.AsType[*RecordError](store.Process(t.Context(), "job", id)); !ok {
			t.Errorf("record %q is not refused", id)
		}
		wantStoreError(t, store.Process(t.Context(), id, "C-1"), "job id")
	}
	if len(server.Requests()) != 0 {
		t.Errorf("requests: %v", server.Requests())
	}
}

func TestRESTRetries(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter) { // the connection, before an answer
		panic(http.ErrAbortHandler)
	}
	cutBody := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	status := func(status int, retryAfter string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			w.WriteHeader(status)
		}
	}
	const half = time.Second / 2
	tests := map[string]struct {
		bad      func(http.ResponseWriter)
		times    int // bad answers before the good ones
		attempts int
		waits    []time.Duration
		err      string
	}{
		"500 once":            {bad: status(500, ""), times: 1, attempts: 2, waits: []time.Duration{half}},
		"501 once":            {bad: status(501, ""), times: 1, attempts: 2, waits: []time.Duration{half}},
		"503 to the end":      {bad: status(503, ""), times: 9, attempts: 4, waits: []time.Duration{half, 2 * half, 4 * half}, err: "no good answer in 4 attempts, the last: status 503 Service Unavailable"},
		"429 to the end":      {bad: status(429, ""), times: 9, attempts: 4, waits: []time.Duration{half, 2 * half, 4 * half}, err: "status 429 Too Many Requests"},
		"429 thrice":          {bad: status(429, "7"), times: 3, attempts: 4, waits: []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second}},
		"503, in an hour":     {bad: status(503, "3600"), times: 1, attempts: 2, waits: []time.Duration{maxRetryWait}},
		"503, in 300 years":   {bad: status(503, "9999999999"), times: 1, attempts: 2, waits: []time.Duration{maxRetryWait}},
		"503, at a far date":  {bad: status(503, "Fri, 31 Dec 2199 23:59:59 GMT"), times: 1, attempts: 2, waits: []time.Duration{maxRetryWait}},
		"503, at a past date": {bad: status(503, "Fri, 31 Dec 1999 23:59:59 GMT"), times: 1, attempts: 2, waits: []time.Duration{0}},
		"503, at no date":     {bad: status(503, "soon"), times: 1, attempts: 2, waits: []time.Duration{half}},
		"cut twice":           {bad: cut, times: 2, attempts: 3, waits: []time.Duration{half, 2 * half}},
		"cut to the end":      {bad: cut, times: 9, attempts: 4, waits: []time.Duration{half, 2 * half, 4 * half}, err: "no good answer in 4 attempts, the last: EOF"},
		"body cut once":       {bad: cutBody, times: 1, attempts: 2, waits: []time.Duration{half}},
		"body cut to the end": {bad: cutBody, times: 9, attempts: 4, waits: []time.Duration{half, 2 * half, 4 * half}, err: "unexpected EOF"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, server := newREST(t, func(w http.ResponseWriter, _ *http.Request, attempt int) {
				if attempt <= test.times {
					test.bad(w)
				}
			})
			err := store.Process(t.Context(), "job-1", "C-1")
			if test.err != "" {
				wantStoreError(t, err, test.err)
			} else if err != nil {
				t.Error(err)
			}
			checkError(t, err, server)
			if diff := cmp.Diff(test.waits, server.waits); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
			if len(server.Requests()) != test.attempts {
				t.Errorf("%d attempts, want %d", len(server.Requests()), test.attempts)
			}
			for _, request := range server.Requests() {
				if request.Key != "job-1/C-1" || request.Body != `{"JobId":"job-1"}` {
					t.Errorf("an attempt differs: %+v", request)
				}
			}
		})
	}
}

func TestRESTNobodyListens(t *testing.T) {
	t.Parallel()
	store, server := newREST(t, answering(200, ""))
	server.Close()
	err := store.Process(t.Context(), "job", "C-1")
	wantStoreError(t, err, "no good answer in 4 attempts")
	checkError(t, err, server)
}

// TestRESTSlow has a CRM that does not answer until the test ends.
func TestRESTSlow(t *testing.T) {
	t.Parallel()
	newSlow := func(t *testing.T) (*REST, *server) {
		end := make(chan struct{})
		store, server := newREST(t, func(http.ResponseWriter, *http.Request, int) { <-end })
		t.Cleanup(func() { close(end) })
		return store, server
	}
	t.Run("deadline of the caller", func(t *testing.T) {
		t.Parallel()
		store, server := newSlow(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := store.Process(ctx, "job", "C-1")
		if !errors.Is(err, context.DeadlineExceeded) || len(server.waits) != 0 {
			t.Errorf("after %d waits: %v", len(server.waits), err)
		}
		checkError(t, err, server)
	})
	t.Run("timeout of an attempt", func(t *testing.T) {
		t.Parallel()
		store, server := newSlow(t)
		store.records.HTTPClient.Timeout, store.batches.HTTPClient.Timeout = 20*time.Millisecond, 20*time.Millisecond
		err := store.Process(t.Context(), "job", "C-1")
		if _, ok := errors.AsType[*UnavailableError](err); !ok || len(server.waits) != 0 {
			t.Errorf("after %d waits: %v; a record is not sent again while the CRM may be at it", len(server.waits), err)
		}
		checkError(t, err, server)
		if _, err := store.Records(t.Context(), "b"); len(server.waits) != 3 {
			t.Errorf("%d waits, want 3 for a batch: %v", len(server.waits), err)
		} else {
			wantStoreError(t, err, "no good answer in 4 attempts")
		}
	})
}

// TestRESTEnded: a context that ends while the store waits for the next attempt ends the wait.
func TestRESTEnded(t *testing.T) {
	t.Parallel()
	t.Run("deadline between attempts", func(t *testing.T) {
		t.Parallel()
		store, server := newREST(t, answering(503, ""))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		store.records.Backoff = func(time.Duration, time.Duration, int, *http.Response) time.Duration { return time.Hour }
		err := store.Process(ctx, "job", "C-1")
		if _, ok := errors.AsType[*UnavailableError](err); !ok || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "503") {
			t.Errorf("got %v, want that the store is down", err)
		}
		checkError(t, err, server)
	})
	t.Run("cancelled while it waits", func(t *testing.T) {
		t.Parallel()
		store, server := newREST(t, answering(503, ""))
		ctx, cancel := context.WithCancel(t.Context())
		store.records.Backoff = func(time.Duration, time.Duration, int, *http.Response) time.Duration {
			cancel()
			return time.Hour
		}
		err := store.Process(ctx, "job", "C-1")
		if !errors.Is(err, context.Canceled) || len(server.Requests()) != 1 {
			t.Errorf("after %d requests: %v", len(server.Requests()), err)
		}
		checkError(t, err, server)
	})
}

// TestRESTKeepsTokenFromOtherHosts has a CRM that redirects elsewhere.
func TestRESTKeepsTokenFromOtherHosts(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s reached the other host, token %t", r.Method, r.URL, r.Header.Get("Authorization") != "")
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		store, server := newREST(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, other.URL+r.URL.Path, status)
		})
		_, err := store.Records(t.Context(), "2026-10")
		wantStoreError(t, err, fmt.Sprintf("(status %d", status))
		checkError(t, err, server)
		err = store.Process(t.Context(), "job", "C-1")
		wantStoreError(t, err, "redirects are not followed")
		checkError(t, err, server)
	}
}

func TestRESTWithoutToken(t *testing.T) {
	t.Parallel()
	_, server := newREST(t, answering(200, ""))
	store, err := NewREST(server.URL, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Process(t.Context(), "job", "C-1"); err != nil {
		t.Fatal(err)
	}
	if got := server.Requests()[0]; got.Authorization != "" || got.Path != "/records/C-1/process" {
		t.Errorf("got %+v", got)
	}
}

func TestNewREST(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"http://127.0.0.1:8080", "https://crm.example.com/", "HTTPS://crm.example.com/api/v1", "http://[::1]:80/x"} {
		if _, err := NewREST(base, "t", 0); err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
	for _, base := range []string{
		"", "crm.example.com", "/api", "//crm.example.com", "ftp://crm.example.com", "http:crm", "http://", "http://:80", "http://a b",
		"https://user:s3cret@crm.example.com", "https://crm.example.com?code=s3cret", "https://crm.example.com?", "https://crm.example.com#s3cret",
		"https://user:s3cret@crm.example.com:port",
	} {
		if _, err := NewREST(base, "t", 0); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", base, err)
		}
	}
	for _, token := range []string{"s3cret token", "s3cret\r\nX-Evil: 1", "s3crét", "s3cret\x00"} {
		if _, err := NewREST("https://crm.example.com", token, 0); err == nil || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

func FuzzRecordIDs(f *testing.F) {
	for _, seed := range []string{`{"RecordIds":["C-001",17,-3]}`, `{"RecordIds":[null,"",1.5,1e3,{}]}`, `{"recordids":["\ud800"]}`, `null`, `[`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := recordIDs(body)
		if err != nil {
			return
		}
		// What has been read can be written again, and reading that gives the same.
		again, err := json.Marshal(map[string]any{"RecordIds": ids})
		if err != nil {
			t.Fatal(err)
		}
		same, err := recordIDs(again)
		if diff := cmp.Diff(ids, same); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{`{"message":"a"}`, `{"Error":{"code":1},"title":"b"}`, "plain\x00text\n", `[]`, ``, "\xff", "\xff" + testToken + testToken} {
		f.Add([]byte(seed))
	}
	store := &REST{token: testToken}
	f.Fuzz(func(t *testing.T, body []byte) {
		words := store.words(answer{status: 400, body: body})
		if strings.ContainsAny(words, "\r\n\x00") || len([]rune(words)) > maxRefusal+100 || strings.Contains(words, testToken) {
			t.Errorf("%q became %q", body, words)
		}
	})
}

func ExampleREST() {
	// A CRM of one batch.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /batches/{batch}/records", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("batch") != "2026-11" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, `{"RecordIds":["C-001",17]}`)
	})
	mux.HandleFunc("POST /records/{id}/process", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "17" {
			http.Error(w, `{"message":"the account is closed"}`, http.StatusUnprocessableEntity)
		}
	})
	crm := httptest.NewServer(mux)
	defer crm.Close()

	store, err := NewREST(crm.URL, "", 0) // an app calls Open
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ids, err := store.Records(context.Background(), "2026-11")
	fmt.Println(ids, err)
	for _, id := range ids {
		fmt.Println(store.Process(context.Background(), "job-1", id))
	}
	_, err = store.Records(context.Background(), "2026-12")
	fmt.Println(err)
	// Output:
	// [C-001 17] <nil>
	// <nil>
	// record 17 was refused by the CRM: the account is closed (status 422 Unprocessable Entity)
	// batch "2026-12": no such batch
}

// TestRESTUnavailable: what may succeed later is a failure of the store and not of the record, and a store that refuses this
// program is asked only once.
func TestRESTUnavailable(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		unavailable bool
		calls       int64 // of two records
	}{
		400: {false, 2}, 401: {false, 1}, 403: {false, 1}, 404: {false, 2}, 408: {true, 2}, 409: {true, 2}, 422: {false, 2}, 425: {true, 2},
	} {
		var calls atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
		}))
		store, err := NewREST(server.URL, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			err := store.Process(t.Context(), "job", id)
			if _, ok := errors.AsType[*UnavailableError](err); ok != want.unavailable || err == nil {
				t.Errorf("%d: %v", status, err)
			}
		}
		if calls.Load() != want.calls {
			t.Errorf("%d: %d calls, want %d", status, calls.Load(), want.calls)
		}
		server.Close()
		_ = store.Close()
	}
}

// TestRESTAttempts: a request whose connection breaks is sent as often as promised, and net/http adds no attempts.
func TestRESTAttempts(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			return // the connection is kept
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	defer server.Close()
	store, err := NewREST(server.URL, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	store.records.RetryWaitMin, store.records.RetryWaitMax = time.Millisecond, time.Millisecond
	if err := store.Process(t.Context(), "job", "a"); err != nil {
		t.Fatal(err)
	}
	if err := store.Process(t.Context(), "job", "b"); !errors.As(err, new(*UnavailableError)) {
		t.Errorf("got %v", err)
	}
	if n := calls.Load() - 1; n != maxAttempts {
		t.Errorf("%d requests, want %d", n, maxAttempts)
	}
}

// TestTokenInTheClear: the token goes over plain http to this machine only.
func TestTokenInTheClear(t *testing.T) {
	t.Parallel()
	for base, ok := range map[string]bool{"http://127.0.0.1:1": true, "http://localhost": true, "http://[::1]:2": true, "https://crm.example.com": true,
		"http://crm.example.com": false, "http://10.0.0.1": false, "http://localhost.example.com": false} {
		if _, err := NewREST(base, "secret", 0); (err == nil) != ok {
			t.Errorf("%s: %v", base, err)
		}
	}
	if _, err := NewREST("http://crm.example.com", "", 0); err != nil {
		t.Error(err)
	}
}
