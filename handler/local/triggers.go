package local

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/route"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/handler/local/internal/trigger"
)

// maxHTTPBody is the size of the largest body of a request, the host's.
const maxHTTPBody = 100 << 20

// serveHTTP serves the functions with an httpTrigger, at the real host's paths. Like func start it asks for no key.
func (h *Host) serveHTTP(w http.ResponseWriter, r *http.Request) {
	match, ok := h.app.Routes.Find(r.Method, r.URL.EscapedPath())
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if h.accepting.Err() != nil {
		http.Error(w, "the host is stopping", http.StatusServiceUnavailable)
		return
	}
	f := h.functions[strings.ToLower(match.Function)]
	control := http.NewResponseController(w) // a function may take longer than a call of the admin endpoint
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
	if h.app.Host.Forwards(f) {
		ctx, stop := h.invocationContext(r.Context())
		defer stop()
		h.transport.Forward(w, r.WithContext(ctx), funchost.FirstTry(f).InvocationID, func(err error) {
			h.log.Error("a forwarded request got no answer", "function", f.Name, "error", err)
		})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHTTPBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer, _, err := h.run(r.Context(), f, func(try funchost.Try, client funchost.Client) []byte {
		return funchost.HTTPRequest(f, try, httpCall(r, body, match), client)
	})
	if err != nil {
		h.log.Error("an HTTP function failed", "function", f.Name, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	answer.WriteHTTP(w, f)
}

func httpCall(r *http.Request, body []byte, match route.Match) funchost.HTTPCall {
	headers := r.Header.Clone()
	headers.Set("Host", r.Host)
	if r.ContentLength > 0 {
		headers.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	return funchost.HTTPCall{
		Method: r.Method, URL: "http://" + r.Host + r.URL.RequestURI(), Headers: headers, Body: body,
		Names: match.Template.Names(), Params: match.Params,
	}
}

// run invokes a function that is not durable, and sends its outputs. started are the ids of the orchestrations that it has
// started, or found when it was to start them.
func (h *Host) run(ctx context.Context, f config.Function, request func(funchost.Try, funchost.Client) []byte) (answer *funchost.Answer, started []string, err error) {
	caller := h.sidecar.NewCaller()
	defer h.sidecar.Forget(caller)
	client := funchost.Client{TaskHub: h.app.Host.HubName, Address: h.sidecar.Address, Token: caller.Token, URL: h.url}
	err = h.tryUntilDone(f, func(try funchost.Try) (err error) {
		if answer, err = h.invoke(ctx, f, try, request(try, client)); err != nil {
			return err
		}
		return h.sendOutputs(ctx, output.Source{Function: f}, answer)
	})
	return answer, caller.Instances(), err
}

// startTriggers starts the timers, and the watch on the folders of blobs.
func (h *Host) startTriggers() error {
	blobs := &trigger.Blobs{Dir: filepath.Join(h.dataDir, "blobs"), Receipts: filepath.Join(h.dataDir, "blobs.json"), Log: h.log, Found: h.foundBlob}
	for _, f := range h.functions {
		if f.Trigger().Is(config.BlobTrigger) {
			blobs.Functions = append(blobs.Functions, f)
		}
		if f.Schedule == nil {
			continue
		}
		timer := &trigger.Timer{Function: f, File: filepath.Join(h.dataDir, "timers", f.Name+".json"), Fire: func(due trigger.Due) { h.fire(f, due) }}
		h.delivery.Go(func() { timer.Run(h.accepting) })
	}
	if len(blobs.Functions) == 0 {
		return nil
	}
	if err := blobs.Prepare(); err != nil {
		return err
	}
	h.delivery.Go(func() { blobs.Run(h.accepting) })
	return nil
}

func (h *Host) fire(f config.Function, due trigger.Due) {
	_, _, err := h.run(h.ctx, f, func(try funchost.Try, client funchost.Client) []byte {
		t := funchost.Timer{IsPastDue: due.IsPastDue, Status: (*funchost.ScheduleStatus)(due.Status)}
		return funchost.TimerRequest(f, try, t, client)
	})
	if err != nil && h.ctx.Err() == nil {
		h.log.Error("a timer's function failed", "function", f.Name, "error", err)
	}
}

// foundBlob puts a blob into the inbox, from where it comes again if its function fails.
func (h *Host) foundBlob(ctx context.Context, function, name string, content []byte) error {
	err := h.hub.PutMessage(ctx, function, Message{ID: name, Body: content}.WithDefaults())
	if err == nil {
		h.inbox.wakeUp()
	}
	return err
}

// hint says how a function is called here: its URL, its schedule, its folder, or by deliver.
func (h *Host) hint(f config.Function) string {
	switch t := f.Trigger(); {
	case t.Is(config.HTTPTrigger):
		template := t.Property("route")
		if template == "" {
			template = f.Name
		}
		base := h.url
		if base == "" {
			base = "http://" + net.JoinHostPort("localhost", "<port>")
		}
		return strings.TrimSuffix(base+"/"+h.app.Host.RoutePrefix, "/") + "/" + template
	case t.Is(config.TimerTrigger):
		return t.Property("schedule")
	case t.Is(config.BlobTrigger):
		container, _ := t.BlobPath()
		return filepath.Join(h.dataDir, "blobs", container)
	case funchost.IsDurableTrigger(t), funchost.IsMessageTrigger(t):
		return ""
	}
	return "nothing triggers it here: deliver --function " + f.Name + " FILE does"
}
