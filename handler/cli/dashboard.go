package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"

	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/loopback"
)

type dashboardCommand struct {
	Remote
	Port uint16 `help:"Loopback port to serve the page on. Default: a free one."`
	Open bool   `help:"Open the page in the browser."`
}

// Run serves the page of an app. The app's key stays in this process.
func (c *dashboardCommand) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port))))
	if err != nil {
		return fmt.Errorf("cannot serve the page: %w", err)
	}
	defer listener.Close()
	e.catchSignals()
	url := "http://" + listener.Addr().String()
	fmt.Fprintf(e.Stdout, "The instances of %s are at %s; Ctrl+C ends it\n", client.Address(), url)
	if c.Open {
		openBrowser(e.Context, url)
	}
	token := rand.Text()
	mux := http.NewServeMux()
	mux.Handle("/", dashboard.Page(token, dashboard.App{Name: client.Address()}))
	mux.Handle(httpapi.Path+"/", loopback.Only(dashboard.OwnPages(token, client.Proxy())))
	return serve(e.Context, listener, mux)
}

// openBrowser ignores errors: the URL is already printed.
func openBrowser(ctx context.Context, url string) {
	command := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], append(command[1:], url)...); cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}
