package manage

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// callers tells calls of this host's functions from calls of other programs on the machine, and finds the invocation that makes a
// call. A token is the sidecar's secret, a dot and the invocation's name.
type callers struct {
	secret string

	mu   *sync.Mutex
	open map[string]*Caller // by token
}

func newCallers() callers {
	return callers{secret: rand.Text(), mu: &sync.Mutex{}, open: map[string]*Caller{}}
}

// Caller is an invocation whose function may call the sidecar.
type Caller struct {
	Token string // for the durableClient binding

	mu        sync.Mutex
	instances []string
}

// NewCaller lets an invocation call the sidecar. Its token stays valid after Forget, because the real host answers a client for as
// long as the client lives.
func (s *Sidecar) NewCaller() *Caller {
	c := &Caller{Token: s.callers.secret + "." + rand.Text()}
	s.callers.mu.Lock()
	defer s.callers.mu.Unlock()
	s.callers.open[c.Token] = c
	return c
}

// Forget stops recording what the invocation starts.
func (s *Sidecar) Forget(c *Caller) {
	s.callers.mu.Lock()
	defer s.callers.mu.Unlock()
	delete(s.callers.open, c.Token)
}

// find returns the invocation that makes a call; nil if the invocation has ended. It refuses a call without the secret.
func (c callers) find(ctx context.Context) (*Caller, error) {
	for _, header := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		token := strings.TrimPrefix(header, "Bearer ")
		secret, _, _ := strings.Cut(token, ".")
		if hmac.Equal([]byte(secret), []byte(c.secret)) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.open[token], nil
		}
	}
	return nil, status.Error(codes.Unauthenticated, "this durable endpoint answers the functions of its own host only")
}

// note records the instance that a call has started, or has found in place of starting it.
func (c *Caller) note(method string, request, response any, err error) {
	if c == nil || method != "StartInstance" || err != nil && !errors.Is(err, api.ErrDuplicateInstance) && status.Code(err) != codes.AlreadyExists {
		return
	}
	id := request.(interface{ GetInstanceId() string }).GetInstanceId()
	if started, ok := response.(interface{ GetInstanceId() string }); ok && err == nil {
		id = started.GetInstanceId()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.instances, id) {
		c.instances = append(c.instances, id)
	}
}

// Instances returns the ids of the instances that the invocation has started, or has found in place of starting them, each once.
func (c *Caller) Instances() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.instances)
}
