package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local"
)

type startCommand struct {
	DataFlag
	Open  bool     `help:"Open the page with the instances in the browser."`
	Port  uint16   `help:"Loopback port to take messages on. Default: Host.LocalHttpPort of local.settings.json, else 7071."`
	Watch bool     `help:"Build again when a file of the app changes, and go on with the new build; nothing that runs is lost."`
	Build []string `arg:"" optional:"" help:"With --watch: the command that builds, after --, such as -- go build -o app . Default: go build."`

	Supervised bool `hidden:"" help:"start --watch has started this one."`
}

// defaultPort is the default port of func start.
const defaultPort = 7071

func (c *startCommand) Run(e *Environment) error {
	dir, err := c.Dir(e)
	if err != nil {
		return err
	}
	if len(c.Build) > 0 && !c.Watch {
		return errors.New("a build command is for start --watch")
	}
	listener, err := c.listen(dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.Watch {
		return c.watch(e, dir, listener)
	}
	reload := c.followSupervisor(e)
	e.url = "http://" + listener.Addr().String()
	console := newConsole(e.Stdout, e.app.Result)
	h, err := e.open(dir, e.Stderr, console.instance, console.line, false)
	if address := runningAt(dir); address != "" && errors.As(err, new(*local.BusyError)) {
		return isRunning(dir, address)
	} else if err != nil {
		return err
	}
	defer h.close()
	printProblems(e.Stderr, config.Check(".", os.Environ()))
	if err := keepAddress(dir, listener.Addr().String()); err != nil {
		return err
	}
	console.printf("Instances are at %s\n", e.url)
	printFunctions(console, h.Functions())
	console.printf("Messages go to %s/admin/functions/<function> as {\"input\":\"<message>\"}; what is kept is in %s\n", e.url, dir)
	if c.Open {
		openBrowser(e.Context, e.url)
	}
	err = serve(e.Context, listener, h.Handler())
	if err == nil {
		h.stop(e.Stderr)
		err = h.printLeft(console, reload.Load())
	}
	if err != nil {
		return exit{ExitFailed, err}
	}
	return nil
}

// listen opens the port, unless the supervisor has handed it on.
func (c *startCommand) listen(dir string) (net.Listener, error) {
	if c.Supervised && canInherit {
		return inheritedListener()
	}
	port, err := local.HTTPPort(".")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(cmp.Or(c.Port, port, defaultPort)))))
	if err != nil {
		if address := runningAt(dir); address != "" {
			return nil, isRunning(dir, address)
		}
		return nil, fmt.Errorf("cannot take messages: %w", err)
	}
	return listener, nil
}

func printFunctions(c *console, functions []local.FunctionInfo) {
	c.printf("Functions:\n")
	for _, f := range functions {
		hint := ""
		if f.Hint != "" {
			hint = ", " + f.Hint
		}
		c.printf("  %s: %s%s\n", f.Name, f.Trigger, hint)
	}
}

func isRunning(data, address string) error {
	return fmt.Errorf("start is running on the data directory %s already, at http://%s: stop it, or choose another directory", data, address)
}

// serve takes requests until ctx ends, and then lets the requests that are being read finish. Its timeouts stop a client that
// sends slowly, or nothing, from holding a connection open.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	const limit = 10 * time.Second
	server := &http.Server{Handler: h, ReadHeaderTimeout: limit, ReadTimeout: limit, WriteTimeout: 3 * limit, IdleTimeout: time.Minute}
	served := make(chan error, 2)
	go func() { served <- server.Serve(listener) }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if same, err := net.Listen("tcp", net.JoinHostPort("::1", port)); err == nil { // some programs resolve localhost to ::1
		go func() { served <- server.Serve(same) }()
	}
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

// printLeft says how much work is left for the next start, or for the next build.
func (s *Session) printLeft(c *console, reload bool) error {
	ctx := context.Background()
	running, err := s.Running(ctx)
	if err != nil {
		return err
	}
	waiting, err := s.Waiting(ctx)
	if err != nil {
		return err
	}
	if reload {
		c.printf("The new build goes on with orchestrations: %d, messages: %d\n", len(running), waiting)
		return nil
	}
	if len(running) == 0 && waiting == 0 {
		c.printf("Stopped: nothing is left to do\n")
		return nil
	}
	c.printf("Stopped: orchestrations left: %d, messages left: %d; the next start on %s goes on with them\n", len(running), waiting, s.dir)
	return nil
}
