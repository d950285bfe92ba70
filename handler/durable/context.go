package durable

import (
	"context"
	"errors"

	"example.com/durablefunctions/handler/internal/invocation"
)

// ErrNoClient says that the function has no durableClient binding.
var ErrNoClient = errors.New(`there is no durable client: add {"name":"starter","type":"durableClient","direction":"in"} to the bindings of the function's function.json`)

type clientKey struct{}

// NewContext returns a context in which FromContext finds the client, for unit tests of functions.
func NewContext(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// FromContext returns the client of the durableClient binding of the function that ctx belongs to: of an HTTP function
// that is r.Context(). With several such bindings it is the first in function.json. The error is [ErrNoClient] if there
// is none; in an orchestrator there never is.
func FromContext(ctx context.Context) (*Client, error) {
	if c, ok := ctx.Value(clientKey{}).(*Client); ok {
		return c, nil
	}
	connect := invocation.Of(ctx).Client
	if connect == nil {
		return nil, ErrNoClient
	}
	client, err := connect()
	if err != nil {
		return nil, err
	}
	return client.(*Client), nil
}
