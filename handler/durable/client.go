package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/handler/internal/dotnet"
	"example.com/durablefunctions/handler/internal/sidecar"
	"example.com/durablefunctions/handler/internal/wire"
)

// MaxPayload is how large an input or an output may be, in bytes, unless the handler's body limit allows less.
const MaxPayload = 64 << 20

// Errors of the client. Each is wrapped in one that says more.
var (
	ErrExists      = errors.New("an instance of that id is running")
	ErrNotFound    = errors.New("there is no instance of that id")
	ErrNotValid    = errors.New("the instance is in a state that does not allow this")
	ErrUnavailable = errors.New("the host's durable endpoint does not answer") // also in time
	ErrBadID       = errors.New("not a good instance id")
	ErrTooLarge    = errors.New("the payload is too large")
	ErrBadFilter   = errors.New("the filter would purge instances that have not finished")
	ErrBadVersion  = errors.New("the app does not take that version")
	ErrOldHost     = errors.New("the host's Durable Task extension is too old for this call")
)

// Client manages orchestrations through the host. Get it from an invocation that has a durableClient binding; it may be
// used for as long as that invocation lasts, by several goroutines.
type Client struct {
	hub        *client.TaskHubGrpcClient
	endpoint   endpoint
	metadata   func() metadata.MD // a function, because a text of the Client must not show the token
	timeout    time.Duration
	maxPayload int

	reusePolicy bool // the host honours a start's reuse policy
	versions    *Versions
	urls        func() binding // a function for the same reason: it has the host's key
}

// binding is what the host puts into a durableClient binding.
type binding struct {
	TaskHubName           string
	ConnectionName        string
	RPCBaseURL            string `json:"rpcBaseUrl"`
	GRPCHTTPClientTimeout string `json:"grpcHttpClientTimeout"`
	HTTPBaseURL           string `json:"httpBaseUrl"`
	RequiredQuery         string `json:"requiredQueryStringParameters"`
	UseForwardedHost      *bool  `json:"useForwardedHost"` // sent by extension 3.19 and newer
}

// NewClient reads a durableClient binding's text. A payload over maxPayload bytes is refused before it is sent.
func NewClient(text string, maxPayload int) (*Client, error) {
	var b binding
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return nil, fmt.Errorf("the durableClient binding is not the JSON object that the Durable Task extension 3 sends: %w", err)
	}
	u, err := url.Parse(b.RPCBaseURL)
	if err != nil || u.Host == "" {
		public := b.RPCBaseURL[strings.LastIndexByte(b.RPCBaseURL, '@')+1:] // what is before it is secret
		return nil, fmt.Errorf("the durableClient binding's rpcBaseUrl %q is not a URL; the extension bundle must be 4.x", public)
	}
	md := metadata.MD{}
	if b.TaskHubName != "" {
		md.Set("Durable-TaskHub", b.TaskHubName)
	}
	if b.ConnectionName != "" {
		md.Set("Durable-ConnectionName", b.ConnectionName)
	}
	if token := u.User.Username(); token != "" { // the local host's; the Functions host sends none
		md.Set("Authorization", "Bearer "+token)
	}
	return &Client{
		hub:        client.NewTaskHubGrpcClient(endpoint(u.Host), backend.DefaultLogger()),
		endpoint:   endpoint(u.Host),
		metadata:   func() metadata.MD { return md },
		timeout:    callTimeout(b.GRPCHTTPClientTimeout),
		maxPayload: min(maxPayload, MaxPayload),

		reusePolicy: b.UseForwardedHost != nil,
		urls:        func() binding { return b },
	}, nil
}

// callTimeout reads how long the host lets a call take: a JSON string inside a JSON string. .NET's infinite time span is
// negative; like one that cannot be read it gives the default, so that each call has an end.
func callTimeout(text string) time.Duration {
	d, err := dotnet.ParseTimeSpan(strings.Trim(text, `"`))
	if err != nil || d <= 0 {
		return 100 * time.Second
	}
	return d
}

func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.NewOutgoingContext(ctx, c.metadata()), c.timeout)
}

// invoke makes a call that durabletask-go's client lacks.
func (c *Client) invoke(ctx context.Context, doing, id, method string, request, reply proto.Message) error {
	bounded, cancel := c.bound(ctx)
	defer cancel()
	err := c.endpoint.Invoke(bounded, sidecar.Method(method), request, reply)
	if err != nil && bounded.Err() != nil {
		err = bounded.Err() // the caller's own reason
	}
	return explain(doing, id, err)
}

// marshal makes JSON of v: the host takes nothing else, and an absent value is null.
func (c *Client) marshal(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("the value cannot be JSON: %w", err)
	}
	if len(text) > c.maxPayload {
		return "", fmt.Errorf("%w: %d bytes of JSON, the limit is %d", ErrTooLarge, len(text), c.maxPayload)
	}
	return string(text), nil
}

// explain gives the host's answer a type.
func explain(doing, id string, err error) error {
	kind := error(nil)
	switch code := status.Code(err); {
	case err == nil:
		return nil
	case errors.Is(err, api.ErrInstanceNotFound), code == codes.NotFound:
		kind = ErrNotFound
	case code == codes.AlreadyExists:
		kind = ErrExists
	case code == codes.Unimplemented:
		kind = ErrOldHost
	case code == codes.FailedPrecondition:
		kind = ErrNotValid
	case code == codes.InvalidArgument:
		kind = ErrBadID
	case code == codes.ResourceExhausted:
		kind = ErrTooLarge
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled, errors.Is(err, context.DeadlineExceeded):
		kind = ErrUnavailable
	default:
		return fmt.Errorf("%s %q: %w", doing, id, err)
	}
	return fmt.Errorf("%s %q: %w: %w", doing, id, kind, err)
}

// CheckID says whether the id is one that every storage provider takes: 1 to 100 characters, none of / \ # ? nor
// control characters, not starting with @ (which names an entity). The host does not check: one that is too long stalls
// the whole task hub. The error is an ErrBadID.
func CheckID(id string) error {
	if err := wire.CheckInstanceID(id); err != nil {
		return fmt.Errorf("%w: %w", ErrBadID, err)
	}
	return nil
}
