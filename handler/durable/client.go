package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/durablefunctions/handler/internal/dotnet"
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
)

// Client manages orchestrations through the host. Get it from an invocation that has a durableClient binding; it may be
// used for as long as that invocation lasts, by several goroutines.
type Client struct {
	hub        *client.TaskHubGrpcClient
	endpoint   string
	metadata   func() metadata.MD // a function, because a text of the Client must not show the token
	timeout    time.Duration
	maxPayload int

	reusePolicy bool // the host honours a start's reuse policy
}

// binding is what the host puts into a durableClient binding.
type binding struct {
	TaskHubName           string
	ConnectionName        string
	RPCBaseURL            string `json:"rpcBaseUrl"`
	GRPCHTTPClientTimeout string `json:"grpcHttpClientTimeout"`
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
	conn, err := connect(u.Host)
	if err != nil {
		return nil, err
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
		hub:        client.NewTaskHubGrpcClient(conn, backend.DefaultLogger()),
		endpoint:   u.Host,
		metadata:   func() metadata.MD { return md },
		timeout:    callTimeout(b.GRPCHTTPClientTimeout),
		maxPayload: min(maxPayload, MaxPayload),

		reusePolicy: b.UseForwardedHost != nil,
	}, nil
}

// maxEndpoints is how many endpoints' connections are kept, those used last: the host's port changes when it restarts.
const maxEndpoints = 32

var endpoints struct {
	sync.Mutex
	conns []*grpc.ClientConn // the one used last is the last
}

// connect returns the one connection to the endpoint. One that has failed is replaced: it would keep failing for as
// long as gRPC backs off, although the host, which has just named the endpoint, listens again.
func connect(host string) (*grpc.ClientConn, error) {
	target := "passthrough:///" + host
	endpoints.Lock()
	defer endpoints.Unlock()
	if i := slices.IndexFunc(endpoints.conns, func(c *grpc.ClientConn) bool { return c.Target() == target }); i >= 0 {
		c := endpoints.conns[i]
		endpoints.conns = slices.Delete(endpoints.conns, i, i+1)
		if c.GetState() != connectivity.TransientFailure {
			endpoints.conns = append(endpoints.conns, c)
			return c, nil
		}
		_ = c.Close()
	}
	c, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the host listens on loopback without TLS
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*MaxPayload+1<<20), grpc.MaxCallSendMsgSize(MaxPayload+1<<20)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	endpoints.conns = append(endpoints.conns, c)
	if len(endpoints.conns) > maxEndpoints {
		_ = endpoints.conns[0].Close()
		endpoints.conns = slices.Delete(endpoints.conns, 0, 1)
	}
	return c, nil
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

// Start starts an orchestration and returns its id, which is random if id is empty. The input is marshalled to JSON. A
// finished instance of that id is replaced; a running or suspended one is ErrExists. An orchestrator name that the host
// does not know is accepted: that instance fails.
func (c *Client) Start(ctx context.Context, orchestrator, id string, input any) (string, error) {
	if id == "" {
		id = uuid.NewString()
	}
	if err := CheckID(id); err != nil {
		return "", err
	}
	text, err := c.marshal(input)
	if err != nil {
		return "", fmt.Errorf("starting %s: %w", orchestrator, err)
	}
	if err := c.start(ctx, orchestrator, id, text); err != nil {
		return "", err
	}
	return id, nil
}

func (c *Client) start(ctx context.Context, orchestrator, id, input string, options ...api.NewOrchestrationOptions) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	options = append(options, api.WithInstanceID(api.InstanceID(id)), api.WithRawInput(input))
	_, err := c.hub.ScheduleNewOrchestration(ctx, orchestrator, options...)
	return explain("starting", id, err)
}

// replaceable are the statuses of an instance that StartOnce replaces. The library calls the field operationStatus, the
// host replaceableStatus; both number it 1. Field 2, the library's action, must stay unset: the host does not know it.
var replaceable = &api.OrchestrationIdReusePolicy{OperationStatus: []api.OrchestrationStatus{
	api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED,
}}

// StartOnce starts an orchestration unless the task hub has an instance of that id that is pending, running, suspended
// or completed: only one that failed, was terminated or canceled is replaced. It says whether it started one. The host
// decides in one step, so of any number of calls for one id, on any number of workers, no two start the orchestration.
// Of calls at the same moment more than one may be told that it did: the host answers some of them before it decides.
//
// When the call fails, or its context ends, the orchestration may have been started all the same; repeat the call.
//
// An extension older than 3.19 does not know the policy and would replace a completed instance. There StartOnce asks for
// the instance first, and two calls at the same moment may both start it.
func (c *Client) StartOnce(ctx context.Context, orchestrator, id string, input any) (started bool, err error) {
	if err := CheckID(id); err != nil {
		return false, err
	}
	text, err := c.marshal(input)
	if err != nil {
		return false, fmt.Errorf("starting %s: %w", orchestrator, err)
	}
	if !c.reusePolicy {
		there, err := c.isThere(ctx, id)
		if err != nil || there {
			return false, err
		}
	}
	err = c.start(ctx, orchestrator, id, text, api.WithOrchestrationIdReusePolicy(replaceable))
	if errors.Is(err, ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// isThere says whether StartOnce has to leave the instance of that id alone.
func (c *Client) isThere(ctx context.Context, id string) (bool, error) {
	m, err := c.query(ctx, id, false)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && !slices.Contains(replaceable.OperationStatus, m.RuntimeStatus), err
}

// Query returns the state of an instance. SerializedOutput is JSON if the instance completed or was terminated (what was
// given to Terminate), plain text if it failed, and the reason that was given if it was suspended, or resumed and has not
// ended since. SerializedCustomStatus is empty if there is none.
func (c *Client) Query(ctx context.Context, id string) (*api.OrchestrationMetadata, error) {
	return c.query(ctx, id, true)
}

// query leaves out the payloads, which may be many megabytes, unless the caller reads them.
func (c *Client) query(ctx context.Context, id string, payloads bool) (*api.OrchestrationMetadata, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	m, err := c.hub.FetchOrchestrationMetadata(ctx, api.InstanceID(id), api.WithFetchPayloads(payloads))
	if err != nil {
		return nil, explain("querying", id, err)
	}
	if m.SerializedCustomStatus == "null" { // the host's word for none
		m.SerializedCustomStatus = ""
	}
	return m, nil
}

// Wait returns the state of the instance when it has ended. Only the context bounds it.
func (c *Client) Wait(ctx context.Context, id string) (*api.OrchestrationMetadata, error) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		m, err := c.query(ctx, id, false)
		switch {
		case err == nil && m.IsComplete():
			return c.Query(ctx, id)
		case err != nil && !hasEnded(ctx):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q: %w", id, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// hasEnded says that the context has ended or is about to: the host is told its deadline, and may be the first to
// notice.
func hasEnded(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(deadline) <= 0
}

// Raise sends an external event to an instance that has not ended; v is its payload. An event for a suspended instance
// waits until it is resumed. An event that no code of the orchestrator waits for is kept until it does or the instance ends.
func (c *Client) Raise(ctx context.Context, id, event string, v any) error {
	if event == "" {
		return fmt.Errorf("raising an event for %q: the event has no name", id)
	}
	text, err := c.marshal(v)
	if err != nil {
		return fmt.Errorf("raising %s: %w", event, err)
	}
	return c.call(ctx, "raising an event for", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.RaiseEvent(ctx, id, event, api.WithRawEventData(text))
	})
}

// Terminate ends an instance; v becomes its output. Its children end with it, each at its next turn; an activity that is
// running finishes, and its result is dropped. A child that another SDK's orchestrator started goes on.
func (c *Client) Terminate(ctx context.Context, id string, v any) error {
	text, err := c.marshal(v)
	if err != nil {
		return fmt.Errorf("terminating %s: %w", id, err)
	}
	return c.call(ctx, "terminating", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.TerminateOrchestration(ctx, id, api.WithRawOutput(text))
	})
}

// Suspend halts an instance until Resume: it takes no turns. Activities that are running finish, and its children go on.
func (c *Client) Suspend(ctx context.Context, id, reason string) error {
	return c.call(ctx, "suspending", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.SuspendOrchestration(ctx, id, reason)
	})
}

// Resume lets a suspended instance go on.
func (c *Client) Resume(ctx context.Context, id, reason string) error {
	return c.call(ctx, "resuming", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.ResumeOrchestration(ctx, id, reason)
	})
}

// Purge deletes all that is stored of a finished instance.
func (c *Client) Purge(ctx context.Context, id string) error {
	return c.call(ctx, "purging", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.PurgeOrchestrationState(ctx, id)
	})
}

func (c *Client) call(ctx context.Context, doing, id string, f func(context.Context, api.InstanceID) error) error {
	if err := CheckID(id); err != nil {
		return err
	}
	bounded, cancel := c.bound(ctx)
	defer cancel()
	err := f(bounded, api.InstanceID(id))
	if answer, isAnswer := status.FromError(err); !isAnswer || answer.Code() != codes.Unknown {
		return explain(doing, id, err)
	}
	// Extensions before 3.19 answer a suspend or a resume that cannot be with "Exception was thrown by handler." and no more.
	m, queryErr := c.Query(ctx, id)
	switch {
	case queryErr != nil:
		return fmt.Errorf("%s %q: %w", doing, id, queryErr)
	case m.IsComplete() || m.RuntimeStatus == api.RUNTIME_STATUS_SUSPENDED:
		return fmt.Errorf("%s %q: %w: %w", doing, id, ErrNotValid, err)
	}
	return explain(doing, id, err)
}

func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.NewOutgoingContext(ctx, c.metadata()), c.timeout)
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
