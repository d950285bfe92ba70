package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/wire"
)

const (
	smallBody = 1 << 20 // bodies up to this size wait for nobody
	bodyTime  = time.Minute
)

var (
	errTooLarge = errors.New("the body of the request is too large")
	errNoRoom   = errors.New("no room in memory for its body")
	errStopping = errors.New("the handler is stopping")
)

// putOff says that a turn, or a batch of an entity's operations, cannot be done now, though nothing is wrong with it.
type putOff struct {
	instance string
	first    bool // a first turn: the host must not be asked to repeat it
	reason   error
}

func (p *putOff) Error() string { return p.reason.Error() }

// receive reads the request. The host never says how large a body is (it sends chunks). So each may grow to smallBody,
// and one that grows beyond takes its place in the room first. The error of a turn that is to be asked again is a *putOff.
func (s *server) receive(ctx context.Context, w http.ResponseWriter, r *http.Request, c *call) error {
	b := bodyBuffers.Get().(*bytes.Buffer)
	defer recycle(b)
	err := copyBody(b, w, r, min(smallBody, s.settings.maxBody+1))
	switch {
	case c.isDurable() && s.stopping.Load():
		return c.putOff(b.Bytes(), errStopping)
	case errors.Is(err, io.EOF):
		return s.decode(c, b.Bytes(), true)
	case err != nil:
		return c.putOff(b.Bytes(), fmt.Errorf("the body broke off: %w", err))
	case int64(b.Len()) > s.settings.maxBody:
		return s.tooLarge()
	}
	body, err := s.receiveLarge(ctx, w, r, c, b.Bytes())
	if err != nil {
		return err
	}
	if err := s.decode(c, body, false); err != nil {
		c.leave()
		return err
	}
	return nil
}

// receiveLarge reads the rest of a large body. It first takes as much room as the largest one needs, since two that grow
// side by side could wait for each other for ever.
func (s *server) receiveLarge(ctx context.Context, w http.ResponseWriter, r *http.Request, c *call, start []byte) ([]byte, error) {
	most := bodyCost * s.settings.maxBody
	if err := s.enter(ctx, most); err != nil {
		return nil, c.putOff(start, err)
	}
	body, err := readRest(w, r, start, s.settings.maxBody)
	switch {
	case err != nil:
		s.room.leave(most)
		return nil, c.putOff(start, fmt.Errorf("the body broke off: %w", err))
	case int64(len(body)) > s.settings.maxBody:
		s.room.leave(most)
		return nil, s.tooLarge()
	}
	held := bodyCost * int64(len(body))
	s.room.shrink(most - held)
	c.leave = sync.OnceFunc(func() { s.room.leave(held) })
	return body, nil
}

// enter waits for room, half of the time that the invocation has at most: the rest is for its work.
func (s *server) enter(ctx context.Context, n int64) error {
	if s.settings.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.settings.limit/2)
		defer cancel()
	}
	if err := s.room.enter(ctx, n); err != nil {
		return fmt.Errorf("%w: %d bytes are shared by all bodies above %d", errNoRoom, s.room.size, smallBody)
	}
	return nil
}

func (s *server) tooLarge() error {
	return fmt.Errorf("%w: the limit is %d bytes (setting HANDLER_MAX_BODY_BYTES)", errTooLarge, s.settings.maxBody)
}

// putOff is the error of a request that fails for the reason. If the request is a turn, the host is asked to send it again.
func (c *call) putOff(start []byte, reason error) error {
	if c.entity != nil {
		return &putOff{reason: reason}
	}
	if c.orchestrator != nil {
		if instance, first, ok := wire.PeekTurn(start, c.binding); ok {
			return &putOff{instance, first, reason}
		}
	}
	return reason
}

// decode reads the request from its body. If the buffer of the body will be reused, the request keeps no part of it.
func (s *server) decode(c *call, body []byte, reused bool) error {
	c.size = len(body)
	if c.orchestrator == nil && reused {
		body = bytes.Clone(body)
	}
	request, err := wire.DecodeRequest(body)
	if err != nil {
		return fmt.Errorf("the body is no invocation: %w", err)
	}
	if c.entity != nil {
		c.batch, err = entity.DecodeBatch(wire.Unwrap(request.Data[c.binding]))
		return err
	}
	if c.orchestrator == nil {
		c.request = request
		return nil
	}
	err = request.ReadTurn(c.binding, func(raw []byte) (err error) {
		c.turn, c.session, err = s.sessions.read(raw)
		return err
	})
	if errors.Is(err, wire.ErrWithheld) {
		return &putOff{instance: c.turn.InstanceID, reason: err}
	}
	c.silent = c.Retry != nil && request.FailedBefore()
	return err
}

var bodyBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// recycle keeps a buffer for the next body unless it is large.
func recycle(b *bytes.Buffer) {
	if b.Cap() <= smallBody {
		b.Reset()
		bodyBuffers.Put(b)
	}
}

// copyBody reads up to n bytes, within bodyTime. io.EOF says that the body was shorter.
func copyBody(b *bytes.Buffer, w http.ResponseWriter, r *http.Request, n int64) error {
	defer limitReading(w)()
	_, err := io.CopyN(b, r.Body, n)
	return err
}

// readRest reads what follows the start, up to one byte more than the limit, within bodyTime. It reads part by part, so that it
// takes no more memory than the body is long.
func readRest(w http.ResponseWriter, r *http.Request, start []byte, limit int64) ([]byte, error) {
	defer limitReading(w)()
	parts, size := [][]byte{start}, int64(len(start))
	for size <= limit {
		part := make([]byte, min(smallBody, limit+1-size))
		n, err := readFull(r.Body, part)
		parts, size = append(parts, part[:n]), size+int64(n)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return slices.Concat(parts...), nil
}

// readFull fills the buffer. Unlike io.ReadFull it distinguishes the end of the body from a body that breaks off.
func readFull(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// limitReading bounds the time of reading until its result is called.
func limitReading(w http.ResponseWriter) (done func()) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder has no deadlines
	return func() { _ = control.SetReadDeadline(time.Time{}) }
}

// drain reads the rest of a body. Otherwise the connection would be reset before the sender reads the answer.
func drain(w http.ResponseWriter, r *http.Request) {
	defer limitReading(w)()
	_, _ = io.Copy(io.Discard, r.Body)
}
