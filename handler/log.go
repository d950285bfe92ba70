package handler

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// maxLogs is how many bytes of an invocation's log are kept for its answer.
const maxLogs = 1 << 20

// logs is the log of one invocation, without its errors. The answer carries it in Logs, and the host logs these lines under the
// invocation, as Information. Lines that come after the answer, or do not fit into it, go to stdout.
type logs struct {
	stdout               io.Writer
	function, invocation string // to which a line on stdout belongs

	mu       sync.Mutex
	text     bytes.Buffer
	answered bool
}

// Write takes one line.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered || l.text.Len()+len(line) > maxLogs {
		return len(line), l.print(strings.TrimSuffix(string(line), "\n"))
	}
	return l.text.Write(line)
}

func (l *logs) print(line string) error {
	_, err := fmt.Fprintf(l.stdout, "%s function=%s invocation=%s\n", line, l.function, l.invocation)
	return err
}

// take returns the lines for the answer.
func (l *logs) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
	text := strings.TrimSuffix(l.text.String(), "\n")
	l.text.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// flush writes the lines to stdout, where the host collects them when it does not read the answer.
func (l *logs) flush() {
	for _, line := range l.take() {
		_ = l.print(line)
	}
}

// lazy is the handler of an invocation's log, made when it is first used: most invocations log nothing.
type lazy struct {
	make func() slog.Handler
	once sync.Once
	made slog.Handler
}

func (l *lazy) handler() slog.Handler {
	l.once.Do(func() { l.made = l.make() })
	return l.made
}

func (l *lazy) Enabled(ctx context.Context, level slog.Level) bool {
	return l.handler().Enabled(ctx, level)
}
func (l *lazy) Handle(ctx context.Context, r slog.Record) error { return l.handler().Handle(ctx, r) }
func (l *lazy) WithAttrs(attrs []slog.Attr) slog.Handler        { return l.handler().WithAttrs(attrs) }
func (l *lazy) WithGroup(name string) slog.Handler              { return l.handler().WithGroup(name) }

// newHandler returns a handler that sends errors to stderr at once, where the host keeps their severity, and the rest to
// l.
func newHandler(l *logs, level slog.Level, errors slog.Handler) slog.Handler {
	lines := slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{} // the host adds its own
		}
		return a
	}})
	return split{lines, errors}
}

// split sends errors one way and the rest another.
type split struct{ lines, errors slog.Handler }

func (s split) Enabled(ctx context.Context, level slog.Level) bool {
	return s.to(level).Enabled(ctx, level)
}

func (s split) Handle(ctx context.Context, r slog.Record) error { return s.to(r.Level).Handle(ctx, r) }

func (s split) WithAttrs(attrs []slog.Attr) slog.Handler {
	return split{s.lines.WithAttrs(attrs), s.errors.WithAttrs(attrs)}
}

func (s split) WithGroup(name string) slog.Handler {
	return split{s.lines.WithGroup(name), s.errors.WithGroup(name)}
}

func (s split) to(level slog.Level) slog.Handler {
	if level >= slog.LevelError {
		return s.errors
	}
	return s.lines
}
