package handler

import (
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// Our own deadline lies a margin before the host's functionTimeout.
func TestLimit(t *testing.T) {
	t.Parallel()
	set := func(d time.Duration) config.Host { return config.Host{TimeoutSet: true, FunctionTimeout: d} }
	for name, c := range map[string]struct {
		host config.Host
		env  map[string]string
		want time.Duration // 0: none
		err  string
	}{
		"host.json":             {host: set(5 * time.Minute), want: 4*time.Minute + 55*time.Second},
		"margin at most 5s":     {host: set(time.Hour), want: time.Hour - 5*time.Second},
		"margin of 5 %":         {host: set(time.Minute), want: 57 * time.Second},
		"margin at least 500ms": {host: set(4 * time.Second), want: 3500 * time.Millisecond},
		"shortest":              {host: set(time.Second), want: 500 * time.Millisecond},
		"none":                  {host: set(0), env: map[string]string{"HANDLER_DEADLINE_MARGIN": "5s"}},
		"absent on Consumption": {env: map[string]string{"WEBSITE_SKU": "Dynamic"}, want: 5*time.Minute - 5*time.Second},
		"absent elsewhere":      {want: 30*time.Minute - 5*time.Second},
		"own margin":            {host: set(time.Minute), env: map[string]string{"HANDLER_DEADLINE_MARGIN": "250ms"}, want: time.Minute - 250*time.Millisecond},
		"margin no duration":    {host: set(time.Minute), env: map[string]string{"HANDLER_DEADLINE_MARGIN": "5"}, err: "HANDLER_DEADLINE_MARGIN"},
		"margin too long":       {host: set(time.Minute), env: map[string]string{"HANDLER_DEADLINE_MARGIN": "1m"}, err: "HANDLER_DEADLINE_MARGIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := readSettings(func(n string) string { return c.env[n] }, c.host, 0)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			case err != nil || s.limit != c.want:
				t.Errorf("limit %s, %v; want %s", s.limit, err, c.want)
			}
		})
	}
}
