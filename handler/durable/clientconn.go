package durable

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

// endpoint is the host:port of a durable endpoint, to which one connection is shared by whoever calls it.
type endpoint string

// Invoke makes a call.
func (e endpoint) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) (err error) {
	ctx, span := begin(ctx, method, args)
	defer func() { end(span, err) }()
	c, err := e.acquire()
	if err != nil {
		return err
	}
	defer c.release()
	return c.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream, which must end with ctx.
func (e endpoint) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, span := begin(ctx, method, nil)
	c, err := e.acquire()
	if err != nil {
		end(span, err)
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		c.release()
		end(span, nil)
	})
	return c.ClientConn.NewStream(ctx, desc, method, opts...)
}

// maxEndpoints is how many endpoints' connections are kept, those used last, beside those in use: the host's port changes
// when it restarts.
const maxEndpoints = 32

var endpoints struct {
	sync.Mutex
	conns []*connection // the one used last is the last
}

type connection struct {
	*grpc.ClientConn
	calls   int  // in flight
	dropped bool // it is not among the endpoints any more
}

// acquire returns the one connection to the endpoint, which is not closed before its release. One that has failed is
// replaced: it would keep failing for as long as gRPC backs off, although the host may listen again.
func (e endpoint) acquire() (*connection, error) {
	target := "passthrough:///" + string(e)
	endpoints.Lock()
	defer endpoints.Unlock()
	if i := slices.IndexFunc(endpoints.conns, func(c *connection) bool { return c.Target() == target }); i >= 0 {
		c := endpoints.conns[i]
		if c.GetState() != connectivity.TransientFailure {
			endpoints.conns = append(slices.Delete(endpoints.conns, i, i+1), c)
			c.calls++
			return c, nil
		}
		drop(i)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the host listens on loopback without TLS
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*MaxPayload+1<<20), grpc.MaxCallSendMsgSize(MaxPayload+1<<20)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	c := &connection{ClientConn: conn, calls: 1}
	endpoints.conns = append(endpoints.conns, c)
	if len(endpoints.conns) > maxEndpoints {
		drop(0)
	}
	return c, nil
}

// drop forgets a connection, and closes it once nobody uses it. The endpoints are locked.
func drop(i int) {
	c := endpoints.conns[i]
	endpoints.conns = slices.Delete(endpoints.conns, i, i+1)
	c.dropped = true
	c.closeUnused()
}

func (c *connection) release() {
	endpoints.Lock()
	defer endpoints.Unlock()
	c.calls--
	c.closeUnused()
}

func (c *connection) closeUnused() {
	if c.dropped && c.calls == 0 {
		_ = c.Close()
	}
}
