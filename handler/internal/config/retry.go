package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/dotnet"
)

// Retry is a function's retry policy: how the host repeats a failed invocation, with the same request each time.
type Retry struct {
	Strategy      string // FixedDelay or ExponentialBackoff
	MaxRetryCount int    // not counting the first try; -1: for ever

	DelayInterval                    time.Duration // of FixedDelay; 0: at once
	MinimumInterval, MaximumInterval time.Duration // of ExponentialBackoff
}

// Retry strategies.
const (
	FixedDelay         = "fixedDelay"
	ExponentialBackoff = "exponentialBackoff"
)

// strategies holds the names and numbers that the host accepts. The default is ExponentialBackoff.
var strategies = map[string]string{
	"": ExponentialBackoff, "exponentialbackoff": ExponentialBackoff, "0": ExponentialBackoff,
	"fixeddelay": FixedDelay, "1": FixedDelay,
}

// functionRetry reads "retry" of a function.json; nil means none. The host knows only this spelling.
func functionRetry(object map[string]any) (*Retry, error) {
	value, ok := object["retry"]
	if !ok {
		for name := range object {
			if strings.EqualFold(name, "retry") {
				return nil, fmt.Errorf(`%q is not read by the host: write "retry"`, name)
			}
		}
	}
	switch value := value.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return parseRetry(func(name string) (string, bool) {
			property := lookup(value, name)
			text, ok := scalar(property)
			if !ok && property != nil {
				text, ok = "an object or a list", true // which no property of a policy may be
			}
			return text, ok
		})
	}
	return nil, fmt.Errorf(`"retry" must be an object with strategy, maxRetryCount and its intervals, not %v`, value)
}

// retry reads "retry" of host.json and of the environment: the policy of every function without one of its own.
func (s settings) retry() (*Retry, error) {
	if text := s["retry"]; text != "" {
		return nil, fmt.Errorf(`"retry" must be an object with strategy, maxRetryCount and its intervals, not %s`, text)
	}
	for key := range s {
		if strings.HasPrefix(key, "retry:") {
			return parseRetry(func(name string) (string, bool) {
				text := s["retry:"+strings.ToLower(name)]
				return text, text != "" // null counts as absent
			})
		}
	}
	return nil, nil
}

// parseRetry reads the policy's properties. For a value that the host refuses, the error names the property.
func parseRetry(property func(name string) (string, bool)) (*Retry, error) {
	strategy, _ := property("strategy")
	r := &Retry{Strategy: strategies[strings.ToLower(strings.TrimSpace(strategy))]}
	if r.Strategy == "" {
		return nil, fmt.Errorf(`retry.strategy is %q: it must be "fixedDelay" or "exponentialBackoff"`, strategy)
	}
	text, ok := property("maxRetryCount")
	if !ok {
		return nil, fmt.Errorf("retry.maxRetryCount is missing: say how often, -1 for ever")
	}
	count, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil || count < -1 {
		return nil, fmt.Errorf("retry.maxRetryCount is %q: it must be a whole number, or -1 for ever", text)
	}
	r.MaxRetryCount = int(count)
	type interval struct {
		name string
		into *time.Duration
	}
	needed := []interval{{"delayInterval", &r.DelayInterval}}
	if r.Strategy == ExponentialBackoff {
		needed = []interval{{"minimumInterval", &r.MinimumInterval}, {"maximumInterval", &r.MaximumInterval}}
	}
	for _, i := range needed {
		text, ok := property(i.name)
		if !ok {
			return nil, fmt.Errorf("retry.%s is missing: %s needs it, for example 00:00:01", i.name, r.Strategy)
		}
		if *i.into, err = dotnet.ParseTimeSpan(text); err != nil {
			return nil, fmt.Errorf("retry.%s: %w", i.name, err)
		}
	}
	if r.MinimumInterval > r.MaximumInterval {
		return nil, fmt.Errorf("retry.minimumInterval %s is above retry.maximumInterval %s: swap them",
			dotnet.FormatTimeSpan(r.MinimumInterval), dotnet.FormatTimeSpan(r.MaximumInterval))
	}
	return r, nil
}
