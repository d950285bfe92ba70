package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"example.com/durablefunctions/handler/internal/dotnet"
)

// TimerTrigger is the binding type of timers.
const TimerTrigger = "timerTrigger"

// Schedule says when a timer fires.
type Schedule struct {
	cron  *cron.SpecSchedule // nil: a fixed interval, see every
	every time.Duration
}

// Next returns the first time after t.
func (s Schedule) Next(t time.Time) time.Time {
	if s.cron == nil {
		return t.Add(s.every)
	}
	return s.cron.Next(t)
}

// IsInterval says whether the schedule is a time span rather than an NCRONTAB expression.
func (s Schedule) IsInterval() bool { return s.cron == nil }

var errNotSet = errors.New("which is not set")

// schedule reads the schedule of a function's timer; nil if it has none.
func (f Function) schedule(env environment) (*Schedule, error) {
	b := f.Trigger()
	if !b.Is(TimerTrigger) {
		return nil, nil
	}
	text := b.Property("schedule")
	if setting := strings.Trim(text, "%"); len(setting) == len(text)-2 && setting != "" {
		if text = env.get(setting); text == "" {
			return nil, f.atTrigger(fmt.Errorf("the schedule of %q is the setting %s, %w", b.Name, setting, errNotSet), "schedule")
		}
	}
	s, err := ParseSchedule(text, timeZone(env))
	if err != nil {
		return nil, f.atTrigger(fmt.Errorf("the schedule of %q is %q: %w", b.Name, text, err), "schedule")
	}
	return s, nil
}

// timeZone returns the zone in WEBSITE_TIME_ZONE if Go knows its name, otherwise UTC.
func timeZone(env environment) *time.Location {
	zone, err := time.LoadLocation(env.get("WEBSITE_TIME_ZONE"))
	if err != nil {
		return time.UTC // the host also knows the names of Windows
	}
	return zone
}

var (
	ncrontab    = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	cronLetters = regexp.MustCompile(`^[0-9A-Za-z*,/\- ]+$`)
)

// bothDays makes the library require both the day of the month and the day of the week, as NCRONTAB does.
const bothDays = 1 << 63

var errSchedule = errors.New(`it must be an NCRONTAB expression of six fields, such as "0 */5 * * * *", or a time span, such as "00:05:00"`)

// ParseSchedule reads an NCRONTAB expression of five or six fields, or a time span.
func ParseSchedule(text string, zone *time.Location) (*Schedule, error) {
	if every, err := dotnet.ParseTimeSpan(text); err == nil && strings.Contains(text, ":") {
		if every <= 0 {
			return nil, errSchedule
		}
		return &Schedule{every: every}, nil
	}
	if !cronLetters.MatchString(text) {
		return nil, errSchedule
	}
	parsed, err := ncrontab.Parse(text)
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return nil, errSchedule
	}
	spec.Dom |= bothDays
	spec.Location = zone
	if spec.Next(time.Now()).IsZero() {
		return nil, errors.New("no day is like that, the timer would never fire")
	}
	return &Schedule{cron: spec}, nil
}
