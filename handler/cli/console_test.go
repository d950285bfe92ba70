package cli

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/local"
)

// A root orchestration prints one line when it ends. Its children, and an orchestration that still runs, print nothing.
func TestConsoleInstance(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	c := newConsole(&out, func(i local.Instance) string {
		if i.Name == "Known" {
			return "3 records"
		}
		return ""
	})
	for _, i := range []local.Instance{
		{ID: "a", Name: "Known", Status: api.RUNTIME_STATUS_RUNNING},
		{ID: "a:1", Name: "Known", Parent: "a", Status: api.RUNTIME_STATUS_COMPLETED},
		{ID: "a", Name: "Known", Status: api.RUNTIME_STATUS_COMPLETED, Output: "1"},
		{ID: "b", Name: "Other", Status: api.RUNTIME_STATUS_COMPLETED, Output: "1"},
		{ID: "c\x1b", Name: "Other", Status: api.RUNTIME_STATUS_FAILED, Output: "no\nluck"},
		{ID: "d", Name: "Other", Status: api.RUNTIME_STATUS_TERMINATED, Output: "enough"},
	} {
		i.CreatedAt, i.LastUpdatedAt = begin, begin.Add(1234*time.Millisecond)
		c.instance(i)
	}
	const want = `Known a 1.2s completed: 3 records
Other b 1.2s completed
Other c\x1b 1.2s failed: no\nluck
Other d 1.2s terminated: enough
`
	if out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
}

// At a terminal a function's line keeps its own level, and its message loses its quotes.
func TestConsoleAtATerminal(t *testing.T) { // not parallel, because it sets NO_COLOR
	for noColour, want := range map[string]string{
		"":  "\x1b[93mWRN\x1b[0m F: a \"b\"\\x1b n=1\n",
		"1": " WRN F: a \"b\"\\x1b n=1\n",
	} {
		t.Setenv("NO_COLOR", noColour)
		var out bytes.Buffer
		c := &console{w: &out, log: logHandler(&out, true, slog.LevelInfo)}
		c.line("F", `level=WARN msg="a \"b\"\x1b" n=1`)
		if !strings.HasSuffix(out.String(), want) || strings.Contains(out.String(), "\x1b") != (noColour == "") {
			t.Errorf("NO_COLOR=%s: %q, want %q", noColour, out.String(), want)
		}
		out.Reset()
		slog.New(logHandler(&out, true, slog.LevelInfo)).Error("evil\x1b[5m\u202e", "record", "evil\x1b[5m\u202e")
		if strings.Contains(out.String(), "\x1b[5m") || strings.Contains(out.String(), "\u202e") {
			t.Errorf("an error acts on the terminal: %q", out.String())
		}
	}
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		`level=INFO msg=done`:             {slog.LevelInfo, "done"},
		`level=WARN msg="a \"b\"" n=1`:    {slog.LevelWarn, `a "b" n=1`},
		`level=DEBUG+1 msg="" n=1`:        {slog.LevelDebug + 1, " n=1"},
		`level=LOUD msg=x`:                {slog.LevelInfo, `level=LOUD msg=x`},
		`Executed in 3s`:                  {slog.LevelInfo, `Executed in 3s`},
		`level=INFO msg="never closed`:    {slog.LevelInfo, `"never closed`},
		"level=INFO msg=\"a\\nb\" n=\"\"": {slog.LevelInfo, "a\nb n=\"\""},
	} {
		if level, text := readLine(line); level != want.level || text != want.text {
			t.Errorf("%s: %v %q, want %v %q", line, level, text, want.level, want.text)
		}
	}
}

func TestLogHandlerElsewhere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slog.New(logHandler(&out, isTerminal(&out), slog.LevelWarn)).Warn("a b", "n", 1)
	if !strings.HasSuffix(out.String(), " level=WARN msg=\"a b\" n=1\n") || isTerminal(io.Discard) {
		t.Errorf("printed %q", out.String())
	}
}
