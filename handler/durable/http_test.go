package durable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
)

// recordedCall is one turn of an orchestration that makes a durable HTTP call, as the real host sent it.
type recordedCall struct {
	instance string
	request  string
	answer   *backend.ExecutionResults
}

func recordedCalls(t *testing.T) (calls []recordedCall) {
	t.Helper()
	text, err := os.ReadFile("testdata/http-calls.jsonl") // of the recordings of extension 3.19, actions.jsonl
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var recorded struct {
			Request, Response string
			Decoded           struct{ InstanceID string }
		}
		var answer struct{ ReturnValue string }
		if err := errors.Join(json.Unmarshal(line, &recorded), json.Unmarshal([]byte(recorded.Response), &answer)); err != nil {
			t.Fatal(err)
		}
		actions, err := wire.DecodeActions(answer.ReturnValue)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, recordedCall{recorded.Decoded.InstanceID, recorded.Request, actions})
	}
	return calls
}

func (c recordedCall) replay(t *testing.T, o task.Orchestrator) replay.Result {
	t.Helper()
	request, err := wire.DecodeRequest([]byte(c.request))
	if err != nil {
		t.Fatal(err)
	}
	turn, err := wire.DecodeTurn(wire.Text(request.Data["context"]))
	if err != nil {
		t.Fatal(err)
	}
	if turn.HTTPPause != 30*time.Second {
		t.Errorf("the host's pause is %s", turn.HTTPPause)
	}
	return replay.Run(turn, o, slog.New(slog.DiscardHandler))
}

// The call goes out as the real host took it, and its recorded answer comes back.
func TestRecordedHTTPCalls(t *testing.T) {
	t.Parallel()
	const base = "http://127.0.0.1:7319"
	requests := map[string]durable.HTTPRequest{
		"http3": {URL: base + "/x"},
		"http6": {Method: "POST", URL: base + "/p?q=1", Header: durable.HTTPHeader{"Content-Type": {"application/json"}, "X-H": {"a", "b"}}, Body: `{"a": 1.50}`},
		"http7": {URL: base + "/async"},
		"http9": {Method: "PATCH", URL: base + "/x", Timeout: 2 * time.Second},
	}
	found := `200 1 {"d":"2026-11-22T10:11:12+02:00","n":1.50} BaseHTTP/0.6 Python/3.11.7`
	wants := map[string]string{"http3": found, "http6": found, "http9": "501  <!DOCTYPE HTML>"}
	played := 0
	for _, call := range recordedCalls(t) {
		o := durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
			r, err := durable.CallHTTP(ctx, requests[call.instance]).Await()
			return fmt.Sprint(r.StatusCode, " ", r.Header.Get("x-a"), " ", r.Body, " ", strings.Join(r.Header["Server"], " ")), err
		})
		actions := call.replay(t, o).Response.Actions
		if len(call.answer.Response.Actions) == 1 {
			var sent, recorded []map[string]any
			if err := errors.Join(json.Unmarshal([]byte(actions[0].GetScheduleTask().GetInput().GetValue()), &sent),
				json.Unmarshal([]byte(call.answer.Response.Actions[0].GetScheduleTask().GetInput().GetValue()), &recorded)); err != nil {
				t.Fatal(err)
			}
			delete(recorded[0], "asynchronousPatternEnabled") // which made no difference
			if actions[0].GetScheduleTask().Name != call.answer.Response.Actions[0].GetScheduleTask().Name || !reflect.DeepEqual(sent, recorded) {
				t.Errorf("%s: sent %v, recorded %v", call.instance, sent, recorded)
			}
			played++
			continue
		}
		var output string
		_ = json.Unmarshal([]byte(actions[0].GetCompleteOrchestration().GetResult().GetValue()), &output)
		if timer := actions[0].GetCreateTimer(); call.instance == "http7" && timer == nil || call.instance != "http7" && !strings.HasPrefix(output, wants[call.instance]) {
			t.Errorf("%s: %v", call.instance, actions)
		}
		played++
	}
	if played != 8 {
		t.Errorf("played %d turns", played)
	}
}

// An answer of 202 is polled as it says, with what may be sent there, until there is another one.
func TestHTTPPolling(t *testing.T) {
	t.Parallel()
	secret := durable.HTTPHeader{"Authorization": {"Bearer x"}, "x-functions-key": {"k"}, "content-type": {"text/plain"}, "X-Own": {"1"}}
	const kept, cut = `"Authorization":"Bearer x","X-Own":"1"`, `"X-Own":"1"`
	for name, c := range map[string]struct {
		location, after string
		url, header     string
		elapsed         time.Duration
	}{
		"seconds":       {"http://a.test/s?id=1", "5", "http://a.test/s?id=1", kept, 10 * time.Second},
		"default":       {"http://a.test/s", "", "http://a.test/s", kept, time.Minute},
		"not a number":  {"http://a.test/s", "soon", "http://a.test/s", kept, time.Minute},
		"at once":       {"http://a.test/s", "0", "http://a.test/s", kept, 2 * time.Second},
		"a date":        {"http://a.test/s", "Fri, 02 Jan 2026 04:04:05 GMT", "http://a.test/s", kept, time.Hour + time.Second},
		"relative":      {"../s", "5", "http://a.test/s", kept, 10 * time.Second},
		"another host":  {"http://b.test/s", "5", "http://b.test/s", cut, 10 * time.Second},
		"another port":  {"http://a.test:81/s", "5", "http://a.test:81/s", cut, 10 * time.Second},
		"no location":   {"", "5", "", "", 0},
		"not http":      {"file:///etc/passwd", "5", "", "", 0},
		"not a URL":     {"http://a b/%zz", "5", "", "", 0},
		"another kind":  {"ftp://a.test/s", "5", "", "", 0},
		"a long pause":  {"http://a.test/s", "1000000", "http://a.test/s", kept, 2_000_000 * time.Second},
		"a bad pause":   {"http://a.test/s", "-1", "http://a.test/s", kept, time.Minute},
		"a huge number": {"http://a.test/s", "99999999999999999999", "http://a.test/s", kept, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := durabletest.New(t)
			var seen []string
			env.HTTP(func(r durable.HTTPRequest) (durable.HTTPResponse, error) {
				text, _ := json.Marshal(r.Header)
				seen = append(seen, r.Method+" "+r.URL+" "+string(text)+" "+r.Body+" "+r.Timeout.String())
				if len(seen) < 3 {
					return durable.HTTPResponse{StatusCode: 202, Header: durable.HTTPHeader{"location": {c.location}, "retry-after": {c.after}}}, nil
				}
				return durable.HTTPResponse{StatusCode: 200, Body: "2026-11-22T10:11:12+02:00"}, nil
			})
			r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
				r, err := durable.CallHTTP(ctx, durable.HTTPRequest{Method: "POST", URL: "http://a.test/x/y", Header: secret, Body: "b", Timeout: time.Minute}).Await()
				return fmt.Sprint(r.StatusCode, " ", r.Body), err
			})
			if c.url == "" {
				if want(t, r, `"202 "`); len(seen) != 1 {
					t.Errorf("sent %q", seen)
				}
				return
			}
			want(t, r, `"200 2026-11-22T10:11:12+02:00"`)
			poll := fmt.Sprintf("GET %s {%s}  1m0s", c.url, c.header)
			if len(seen) != 3 || seen[1] != poll || seen[2] != poll || r.Elapsed != c.elapsed {
				t.Errorf("after %s sent %q, want %s and %q", r.Elapsed, seen, c.elapsed, poll)
			}
		})
	}
}

// A call that got no answer is a failure of what runs it, is made again under a policy, and ends with its time limit.
func TestHTTPFailures(t *testing.T) {
	t.Parallel()
	policy := durable.WithRetry(durable.RetryPolicy{Attempts: 3, FirstInterval: time.Minute})
	for name, c := range map[string]struct {
		fail    int
		options []durable.CallOption
		limit   time.Duration
		polling bool
		want    string
		calls   int
	}{
		"no policy":     {1, nil, 0, false, "0 the host could not make the HTTP call", 1},
		"policy":        {2, []durable.CallOption{policy}, 0, false, "200 ", 3},
		"in the policy": {9, []durable.CallOption{policy}, 90 * time.Second, false, "0 timed out", 2},
		"in the polls":  {0, nil, 95 * time.Second, true, "0 timed out", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, calls := durabletest.New(t), 0
			env.HTTP(func(durable.HTTPRequest) (durable.HTTPResponse, error) {
				if calls++; calls <= c.fail {
					return durable.HTTPResponse{}, errors.New("refused")
				}
				if c.polling {
					return durable.HTTPResponse{StatusCode: 202, Header: durable.HTTPHeader{"Location": {"/s"}}}, nil
				}
				return durable.HTTPResponse{StatusCode: 200}, nil
			})
			r := run(t, env, func(ctx *task.OrchestrationContext) (string, error) {
				r, err := durable.WithTimeout(durable.CallHTTP(ctx, durable.HTTPRequest{URL: "http://a.test/"}, c.options...), c.limit).Await()
				var failed *durable.TaskError
				if errors.As(err, &failed) && !failed.Infrastructure() {
					t.Errorf("%+v", failed)
				}
				if _, later := durable.Timer(ctx, 24*time.Hour).Await(); later != nil {
					return "", later
				}
				return strings.TrimSuffix(fmt.Sprint(r.StatusCode, " ", err), "<nil>"), nil
			})
			if r.Status != api.RUNTIME_STATUS_COMPLETED || !strings.HasPrefix(r.Output, `"`+c.want) || calls != c.calls {
				t.Errorf("%s %s %s after %d calls", r.Status, r.Output, r.Failure, calls)
			}
		})
	}
}

// FuzzHTTPMessages: what comes from a host is read or refused, and what was read is written so that it is read the same.
func FuzzHTTPMessages(f *testing.F) {
	f.Add(`{"statusCode":200,"headers":{"Server":["a","b"],"x":"1"},"content":"c"}`)
	f.Add(`{"method":"GET","uri":"http://a","headers":{"a":[]},"timeout":"00:00:02","tokenSource":{"kind":"AzureManagedIdentity","resource":"r"}}`)
	f.Add(`{"headers":null,"timeout":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var response, again durable.HTTPResponse
		if json.Unmarshal([]byte(text), &response) == nil {
			written, err := json.Marshal(response)
			if err != nil || json.Unmarshal(written, &again) != nil || len(again.Header) != len(response.Header) || again.Body != response.Body {
				t.Errorf("%s: %s %v", text, written, err)
			}
		}
		var request durable.HTTPRequest
		if json.Unmarshal([]byte(text), &request) == nil {
			if _, err := json.Marshal(request); err != nil {
				t.Error(err)
			}
		}
	})
}

func ExampleCallHTTP() {
	rate := func(ctx *task.OrchestrationContext, currency string) (string, error) {
		r, err := durable.CallHTTP(ctx, durable.HTTPRequest{URL: "https://rates.example/" + currency}).Await()
		if err == nil && r.StatusCode != 200 {
			err = fmt.Errorf("no rate for %s: status %d", currency, r.StatusCode)
		}
		return r.Body, err
	}
	env := durabletest.New(exampleT{})
	env.HTTP(func(r durable.HTTPRequest) (durable.HTTPResponse, error) {
		if r.URL == "https://rates.example/EUR" { // which needs a minute, and says where to ask then
			return durable.HTTPResponse{StatusCode: 202, Header: durable.HTTPHeader{"Location": {"/rates/7"}, "Retry-After": {"60"}}}, nil
		}
		return durable.HTTPResponse{StatusCode: 200, Body: "1.07 at " + r.URL}, nil
	})
	r := env.Run(durable.Orchestrator(rate), "EUR")
	fmt.Println(r.Output, r.Elapsed)
	// Output: "1.07 at https://rates.example/rates/7" 1m0s
}
