package handler

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

const (
	defaultMaxBody = 128 << 20
	largeBody      = 1 << 20 // bodies beyond this wait for each other
	largeBodies    = 4       // how many of the largest size may be in memory at once
	bodyTime       = time.Minute
)

type settings struct {
	maxBody int64
	limit   time.Duration // answer within; 0: no limit
	level   slog.Level
}

func readSettings(getenv func(string) string, host config.Host) (settings, error) {
	s := settings{maxBody: defaultMaxBody}
	if v := getenv("HANDLER_MAX_BODY_BYTES"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return s, fmt.Errorf("setting HANDLER_MAX_BODY_BYTES is %q: it must be a number of bytes", v)
		}
		s.maxBody = n
	}
	if v := getenv("HANDLER_LOG_LEVEL"); v != "" {
		if err := s.level.UnmarshalText([]byte(v)); err != nil {
			return s, fmt.Errorf("setting HANDLER_LOG_LEVEL is %q: it must be debug, info, warn or error", v)
		}
	}
	timeout := functionTimeout(getenv, host)
	if timeout == 0 {
		return s, nil
	}
	margin := min(max(timeout/10, time.Second), 30*time.Second)
	if v := getenv("HANDLER_DEADLINE_MARGIN"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 || d >= timeout {
			return s, fmt.Errorf("setting HANDLER_DEADLINE_MARGIN is %q: it must be a duration below functionTimeout (%s), such as 5s", v, timeout)
		}
		margin = d
	}
	if s.limit = timeout - margin; s.limit <= 0 {
		s.limit = timeout / 2
	}
	return s, nil
}

// functionTimeout is when the host kills the handler; 0: never. What host.json leaves out depends on the plan.
func functionTimeout(getenv func(string) string, host config.Host) time.Duration {
	switch {
	case host.TimeoutSet:
		return host.FunctionTimeout
	case getenv("WEBSITE_SKU") == "Dynamic": // Consumption
		return 5 * time.Minute
	}
	return 30 * time.Minute
}
