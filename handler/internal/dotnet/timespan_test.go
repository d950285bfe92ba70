package dotnet

import (
	"testing"
	"time"
)

func TestParseTimeSpan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"00:05:00":               5 * time.Minute,
		" 00:05:00 ":             5 * time.Minute,
		"1:2":                    time.Hour + 2*time.Minute,
		"1.02:03:04.5":           26*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"1:02:03:04":             26*time.Hour + 3*time.Minute + 4*time.Second,
		"7":                      7 * 24 * time.Hour,
		"24:00:00":               24 * 24 * time.Hour, // .NET: it can be no hour
		"24:01:02":               (24*24+1)*time.Hour + 2*time.Minute,
		"00:00:00":               0,
		"00:00:00.0000001":       100 * time.Nanosecond,
		"99999.23:59:59.9999999": (99999*24+23)*time.Hour + 59*time.Minute + 59*time.Second + 999999900,
	} {
		if got, err := ParseTimeSpan(text); err != nil || got != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5s", "-00:00:01", "00:60:00", "24:00:60", "24:24:00", "24:00", "24:00:00.5", "00:00:60", "1.2", "00:00:00.00000001", "100000.00:00:00", "99999999"} {
		if got, err := ParseTimeSpan(text); err == nil {
			t.Errorf("%q is %s, want an error", text, got)
		}
	}
}

func TestFormatTimeSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                            "00:00:00",
		5 * time.Minute:              "00:05:00",
		24 * time.Hour:               "1.00:00:00",
		26*time.Hour + 4*time.Second: "1.02:00:04",
		500 * time.Millisecond:       "00:00:00.5000000",
		-time.Second:                 "-00:00:01",
	} {
		got := FormatTimeSpan(d)
		if got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
		if back, err := ParseTimeSpan(got); d >= 0 && (err != nil || back != d) {
			t.Errorf("%q is read as %s (%v), want %s", got, back, err, d)
		}
	}
}
