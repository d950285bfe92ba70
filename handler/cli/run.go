package cli

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

// maxMessage limits how much of a file is read; the functions have their own limits.
const maxMessage = 64 << 20

// RunOptions say which message goes to which function.
type RunOptions struct {
	DataFlag
	File      string // the file with the message; "-" for standard input
	Function  string // "": the only one with a message trigger
	MessageID string // "": a random one
}

// Run delivers a file as one message, waits for the orchestrations that it starts, and calls report to print them. Until that
// is done it keeps the message's id in a file, so that an interrupted run can be continued with the same message. The error
// ends the process with the exit code that report returns, 0 for none.
func (e *Environment) Run(o RunOptions, report func(*Session, []local.Instance) (exitCode int, err error)) error {
	text, err := readFile(o.File)
	if err != nil {
		return err
	}
	dir, err := o.Dir(e)
	if err != nil {
		return err
	}
	progress := newProgress(e.Stderr)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		progress.note("the first run: making %s", dir)
	}
	s, err := e.open(dir, progress, progress.instance, func(string, string) {}, true)
	if err != nil {
		return e.busy(err, dir, o, string(text))
	}
	defer s.close()
	function, err := s.messageFunction(o.Function)
	if err != nil {
		return err
	}
	r, err := takeRun(dir, function, text, o.MessageID)
	if err != nil {
		return err
	}
	if r.continued {
		fmt.Fprintf(progress, "continuing the unfinished run of this message%s\n", r.named())
	}
	s.printOthers(e.Context, progress, r.instances)
	instances, err := r.deliver(e.Context, s, progress)
	done := progress.close()
	switch {
	case err != nil && e.Context.Err() != nil:
		s.stop(e.Stderr)
		return r.interrupted(s, done)
	case err != nil:
		return err
	}
	code, err := report(s, instances)
	if err == nil {
		err = r.finish()
	}
	switch {
	case err != nil: // the run stays unfinished: the next call prints it
		return exit{ExitFailed, err}
	case code != 0:
		return exit{code, nil}
	}
	return nil
}

// printOthers says how much other unfinished work the data directory holds. It ignores errors: they will show in the work
// itself.
func (s *Session) printOthers(ctx context.Context, w io.Writer, own []string) {
	running, _ := s.Running(ctx)
	running = slices.DeleteFunc(running, func(i local.Instance) bool { return slices.Contains(own, i.ID) })
	if len(running) > 0 {
		fmt.Fprintf(w, "unfinished orchestrations of earlier runs: %d, which wait for the next start\n", len(running))
	}
	if waiting, _ := s.Waiting(ctx); waiting > 0 {
		fmt.Fprintf(w, "messages that wait here: %d, for the next start\n", waiting)
	}
}

// busy explains that the data directory is in use, and how to post the message to the start that uses it.
func (e *Environment) busy(err error, dir string, o RunOptions, message string) error {
	if address := runningAt(dir); address != "" && errors.As(err, new(*local.BusyError)) {
		if o.Function == "" {
			return fmt.Errorf("start is running on the data directory %s, at http://%s", dir, address)
		}
		return fmt.Errorf("start is running on the data directory %s: post the message to it: %s", dir, postCommand(address, o.Function, o.File, message))
	}
	return err
}

func readFile(file string) ([]byte, error) {
	in, err := Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
	if err == nil && len(text) > maxMessage {
		err = fmt.Errorf("the message is too large: at most %d bytes", maxMessage)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

// Open opens a file for reading; "-" is standard input.
func Open(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(file)
}

// messageFunction returns the name of the function that takes the messages.
func (s *Session) messageFunction(name string) (string, error) {
	var names []string
	for _, f := range s.Functions() {
		if f.TakesMessages {
			names = append(names, f.Name)
		}
	}
	switch {
	case name != "":
		return name, nil
	case len(names) == 0:
		return "", errors.New("the app has no function with a message trigger")
	case len(names) > 1:
		return "", fmt.Errorf("the app has several functions with a message trigger: choose one with --function %s", strings.Join(names, ", or --function "))
	}
	return names[0], nil
}

// run is the processing of one message, from its first delivery until its result is printed. Its message id is kept in a
// file, so that an interrupted run can continue: with the same message id the function finds the orchestration that it has
// started.
type run struct {
	file      string
	function  string
	message   local.Message
	instances []string // named by its delivery; empty until a delivery has ended
	continued bool
}

func takeRun(dir, function string, text []byte, messageID string) (*run, error) {
	key := sha256.Sum256(text)
	r := &run{file: filepath.Join(runsDir(dir), hex.EncodeToString(key[:])), function: function}
	id, instances, err := readRun(r.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	r.continued = id != "" && (messageID == "" || messageID == id)
	switch {
	case r.continued:
		r.instances = instances
	case messageID != "":
		id = messageID
	default:
		id = uuid.NewString()
	}
	number := sha256.Sum256([]byte(id))
	r.message = local.Message{
		ID: id, SequenceNumber: int64(binary.BigEndian.Uint64(number[:]) >> 1),
		Body: text, DeliveryCount: 1, EnqueuedAt: time.Now(),
	}
	return r, r.keep()
}

func (r *run) keep() error {
	return writeFile(r.file, strings.Join(append([]string{r.message.ID}, r.instances...), "\n")+"\n")
}

func (r *run) finish() error { return os.Remove(r.file) }

func runsDir(dir string) string { return filepath.Join(dir, "runs") }

// readRun reads a run's file: the message id, then the ids of the instances, one per line.
func readRun(file string) (messageID string, instances []string, err error) {
	text, err := os.ReadFile(file)
	lines := strings.Fields(string(text))
	if err != nil || len(lines) == 0 {
		return "", nil, err
	}
	return lines[0], lines[1:], nil
}

// forgetRuns removes the files of runs that nobody has continued since the given time, unless their instances still exist.
func forgetRuns(ctx context.Context, h *local.Host, dir string, since time.Time) {
	files, _ := os.ReadDir(runsDir(dir))
	for _, f := range files {
		path := filepath.Join(runsDir(dir), f.Name())
		info, err := f.Info()
		if err != nil || !info.ModTime().Before(since) {
			continue
		}
		_, instances, err := readRun(path)
		if err != nil {
			continue
		}
		gone := true
		for _, id := range instances {
			_, err := h.Instance(ctx, id)
			gone = gone && errors.Is(err, api.ErrInstanceNotFound)
		}
		if gone {
			_ = os.Remove(path)
		}
	}
}

// writeFile writes the whole file or nothing.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// deliver delivers the message, unless an earlier run has done so and its orchestrations still exist, and waits for their
// end.
func (r *run) deliver(ctx context.Context, s *Session, p *progress) ([]local.Instance, error) {
	if !r.areThere(ctx, s) {
		delivery, err := s.Deliver(ctx, r.function, r.message)
		if len(delivery.Instances) > 0 {
			r.instances = delivery.Instances
			err = errors.Join(err, r.keep())
		}
		if err != nil {
			return nil, r.rejected(ctx, err)
		}
	}
	p.watch(r.instances)
	var ended []local.Instance
	for _, id := range r.instances {
		instance, err := s.Wait(ctx, id)
		switch {
		case errors.Is(err, api.ErrInstanceNotFound): // purged
		case err != nil:
			return nil, exit{ExitFailed, fmt.Errorf("%w; the same command again continues instance %s", err, id)}
		default:
			ended = append(ended, instance)
		}
	}
	return ended, nil
}

func (r *run) areThere(ctx context.Context, s *Session) bool {
	for _, id := range r.instances {
		if _, err := s.Instance(ctx, id); err != nil {
			return false
		}
	}
	return len(r.instances) > 0
}

// rejected returns the error for a message that the function did not accept. The run's file is removed, unless the function
// started an orchestration before it failed.
func (r *run) rejected(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(r.instances) > 0 {
		return exit{ExitFailed, err}
	}
	var failed *local.InvocationError
	if errors.As(err, &failed) {
		err = errors.New(failed.Reason)
	}
	return errors.Join(err, r.finish())
}

func (r *run) named() string {
	if len(r.instances) == 0 {
		return ""
	}
	return ", instance " + strings.Join(r.instances, ", ")
}

// interrupted says how far the run has come, after the host has stopped. done is the progress at the start of this run.
func (r *run) interrupted(s *Session, done durable.Progress) error {
	if len(r.instances) == 0 {
		return exit{ExitFailed, errors.New("interrupted before the message was taken: the same command again continues")}
	}
	instance, err := s.Instance(context.Background(), r.instances[0])
	switch {
	case err != nil:
	case instance.IsFinished():
		err = fmt.Errorf("interrupted, but instance %s has ended: the same command again prints its result", instance.ID)
	case done.Total > 0:
		err = fmt.Errorf("interrupted, %d of %d records are done: the same command again continues instance %s", done.Completed, done.Total, instance.ID)
	default:
		err = fmt.Errorf("interrupted: the same command again continues instance %s", instance.ID)
	}
	return exit{ExitFailed, err}
}
