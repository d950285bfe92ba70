package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/schollz/progressbar/v3"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

// progress is the progress bar and, above it, what is written to stderr. Without a terminal there is a line every few seconds
// in place of the bar.
type progress struct {
	w        io.Writer
	terminal bool
	interval time.Duration // between two looks at how far it is

	mu    sync.Mutex
	all   map[string]*part // by instance id
	shown []string         // ids
	bar   *progressbar.ProgressBar
	last  time.Time // of the last look
	begun time.Time // of the first one
	first int       // what was completed then
}

// part is an instance in the tree below those that are shown. Its own progress moves when one of its activities ends, or
// one of its children: theirs is finer.
type part struct {
	own      durable.Progress
	failed   bool // it was lost, or terminated: its work is done again elsewhere
	children []*part
}

// The intervals without a terminal, and with one.
const (
	lineInterval = 3 * time.Second
	barInterval  = 100 * time.Millisecond
)

func newProgress(w io.Writer) *progress {
	d := &progress{w: w, interval: lineInterval, last: time.Now(), all: map[string]*part{}}
	if isTerminal(w) {
		d.terminal, d.interval = true, barInterval
	}
	return d
}

// watch says which instances' progress is shown.
func (d *progress) watch(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = ids
}

// instance takes note of an instance's progress, which is its custom status if that is one, and shows how far all is.
func (d *progress) instance(i local.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.all[i.ID]
	p := d.part(i.ID)
	if !known && i.Parent != "" {
		parent := d.part(i.Parent)
		parent.children = append(parent.children, p)
	}
	_ = json.Unmarshal([]byte(i.CustomStatus), &p.own)
	p.failed = i.IsFinished() && i.Status != api.RUNTIME_STATUS_COMPLETED
	if time.Since(d.last) >= d.interval {
		d.last = time.Now()
		d.show()
	}
}

func (d *progress) part(id string) *part {
	if d.all[id] == nil {
		d.all[id] = &part{}
	}
	return d.all[id]
}

// sum is how far the instances that are shown are, and all below them.
func (d *progress) sum() (sum durable.Progress) {
	for _, id := range d.shown {
		p := d.part(id)
		completed, failed := p.count()
		sum.Total += p.own.Total
		sum.Completed += min(completed, p.own.Total)
		sum.Failed += failed
	}
	return sum
}

func (p *part) count() (completed, failed int) {
	for _, child := range p.children {
		if !child.failed {
			c, f := child.count()
			completed, failed = completed+c, failed+f
		}
	}
	return max(completed, p.own.Completed), max(failed, p.own.Failed)
}

func (d *progress) show() {
	sum := d.sum()
	if sum.Total == 0 {
		return
	}
	if d.begun.IsZero() {
		d.begun, d.first = d.last, sum.Completed
	}
	if !d.terminal {
		fmt.Fprintln(d.w, progressLine(sum, sum.Completed-d.first, d.last.Sub(d.begun)))
		return
	}
	if d.bar == nil {
		d.bar = progressbar.NewOptions(sum.Total, progressbar.OptionSetWriter(d.w),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"), progressbar.OptionClearOnFinish())
	}
	d.bar.Describe(fmt.Sprintf("%d failed", sum.Failed))
	_ = d.bar.Set(sum.Completed)
}

// progressLine says how far it is and, if some were done within a time, how long the rest will take.
func progressLine(sum durable.Progress, done int, within time.Duration) string {
	line := fmt.Sprintf("%d of %d, %d failed", sum.Completed, sum.Total, sum.Failed)
	if done <= 0 || within <= 0 {
		return line
	}
	rate := float64(done) / within.Seconds()
	left := time.Duration(float64(sum.Total-sum.Completed) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %.3g a second, %s left", line, rate, left.Round(time.Second))
}

// note prints a line for who waits at a terminal.
func (d *progress) note(format string, args ...any) {
	if d.terminal {
		fmt.Fprintf(d, format+"\n", args...)
	}
}

func (d *progress) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Clear()
	}
	return d.w.Write(p)
}

// close ends the bar, and returns how far it was.
func (d *progress) close() durable.Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := d.sum()
	if d.bar != nil {
		_ = d.bar.Finish()
		d.bar = nil
	}
	d.shown = nil
	return sum
}
