package handler

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"example.com/durablefunctions/handler/internal/plainjson"
	"example.com/durablefunctions/handler/internal/wire"
)

// answer sends the outcome of a function's run, and its logs, once.
func (s *server) answer(w http.ResponseWriter, c *call, o outcome) {
	body := bodyBuffers.Get().(*bytes.Buffer)
	defer recycle(body)
	if o.err == nil {
		o.err = plainjson.Encode(body, wire.Response{Outputs: c.declared(o.outputs), ReturnValue: o.value, Logs: c.logs.take()})
	}
	c.observeOutcome(o)
	if o.err != nil {
		c.logs.flush() // the host reads no Logs from this answer
		phrase := wire.EncodePhrase(cmp.Or(o.kind, wire.KindFailed), o.err.Error()) + o.details.Phrase()
		status := http.StatusInternalServerError
		if o.kind == wire.KindNotUnderstood {
			status = http.StatusBadRequest
		}
		fail(w, status, phrase)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes()) // a host that hung up will ask again
}

// declared drops the outputs that function.json does not declare, and logs them: the host would ignore them silently.
func (c *call) declared(outputs map[string]json.RawMessage) map[string]json.RawMessage {
	for name := range outputs {
		if !slices.Contains(c.outputs, name) {
			c.logger.Error("output is no binding of the function: declare it in function.json", "output", name)
			delete(outputs, name)
		}
	}
	return outputs
}

// refuse answers a request without calling a function.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, status int, message string) {
	_ = s.errors.Handle(r.Context(), slog.NewRecord(time.Now(), slog.LevelError, "request refused: "+message, 0))
	kind := wire.KindNotUnderstood
	switch status {
	case http.StatusServiceUnavailable:
		kind = wire.KindDeadline
	case http.StatusInternalServerError:
		kind = wire.KindPanic
	}
	fail(w, status, wire.EncodePhrase(kind, message))
}

// fail answers with a reason phrase, because the host reads nothing else of a bad answer. net/http cannot set one, so fail takes
// the connection over, writes the status line itself and closes the connection.
func fail(w http.ResponseWriter, status int, phrase string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // a recorder, or HTTP/2
		http.Error(w, phrase, status)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, phrase)
	if half, ok := conn.(*net.TCPConn); ok && err == nil {
		// Closed with a part of the request unread, the connection would be reset, and the answer lost with it.
		_ = half.CloseWrite()
		_, _ = io.CopyN(io.Discard, conn, defaultMaxBody)
	}
}
