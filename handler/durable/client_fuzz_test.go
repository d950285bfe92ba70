package durable

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

func TestNewClientTimeout(t *testing.T) {
	t.Parallel()
	const byDefault = 100 * time.Second
	for value, want := range map[string]time.Duration{
		`"\"00:01:40\""`:          100 * time.Second, // as recorded: a JSON string in a JSON string
		`"00:01:40"`:              100 * time.Second,
		`"00:00:07"`:              7 * time.Second,
		`"00:00:00.2500000"`:      250 * time.Millisecond,
		`"23:59:59.9999999"`:      24*time.Hour - 100,
		`"1.02:03:04"`:            26*time.Hour + 3*time.Minute + 4*time.Second,
		`"9999.00:00:00"`:         9999 * 24 * time.Hour,
		`"-00:00:00.0010000"`:     byDefault, // .NET's infinite time span
		`"-1.00:00:00"`:           byDefault,
		`"00:00:00"`:              byDefault,
		`null`:                    byDefault,
		`""`:                      byDefault,
		`"100"`:                   100 * 24 * time.Hour, // .NET reads a number as days
		`"NaN:Inf:1"`:             byDefault,
		`"0x10:1e9:1"`:            byDefault,
		`"99999999999:00:00"`:     byDefault,
		`"10675199.02:48:05.477"`: byDefault, // TimeSpan.MaxValue: no duration holds it

	} {
		c, err := NewClient(`{"rpcBaseUrl":"http://127.0.0.1:1","grpcHttpClientTimeout":`+value+`}`, 1)
		if err != nil || c.timeout != want {
			t.Errorf("%s: got %v, %v, want %v", value, c, err, want)
		}
	}
}

func TestNewClientErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "not the JSON object",
		"not JSON":                        "not the JSON object",
		`["rpcBaseUrl"]`:                  "not the JSON object",
		`"{}"`:                            "not the JSON object",
		`{"rpcBaseUrl":5}`:                "not the JSON object",
		`{"taskHubName":{}}`:              "not the JSON object",
		"null":                            `rpcBaseUrl ""`,
		"{}":                              `rpcBaseUrl ""`, // as older extensions send it
		`{"rpcBaseUrl":null}`:             `rpcBaseUrl ""`,
		`{"rpcBaseUrl":"127.0.0.1:4001"}`: `rpcBaseUrl "127.0.0.1:4001"`,
		`{"rpcBaseUrl":"http://"}`:        `rpcBaseUrl "http://"`,
		`{"rpcBaseUrl":"http://a b"}`:     `rpcBaseUrl "http://a b"`,
		`{"requiredQueryStringParameters":"code=LOCALKEY","rpcBaseUrl":"?"}`: `rpcBaseUrl "?"`,
		`{"requiredQueryStringParameters":"code=LOCALKEY","rpcBaseUrl":`:     "not the JSON object",
	} {
		c, err := NewClient(text, 1)
		if err == nil || c != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %s", text, err, want)
		} else if strings.Contains(err.Error(), "LOCALKEY") {
			t.Errorf("the host's key is in the error: %v", err)
		}
	}
}

// TestClientToken: the token in a local host's rpcBaseUrl goes with every call, and no text of the client's holds it.
func TestClientToken(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address, "http://ENDPOINT", "http://s3cr%2Ft@"+host.Address)
	texts := []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", *c)}
	for _, op := range operations {
		for _, status := range []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED} {
			host.Set("x", status)
			texts = append(texts, fmt.Sprint(op.call(t.Context(), c, "x")))
		}
		texts = append(texts, fmt.Sprint(op.call(t.Context(), c, "nobody"+op.name)))
	}
	for _, call := range host.Calls() {
		if got := call.Header.Get("Authorization"); !slices.Equal(got, []string{"Bearer s3cr/t"}) {
			t.Errorf("%s: the token is %q", call.Method, got)
		}
	}
	host.Stop()
	for _, op := range operations {
		texts = append(texts, fmt.Sprint(op.call(t.Context(), c, "x")))
	}
	for _, url := range []string{"http://s3cr%2Ft@", "http://s3cr%zzt@127.0.0.1:1", "s3cr t@127.0.0.1:1", "http://s3cr%2Ft@a b"} {
		_, err := NewClient(testkit.ClientBinding("", "http://ENDPOINT", url), MaxPayload)
		texts = append(texts, fmt.Sprint(err))
	}
	for _, text := range texts {
		if strings.Contains(text, "s3cr") {
			t.Errorf("the token is in %s", text)
		}
	}
}

// FuzzNewClient: whatever the binding holds, there is a client that can be used or an error that says what is wrong
// with it.
func FuzzNewClient(f *testing.F) {
	f.Add(testkit.ClientBinding("127.0.0.1:33613"))
	for _, text := range []string{"", "null", "{}", "[]", `"{}"`, `{"rpcBaseUrl":"http://[::1%25lo]:1"}`, `{"rpcBaseUrl":"http://%zz"}`,
		`{"RPCBASEURL":"http://127.0.0.1:1/a?b#c","taskhubname":"ü\u0000","connectionName":"\n"}`,
		`{"rpcBaseUrl":"http://127.0.0.1:1","grpcHttpClientTimeout":"9999.99:99:99.9999999"}`,
		`{"rpcBaseUrl":"http://127.0.0.1:1","grpcHttpClientTimeout":"-00:00:00.0010000"}`,
		`{"rpcBaseUrl":"http://127.0.0.1:1","grpcHttpClientTimeout":"NaN:0:0"}`,
		`{"rpcBaseUrl":"http://TOKEN:x@127.0.0.1:1"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := NewClient(text, 10)
		if err != nil {
			if c != nil || !(strings.Contains(err.Error(), "binding") || strings.Contains(err.Error(), "endpoint")) {
				t.Errorf("got %v, %v", c, err)
			}
			return
		}
		if c.hub == nil || c.endpoint == "" || c.timeout <= 0 || c.timeout > 100_000*24*time.Hour || c.maxPayload != 10 {
			t.Errorf("got %+v", c)
		}
		var sent map[string]any
		if err := json.Unmarshal([]byte(text), &sent); err != nil {
			t.Errorf("a client of what is no JSON object: %v", err)
		}
		for key, values := range c.metadata() {
			if !slices.Contains([]string{"durable-taskhub", "durable-connectionname", "authorization"}, key) || len(values) != 1 || values[0] == "" {
				t.Errorf("metadata %q: %q", key, values)
			}
		}
		endpoints.Lock()
		defer endpoints.Unlock()
		if n := len(endpoints.conns); n > maxEndpoints {
			t.Errorf("%d connections are kept", n)
		}
	})
}
