package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"example.com/durablefunctions/handler/internal/telemetry"
)

// stopTime is how long a process that was asked to stop waits for the host to end it.
const stopTime = 30 * time.Second

// maxStack is the largest stack of a goroutine, in bytes. Go cannot recover from an endless recursion: it ends the process, with a
// trace that names the function. This limit makes it end before it has taken the memory that the host needs.
const maxStack = 64 << 20

var errHostGone = errors.New("the host that started this handler has ended")

// Serve serves the host's requests on the loopback port in PortVariable. It returns only when it cannot serve, when the
// host has ended, or half a minute after an interrupt or SIGTERM, during which it puts turns off; and then 1, with one
// line on stderr: the host takes exit code 0 as wanted, starts no new handler, and every later invocation fails.
func (a *App) Serve() int {
	err := a.serve(Options{}.withDefaults())
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (a *App) serve(o Options) error {
	boundProcess(o.Getenv)
	hostGone := watchParent()
	o.Telemetry = telemetry.Start(o.Getenv, slog.New(o.Errors))
	defer stopTelemetry(o.Telemetry)
	h, err := a.Handler(o)
	if err != nil {
		return err
	}
	port := o.Getenv(PortVariable)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s is %q, not a port: the Functions host sets it", PortVariable, port)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	// A turn makes many times as much garbage as the process holds, and what the process holds decides how often the collector
	// runs. This block is never touched, so it takes no memory, but with it the collector runs a third as often. That saves a
	// quarter of the process's time.
	ballast := make([]byte, 8<<20)
	defer runtime.KeepAlive(ballast)
	ended := make(chan error, 3)
	go func() { ended <- NewServer(h).Serve(l) }()
	go func() {
		hostGone()
		ended <- errHostGone
	}()
	go a.awaitSignal(o.Telemetry, func(err error) { ended <- err })
	return <-ended
}

// stopTelemetry sends what there is, in a time that nobody who waits for the end of the process minds.
func stopTelemetry(t *telemetry.Telemetry) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	t.Stop(ctx)
}

// boundProcess bounds what this process may take of the machine or container that it shares with the host.
func boundProcess(getenv func(string) string) {
	debug.SetMaxStack(maxStack)
	if limit := availableMemory(os.DirFS("/")); limit > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// awaitSignal calls end some time after the process was asked to stop: the host, which got the same signal from the
// terminal or the container, first ends what is in flight. Turns are put off meanwhile, so that none is lost. A second
// signal ends the process at once.
func (a *App) awaitSignal(t *telemetry.Telemetry, end func(error)) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	got := <-signals
	a.stopping.Store(true)
	signal.Stop(signals)
	go t.FlushEvery(time.Second) // the host ends us when it likes
	time.Sleep(stopTime)
	end(fmt.Errorf("stopped by a signal (%s), and the host is still there after %s", got, stopTime))
}

// NewServer returns the HTTP server to serve an app's handler with.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
}
