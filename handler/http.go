package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/telemetry"
	"example.com/durablefunctions/handler/internal/wire"
)

// HTTP registers a function with an httpTrigger and an http output. Any [http.Handler] will do, a router as well: the
// request's path is that which the client called, with the host's prefix (/api/…). r.PathValue gives the parameters of
// the route in function.json, r.Context() is that of the invocation (durable.FromContext, durable.Log, Go, SetOutput).
//
// The host has two ways to a function, and chooses. If host.json sets customHandler.enableForwardingHttpRequest, requests to
// functions that have nothing but the httpTrigger and the http output are forwarded as they are, and so are the answers.
// All others, above all those with a durableClient, come in an envelope, which has limits:
//
//   - a request's body is exact if its Content-Type is application/octet-stream or multipart/…, or its text UTF-8; the host
//     has destroyed other bytes before we see them. Its Accept-Encoding is left out, because a compressed answer has no way back;
//   - an answer's body must be text in UTF-8, and there may be one Set-Cookie; other headers with several values are joined.
//     Anything else is logged, and answered with status 500. A body that is a date and nothing else gets a line feed at its end;
//   - Flush does nothing: the host sends the answer when the handler has returned.
//
// When the host forwards, a query's repeated parameters are joined (q=1,2), and an answer that has begun when the
// handler panics is cut off.
//
// Access keys are in the URL's query (code) or in the header X-Functions-Key, as the client sent them: do not log these.
func (a *App) HTTP(name string, h http.Handler) {
	f := &function{name: name, kind: httpKind, http: h}
	if h != nil {
		f.trigger = func(ctx context.Context, in *Invocation) error { return in.serveHTTP(ctx, h) }
	}
	a.register(f)
}

// serveHTTP serves the request in the envelope.
func (in *Invocation) serveHTTP(ctx context.Context, h http.Handler) error {
	r, err := in.httpRequest(ctx)
	if err != nil {
		return err
	}
	w := &recorder{header: http.Header{}, limit: in.maxPayload}
	h.ServeHTTP(w, r)
	w.WriteHeader(http.StatusOK) // if the function has not written one
	if w.err != nil {
		return w.err
	}
	telemetry.Answered(ctx, r, w.status)
	answer, err := wire.EncodeHTTPResponse(w.status, w.sent, w.body.Bytes())
	if err != nil {
		invocation.Of(ctx).Logger.Error("an HTTP answer is lost", "error", err)
		return err
	}
	SetOutput(ctx, in.function.HTTPOutput(), answer)
	return nil
}

// httpRequest makes a request of the envelope. No error names the URL, which may hold a key.
func (in *Invocation) httpRequest(ctx context.Context) (*http.Request, error) {
	sent, err := wire.DecodeHTTPRequest(in.request.Data[in.function.Trigger().Name])
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, sent.Method, sent.URL, bytes.NewReader(sent.Body))
	if err != nil {
		return nil, errors.New("the host sent an HTTP request whose method or URL is none")
	}
	for name, values := range sent.Headers {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	for _, name := range []string{"Host", "Accept-Encoding", "Transfer-Encoding", "Content-Length"} {
		r.Header.Del(name)
	}
	r.RequestURI, r.RemoteAddr, r.GetBody = r.URL.RequestURI(), "127.0.0.1:0", nil
	for name, value := range sent.Params {
		r.SetPathValue(name, value)
	}
	return r, nil
}

// recorder is an [http.ResponseWriter] that keeps the answer in memory.
type recorder struct {
	header http.Header
	limit  int
	status int         // 0: not yet written
	sent   http.Header // as it was then
	body   bytes.Buffer
	err    error
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %d", status)) // as net/http does
	case w.status != 0, status < 200:
		return
	}
	w.status, w.sent = status, w.header.Clone()
	if w.sent == nil {
		w.sent = http.Header{}
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if _, set := w.sent["Content-Type"]; !set && w.body.Len() == 0 && w.sent.Get("Content-Encoding") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(p))
	}
	if w.body.Len()+len(p) > w.limit {
		w.err = fmt.Errorf("the HTTP answer has more than %d bytes (setting HANDLER_MAX_BODY_BYTES)", w.limit)
		return 0, w.err
	}
	return w.body.Write(p)
}

func (w *recorder) Flush() {}

// checkHTTP says what a folder lacks for a function that is registered with HTTP.
func checkHTTP(on config.Function) error {
	if on.HTTPOutput() == "" {
		return fmt.Errorf(`%s/function.json has no http output for what the function answers: add {"name":"res","type":"http","direction":"out"}`, on.Name)
	}
	return nil
}
