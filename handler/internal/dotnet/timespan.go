// Package dotnet reads and writes values as .NET spells them, such as the time spans of host.json.
//
//	timeout, err := dotnet.ParseTimeSpan("00:05:00")
//	text := dotnet.FormatTimeSpan(timeout)
package dotnet

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// timeSpan matches .NET's TimeSpan: [d.]hh:mm[:ss[.fffffff]], d:hh:mm:ss[.fffffff], or d:hh:mm where d is above 23.
var timeSpan = regexp.MustCompile(`^(?:(\d{1,5})\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$`)

var timeSpanWithColons = regexp.MustCompile(`^(\d{1,5}):(\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d{1,7})?)$`)

var daysHoursMinutes = regexp.MustCompile(`^(\d{2,5}):(\d{1,2}:\d{1,2})$`)

// ParseTimeSpan reads a .NET TimeSpan that is not negative, such as "00:05:00" or "1.02:03:04.5". A number alone means days, as in
// .NET. So does the first number of "24:00:00", because it cannot be an hour. The error is one line that says how to write a time
// span.
func ParseTimeSpan(text string) (time.Duration, error) {
	trimmed := strings.TrimSpace(text)
	if days, err := strconv.ParseUint(trimmed, 10, 16); err == nil {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	if m := daysHoursMinutes.FindStringSubmatch(trimmed); m != nil && number(m[1]) > 23 {
		trimmed = m[1] + "." + m[2]
	}
	m := timeSpan.FindStringSubmatch(timeSpanWithColons.ReplaceAllString(trimmed, "$1.$2"))
	if m == nil {
		return 0, fmt.Errorf("%q is not a time span: write hours:minutes:seconds, for example 00:05:00", text)
	}
	days, hours, minutes, seconds := number(m[1]), number(m[2]), number(m[3]), number(m[4])
	if hours > 23 || minutes > 59 || seconds > 59 {
		return 0, fmt.Errorf("%q is not a time span: at most 23 hours, 59 minutes, 59 seconds; write days as 1.00:00:00", text)
	}
	ticks := number((m[5] + "0000000")[:7]) // of 100 ns
	return time.Duration(((days*24+hours)*60+minutes)*60+seconds)*time.Second + time.Duration(ticks)*100, nil
}

// number returns the value of digits, 0 if there are none.
func number(digits string) int64 {
	n, _ := strconv.ParseInt(strings.TrimLeft(digits, "0"), 10, 64)
	return n
}

// FormatTimeSpan writes a duration as TimeSpan.ToString does: "00:05:00", "1.00:00:00", "00:00:00.5000000".
func FormatTimeSpan(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	seconds := int64(d / time.Second)
	text := fmt.Sprintf("%02d:%02d:%02d", seconds/3600%24, seconds/60%60, seconds%60)
	if days := seconds / 86400; days > 0 {
		text = fmt.Sprintf("%d.%s", days, text)
	}
	if ticks := d % time.Second / 100; ticks > 0 {
		text = fmt.Sprintf("%s.%07d", text, ticks)
	}
	return sign + text
}
