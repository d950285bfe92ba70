package cli

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	myclientfunction "example.com/durablefunctions/MyClientFunction"
	myorchestration "example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

const clientFunction = "MyClientFunction"

type processCommand struct {
	dataFlag
	JSON bool   `name:"json" help:"Print one JSON object instead of the summary."`
	File string `arg:"" help:"File with the message, or - for standard input."`
}

// report is what --json prints.
type report struct {
	InstanceID    *string                 `json:"instanceId"`    // null: nothing to process
	RuntimeStatus *string                 `json:"runtimeStatus"` // null: nothing to process
	Output        *myorchestration.Output `json:"output"`        // null: the orchestration did not complete
	Error         string                  `json:"error,omitempty"`
	Mails         []mailReport            `json:"mails"` // those that succeeded
	ElapsedMs     int64                   `json:"elapsedMs"`

	elapsed time.Duration
	failed  []local.Mail
}

type mailReport struct {
	To      string  `json:"to"`
	Subject string  `json:"subject"`
	Path    *string `json:"path"` // null: sent
}

func (c *processCommand) Run(e *environment) error {
	begun := time.Now()
	message, err := c.read()
	if err != nil {
		return err
	}
	display := newDisplay(e.stderr)
	h, err := e.open(c.Data, display, display.instance, func(string, string) {})
	if address := runningAt(c.Data); address != "" && errors.As(err, new(*local.BusyError)) {
		return fmt.Errorf("start is running on the data directory %s: post the message to it: %s", c.Data, postCommand(address, c.File, message))
	} else if err != nil {
		return err
	}
	defer h.close()
	run, err := takeRun(c.Data, message)
	if err != nil {
		return err
	}
	if run.continued {
		fmt.Fprintf(display, "continuing the unfinished run of this message, instance %s\n", run.instanceID)
	}
	display.watch(run.instanceID)
	instance, err := run.deliver(e.ctx, h)
	display.close()
	if err != nil && e.ctx.Err() != nil {
		h.stop(e.stderr)
		return run.interrupted(h)
	} else if err != nil {
		return err
	}
	r, err := newReport(context.WithoutCancel(e.ctx), h, instance, time.Since(begun))
	if err != nil {
		return err
	}
	if err := r.print(e.stdout, c.JSON); err != nil {
		return exit{exitFailed, err} // the run stays unfinished: the next call prints
	}
	if err := run.finish(); err != nil {
		return exit{exitFailed, err}
	}
	if r.Output == nil || r.Output.Failed > 0 {
		return exit{code: exitFailed}
	}
	return nil
}

// read reads the message and has the client function's own parser check it.
func (c *processCommand) read() (string, error) {
	in, err := open(c.File)
	if err != nil {
		return "", err
	}
	defer in.Close()
	settings, err := myclientfunction.ReadSettings(os.Getenv)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(in, int64(settings.MaxMessageBytes)+1))
	if err == nil {
		_, err = myclientfunction.Parse(string(text), settings.MaxMessageBytes)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.File, err)
	}
	return string(text), nil
}

// run is one processing of a message, from its first delivery until its result was printed. Its message id is kept in a
// file, so that an interrupted one is continued: the same message makes the same instance id.
type run struct {
	file       string
	message    local.Message
	instanceID string
	continued  bool
}

func takeRun(data, text string) (*run, error) {
	key := sha256.Sum256([]byte(text))
	r := &run{file: filepath.Join(runsDir(data), hex.EncodeToString(key[:]))}
	id, _, err := readRun(r.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	r.continued = id != ""
	if !r.continued {
		id = uuid.NewString()
	}
	number := sha256.Sum256([]byte(id))
	r.message = local.Message{
		ID: id, SequenceNumber: int64(binary.BigEndian.Uint64(number[:]) >> 1),
		Body: []byte(text), DeliveryCount: 1, EnqueuedAt: time.Now(),
	}
	r.instanceID = myclientfunction.InstanceID(text, func(name string) (string, bool) {
		value, ok := map[string]string{"MessageId": id, "SequenceNumber": strconv.FormatInt(r.message.SequenceNumber, 10)}[name]
		return value, ok
	})
	if r.continued {
		return r, nil
	}
	return r, writeFile(r.file, id+"\n"+r.instanceID+"\n")
}

func runsDir(data string) string { return filepath.Join(data, "runs") }

// readRun reads a run's file: its message id, and for forgetRuns its instance id.
func readRun(file string) (messageID, instanceID string, err error) {
	text, err := os.ReadFile(file)
	messageID, instanceID, _ = strings.Cut(string(text), "\n")
	return strings.TrimSpace(messageID), strings.TrimSpace(instanceID), err
}

// forgetRuns removes the files of runs that nobody has continued since a time, unless their instances are still there.
func forgetRuns(ctx context.Context, h *local.Host, data string, since time.Time) {
	files, _ := os.ReadDir(runsDir(data))
	for _, f := range files {
		path := filepath.Join(runsDir(data), f.Name())
		info, err := f.Info()
		if err != nil || !info.ModTime().Before(since) {
			continue
		}
		_, id, err := readRun(path)
		if err != nil {
			continue
		}
		if _, err := h.Instance(ctx, id); errors.Is(err, api.ErrInstanceNotFound) {
			_ = os.Remove(path)
		}
	}
}

// writeFile writes a whole file or none.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (r *run) finish() error { return os.Remove(r.file) }

// deliver delivers the message, unless an earlier call has and its orchestration has ended since, and waits for the
// orchestration's end. It returns nil if the message started none.
func (r *run) deliver(ctx context.Context, h *session) (*local.Instance, error) {
	instance, err := h.Instance(ctx, r.instanceID)
	if err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
		return nil, err
	}
	if err != nil {
		if err := h.Invoke(ctx, clientFunction, r.message); err != nil {
			return nil, r.rejected(ctx, h, err)
		}
	}
	instance, err = h.Wait(ctx, r.instanceID)
	switch {
	case err == nil:
		return &instance, nil
	case errors.Is(err, api.ErrInstanceNotFound):
		return nil, nil
	}
	return nil, exit{exitFailed, fmt.Errorf("%w; the same command again continues instance %s", err, r.instanceID)}
}

// interrupted says how far the run has come, once the host has stopped.
func (r *run) interrupted(h *session) error {
	instance, err := h.Instance(context.Background(), r.instanceID)
	var p durable.Progress
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		err = errors.New("interrupted before the message was taken: the same command again continues")
	case err != nil:
	case hasEnded(instance):
		err = fmt.Errorf("interrupted, but instance %s has ended: the same command again prints its result", r.instanceID)
	case json.Unmarshal([]byte(instance.CustomStatus), &p) == nil:
		err = fmt.Errorf("interrupted, %d of %d records are done: the same command again continues instance %s", p.Completed, p.Total, r.instanceID)
	default:
		err = fmt.Errorf("interrupted: the same command again continues instance %s", r.instanceID)
	}
	return exit{exitFailed, err}
}

// rejected is the error of a message that the function did not take. Nothing is kept of it.
func (r *run) rejected(ctx context.Context, h *session, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, missing := h.Instance(ctx, r.instanceID); !errors.Is(missing, api.ErrInstanceNotFound) {
		return exit{exitFailed, err}
	}
	var failed *local.InvocationError
	if errors.As(err, &failed) {
		err = errors.New(failed.Reason)
	}
	return errors.Join(err, r.finish())
}

func newReport(ctx context.Context, h *session, instance *local.Instance, elapsed time.Duration) (*report, error) {
	r := &report{Mails: []mailReport{}, ElapsedMs: elapsed.Milliseconds(), elapsed: elapsed}
	if instance == nil {
		r.Output = &myorchestration.Output{Failures: []myorchestration.Failure{}, Mail: myorchestration.MailNone}
		return r, nil
	}
	status := statusName(instance.Status)
	r.InstanceID, r.RuntimeStatus = &instance.ID, &status
	if instance.Status != api.RUNTIME_STATUS_COMPLETED {
		r.Error = instance.Output
		if r.Error == "" {
			r.Error = "the orchestration ended without a reason"
		}
	} else if err := json.Unmarshal([]byte(instance.Output), &r.Output); err != nil {
		return nil, exit{exitFailed, fmt.Errorf("the result of instance %s is not MyOrchestration's: %w", instance.ID, err)}
	}
	mails, err := h.Mails(ctx, instance.ID)
	if err != nil {
		return nil, exit{exitFailed, err}
	}
	for _, m := range mails {
		if m.Failed {
			r.failed = append(r.failed, m)
			continue
		}
		sent := mailReport{To: strings.Join(m.To, ", "), Subject: m.Subject}
		if m.Path != "" {
			sent.Path = &m.Path
		}
		r.Mails = append(r.Mails, sent)
	}
	return r, nil
}

func hasEnded(i local.Instance) bool {
	meta := api.OrchestrationMetadata{RuntimeStatus: i.Status}
	return meta.IsComplete()
}

// statusName is the status as the host's HTTP API spells it.
func statusName(s api.OrchestrationStatus) string {
	name := strings.TrimPrefix(s.String(), "ORCHESTRATION_STATUS_")
	return name[:1] + strings.ToLower(name[1:])
}

// shown is how many failed records the summary lists.
const shown = 20

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if r.InstanceID == nil {
		row("Nothing to process", "the message names no records")
		return t.Flush()
	}
	row("Instance", "%s", *r.InstanceID)
	row("Status", "%s", *r.RuntimeStatus)
	if r.Output == nil {
		row("Error", "%s", oneLine(r.Error))
	} else {
		row("Records", "%d in all, %d succeeded, %d failed", r.Output.Total, r.Output.Succeeded, r.Output.Failed)
		for i, f := range r.Output.Failures {
			if i == shown {
				row("", "… and %d more (--json lists them all)", len(r.Output.Failures)-shown)
				break
			}
			row("Failed", "%s", oneLine(f.RecordId+": "+f.ErrorMessage))
		}
	}
	for _, m := range r.Mails {
		if m.Path != nil {
			row("Mail", "to %s written to %s (no SendGridKey is set)", oneLine(m.To), nearby(*m.Path))
		} else {
			row("Mail", "sent to %s", oneLine(m.To))
		}
	}
	for _, m := range r.failed {
		row("Mail failed", "%s; kept in %s", oneLine(m.Reason), nearby(m.Path))
	}
	row("Elapsed", "%s", r.elapsed.Round(time.Millisecond))
	return t.Flush()
}

// nearby shortens a path below the working directory.
func nearby(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

// display is the progress bar and, above it, what is written to stderr. Without a terminal there is no bar.
type display struct {
	w        io.Writer
	terminal bool

	mu  sync.Mutex
	id  string
	bar *progressbar.ProgressBar
}

func newDisplay(w io.Writer) *display {
	f, ok := w.(*os.File)
	return &display{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (d *display) watch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id = id
}

// instance shows the instance's progress.
func (d *display) instance(i local.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var p durable.Progress
	if !d.terminal || i.ID != d.id || json.Unmarshal([]byte(i.CustomStatus), &p) != nil || p.Total == 0 {
		return
	}
	if d.bar == nil {
		d.bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(d.w), progressbar.OptionSetDescription("records"),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	}
	_ = d.bar.Set(p.Completed)
}

func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Clear()
	}
	return d.w.Write(p)
}

func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		_ = d.bar.Finish()
		d.bar = nil
	}
	d.id = ""
}
