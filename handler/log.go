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

// logs is the log of one invocation. Errors go to stderr at once, where the host keeps their severity; the rest is
// kept for the answer, whose Logs the host files under the invocation as Information.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns the lines and forgets them: none is written twice.
func (l *logs) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSuffix(l.text.String(), "\n")
	l.text.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// print writes the lines where the host collects them when it does not read the answer.
func (l *logs) print(w io.Writer, function, id string) {
	for _, line := range l.take() {
		fmt.Fprintf(w, "%s function=%s invocation=%s\n", line, function, id)
	}
}

func newLogger(l *logs, level slog.Level, errors slog.Handler, attrs ...slog.Attr) *slog.Logger {
	lines := slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{} // the host adds its own
		}
		return a
	}})
	return slog.New(split{lines, errors.WithAttrs(attrs)})
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
