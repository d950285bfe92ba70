// Package cli is the commands of the binary when no Functions host has started it. They run the app's functions on the
// local host.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/crm"
)

// Exit codes.
const (
	exitOK       = 0 // all records succeeded, or nothing to process
	exitFailed   = 1 // accepted, and a record failed or the orchestration did not complete
	exitRejected = 2 // nothing was accepted: usage, bad message, unknown batch, configuration, data directory, port
)

// NewApp makes the app whose functions are run, with its data in a directory, and what is to be closed after it.
type NewApp func(dataDir string) (*handler.App, io.Closer, error)

type commands struct {
	Process processCommand `cmd:"" help:"Deliver a file as one message, wait for its orchestration and print what came of it."`
	Start   startCommand   `cmd:"" help:"Stay up like func start and take messages over HTTP."`
	Import  importCommand  `cmd:"" help:"Import records from a CSV file (columns RecordId,Batch,Name,Email)."`

	DeadLetters deadLettersCommand `cmd:"" help:"List the messages that start has given up, or put some back. Works beside a running start."`
}

// environment is what a command runs in.
type environment struct {
	ctx            context.Context // ends with the first signal, once there is a session
	newApp         NewApp
	stdout, stderr io.Writer
}

// exit is an error that chooses the exit code.
type exit struct {
	code int
	error
}

// Main runs the command that args name and returns the exit code.
func Main(args []string, newApp NewApp) int {
	var c commands
	parser, err := kong.New(&c,
		kong.Name("app"),
		kong.Description("Durable Functions in Go: a message in, every record processed in an activity of its own, failures mailed. "+
			"Started by the Functions host, this binary is its custom handler; these commands run the same functions on this machine."),
		kong.UsageOnError())
	if err != nil {
		panic(err) // the commands above are wrong
	}
	run, err := parser.Parse(args)
	if err == nil {
		err = loadSettings()
	}
	if err == nil {
		err = run.Run(&environment{ctx: context.Background(), newApp: newApp, stdout: os.Stdout, stderr: os.Stderr})
	}
	var e exit
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &e):
		e = exit{exitRejected, err}
	}
	if e.error != nil {
		fmt.Fprintln(os.Stderr, "app:", oneLine(strings.ReplaceAll(e.Error(), "\n", " ")))
	}
	return e.code
}

// loadSettings makes the settings of local.settings.json environment variables, as func start does. The environment
// wins.
func loadSettings() error {
	settings, err := local.Settings(".")
	if err != nil {
		return err
	}
	for name, value := range settings {
		if _, set := os.LookupEnv(name); !set {
			if err := os.Setenv(name, value); err != nil {
				return fmt.Errorf("local.settings.json: %w", err)
			}
		}
	}
	return nil
}

// dataFlag is shared by all commands.
type dataFlag struct {
	Data string `help:"Directory for all that is kept." default:".local" placeholder:"DIR"`
}

// session is a running local host and what its functions use.
type session struct {
	*local.Host
	records io.Closer
	dir     string
	errs    *gate
}

// open starts the local host on the app in the working directory. Functions' errors go to errs, their other lines to
// onConsole.
func (e *environment) open(data string, errs io.Writer, onInstance func(local.Instance), onConsole func(function, line string)) (*session, error) {
	maxDeliveries, err := maxDeliveryCount()
	if err != nil {
		return nil, err
	}
	retention, err := retention()
	if err != nil {
		return nil, err
	}
	app, records, err := e.newApp(data)
	if err != nil {
		return nil, err
	}
	functionErrs := &gate{w: errs}
	h, err := app.Handler(handler.Options{Root: ".", Stdout: io.Discard, Stderr: functionErrs})
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	e.catchSignals()
	host, err := local.Open(context.WithoutCancel(e.ctx), local.Options{
		Root:       ".",
		DataDir:    data,
		Handler:    h,
		Settings:   os.Getenv,
		Environ:    os.Environ(),
		Logger:     slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnInstance: onInstance,
		OnConsole:  onConsole,

		MaxDeliveryCount: maxDeliveries,
		Retention:        retention,
	})
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	forgetAddress(data) // of one that was killed
	if retention > 0 {
		forgetRuns(e.ctx, host, data, time.Now().Add(-retention))
	}
	return &session{host, records, data, functionErrs}, nil
}

// catchSignals has the first SIGINT or SIGTERM end e.ctx, and the second the process. Before there is a session the
// first one does: nothing has been accepted.
func (e *environment) catchSignals() {
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	e.ctx = ctx
}

// stopTimeout is how long running invocations may take to finish.
const stopTimeout = 5 * time.Second

// stop ends the work within a bounded time. What is unfinished is taken up by the next session.
func (s *session) stop(w io.Writer) {
	fmt.Fprintf(w, "stopping: what is running has %s to finish, a second signal ends at once\n", stopTimeout)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.AfterFunc(stopTimeout, func() {
		s.errs.close()
		cancel()
	})
	defer timer.Stop()
	s.Stop(ctx)
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	s.Stop(ctx)
	forgetAddress(s.dir)
	_ = s.Close(ctx)
	_ = s.records.Close()
}

// gate passes on what functions write until it is closed: that the abandoned ones fail is no news.
type gate struct {
	mu     sync.Mutex
	w      io.Writer
	closed bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return len(p), nil
	}
	return g.w.Write(p)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// maxDeliveryCount reads the setting; 0 if it is not set.
func maxDeliveryCount() (int, error) {
	text := os.Getenv("MAX_DELIVERY_COUNT")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("setting MAX_DELIVERY_COUNT is %q: it must be a whole number above 0", text)
	}
	return n, nil
}

// defaultRetention is a week.
const defaultRetention = 7 * 24 * time.Hour

// retention reads the setting: how long what has ended is kept, 0 for ever.
func retention() (time.Duration, error) {
	text := os.Getenv("LOCAL_RETENTION")
	if text == "" {
		return defaultRetention, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 0 && d < time.Minute {
		return 0, fmt.Errorf("setting LOCAL_RETENTION is %q: it must be a duration of a minute or more, such as 168h, or 0 for ever", text)
	}
	return d, nil
}

type importCommand struct {
	dataFlag
	File string `arg:"" help:"CSV file, or - for standard input."`
}

func (c *importCommand) Run(e *environment) error {
	if url := os.Getenv("CRM_BASE_URL"); url != "" {
		return errors.New("CRM_BASE_URL is set: records are in that CRM, not in a database that can be imported into")
	}
	in, err := open(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	path := os.Getenv("CRM_DATABASE")
	if path == "" {
		path = filepath.Join(c.Data, "crm.db")
	}
	store, err := crm.OpenSQLite(path)
	if err != nil {
		return err
	}
	defer store.Close()
	n, err := store.Import(e.ctx, in)
	if err != nil {
		return fmt.Errorf("%s: nothing was imported: %w", c.File, err)
	}
	fmt.Fprintf(e.stdout, "%d records imported into %s\n", n, path)
	return nil
}

func open(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(file)
}
