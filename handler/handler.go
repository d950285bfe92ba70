// Package handler is an Azure Functions custom handler for Go: it lets the Functions host run Go functions, durable
// ones included. Orchestrators and activities are durabletask-go's; what the host's protocol wants and durabletask-go
// does not give, happens here.
//
// The smallest complete app has a folder with a function.json for each function, a host.json, and this main:
//
//	func main() {
//		app := handler.New()
//		app.Queue("Start", start)
//		app.Orchestrator("Hello", durable.Orchestrator(hello))
//		app.Activity("SayHello", durable.Activity(sayHello))
//		os.Exit(app.Serve())
//	}
//
//	func start(ctx context.Context, m handler.Message) error {
//		c, err := durable.FromContext(ctx)
//		if err != nil {
//			return err
//		}
//		_, err = c.Start(ctx, "Hello", m.ID, strings.Fields(string(m.Body)))
//		return err
//	}
//
// # Triggers
//
//	app.HTTP(name, http.Handler)                                     httpTrigger
//	app.Queue(name, func(context.Context, handler.Message) error)    queueTrigger, serviceBusTrigger
//	app.Timer(name, func(context.Context, handler.Timer) error)      timerTrigger
//	app.Blob(name, func(context.Context, handler.Blob) error)        blobTrigger
//	app.Trigger(name, func(context.Context, *handler.Invocation) error)  any other
//
// All of these are ordinary functions, which a test can call. Package durable is what functions call, and says what an orchestrator
// may do. Package local runs the same app on a machine that has only Go.
//
// # How failures reach the host
//
// A function's error is answered with status 500 and the error's text in the reason phrase, under a mark of ours, so
// that an orchestrator gets it back word for word (durable.TaskError). An orchestrator's error is an orchestration in
// state Failed. A panic is an error, with its stack in the error log. What is wrong with a request itself (its method,
// its name, its body) is a 4xx.
//
// # The deadline
//
// The host kills the whole process, and with it every other invocation in flight, when one of them runs past
// functionTimeout. So each is answered a margin before that: its context is cancelled, and the answer goes out whether
// or not the function returns. The context's Deadline tells a function how long it has.
//
// # Settings
//
//	HANDLER_MAX_BODY_BYTES   largest body of a request (default 134217728: a message of 6 MB makes a request of 18)
//	HANDLER_DEADLINE_MARGIN  how long before functionTimeout we answer (default 5 % of it, between 500ms and 5s)
//	HANDLER_LOG_LEVEL        debug, info, warn or error: what functions log (default info)
package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/telemetry"
)

// PortVariable is the environment variable in which the host passes the port to listen on.
const PortVariable = "FUNCTIONS_CUSTOMHANDLER_PORT"

// TriggerFunc is a function with any trigger except the durable ones. Its error fails the invocation. What happens then depends
// on the trigger: Service Bus, for example, delivers the message again.
type TriggerFunc func(ctx context.Context, in *Invocation) error

// App is a set of functions, each registered under the name of its folder.
type App struct {
	functions map[string]*function
	problems  []error
	stopping  atomic.Bool
}

type function struct {
	name         string
	kind         *kind
	trigger      TriggerFunc
	orchestrator task.Orchestrator
	activity     task.Activity
	entity       *durable.EntityClass
	http         http.Handler // the host may forward requests to

	config.Function
	binding   string   // the trigger's name
	outputs   []string // the output bindings' names
	forwarded bool     // the host forwards its requests
}

// New returns an app without functions.
func New() *App { return &App{functions: map[string]*function{}} }

// Trigger registers a function with any trigger except the durable ones: Event Grid, Event Hubs, Cosmos DB and so on, whose
// values it reads with [Invocation.Text] and [Invocation.Bytes]. For the common ones there are [App.HTTP], [App.Queue],
// [App.Timer] and [App.Blob].
func (a *App) Trigger(name string, f TriggerFunc) {
	a.register(&function{name: name, kind: triggerKind, trigger: f})
}

// Orchestrator registers a function with an orchestrationTrigger.
func (a *App) Orchestrator(name string, f task.Orchestrator) {
	a.register(&function{name: name, kind: orchestratorKind, orchestrator: f})
}

// Activity registers a function with an activityTrigger.
func (a *App) Activity(name string, f task.Activity) {
	a.register(&function{name: name, kind: activityKind, activity: f})
}

func (a *App) register(f *function) {
	switch {
	case f.name == "":
		a.problems = append(a.problems, errors.New("a function is registered without a name"))
	case f.trigger == nil && f.orchestrator == nil && f.activity == nil && f.entity == nil:
		a.problems = append(a.problems, fmt.Errorf("function %s is registered without code", f.name))
	case a.functions[f.name] != nil:
		a.problems = append(a.problems, fmt.Errorf("function %s is registered twice", f.name))
	case f.entity != nil && checkEntity(f.name, f.entity) != nil:
		a.problems = append(a.problems, checkEntity(f.name, f.entity))
	default:
		a.functions[f.name] = f
	}
}

// Options say where the app lies and where its logs go. The zero value is right under the host.
type Options struct {
	Root           string              // app root; default FUNCTIONS_APP_ROOT_PATH, else the working directory
	Getenv         func(string) string // app settings; default os.Getenv
	Environ        []string            // for AzureFunctionsJobHost__ settings; default os.Environ()
	Stdout, Stderr io.Writer           // default os.Stdout and os.Stderr
	Errors         slog.Handler        // takes what functions log as errors; default text on Stderr

	// Telemetry is where spans and metrics go: what Serve and the commands of package cli make of the environment, in a program of
	// one's own nowhere.
	Telemetry *telemetry.Telemetry
}

func (o Options) withDefaults() Options {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	o.Root = cmp.Or(o.Root, o.Getenv("FUNCTIONS_APP_ROOT_PATH"), ".")
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Errors == nil {
		o.Errors = slog.NewTextHandler(o.Stderr, nil)
	}
	return o
}

// Handler checks the functions against host.json and the function.json files and returns what serves the host's
// requests. The error is one line that names what is wrong.
func (a *App) Handler(o Options) (http.Handler, error) {
	o = o.withDefaults()
	conf, err := config.Load(o.Root, o.Environ)
	if err != nil {
		return nil, err
	}
	functions, err := a.bind(conf)
	if err != nil {
		return nil, err
	}
	if v := o.Getenv("FUNCTIONS_WORKER_RUNTIME"); v != "" && !strings.EqualFold(v, "custom") {
		return nil, fmt.Errorf("setting FUNCTIONS_WORKER_RUNTIME is %q: it must be custom, for the host to speak to this handler", v)
	}
	settings, err := readSettings(o.Getenv, conf.Host, availableMemory(os.DirFS("/")))
	if err != nil {
		return nil, err
	}
	s := &server{
		functions: functions,
		settings:  settings,
		stdout:    o.Stdout,
		errors:    o.Errors,
		room:      newRoom(settings.memory),
		stopping:  &a.stopping,
		telemetry: o.Telemetry,
		versions: durable.Versions{
			Default: conf.Host.DefaultVersion, Match: conf.Host.VersionMatchStrategy, Failure: conf.Host.VersionFailureStrategy,
		},
	}
	if conf.Host.ForwardHTTP {
		return s.forwarding(conf.Routes, s.routes()), nil
	}
	return s.routes(), nil
}

// bind compares what is registered with what the folders say, and returns the enabled functions with their bindings.
func (a *App) bind(conf *config.App) (map[string]*function, error) {
	if len(a.problems) > 0 {
		return nil, a.problems[0]
	}
	bound := map[string]*function{}
	for _, name := range slices.Sorted(maps.Keys(a.functions)) {
		if slices.Contains(conf.Disabled, name) {
			continue // the host does not call it
		}
		f, on := *a.functions[name], conf.Functions[name]
		if len(on.Bindings) == 0 {
			return nil, fmt.Errorf("function %s is registered, but there is no %s/function.json in %s", name, name, conf.Root)
		}
		if err := f.kind.fits(on); err != nil {
			return nil, err
		}
		f.Function, f.binding, f.outputs = on, on.Trigger().Name, on.Outputs()
		f.forwarded = f.http != nil && conf.Host.Forwards(on)
		bound[name] = &f
	}
	for _, name := range slices.Sorted(maps.Keys(conf.Functions)) {
		if bound[name] == nil {
			return nil, fmt.Errorf("%s/function.json names a function that is not registered: register %s in main, or delete the folder", name, name)
		}
	}
	return bound, nil
}
