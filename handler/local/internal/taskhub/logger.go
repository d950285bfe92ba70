package taskhub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/microsoft/durabletask-go/backend"
)

// NewLogger makes a durabletask-go logger that writes to slog. What durabletask-go logs as Info is logged as Debug.
func NewLogger(log *slog.Logger) backend.Logger { return logger{log} }

type logger struct{ log *slog.Logger }

func (l logger) Debug(v ...any)                 { l.log.Debug(fmt.Sprint(v...)) }
func (l logger) Info(v ...any)                  { l.log.Debug(fmt.Sprint(v...)) }
func (l logger) Warn(v ...any)                  { l.log.Warn(fmt.Sprint(v...)) }
func (l logger) Error(v ...any)                 { l.log.Error(fmt.Sprint(v...)) }
func (l logger) Debugf(format string, v ...any) { l.logf(slog.LevelDebug, format, v) }
func (l logger) Infof(format string, v ...any)  { l.logf(slog.LevelDebug, format, v) }
func (l logger) Errorf(format string, v ...any) { l.logf(slog.LevelError, format, v) }
func (l logger) Warnf(format string, v ...any)  { l.logf(slog.LevelWarn, format, v) }

// logf formats a message only if its level is logged, which is rare.
func (l logger) logf(level slog.Level, format string, v []any) {
	if strings.HasSuffix(format, "due to cancellation") || slices.ContainsFunc(v, isExpected) {
		level = slog.LevelDebug
	}
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

// isExpected reports whether an error needs no line here: a stopping host abandons work, and a row that cannot be decoded is
// logged elsewhere.
func isExpected(v any) bool {
	err, ok := v.(error)
	return ok && (errors.Is(err, context.Canceled) || errors.As(err, new(*RowError)))
}
