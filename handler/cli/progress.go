package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

// progress is the progress bar and, above it, what is written to stderr. Without a terminal there is a line every few seconds
// in place of the bar.
type progress struct {
	w        io.Writer
	terminal bool

	mu      sync.Mutex
	ids     []string
	bar     *progressbar.ProgressBar
	printed time.Time
}

// progressInterval is how often there is a line without a terminal.
const progressInterval = 3 * time.Second

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd())), printed: time.Now()}
}

// watch says which instances' progress is shown.
func (d *progress) watch(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = ids
}

// instance shows an instance's custom status, if that is progress.
func (d *progress) instance(i local.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var p durable.Progress
	if !slices.Contains(d.ids, i.ID) || json.Unmarshal([]byte(i.CustomStatus), &p) != nil || p.Total == 0 {
		return
	}
	if !d.terminal {
		if time.Since(d.printed) >= progressInterval {
			d.printed = time.Now()
			fmt.Fprintf(d.w, "%d of %d, %d failed\n", p.Completed, p.Total, p.Failed)
		}
		return
	}
	if d.bar == nil {
		d.bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(d.w), progressbar.OptionSetDescription("records"),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
	}
	_ = d.bar.Set(p.Completed)
}

func (d *progress) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Clear()
	}
	return d.w.Write(p)
}

func (d *progress) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Finish()
		d.bar = nil
	}
	d.ids = nil
}
