package config

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

const activityBindings = `"bindings":[{"type":"activityTrigger","direction":"in","name":"a"}]`

// loadRetry returns the policy of function F, with "retry" in its function.json and in host.json.
func loadRetry(t *testing.T, function, host string, environ ...string) (*Retry, error) {
	t.Helper()
	text := "{" + activityBindings
	if function != "" {
		text += `,"retry":` + function
	}
	hostText := `{"version":"2.0"`
	if host != "" {
		hostText += `,"retry":` + host
	}
	app, err := Load(writeApp(t, map[string]string{"host.json": hostText + "}", "F/function.json": text + "}"}), environ)
	if err != nil {
		return nil, err
	}
	return app.Functions["F"].Retry, nil
}

func TestRetry(t *testing.T) {
	t.Parallel()
	fixed := func(count int, delay time.Duration) *Retry {
		return &Retry{Strategy: FixedDelay, MaxRetryCount: count, DelayInterval: delay}
	}
	growing := func(count int, from, to time.Duration) *Retry {
		return &Retry{Strategy: ExponentialBackoff, MaxRetryCount: count, MinimumInterval: from, MaximumInterval: to}
	}
	for name, c := range map[string]struct {
		text string
		want *Retry
	}{
		"fixed delay":         {`{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:01"}`, fixed(3, time.Second)},
		"at once, for ever":   {`{"strategy":"fixedDelay","maxRetryCount":-1,"delayInterval":"00:00:00"}`, fixed(-1, 0)},
		"any case, as text":   {`{"Strategy":"FIXEDDELAY","MaxRetryCount":"0","DelayInterval":"1.00:00:00"}`, fixed(0, 24*time.Hour)},
		"strategy's number":   {`{"strategy":1,"maxRetryCount":1,"delayInterval":"00:01"}`, fixed(1, time.Minute)},
		"exponential backoff": {`{"strategy":"exponentialBackoff","maxRetryCount":5,"minimumInterval":"00:00:01","maximumInterval":"00:00:30"}`, growing(5, time.Second, 30*time.Second)},
		"strategy left out":   {`{"maxRetryCount":5,"minimumInterval":"00:00:01","maximumInterval":"00:00:01"}`, growing(5, time.Second, time.Second)},
		"more than it needs":  {`{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:01","minimumInterval":"soon","note":[1]}`, fixed(3, time.Second)},
		"null":                {`null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for place, texts := range map[string][2]string{"function.json": {c.text, ""}, "host.json": {"", c.text}} {
				if got, err := loadRetry(t, texts[0], texts[1]); err != nil || !cmp.Equal(got, c.want) {
					t.Errorf("in %s: %+v (%v), want %+v", place, got, err, c.want)
				}
			}
		})
	}
}

func TestRetryOfFunctionAndHost(t *testing.T) {
	t.Parallel()
	const own = `{"strategy":"fixedDelay","maxRetryCount":3,"delayInterval":"00:00:01"}`
	const all = `{"strategy":"fixedDelay","maxRetryCount":9,"delayInterval":"00:00:09"}`
	for name, c := range map[string]struct {
		function, host string
		environ        []string
		want           int
	}{
		"the function's wins":    {own, all, nil, 3},
		"the host's":             {"", all, nil, 9},
		"null leaves the host's": {"null", all, nil, 9},
		"overridden":             {"", all, []string{"AzureFunctionsJobHost__retry__maxRetryCount=7"}, 7},
	} {
		got, err := loadRetry(t, c.function, c.host, c.environ...)
		if err != nil || got == nil || got.MaxRetryCount != c.want {
			t.Errorf("%s: %+v (%v), want %d", name, got, err, c.want)
		}
	}
	for name, c := range map[string]struct{ function, host string }{"none": {"", ""}, "an empty one in host.json": {"", "{}"}} {
		if got, err := loadRetry(t, c.function, c.host); got != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestRetryErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"no count":          {`{"strategy":"fixedDelay","delayInterval":"00:00:01"}`, "retry.maxRetryCount is missing"},
		"count null":        {`{"strategy":"fixedDelay","maxRetryCount":null,"delayInterval":"00:00:01"}`, "retry.maxRetryCount is missing"},
		"count below -1":    {`{"strategy":"fixedDelay","maxRetryCount":-2,"delayInterval":"00:00:01"}`, `retry.maxRetryCount is "-2"`},
		"count fraction":    {`{"strategy":"fixedDelay","maxRetryCount":1.5,"delayInterval":"00:00:01"}`, `retry.maxRetryCount is "1.5"`},
		"count too large":   {`{"strategy":"fixedDelay","maxRetryCount":3000000000,"delayInterval":"00:00:01"}`, "retry.maxRetryCount"},
		"unknown strategy":  {`{"strategy":"linear","maxRetryCount":1}`, `retry.strategy is "linear"`},
		"strategy number":   {`{"strategy":2,"maxRetryCount":1}`, `retry.strategy is "2"`},
		"no delay":          {`{"strategy":"fixedDelay","maxRetryCount":1}`, "retry.delayInterval is missing"},
		"delay in seconds":  {`{"strategy":"fixedDelay","maxRetryCount":1,"delayInterval":"5s"}`, `retry.delayInterval: "5s" is not a time span`},
		"negative delay":    {`{"strategy":"fixedDelay","maxRetryCount":1,"delayInterval":"-00:00:01"}`, "retry.delayInterval"},
		"no minimum":        {`{"maxRetryCount":1,"maximumInterval":"00:00:01"}`, "retry.minimumInterval is missing"},
		"no maximum":        {`{"strategy":"exponentialBackoff","maxRetryCount":1,"minimumInterval":"00:00:01"}`, "retry.maximumInterval is missing"},
		"minimum > maximum": {`{"maxRetryCount":1,"minimumInterval":"00:00:02","maximumInterval":"00:00:01"}`, "retry.minimumInterval 00:00:02 is above"},
		"text":              {`"fixedDelay"`, `"retry" must be an object`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for file, texts := range map[string][2]string{"function.json": {c.text, ""}, "host.json": {"", c.text}} {
				_, err := loadRetry(t, texts[0], texts[1])
				if err == nil || !strings.Contains(err.Error(), file+": ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want one line with %s and %s", err, file, c.want)
				}
			}
		})
	}
	for text, want := range map[string]string{
		`{}`:                    "retry.maxRetryCount is missing",
		`[]`:                    `"retry" must be an object`,
		`{"maxRetryCount":[1]}`: "retry.maxRetryCount is",
	} { // .NET's configuration takes these in host.json for none
		if _, err := loadRetry(t, text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	root := writeApp(t, map[string]string{"host.json": minimalHost, "F/function.json": `{` + activityBindings + `,"Retry":null}`})
	if _, err := Load(root, nil); err == nil || !strings.Contains(err.Error(), `"Retry" is not read by the host`) {
		t.Errorf("a retry that the host overlooks: %v", err)
	}
}

func TestBindingDataType(t *testing.T) {
	t.Parallel()
	load := func(dataType string) (string, error) {
		app, err := Load(writeApp(t, map[string]string{"host.json": minimalHost,
			"F/function.json": `{"bindings":[{"type":"queueTrigger","direction":"in","name":"q","dataType":` + dataType + `}]}`}), nil)
		if err != nil {
			return "", err
		}
		return app.Functions["F"].Trigger().DataType(), nil
	}
	for text, want := range map[string]string{`"binary"`: "binary", `"Binary"`: "binary", `"string"`: "string", `null`: ""} {
		if got, err := load(text); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if _, err := load(`"bytes"`); err == nil || !strings.Contains(err.Error(), `F/function.json: bindings[0]: the dataType of "q" is "bytes"`) {
		t.Errorf("got %v", err)
	}
}

// TestEncodings reads every file in each encoding that .NET accepts for text.
func TestEncodings(t *testing.T) {
	t.Parallel()
	utf16With := func(order binary.AppendByteOrder, text string) string {
		var b []byte
		for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
			b = order.AppendUint16(b, unit)
		}
		return string(b)
	}
	for name, encode := range map[string]func(string) string{
		"UTF-8 with a mark":    func(text string) string { return "\ufeff" + text },
		"UTF-16 little endian": func(text string) string { return utf16With(binary.LittleEndian, text) },
		"UTF-16 big endian":    func(text string) string { return utf16With(binary.BigEndian, text) },
	} {
		root := writeApp(t, map[string]string{
			"host.json":           encode(minimalHost),
			"F/function.json":     encode(`{` + activityBindings + `}`),
			"local.settings.json": encode(`{"Values":{"A":"ä😀"}}`),
		})
		if app, err := Load(root, nil); err != nil || len(app.Functions) != 1 {
			t.Errorf("%s: %+v, %v", name, app, err)
		}
		if values, err := LocalSettings(root); err != nil || values["A"] != "ä😀" {
			t.Errorf("%s: settings %v, %v", name, values, err)
		}
	}
}
