// Package local is a Functions host for the laptop: it runs an app's functions without Azure, without the Functions
// Core Tools and without a queue. It plays the host's side of the custom handler protocol against any http.Handler, so
// that what runs here is what runs in Azure, and what goes wrong there goes wrong here first.
//
//	host, err := local.Open(ctx, local.Options{
//		Root:     ".",      // host.json and the function folders
//		DataDir:  dir,      // everything that outlives the process
//		Handler:  handler,
//		Settings: os.Getenv,
//		Environ:  os.Environ(),
//	})
//	if err != nil {
//		return err
//	}
//	defer host.Close(ctx)
//	delivery, err := host.Deliver(ctx, "MyClientFunction", local.Message{Body: text})
//	…
//	instance, err := host.Wait(ctx, delivery.Instances[0])
//
// # What it does
//
// It sends the handler the same requests as the real host, over HTTP connections in memory, and reacts to each answer as the real
// host does. A turn with a wrong answer, an output that cannot be sent and a custom status that is too large each fail the
// orchestration for good. A failed activity has the real host's nested failure details. An invocation that exceeds functionTimeout
// is given up; an orchestrator's turn then runs again. Before all that, the retry policies of function.json and host.json count:
// the invocation is tried again, with the same id, as long as the policy allows. A turn that the handler refuses (requiresHistory)
// comes again after 2 seconds, 4, 8 and so on. Where the real host would hang, this one fails at once and says why: after an empty
// answer, and with an instance id that is empty or too long. It also gives up an activity during which five processes died; the
// real host would go on for ever.
//
// Orchestrations run on durabletask-go's engine. Their state is in an SQLite file below DataDir. A killed process loses nothing:
// the next Open continues at once. A damaged row fails only its own instance. A power cut can lose the last moments before it,
// because not every step is synchronised with the disk.
//
// A message that its function does not take is delivered again, with growing delays, up to MaxDeliveryCount times. Then it is a
// dead letter: [DeadLetters] lists it, and [Resubmit] puts it back. An orchestration that has ended is deleted after Retention.
//
// The durable client finds TaskHubSidecarService on a free loopback port, which the client binding names. [Host.Handler] serves
// the Durable HTTP API and the admin endpoint.
//
// A sendGrid output goes to SendGrid if the setting that its apiKey names has a value. Otherwise each mail becomes a file in
// DataDir/mails. An output to a queue or topic becomes a message if a function of the app listens there, with the same connection.
// Every other output becomes a file in DataDir/outputs. [Host.Handler] serves the HTTP functions. Timers fire by their schedules,
// but only once for all the times that a sleeping machine has missed. Messages of queueTrigger and serviceBusTrigger come from the
// inbox. Blobs are files below DataDir/blobs/<container>. Functions with other triggers run when a message is delivered to them.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/local/internal/engine"
	"example.com/durablefunctions/handler/local/internal/front"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/inbox"
	"example.com/durablefunctions/handler/local/internal/invoke"
	"example.com/durablefunctions/handler/local/internal/manage"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Options configure a host. Root, DataDir and Handler are needed.
type Options struct {
	Root    string // the app root
	DataDir string // made if it does not exist
	Handler http.Handler

	Settings func(name string) string // app settings; none if nil
	Environ  []string                 // overrides of host.json, in the form of os.Environ
	Logger   *slog.Logger             // nothing is logged if nil
	URL      string                   // where Handler is served, "http://127.0.0.1:7071"; the client binding's httpBaseUrl is below it

	// OnInstance is called after an instance's first turn, after each change of its custom status, and after its end, with one
	// call at a time for each instance. The instance waits until the call returns.
	OnInstance func(Instance)
	// OnConsole is called with each line of Logs of a 2xx answer, which the real host writes as Information.
	OnConsole func(function, line string)

	// HoldMessages leaves waiting messages to the next host. This one delivers only what Deliver is given, and starts no timers.
	HoldMessages bool
	// LeaveUnfinished leaves the orchestrations that earlier hosts have not finished to the next host, except those that somebody
	// starts again here or waits for.
	LeaveUnfinished bool
	// MaxDeliveryCount is how often a message is delivered before it becomes a dead letter; 0 means 10, as in Service Bus.
	MaxDeliveryCount int
	// MaxMessageBytes is the size of the largest message that [Host.Enqueue] and the admin endpoint take; 0 means no limit.
	MaxMessageBytes int
	// Retention is how long an orchestration is kept after it and all its children have ended; 0 means for ever. Dead letters,
	// mails and other outputs are never deleted.
	Retention time.Duration

	putOffUnit time.Duration // for tests: half of the first delay of a turn that is put off; 0 means a second
}

// Instance is an orchestration instance: ID, Name, Parent (an instance id, empty for a root), Status, CustomStatus (JSON),
// Output (the result's JSON; of a failed or terminated instance the reason), CreatedAt, LastUpdatedAt.
type Instance = taskhub.Instance

// Reason is why an instance failed or was terminated, in one line. If the host itself failed the instance, for example
// because a turn got no answer, Output is JSON with .NET's exceptions, and Reason has their messages only.
func Reason(i Instance) string { return funchost.Reason(i.Output) }

// StatusName returns a status as the real host's HTTP API spells it: "Completed".
func StatusName(status api.OrchestrationStatus) string { return historyevent.StatusName(status) }

// Mail is a mail that was sent: InstanceID (of the root), To, Subject, Path (of the file that holds it, empty if SendGrid took
// it), Failed, and Reason (why it failed).
type Mail = taskhub.Mail

// FunctionInfo is a function of the app.
type FunctionInfo struct {
	Name, Trigger string // Trigger is the type of its binding
	TakesMessages bool   // its trigger is a queue's
	Hint          string // how it is called here; empty for those that need no explanation
}

// InvocationError says that a function did not take an invocation.
type InvocationError struct {
	Function string
	Status   int    // of its answer, 0 if there was none
	Reason   string // the function's own words, else the host's
}

func (e *InvocationError) Error() string {
	return fmt.Sprintf("function %s failed: %s", e.Function, e.Reason)
}

// MessageSizeError says that a message was refused because it is too large: Size and Limit are in bytes.
type MessageSizeError = inbox.SizeError

// BusyError says that another host uses the data directory.
type BusyError struct {
	DataDir string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the data directory %s is in use by another process: stop it, or choose another directory", e.DataDir)
}

// Host is a running local host.
type Host struct {
	app     *config.App
	dataDir string
	url     string
	log     *slog.Logger

	lock     *flock.Flock
	hub      *taskhub.TaskHub
	sidecar  *manage.Sidecar
	invoker  *invoke.Invoker
	engine   *engine.Engine
	inbox    *inbox.Inbox
	front    http.Handler
	triggers sync.WaitGroup // timers, blobs, retention

	ctx           context.Context // of the invocations
	cancel        context.CancelFunc
	accepting     context.Context // ends when the host stops
	stopAccepting context.CancelFunc
	stopOnce      sync.Once
	closeOnce     sync.Once
	closeErr      error
}

const defaultMaxDeliveryCount = 10

// Open starts a host: it takes the data directory, continues what an earlier host left there, and delivers messages.
// The error is a [*BusyError] if another host has the directory. Cancelling ctx afterwards has no effect.
func Open(ctx context.Context, o Options) (*Host, error) {
	app, err := config.Load(o.Root, o.Environ)
	if err != nil {
		return nil, err
	}
	origins, err := config.LocalCORS(o.Root)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	h := &Host{app: app, url: o.URL, log: o.Logger}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	h.accepting, h.stopAccepting = context.WithCancel(h.ctx)
	if err := h.open(ctx, o, origins); err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

func (o Options) withDefaults() Options {
	if o.Settings == nil {
		o.Settings = func(string) string { return "" }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnConsole == nil {
		o.OnConsole = func(string, string) {}
	}
	if o.OnInstance == nil {
		o.OnInstance = func(Instance) {}
	}
	if o.MaxDeliveryCount == 0 {
		o.MaxDeliveryCount = defaultMaxDeliveryCount
	}
	return o
}

func (h *Host) open(ctx context.Context, o Options, origins []string) error {
	if err := h.openData(ctx, o); err != nil {
		return err
	}
	var err error
	if h.sidecar, err = manage.StartSidecar(h.hub, h.app.Host.HubName, h.log); err != nil {
		return fmt.Errorf("start the durable client's service: %w", err)
	}
	h.inbox = inbox.New(inbox.Options{
		Hub: h.hub, Log: h.log, Parallel: h.app.Host.MaxConcurrentCalls, MaxDeliveries: o.MaxDeliveryCount, MaxBytes: o.MaxMessageBytes,
		Deliver: h.deliverWaiting,
	})
	outputs := &output.Sender{
		App: h.app, Hub: h.hub, Enqueue: h.inbox.Put, DataDir: h.dataDir, Settings: o.Settings, Log: h.log, Closing: h.ctx,
	}
	h.invoker = invoke.New(invoke.Options{
		Handler: o.Handler, Host: h.app.Host, URL: h.url, Sidecar: h.sidecar, Outputs: outputs, Log: h.log, OnConsole: o.OnConsole,
		Stopping: h.accepting, Closing: h.ctx,
	})
	h.front = front.New(front.Options{App: h.app, Hub: h.hub, Inbox: h.inbox, Invoker: h.invoker, Log: h.log, Origins: origins, Environ: o.Environ})
	h.engine = engine.New(h.app, h.hub, h.invoker, h.log)
	if err := h.engine.Start(h.ctx); err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	if !o.HoldMessages {
		h.inbox.Start(h.ctx, h.accepting)
		if err := h.startTriggers(); err != nil {
			return err
		}
	}
	if o.Retention > 0 {
		h.triggers.Go(func() { h.hub.PurgeEvery(h.accepting, o.Retention) })
	}
	return nil
}

// openData takes the data directory.
func (h *Host) openData(ctx context.Context, o Options) error {
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the data directory %s cannot be made: %w", dir, errors.Unwrap(err))
	}
	h.dataDir = dir
	lock := flock.New(filepath.Join(dir, "lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return fmt.Errorf("the data directory %s cannot be written: %w", dir, err)
	case !locked:
		return &BusyError{DataDir: dir}
	}
	h.lock = lock
	h.hub, err = taskhub.Open(ctx, taskhub.Options{DataDir: dir, Log: h.log, Tracing: h.app.Host.Tracing, OnInstance: o.OnInstance, PutOffUnit: o.putOffUnit,
		LeaveUnfinished: o.LeaveUnfinished, EntityBatch: h.app.Host.MaxEntityBatch, DefaultVersion: h.app.Host.DefaultVersion})
	return err
}

// abandonTime is how long abandoned invocations may take to end.
const abandonTime = time.Second

// Stop accepts no more messages and starts nothing new. What is running may finish until ctx ends; the rest is abandoned, and the
// next host on the data directory continues it. Stop does not wait for a handler that ignores its context, nor for a write to a
// locked file. Until Close, the host still answers questions, for example Running and Waiting.
func (h *Host) Stop(ctx context.Context) {
	h.stopOnce.Do(func() {
		h.stopAccepting()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			h.hub.Retire()
			if err := h.engine.Shutdown(ctx); err != nil {
				h.log.Error("the engine did not stop", "error", err)
			}
			h.triggers.Wait()
			h.inbox.Wait()
		}()
		select {
		case <-drained:
		case <-ctx.Done():
			h.cancel()
			select {
			case <-drained:
			case <-time.After(abandonTime):
			}
		}
	})
}

// Close stops the host as Stop does and gives the data directory back.
func (h *Host) Close(ctx context.Context) error {
	h.Stop(ctx)
	h.closeOnce.Do(func() { h.closeErr = h.release() })
	return h.closeErr
}

// release gives back whatever open took.
func (h *Host) release() error {
	h.cancel()
	var err error
	if h.sidecar != nil {
		h.sidecar.Close()
	}
	if h.invoker != nil {
		h.invoker.Close()
	}
	if h.hub != nil {
		err = h.hub.Close()
	}
	if h.lock != nil {
		err = errors.Join(err, h.lock.Unlock())
	}
	return err
}

// Handler serves everything on one port: the admin endpoint at /admin/functions/{name}, the HTTP functions at /api or host.json's
// routePrefix, a page with the instances at / (its files and endpoints are below /local), and the Durable HTTP API at
// /runtime/webhooks/durabletask, with the real host's routes and answers but without its keys. It answers 403 if the name in Host
// is not a loopback name, to web sites that Host.CORS of local.settings.json does not name, and to a browser that writes to the
// Durable HTTP API without the token of this host's own page.
//
// POST /admin/functions/{name} with {"input":"<message text>"} puts a message into the inbox of a function, as [Host.Enqueue]
// does, and answers as the real host does: 202 once the message is on disk. A "messageId" beside the input becomes the message's
// id.
func (h *Host) Handler() http.Handler { return h.front }

// Instance returns an instance. The error is [api.ErrInstanceNotFound] if it does not exist.
func (h *Host) Instance(ctx context.Context, id string) (Instance, error) {
	return h.hub.Get(ctx, id)
}

// Wait returns an instance once it has ended, however it ended. It does not poll. The error is [api.ErrInstanceNotFound] if the
// instance does not exist.
func (h *Host) Wait(ctx context.Context, id string) (Instance, error) {
	return h.hub.Wait(ctx, id, Instance.IsFinished)
}

// Running returns the root instances that have not ended, oldest first.
func (h *Host) Running(ctx context.Context) ([]Instance, error) {
	return h.hub.RunningRoots(ctx)
}

// Waiting returns how many messages no function has taken yet. Dead letters do not count.
func (h *Host) Waiting(ctx context.Context) (int, error) { return h.hub.WaitingMessages(ctx) }

// Mails returns the mails of a root instance and of all instances below it, in the order of sending.
func (h *Host) Mails(ctx context.Context, rootID string) ([]Mail, error) {
	return h.hub.Mails(ctx, rootID)
}

// Functions lists the functions by name.
func (h *Host) Functions() []FunctionInfo {
	list := make([]FunctionInfo, 0, len(h.app.Functions))
	for _, f := range h.app.Functions {
		list = append(list, FunctionInfo{Name: f.Name, Trigger: f.Trigger().Type, TakesMessages: funchost.IsMessageTrigger(f.Trigger()), Hint: h.hint(f)})
	}
	slices.SortFunc(list, func(a, b FunctionInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}
