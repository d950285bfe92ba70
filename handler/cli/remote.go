package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"

	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/local"
)

// Remote holds the flags that choose an app: a deployed one, or the local host on this machine.
type Remote struct {
	DataFlag
	URL           string `name:"url" env:"DURABLE_URL" placeholder:"URL" help:"The app, such as https://APP.azurewebsites.net. Default: the start that is running here."`
	Code          string `env:"DURABLE_CODE" placeholder:"KEY" help:"Its durabletask_extension system key, or its master key. Better in the environment, where no list of processes shows it."`
	App           string `placeholder:"NAME" help:"Name of a function app in Azure; az is asked for its URL and key."`
	ResourceGroup string `placeholder:"NAME" help:"The app's resource group."`
}

// client returns the client of the app that the flags choose.
func (r Remote) client(e *Environment) (*httpapi.Client, error) {
	switch {
	case r.App != "" && r.ResourceGroup == "":
		return nil, fmt.Errorf("--app %s needs --resource-group", r.App)
	case r.App != "":
		return r.ofAzure(e.Context)
	case r.URL != "":
		return httpapi.New(r.URL, r.Code)
	}
	dir, err := r.Dir(e)
	if err != nil {
		return nil, err
	}
	if address := runningAt(dir); address != "" {
		return httpapi.New("http://"+address, r.Code)
	}
	port, err := local.HTTPPort(".")
	if err != nil {
		return nil, err
	}
	return httpapi.New("http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(int(cmp.Or(port, defaultPort)))), r.Code)
}

// ofAzure asks az, which must be signed in, for an app's address and key.
func (r Remote) ofAzure(ctx context.Context) (*httpapi.Client, error) {
	ask := func(query string, command ...string) (string, error) {
		args := append(command, "--name", r.App, "--resource-group", r.ResourceGroup, "--query", query, "--output", "tsv")
		out, err := exec.CommandContext(ctx, "az", args...).Output()
		if failed, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it unwrapped
			return "", fmt.Errorf("az does not tell about %s: %s", r.App, Beginning(string(failed.Stderr), maxShown))
		} else if err != nil {
			return "", fmt.Errorf("--app needs the Azure CLI: %w", err)
		}
		text := strings.TrimSpace(string(out))
		if text == "" || text == "None" {
			return "", fmt.Errorf("az knows no %s of %s: is it a function app with Durable Functions, and has it run once?", query, r.App)
		}
		return text, nil
	}
	host, err := ask("defaultHostName || properties.defaultHostName", "functionapp", "show") // the latter for Flex Consumption
	if err != nil {
		return nil, err
	}
	key, err := ask("systemKeys.durabletask_extension", "functionapp", "keys", "list")
	if err != nil {
		return nil, err
	}
	return httpapi.New("https://"+host, key)
}
