package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/handler/local"
)

// Session is a running local host with the resources of its functions.
type Session struct {
	*local.Host
	closer io.Closer
	dir    string
	errs   *gate

	telemetry *telemetry.Telemetry
}

// open starts the local host on the app in the working directory. Errors that functions log go to errs, their other lines to
// onConsole. With ownWorkOnly it runs only the work of this command, and leaves everything else in the data directory to the
// next session.
func (e *Environment) open(dir string, errs io.Writer, onInstance func(local.Instance), onConsole func(function, line string), ownWorkOnly bool) (*Session, error) {
	maxDeliveries, err := maxDeliveryCount()
	if err != nil {
		return nil, err
	}
	retention, err := retention()
	if err != nil {
		return nil, err
	}
	app, closer, err := e.app.New(dir)
	if err != nil {
		return nil, err
	}
	terminal, functionErrs := isTerminal(e.Stderr), &gate{w: errs}
	sent := telemetry.Start(os.Getenv, slog.New(logHandler(errs, terminal, slog.LevelWarn)))
	h, err := app.Handler(handler.Options{Root: ".", Stdout: io.Discard, Errors: logHandler(functionErrs, terminal, slog.LevelError), Telemetry: sent})
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	maxMessageBytes := 0
	if e.app.MaxMessageBytes != nil {
		maxMessageBytes = e.app.MaxMessageBytes()
	}
	e.catchSignals()
	host, err := local.Open(context.WithoutCancel(e.Context), local.Options{
		Root:       ".",
		URL:        e.url,
		DataDir:    dir,
		Handler:    h,
		Settings:   os.Getenv,
		Environ:    os.Environ(),
		Logger:     slog.New(logHandler(errs, terminal, slog.LevelWarn)),
		OnInstance: onInstance,
		OnConsole:  onConsole,

		HoldMessages:    ownWorkOnly,
		LeaveUnfinished: ownWorkOnly,

		MaxDeliveryCount: maxDeliveries,
		MaxMessageBytes:  maxMessageBytes,
		Retention:        retention,
	})
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	forgetAddress(dir) // left by a start that was killed
	if retention > 0 {
		forgetRuns(e.Context, host, dir, time.Now().Add(-retention))
	}
	return &Session{host, closer, dir, functionErrs, sent}, nil
}

// catchSignals makes the first SIGINT or SIGTERM end e.Context, and the second one the process. Before there is a session the
// first one ends the process, because no work has been accepted.
func (e *Environment) catchSignals() {
	ctx, stop := signal.NotifyContext(e.Context, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	e.Context = ctx
}

// stopTimeout is how long running invocations may take to finish.
const stopTimeout = 5 * time.Second

// flushTimeout is how long sending the last spans and metrics may take.
const flushTimeout = 3 * time.Second

// stop ends the work within a bounded time. The next session continues what is unfinished.
func (s *Session) stop(w io.Writer) {
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

func (s *Session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	s.Stop(ctx)
	forgetAddress(s.dir)
	_ = s.Close(ctx)
	_ = s.closer.Close()
	ctx, cancel = context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	s.telemetry.Stop(ctx)
}

// gate passes on what functions write until it is closed. After that their errors only say that the invocations were
// abandoned.
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

// maxDeliveryCount reads the setting; 0 means that it is not set.
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

// retention reads the setting: how long ended instances are kept, 0 for ever.
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
