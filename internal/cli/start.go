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
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port)))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot take messages: %w", err)
	}
	defer listener.Close()
	console := &console{w: e.stdout}
	h, err := e.open(c.Data, e.stderr, console.instance, console.line)
	if err != nil {
		return err
	}
	defer h.close()

	console.printf("Functions:\n")
	for _, f := range h.Functions() {
		console.printf("  %s: %s\n", f.Name, f.Trigger)
	}
	console.printf("Messages go to http://%s/admin/functions/%s as {\"input\":\"<message>\"}\n", listener.Addr(), clientFunction)

	server := &http.Server{Handler: h.Admin(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	context.AfterFunc(e.ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
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
	meta := api.OrchestrationMetadata{RuntimeStatus: i.Status}
	if !meta.IsComplete() {
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
