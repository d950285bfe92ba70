package funchost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
)

// Transport posts invocations to the handler as the host does, over connections in memory. They carry real HTTP, so the host sees
// whatever the handler does to its connection, such as a reason phrase of its own.
type Transport struct {
	listener *pipeListener
	server   *http.Server
	client   *http.Transport
}

const (
	hostVersion = "4.1037.0.0"
	userAgent   = "Azure-Functions-Host/" + hostVersion

	maxAnswerSize       = 256 << 20
	maxAnswerHeaderSize = 64 << 10 // the host's
)

// NewTransport returns a transport to the handler that keeps up to that many idle connections.
func NewTransport(handler http.Handler, log *slog.Logger, connections int) *Transport {
	t := &Transport{listener: newPipeListener()}
	t.server = &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
	t.client = &http.Transport{
		DialContext:            t.listener.dial,
		DisableCompression:     true,
		MaxIdleConns:           connections,
		MaxIdleConnsPerHost:    connections,
		MaxResponseHeaderBytes: maxAnswerHeaderSize,
		IdleConnTimeout:        time.Minute,
	}
	go t.server.Serve(t.listener)
	return t
}

// Close ends all connections.
func (t *Transport) Close() {
	t.client.CloseIdleConnections()
	t.server.Close()
}

// Reply is what the handler answered to an invocation.
type Reply struct {
	Status      int
	Reason      string // of the status line, as the host reads it
	ContentType string
	Body        []byte
}

// maxRedirects is how many redirects of one invocation the host follows.
const maxRedirects = 50

// Post sends one invocation. It follows a redirect that keeps the method, at once.
func (t *Transport) Post(ctx context.Context, function, invocationID string, body []byte) (*Reply, error) {
	path := "/" + function
	for redirects := 0; ; redirects++ {
		reply, location, err := t.post(ctx, path, invocationID, body)
		if err != nil || location == "" || redirects == maxRedirects {
			return reply, err
		}
		path = location
	}
}

// post also returns the path that the answer redirects to, "" if it does not.
func (t *Transport) post(ctx context.Context, path, invocationID string, body []byte) (*Reply, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	request.ContentLength = -1 // chunked, as the host sends it
	request.GetBody = nil      // and never twice
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("X-Azure-Functions-InvocationId", invocationID)
	request.Header.Set("X-Azure-Functions-HostVersion", hostVersion)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
	response, err := t.client.RoundTrip(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerSize+1))
	if err == nil && len(text) > maxAnswerSize {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswerSize)
	}
	if err != nil {
		return nil, "", err
	}
	_, reason, _ := strings.Cut(response.Status, " ")
	return &Reply{response.StatusCode, latin1(reason), response.Header.Get("Content-Type"), text}, redirect(response), nil
}

// redirect returns the path at the handler that a 307 or 308 names.
func redirect(response *http.Response) string {
	if response.StatusCode != http.StatusTemporaryRedirect && response.StatusCode != http.StatusPermanentRedirect {
		return ""
	}
	location, err := response.Location()
	if err != nil || location.Host != response.Request.URL.Host {
		return ""
	}
	return location.RequestURI()
}

func (r *Reply) isJSON() bool {
	mediaType, _, err := mime.ParseMediaType(r.ContentType)
	return err == nil && (mediaType == "application/json" || mediaType == "text/json")
}

// latin1 turns each byte into one character.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// pipeListener is a listener whose connections are pipes.
type pipeListener struct {
	connections chan net.Conn
	closed      chan struct{}
	close       func()
}

func newPipeListener() *pipeListener {
	l := &pipeListener{connections: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.connections <- server:
		return clientConn{client}, nil
	case <-l.closed:
		return nil, errors.New("the host is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "127.0.0.1:0" }

// clientConn accepts writes after the server has closed, as the buffers of a network connection do: a server may answer early and
// close, and its answer counts.
type clientConn struct {
	net.Conn
}

func (c clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		return len(p), nil
	}
	return n, err
}
