package newtonsoft

import (
	"strconv"
	"strings"
	"time"
)

var (
	minDate = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxDate = time.Date(9999, 12, 31, 23, 59, 59, 999_999_900, time.UTC)
)

// rewriteDate returns the date that Newtonsoft makes of a string, or the string.
func rewriteDate(s string) (any, error) {
	switch {
	case len(s) >= 9 && strings.HasPrefix(s, "/Date(") && strings.HasSuffix(s, ")/"):
		return microsoftDate(s)
	case len(s) >= 19 && len(s) <= 40 && s[10] == 'T':
		return isoDate(s)
	}
	return s, nil
}

// zone is what a DateTime knows of its time zone. A local one is written with the host's offset, which is +00:00.
type zone string

const (
	unspecified zone = ""
	utc         zone = "Z"
	local       zone = "+00:00"
)

// date is a DateTime of .NET.
type date struct {
	time.Time
	zone zone
}

// String returns the date as Newtonsoft writes it.
func (d date) String() string { return d.Format("2006-01-02T15:04:05.9999999") + string(d.zone) }

var errDateRange = &Error{rangeException, "The added or subtracted value results in an un-representable DateTime."}

// microsoftDate reads "/Date(milliseconds)/", which may have an offset after the milliseconds. The offset only makes the date a
// local one.
func microsoftDate(s string) (any, error) {
	ticks, z := s[6:len(s)-2], utc
	sign := strings.IndexByte(ticks[1:], '+') // the first character may be the sign of the milliseconds
	if sign < 0 {
		sign = strings.IndexByte(ticks[1:], '-')
	}
	if sign >= 0 {
		offset := ticks[sign+2:]
		if !digits(offset, 0, 2) || len(offset) > 2 && !digits(offset, 2, 2) {
			return s, nil
		}
		ticks, z = ticks[:sign+1], local
	}
	ms, err := strconv.ParseInt(ticks, 10, 64)
	if err != nil || ticks[0] == '+' {
		return s, nil
	}
	t := time.UnixMilli(ms).UTC()
	if t.Before(minDate) || t.After(maxDate) {
		return nil, errDateRange
	}
	return date{t, z}, nil
}

// isoDate reads yyyy-MM-ddTHH:mm:ss with up to seven digits of a fraction and an offset, and is as lenient about the
// offset as Newtonsoft is.
func isoDate(s string) (any, error) {
	t, err := time.Parse("2006-01-02", s[:10])
	clock, ok := parseClock(s)
	if err != nil || !ok || t.Year() < 1 {
		return s, nil
	}
	rest := s[19:]
	if strings.HasPrefix(rest, ".") {
		fraction, n := parseFraction(rest[1:])
		if n == 0 || fraction != 0 && clock == 24*time.Hour {
			return s, nil
		}
		clock, rest = clock+fraction, rest[1+n:]
	}
	offset, z, ok := parseOffset(rest)
	if !ok {
		return s, nil
	}
	if t = t.Add(clock); t.After(maxDate) {
		return nil, errDateRange
	}
	if t = t.Add(-offset); t.Before(minDate) {
		t = minDate
	} else if t.After(maxDate) {
		t = maxDate
	}
	return date{t, z}, nil
}

// parseClock reads the time of day at its place in a date and time. 24:00:00 is the next day.
func parseClock(s string) (time.Duration, bool) {
	if !digits(s, 11, 2) || s[13] != ':' || !digits(s, 14, 2) || s[16] != ':' || !digits(s, 17, 2) {
		return 0, false
	}
	h, m, sec := twoDigits(s, 11), twoDigits(s, 14), twoDigits(s, 17)
	if h > 24 || m > 59 || sec > 59 || h == 24 && m+sec > 0 {
		return 0, false
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec)*time.Second, true
}

// parseFraction reads at most seven digits, and says how many there were.
func parseFraction(s string) (fraction time.Duration, n int) {
	unit := 100 * time.Millisecond
	for ; n < 7 && digits(s, n, 1); n++ {
		fraction += time.Duration(s[n]-'0') * unit
		unit /= 10
	}
	return fraction, n
}

// parseOffset reads what follows the time. Newtonsoft takes two digits without a sign for the minutes of an offset, and ignores
// them then.
func parseOffset(s string) (offset time.Duration, z zone, ok bool) {
	if s == "Z" || s == "z" {
		return 0, utc, true
	}
	sign := time.Duration(0)
	if digits(s, 1, 2) {
		switch s[0] {
		case '+':
			sign, z = 1, local
		case '-':
			sign, z = -1, local
		}
	}
	if sign != 0 {
		offset, s = time.Duration(twoDigits(s, 1))*time.Hour, s[3:]
	}
	s = strings.TrimPrefix(s, ":")
	if digits(s, 0, 2) {
		offset, s = offset+time.Duration(twoDigits(s, 0))*time.Minute, s[2:]
	}
	return sign * offset, z, s == ""
}

func digits(s string, at, n int) bool {
	if len(s) < at+n {
		return false
	}
	for _, c := range []byte(s[at : at+n]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func twoDigits(s string, at int) int { return int(s[at]-'0')*10 + int(s[at+1]-'0') }
