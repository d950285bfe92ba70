package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

type publishCommand struct {
	App           string        `required:"" placeholder:"NAME" help:"Name of the function app in Azure."`
	ResourceGroup string        `env:"AZURE_RESOURCE_GROUP" placeholder:"NAME" help:"Its resource group: az publishes. Without one func does."`
	Slot          string        `placeholder:"NAME" help:"Deployment slot."`
	Platform      string        `enum:"linux/amd64,linux/arm64,windows/amd64" default:"linux/amd64" help:"System of the app's plan: ${enum}. Consumption on Windows needs windows/amd64."`
	Include       []string      `placeholder:"PATH" help:"A file or directory that the functions read, below the app root."`
	Zip           string        `placeholder:"FILE" help:"Keep the zip in this file."`
	Host          string        `placeholder:"FILE" help:"Publish this file as host.json: that of another backend, such as infra/hosts/dts.json."`
	RoleWait      time.Duration `default:"10m" placeholder:"DURATION" help:"How long to try again while the app's new identity may not write to its deployment storage yet: a role takes up to 10 minutes. Default: ${default}."`
	DryRun        bool          `help:"Build and zip, and print the zip's list and the commands instead of running them."`
}

// Run builds the app, zips what the host needs, and publishes it with az or func.
func (c *publishCommand) Run(e *Environment) error {
	if c.ResourceGroup == "" && strings.HasPrefix(c.Platform, "windows/") {
		return errors.New("an app on Windows gets the name of its binary as a setting: say --resource-group")
	}
	app, err := c.check(e)
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "publish-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	p := &appPackage{root: ".", host: cmp.Or(c.Host, "host.json"), dir: filepath.Join(stage, "app")}
	if err := p.add(app, c.Include); err != nil {
		return err
	}
	binary := app.Host.Executable
	if strings.HasPrefix(c.Platform, "windows/") && filepath.Ext(binary) == "" {
		binary += ".exe"
	}
	if err := c.build(e, filepath.Join(p.dir, binary)); err != nil {
		return err
	}
	p.files = append(p.files, packaged{binary, 0o755})
	if _, err := config.Load(p.dir, nil); err != nil {
		return fmt.Errorf("the zip would be no app: %w", err)
	}
	zip, err := filepath.Abs(cmp.Or(c.Zip, filepath.Join(stage, "app.zip"))) // absolute, because the commands run in another directory
	if err == nil {
		err = p.zip(zip)
	}
	if err != nil {
		return err
	}
	commands := c.commands(app.Host.Executable, binary, zip)
	if c.DryRun {
		return c.print(e.Stdout, p, commands)
	}
	for _, command := range commands {
		if err := c.runUntilAllowed(e, p.dir, command); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.Stdout, "%s is published: %d files.\n", c.App, len(p.files))
	return nil
}

// check refuses to publish an app that would fail in Azure. It judges by the settings on this machine, and does not query
// those in Azure.
func (c *publishCommand) check(e *Environment) (*config.App, error) {
	failures := 0
	for _, p := range config.Check(".", os.Environ()) {
		if !p.Warning {
			failures++
			fmt.Fprintln(e.Stderr, OneLine(p.String()))
		}
	}
	if failures > 0 {
		return nil, fmt.Errorf("nothing is published: check found %d errors, above", failures)
	}
	app, err := config.Load(".", os.Environ())
	if err == nil && !filepath.IsLocal(app.Host.Executable) {
		err = fmt.Errorf("host.json: defaultExecutablePath %q is not below the app root", app.Host.Executable)
	}
	return app, err
}

// build builds the binary without cgo, so that it does not depend on libraries of the target machine.
func (c *publishCommand) build(e *Environment, target string) error {
	system, processor, _ := strings.Cut(c.Platform, "/")
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	build := exec.CommandContext(e.Context, "go", "build", "-ldflags=-s -w", "-o", target, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+processor)
	build.Stdout, build.Stderr = e.Stderr, e.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build for %s failed: %w", c.Platform, err)
	}
	return nil
}

// commands returns the commands that publish the zip, or the directory behind it. All plans accept both ways.
func (c *publishCommand) commands(executable, binary, zip string) [][]string {
	var commands [][]string
	slot := []string{}
	if c.Slot != "" {
		slot = []string{"--slot", c.Slot}
	}
	if binary != executable { // on Windows: the host does not add .exe
		setting := "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath=" + binary
		commands = append(commands, append([]string{"az", "functionapp", "config", "appsettings", "set", "--resource-group", c.ResourceGroup, "--name", c.App, "--settings", setting, "--output", "none"}, slot...))
	}
	if c.ResourceGroup != "" {
		return append(commands, append([]string{"az", "functionapp", "deployment", "source", "config-zip", "--resource-group", c.ResourceGroup, "--name", c.App, "--src", zip}, slot...))
	}
	return append(commands, append([]string{"func", "azure", "functionapp", "publish", c.App, "--custom", "--no-build"}, slot...))
}

func (c *publishCommand) print(w io.Writer, p *appPackage, commands [][]string) error {
	fmt.Fprintln(w, "The zip:")
	for _, f := range p.files {
		info, err := os.Stat(filepath.Join(p.dir, f.name))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s %10d %s\n", f.mode, info.Size(), filepath.ToSlash(f.name))
	}
	fmt.Fprintln(w, "The commands, in the directory that was zipped:")
	for _, command := range commands {
		quoted := make([]string, len(command))
		for i, word := range command {
			quoted[i] = word
			if strings.ContainsAny(word, " '\"$&;|<>*?") {
				quoted[i] = shellQuote(word)
			}
		}
		fmt.Fprintf(w, "  %s\n", strings.Join(quoted, " "))
	}
	return nil
}

// storageRefuses matches the errors of az, func and the deployment service when the deployment storage rejects the app's
// identity.
var storageRefuses = regexp.MustCompile(`(?s)InaccessibleStorageException|BlobUploadFailedException|AuthorizationPermissionMismatch|Failed to upload blob package|Azure Storage responded with Forbidden`)

// isRefused says whether a tool failed because a role is missing or not in force yet. If the account takes no keys, or does
// not exist, waiting does not help.
func isRefused(output string) bool {
	return storageRefuses.MatchString(output) && !strings.Contains(strings.ToLower(output), "key based authentication") &&
		(strings.Contains(output, "403") || strings.Contains(output, "AuthorizationPermissionMismatch") || strings.Contains(output, "Forbidden"))
}

// runUntilAllowed repeats a command, for at most RoleWait, while the deployment storage rejects the app's identity: the roles
// of a new app take a while to come into force. The pauses grow from a fortieth of RoleWait to a tenth, which is 15 seconds
// to a minute.
func (c *publishCommand) runUntilAllowed(e *Environment, dir string, command []string) error {
	begin := time.Now()
	for pause := c.RoleWait / 40; ; pause = min(2*pause, c.RoleWait/10) {
		output, err := runTool(e, dir, command)
		if err == nil || !isRefused(output) {
			return err
		}
		if time.Since(begin)+pause >= c.RoleWait {
			return fmt.Errorf("the app's deployment storage still refuses the app's identity (403) after %s: give the identity the role Storage Blob Data Owner on the storage account, and let the account be reached from public networks: %w",
				time.Since(begin).Round(time.Second), err)
		}
		fmt.Fprintf(e.Stderr, "The app's deployment storage refuses the app's identity (403): a new role takes some minutes. Trying again in %s, until %s.\n",
			pause.Round(time.Millisecond), begin.Add(c.RoleWait).Format(time.TimeOnly))
		select {
		case <-time.After(pause):
		case <-e.Context.Done():
			return e.Context.Err()
		}
	}
}

// runTool runs a command, shows its output, and returns the end of it.
func runTool(e *Environment, dir string, command []string) (output string, err error) {
	tool, err := exec.LookPath(command[0])
	if err != nil {
		return "", fmt.Errorf("%s is not installed: install it, or publish the zip (--dry-run --zip FILE) in another way", command[0])
	}
	var end tail
	run := exec.CommandContext(e.Context, tool, command[1:]...)
	run.Dir, run.Stdin = dir, os.Stdin
	run.Stdout, run.Stderr = io.MultiWriter(e.Stdout, &end), io.MultiWriter(e.Stderr, &end)
	if err := run.Run(); err != nil {
		return end.String(), fmt.Errorf("%s failed: %w", strings.Join(command[:min(4, len(command))], " "), err)
	}
	return end.String(), nil
}

// tail keeps the end of what is written to it. Two goroutines may write at once.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - maxTail; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
