package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/api"

	myorchestration "example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/handler/local"
)

type startCommand struct {
	dataFlag
	Port uint16 `help:"Loopback port to take messages on." default:"7071"`
}

func (c *startCommand) Run(e *environment) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port))))
	if err != nil {
		if address := runningAt(c.Data); address != "" {
			return isRunning(c.Data, address)
		}
		return fmt.Errorf("cannot take messages: %w", err)
	}
	defer listener.Close()
	console := &console{w: e.stdout}
	h, err := e.open(c.Data, e.stderr, console.instance, console.line)
	if address := runningAt(c.Data); address != "" && errors.As(err, new(*local.BusyError)) {
		return isRunning(c.Data, address)
	} else if err != nil {
		return err
	}
	defer h.close()
	if err := keepAddress(c.Data, listener.Addr().String()); err != nil {
		return err
	}
	console.printf("Functions:\n")
	for _, f := range h.Functions() {
		console.printf("  %s: %s\n", f.Name, f.Trigger)
	}
	console.printf("Messages go to http://%s/admin/functions/%s as {\"input\":\"<message>\"}\n", listener.Addr(), clientFunction)
	err = serve(e.ctx, listener, h.Admin())
	if err == nil {
		h.stop(e.stderr)
		err = h.printLeft(console)
	}
	if err != nil {
		return exit{exitFailed, err}
	}
	return nil
}

func isRunning(data, address string) error {
	return fmt.Errorf("start is running on the data directory %s already, at http://%s: stop it, or choose another directory", data, address)
}

// serve takes requests until ctx ends, and then lets those that are being read finish. Its limits keep a client that
// sends slowly, or nothing, from holding on to a connection.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	const limit = 10 * time.Second
	server := &http.Server{Handler: h, ReadHeaderTimeout: limit, ReadTimeout: limit, WriteTimeout: 3 * limit, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	return nil
}

// printLeft says what the next start will go on with.
func (s *session) printLeft(c *console) error {
	ctx := context.Background()
	running, err := s.Running(ctx)
	if err != nil {
		return err
	}
	waiting, err := s.Waiting(ctx)
	if err != nil {
		return err
	}
	if len(running) == 0 && waiting == 0 {
		c.printf("Stopped: nothing is left to do\n")
		return nil
	}
	c.printf("Stopped: orchestrations left: %d, messages left: %d; the next start on %s goes on with them\n", len(running), waiting, s.dir)
	return nil
}

// console prints lines, one at a time.
type console struct {
	mu      sync.Mutex
	w       io.Writer
	running sync.Map // ids of the instances whose start was printed
}

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.w, format, args...)
}

func (c *console) line(function, line string) { c.printf("%s: %s\n", function, oneLine(line)) }

// instance prints a line when a root orchestration starts and when it ends.
func (c *console) instance(i local.Instance) {
	if i.Parent != "" {
		return
	}
	if !hasEnded(i) {
		if _, printed := c.running.LoadOrStore(i.ID, nil); !printed {
			c.printf("%s %s started\n", i.Name, i.ID)
		}
		return
	}
	c.running.Delete(i.ID)
	var out myorchestration.Output
	switch {
	case i.Status != api.RUNTIME_STATUS_COMPLETED:
		c.printf("%s %s %s: %s\n", i.Name, i.ID, strings.ToLower(statusName(i.Status)), oneLine(i.Output))
	case json.Unmarshal([]byte(i.Output), &out) != nil:
		c.printf("%s %s completed\n", i.Name, i.ID)
	default:
		c.printf("%s %s completed: %d records, %d succeeded, %d failed, mail %s\n", i.Name, i.ID, out.Total, out.Succeeded, out.Failed, out.Mail)
	}
}
