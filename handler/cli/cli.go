// Package cli holds the commands of an app's binary: what it does when no Functions host has started it. The commands run the
// app's functions on the local host, or show what the local host keeps. The smallest complete main:
//
//	func main() {
//		if cli.Wanted(os.Args, os.Getenv) {
//			os.Exit(cli.Main(os.Args[1:], cli.App{Name: "app", New: newApp}))
//		}
//		os.Exit(newHandler().Serve()) // under the Functions host
//	}
//
//	// newApp makes the functions, and what must be closed after them. Their files go into dataDir.
//	func newApp(dataDir string) (*handler.App, io.Closer, error)
//
// An app adds commands of its own with App.Commands; they get an [*Environment].
//
// # Exit codes
//
//	0  done, or stopped as asked; records that failed are a result
//	1  a message was accepted, and its orchestration did not complete; instances wait saw another end than Completed
//	2  nothing was done: usage, a message that was refused, configuration, data directory, port, no answer; check found an error
//	3  with --strict: a record failed; check found a warning
//	4  there is no such instance, or no such entity
//	5  instances wait: not ended within --timeout
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-colorable"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/internal/scaffold"
	"example.com/durablefunctions/handler/local"
)

// Exit codes.
const (
	ExitFailed   = 1
	ExitRejected = 2
	ExitStrict   = 3
	ExitNotFound = 4
	ExitTimeout  = 5
)

// App describes an app to the commands.
type App struct {
	Name        string
	Description string // for --help

	// New makes the functions, and what must be closed after them; their files go into dataDir.
	New func(dataDir string) (*handler.App, io.Closer, error)
	// MaxMessageBytes returns the size of the largest message that start takes, 0 for no limit. It is called after New. Nil
	// means no limit.
	MaxMessageBytes func() int
	// Commands is a pointer to a struct with more commands, in the form of package kong; nil if there are none. Their Run
	// methods get an *Environment.
	Commands any
	// Result describes the output of a completed orchestration in one line, without its name and id. start prints it. Nil, or
	// the result "", prints nothing.
	Result func(local.Instance) string
}

type commands struct {
	Start       startCommand       `cmd:"" help:"Stay up like func start and take messages over HTTP."`
	Deliver     deliverCommand     `cmd:"" help:"Deliver a file as one message to a function, wait for the orchestrations that it starts, and print their results. Posts it to a running start."`
	DeadLetters deadLettersCommand `cmd:"" help:"List the messages that start has given up, or put some back. Works beside a running start."`
	Check       checkCommand       `cmd:"" help:"Read host.json, the function.json files and the settings as the Functions host does, and list what would fail in Azure."`
	New         newCommand         `cmd:"" help:"Make a new app, or with the word function a new function in the app here."`
	Publish     publishCommand     `cmd:"" help:"Build the app, zip what the Functions host needs, check it, and publish it with az or func."`
	Instances   instancesCommand   `cmd:"" help:"See and steer the instances of the local host, or of a deployed app."`
	Entities    entitiesCommand    `cmd:"" help:"See and steer the entities of the local host, or of a deployed app."`
	StartNew    startNewCommand    `cmd:"" help:"Start an orchestration, here or in a deployed app."`
	Dashboard   dashboardCommand   `cmd:"" help:"Serve the page with the instances of a deployed app on this machine; start has its own."`
	Messages    messagesCommand    `cmd:"" help:"Look at the messages of the local host."`
	Completion  completionCommand  `cmd:"" help:"Print the script that has a shell complete commands, flags, names and instance ids; it says where to put it."`
	Complete    completeCommand    `cmd:"" hidden:""`

	kong.Plugins
}

// Environment is what a command gets to run with.
type Environment struct {
	Context        context.Context // ends with the first signal, once there is a session
	Stdout, Stderr io.Writer

	app     App
	environ []string // without the settings of local.settings.json
	url     string   // the address at which the local host is served
}

// exit is an error that chooses the exit code. Without an inner error nothing is printed.
type exit struct {
	code int
	error
}

// Wanted says whether the binary has to run a command: it has arguments, or no Functions host has started it. A port variable
// that was left over in a shell does not count.
func Wanted(args []string, getenv func(string) string) bool {
	return len(args) > 1 || getenv(handler.PortVariable) == ""
}

// Main runs the command that args name and returns the exit code.
func Main(args []string, app App) int {
	defer colorable.EnableColorsStdout(nil)() // for Windows
	var c commands
	_ = os.Unsetenv(handler.PortVariable) // no Functions host has started this process
	environ := os.Environ()
	name := cmp.Or(app.Name, "app")
	parser := newParser(&c, name, app)
	run, err := parser.Parse(args)
	if usage := (*kong.ParseError)(nil); errors.As(err, &usage) {
		parser.Stdout = os.Stderr
		_ = usage.Context.PrintUsage(true)
	}
	if err == nil && !slices.Contains(readingOnly, run.Selected().Name) {
		err = loadSettings()
	}
	if err == nil {
		err = run.Run(&Environment{Context: context.Background(), Stdout: os.Stdout, Stderr: os.Stderr, app: app, environ: environ})
	}
	var e exit
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &e):
		e = exit{ExitRejected, err}
	}
	if e.error != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, OneLine(strings.ReplaceAll(e.Error(), "\n", " ")))
	}
	return e.code
}

// readingOnly are the commands that run no function. They do not load the app's settings from the working directory.
var readingOnly = []string{"check", "completion", "new", "publish"}

func newParser(c *commands, name string, app App) *kong.Kong {
	if app.Commands != nil {
		c.Plugins = kong.Plugins{app.Commands}
	}
	parser, err := kong.New(c, kong.Name(name), kong.Description(app.Description),
		kong.Vars{"with": strings.Join(scaffold.Optional, ", "), "triggers": strings.Join(scaffold.Triggers(), ", ")})
	if err != nil {
		panic(err) // a mistake in the commands
	}
	return parser
}

// loadSettings makes environment variables of the settings in local.settings.json, as func start does. A variable that is
// already set wins.
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
