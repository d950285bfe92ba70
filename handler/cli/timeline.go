package cli

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/httpapi"
)

// span is one line of an instance's timeline.
type span struct {
	name     string
	from, to time.Time
	waits    bool   // a timer, or a time of suspension
	open     bool   // it has not ended
	failure  string // why it failed
	count    int    // of the spans that are folded into this one
}

// spans returns what an instance did, in the order of the beginnings.
func spans(i httpapi.Instance, now time.Time) (list []span) {
	var timers, pauses []int // not ended yet
	for _, e := range i.History {
		switch e.Type {
		case "TaskCompleted", "TaskFailed", "SubOrchestrationInstanceCompleted", "SubOrchestrationInstanceFailed":
			s := span{name: e.FunctionName, from: e.Timestamp, to: e.Timestamp}
			if e.ScheduledTime != nil {
				s.from = *e.ScheduledTime
			}
			if strings.HasSuffix(e.Type, "Failed") {
				s.failure = failureText(e)
			}
			list = append(list, s)
		case "TaskScheduled", "SubOrchestrationInstanceCreated":
			list = append(list, span{name: e.Name, from: e.Timestamp, to: now, open: !i.IsFinished()})
		case "TimerCreated":
			timers = append(timers, len(list))
			list = append(list, span{name: "timer", from: e.Timestamp, to: *orNow(e.FireAt, now), waits: true, open: !i.IsFinished()})
		case "TimerFired":
			at := slices.IndexFunc(timers, func(n int) bool { return list[n].to.Equal(*orNow(e.FireAt, now)) })
			if at >= 0 {
				list[timers[at]].to, list[timers[at]].open = e.Timestamp, false
				timers = slices.Delete(timers, at, at+1)
			}
		case "EventRaised":
			list = append(list, span{name: "event " + e.Name, from: e.Timestamp, to: e.Timestamp})
		case "ExecutionSuspended":
			pauses = append(pauses, len(list))
			list = append(list, span{name: "suspended", from: e.Timestamp, to: now, waits: true, open: true})
		case "ExecutionResumed":
			for _, n := range pauses {
				list[n].to, list[n].open = e.Timestamp, false
			}
			pauses = nil
		}
	}
	for n := range list {
		if end := i.Updated.Add(time.Second); i.IsFinished() && list[n].to.After(end) { // a timer that was no longer needed
			list[n].to = end
		}
	}
	slices.SortStableFunc(list, func(a, b span) int { return a.from.Compare(b.from) })
	return list
}

func orNow(t *time.Time, now time.Time) *time.Time {
	if t == nil {
		return &now
	}
	return t
}

// hostsWords matches the words that the host puts around an app's own error.
var hostsWords = regexp.MustCompile(`(?s)^Response status code does not indicate success: \d+ \((?:durable/failed: )?(.*)\)\.$`)

func failureText(e httpapi.Event) string {
	if f := e.FailureDetails.Innermost(); f != nil && f.ErrorMessage != "" {
		return hostsWords.ReplaceAllString(f.ErrorMessage, "$1")
	}
	return e.Reason
}

// maxUnfolded is how many spans of one name are shown one by one.
const maxUnfolded = 6

// fold joins many spans of one name into one. Spans that failed or still run stay separate.
func fold(list []span) (folded []span) {
	count := map[string]int{}
	for _, s := range list {
		count[s.name]++
	}
	at := map[string]int{}
	for _, s := range list {
		n, seen := at[s.name]
		switch {
		case count[s.name] <= maxUnfolded || s.failure != "" || s.open:
			folded = append(folded, s)
		case !seen:
			s.count = 1
			at[s.name] = len(folded)
			folded = append(folded, s)
		default:
			folded[n].count++
			folded[n].to = later(folded[n].to, s.to)
		}
	}
	return folded
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

const (
	timelineWidth = 40
	maxLines      = 60
)

// printTimeline draws an instance's spans: full blocks for work, light ones for waiting, an arrow for a span that still runs.
func printTimeline(w io.Writer, i httpapi.Instance, now time.Time) {
	list := fold(spans(i, now))
	if len(list) == 0 {
		return
	}
	begin, end := list[0].from, now
	if i.IsFinished() {
		end = list[0].to
		for _, s := range list {
			end = later(end, s.to)
		}
	}
	names := 0
	for _, s := range list {
		names = min(max(names, len([]rune(s.title()))), 32)
	}
	fmt.Fprintln(w)
	for n, s := range list {
		if n == maxLines {
			fmt.Fprintf(w, "  … and %d more: see instances history\n", len(list)-n)
			break
		}
		line := fmt.Sprintf("  %-*s %s %s", names, Beginning(s.title(), names), s.bar(begin, end), s.duration(now))
		if s.failure != "" {
			line += "  failed: " + Beginning(s.failure, 80)
		}
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w, "\n  █ ran  ░ waited  ▶ goes on")
}

func (s span) title() string {
	if s.count > 1 {
		return fmt.Sprintf("%s ×%d", s.name, s.count)
	}
	return s.name
}

// bar draws the span's part of the time from begin to end.
func (s span) bar(begin, end time.Time) string {
	total := max(end.Sub(begin), time.Millisecond)
	column := func(t time.Time) int {
		return min(max(int(timelineWidth*t.Sub(begin)/total), 0), timelineWidth-1)
	}
	first, last := column(s.from), column(s.to)
	fill := "█"
	if s.waits {
		fill = "░"
	}
	bar := strings.Repeat(" ", first) + strings.Repeat(fill, last-first+1) + strings.Repeat(" ", timelineWidth-1-last)
	if s.open {
		runes := []rune(bar)
		runes[last] = '▶'
		bar = string(runes)
	}
	return "|" + bar + "|"
}

func (s span) duration(now time.Time) string {
	if s.open && s.waits && s.to.After(now) {
		return "for " + short(s.to.Sub(now)) + " more"
	}
	return short(s.to.Sub(s.from))
}

func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
