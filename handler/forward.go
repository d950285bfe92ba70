package handler

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/route"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/handler/internal/wire"
)

// forwarding serves the requests that the host forwards, and leaves the others to next.
func (s *server) forwarding(routes *route.Table, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := s.functions[strings.TrimPrefix(r.URL.Path, "/")]; f != nil && !f.forwarded && r.Method == http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		match, ok := routes.Find(r.Method, r.URL.EscapedPath())
		f := s.functions[match.Function]
		if !ok || f == nil || !f.forwarded {
			next.ServeHTTP(w, r)
			return
		}
		// A web page on this machine may not send this header without a permission, which it does not get.
		if r.Header.Get(invocationID) == "" {
			http.Error(w, "only the Functions host may call functions", http.StatusForbidden)
			return
		}
		for name, value := range match.Params {
			r.SetPathValue(name, value)
		}
		s.forward(w, r, f)
	})
}

const invocationID = "X-Azure-Functions-Invocationid"

// forward runs an HTTP function on a request as the client sent it.
func (s *server) forward(w http.ResponseWriter, r *http.Request, f *function) {
	c := &call{function: f, id: r.Header.Get(invocationID)}
	c.logs = &logs{stdout: s.stdout, function: f.name, invocation: c.id, answered: true} // a forwarded answer cannot carry them
	c.logger = s.logger(c)
	inv := &invocation.Invocation{Logger: c.logger}
	ctx, cancel := s.deadline(invocation.With(s.begin(r, c), inv))
	defer cancel()
	defer c.seen.End()
	if r.URL.Host == "" {
		r.URL.Scheme, r.URL.Host = "http", r.Host
		if strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
			r.URL.Scheme = "https"
		}
	}
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, s.settings.maxBody)
	out := &forwardedAnswer{w: w, header: w.Header(), status: http.StatusOK}
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function ended its goroutine")
		defer func() { done <- err }() // also when the function ends its goroutine
		err = runHTTP(f.http, out, r, inv)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) { // the client has gone
			err = <-done
			break
		}
		err = errors.New(s.leftBehind(f.name))
	}
	begun := out.end()
	telemetry.Answered(ctx, r, out.status)
	if err == nil {
		return
	}
	c.seen.Failed(string(wire.KindFailed), err.Error())
	c.logger.Error("an HTTP function failed", "error", err)
	if begun {
		panic(http.ErrAbortHandler) // cuts the answer off
	}
	clear(w.Header())
	w.WriteHeader(http.StatusInternalServerError)
}

// runHTTP runs the function, and waits for what it has begun.
func runHTTP(h http.Handler, w http.ResponseWriter, r *http.Request, inv *invocation.Invocation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &invocation.PanicError{Value: p}
			if p != http.ErrAbortHandler {
				logPanic(inv.Logger, p)
			}
		}
	}()
	growStack()
	h.ServeHTTP(w, r)
	return inv.Wait()
}

// forwardedAnswer passes an answer on until it is ended: a function that was left behind may still write.
type forwardedAnswer struct {
	mu     sync.Mutex
	w      http.ResponseWriter
	header http.Header
	begun  bool
	ended  bool
	status int // of the answer
}

func (a *forwardedAnswer) Header() http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return http.Header{}
	}
	return a.header
}

func (a *forwardedAnswer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.w.WriteHeader(status)
	if status >= 200 && !a.begun {
		a.begun, a.status = true, status
	}
}

func (a *forwardedAnswer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 0, http.ErrHandlerTimeout
	}
	a.begun = true
	return a.w.Write(p)
}

// FlushError is what http.ResponseController calls.
func (a *forwardedAnswer) FlushError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return http.ErrHandlerTimeout
	}
	a.begun = true
	return http.NewResponseController(a.w).Flush()
}

func (a *forwardedAnswer) Flush() { _ = a.FlushError() }

// end ends the answer, and says whether it has begun.
func (a *forwardedAnswer) end() (begun bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	return a.begun
}
