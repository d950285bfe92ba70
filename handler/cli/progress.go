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

// progress draws the progress bar, with the lines written to stderr above it. Without a terminal it prints a line every few
// seconds instead.
type progress struct {
	w        io.Writer
	terminal bool
	interval time.Duration // between two updates

	mu    sync.Mutex
	all   map[string]*part // by instance id
	shown []string         // ids
	bar   *progressbar.ProgressBar
	last  time.Time // of the last update
	begun time.Time // of the first update
	first int       // completed at the first update
}

// part is an instance in the tree below a shown one. Its progress counts as moving when one of its activities or children
// ends; the children's own progress is finer.
type part struct {
	own      durable.Progress
	failed   bool // it was lost or terminated, and another instance does its work again
	children []*part
}

// The update intervals without a terminal, and with one.
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

// watch sets the instances whose progress is shown.
func (d *progress) watch(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = ids
}

// instance records an instance's progress, if its custom status holds one, and updates the total.
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

// sum adds up the progress of the shown instances and of all below them.
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

// progressLine says how much is done and, if records were completed within a known time, how long the rest will take.
func progressLine(sum durable.Progress, done int, within time.Duration) string {
	line := fmt.Sprintf("%d of %d, %d failed", sum.Completed, sum.Total, sum.Failed)
	if done <= 0 || within <= 0 {
		return line
	}
	rate := float64(done) / within.Seconds()
	left := time.Duration(float64(sum.Total-sum.Completed) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %.3g a second, %s left", line, rate, left.Round(time.Second))
}

// note prints a line for a user at a terminal.
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

// close ends the bar and returns the last progress.
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
