package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

const defaultMaxBody = 128 << 20

type settings struct {
	maxBody int64         // bytes
	memory  int64         // bytes, for all large bodies
	limit   time.Duration // answer within; 0: no limit
	level   slog.Level
}

// readSettings reads the settings. available is the memory that the process may use, in bytes; 0: unknown.
func readSettings(getenv func(string) string, host config.Host, available int64) (settings, error) {
	var s settings
	var err error
	if s.maxBody, s.memory, err = bodyLimits(getenv("HANDLER_MAX_BODY_BYTES"), available); err != nil {
		return s, err
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
	margin := min(max(timeout/20, 500*time.Millisecond), 5*time.Second)
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

// bodyLimits returns how large a body may be, and how much memory all large ones may take.
func bodyLimits(setting string, available int64) (maxBody, memory int64, err error) {
	most := int64(math.MaxInt / 2)
	if available > 0 {
		most = min(most, available/4*3) // the rest is garbage, and the functions' own
	}
	memory = min(defaultMemory, most)
	if setting == "" {
		return min(defaultMaxBody, memory/bodyCost), memory, nil
	}
	maxBody, err = strconv.ParseInt(setting, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), maxBody < 1:
		return 0, 0, fmt.Errorf("setting HANDLER_MAX_BODY_BYTES is %q: it must be a number of bytes", setting)
	case maxBody > most/bodyCost:
		return 0, 0, fmt.Errorf("setting HANDLER_MAX_BODY_BYTES is %s: the memory is enough for bodies of %d at most", setting, most/bodyCost)
	}
	return maxBody, max(memory, bodyCost*maxBody), nil
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
