package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lmittmann/tint"
	"github.com/microsoft/durabletask-go/api"
	"golang.org/x/term"

	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/text"
)

// isTerminal says whether w is a terminal that can move its cursor.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// logHandler returns a handler that writes to w: at a terminal the time, the level in colour and the message, otherwise the
// text format of package slog. It respects NO_COLOR.
func logHandler(w io.Writer, terminal bool, level slog.Level) slog.Handler {
	if terminal {
		return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != "", ReplaceAttr: printable})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// printable escapes in a message and its attributes what a terminal would interpret.
func printable(groups []string, a slog.Attr) slog.Attr {
	isText := a.Value.Kind() == slog.KindString || a.Value.Kind() == slog.KindAny
	if isText && (len(groups) > 0 || a.Key != slog.LevelKey) {
		a.Value = slog.StringValue(OneLine(a.Value.String()))
	}
	return a
}

// console prints what start reports: plain lines, or at a terminal lines with the time and a coloured level.
type console struct {
	mu     sync.Mutex
	w      io.Writer
	log    slog.Handler                // nil: not a terminal
	result func(local.Instance) string // nil: none
}

func newConsole(w io.Writer, result func(local.Instance) string) *console {
	c := &console{w: w, result: result}
	if isTerminal(w) {
		c.log = logHandler(w, true, slog.LevelDebug)
	}
	return c
}

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.w, format, args...)
}

// tell prints one line about what happens.
func (c *console) tell(level slog.Level, what string) {
	if c.log == nil {
		c.printf("%s\n", OneLine(what))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.log.Handle(context.Background(), slog.NewRecord(time.Now(), level, what, 0))
}

// line prints a line that a function has logged.
func (c *console) line(function, line string) {
	level := slog.LevelInfo
	if c.log != nil {
		level, line = readLine(line)
	}
	c.tell(level, function+": "+line)
}

// logLine matches a line that a function's logger has written.
var logLine = regexp.MustCompile(`^level=(\S+) msg=("(?:[^"\\]|\\.)*"|\S*)(.*)$`)

// readLine removes the level from such a line, and the quotes from its message.
func readLine(line string) (level slog.Level, rest string) {
	parts := logLine.FindStringSubmatch(line)
	if parts == nil || level.UnmarshalText([]byte(parts[1])) != nil {
		return slog.LevelInfo, line
	}
	if message, err := strconv.Unquote(parts[2]); err == nil {
		parts[2] = message
	}
	return level, parts[2] + parts[3]
}

// instance prints one line for a root orchestration when it ends: its name, its id, how long it took, its status, and its
// result in a few words or the reason of its failure.
func (c *console) instance(i local.Instance) {
	if i.Parent != "" || !i.IsFinished() {
		return
	}
	level, what := slog.LevelError, local.Reason(i)
	switch i.Status {
	case api.RUNTIME_STATUS_COMPLETED:
		level, what = slog.LevelInfo, ""
		if c.result != nil {
			what = c.result(i)
		}
	case api.RUNTIME_STATUS_TERMINATED:
		level = slog.LevelWarn
	}
	line := fmt.Sprintf("%s %s %s %s", i.Name, i.ID, short(i.LastUpdatedAt.Sub(i.CreatedAt)), strings.ToLower(local.StatusName(i.Status)))
	if what != "" {
		line += ": " + text.Beginning(what, maxShown)
	}
	c.tell(level, line)
}
