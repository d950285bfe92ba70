package config

import (
	"strings"
	"testing"
	"time"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC) // a Thursday
	for text, want := range map[string]string{
		"0 */5 * * * *":         "2026-11-26T10:05:00Z",
		"*/5 * * * *":           "2026-11-26T10:05:00Z",
		"30 0 9-17 * * MON-FRI": "2026-11-26T10:00:30Z",
		"0 0 0 1 * 5":           "2027-01-01T00:00:00Z", // the first day of a month that is a Friday: NCRONTAB requires both
		"0 0 12 * Jan Mon":      "2027-01-04T12:00:00Z",
		"00:05:00":              "2026-11-26T10:05:00Z",
		"1.00:00:00":            "2026-11-27T10:00:00Z",
	} {
		s, err := ParseSchedule(text, time.UTC)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := s.Next(from).Format(time.RFC3339); got != want {
			t.Errorf("%s is due at %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "every minute", "* * *", "0 0 0 0 0 0 0", "61 * * * * *", "@hourly", "TZ=UTC 0 * * * * *", "0 0 0 30 2 *", "00:00:00", "5", "0 0 12 ? * *"} {
		if s, err := ParseSchedule(text, time.UTC); err == nil {
			t.Errorf("%q is taken: next %s", text, s.Next(from))
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, text := range []string{"0 */5 * * * *", "*/5 * * * *", "00:05:00", "TZ=", "@every 1s", "0 0 0 30 2 *", "-", "1/0 * * * * *"} {
		f.Add(text)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSchedule(text, time.UTC); err == nil && !s.Next(now).After(now) {
			t.Errorf("%q: the next time is %s", text, s.Next(now))
		}
	})
}

// TestBadTriggers: an error in a route or a schedule is reported in one line at the start.
func TestBadTriggers(t *testing.T) {
	t.Parallel()
	const out = `,{"type":"http","direction":"out","name":"res"}]}`
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"route":     {map[string]string{"A/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"/x/{id"}` + out}, "A/function.json"},
		"duplicate": {map[string]string{"A/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"b"}` + out, "B/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req"}` + out}, "same as that of function A"},
		"level":     {map[string]string{"A/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"everybody"}` + out}, "everybody"},
		"methods":   {map[string]string{"A/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","methods":"get"}` + out}, "must be a list"},
		"method":    {map[string]string{"A/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","methods":["g t"]}` + out}, "no HTTP method"},
		"schedule":  {map[string]string{"A/function.json": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"often"}]}`}, "NCRONTAB"},
		"setting":   {map[string]string{"A/function.json": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"%CRON%"}]}`}, "CRON, which is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.files["host.json"] = `{"version":"2.0"}`
			_, err := Load(writeApp(t, c.files), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

func TestForwards(t *testing.T) {
	t.Parallel()
	app, err := Load(writeApp(t, map[string]string{
		"host.json":           `{"version":"2.0","extensions":{"http":{"routePrefix":"/v1/"}},"customHandler":{"description":{"defaultExecutablePath":"app"},"enableForwardingHttpRequest":true}}`,
		"Plain/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"p/{x}"},{"type":"http","direction":"out","name":"res"}]}`,
		"Start/function.json": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req"},{"type":"http","direction":"out","name":"$return"},{"type":"durableClient","direction":"in","name":"starter"}]}`,
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !app.Host.Forwards(app.Functions["Plain"]) || app.Host.Forwards(app.Functions["Start"]) {
		t.Error("a function is forwarded if it has nothing but its httpTrigger and its http output")
	}
	if m, ok := app.Routes.Find("GET", "/v1/p/7"); !ok || m.Function != "Plain" || m.Params["x"] != "7" {
		t.Errorf("/v1/p/7 goes to %+v", m)
	}
	if got := app.Functions["Start"].HTTPOutput(); got != "$return" {
		t.Errorf("the http output is %q", got)
	}
}
