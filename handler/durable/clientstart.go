package durable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/sidecar"
)

// Start starts an orchestration and returns its id, which is random if id is empty. The input is marshalled to JSON. A
// finished instance of that id is replaced; a running or suspended one is ErrExists. An orchestrator name that the host
// does not know is accepted: that instance fails.
func (c *Client) Start(ctx context.Context, orchestrator, id string, input any, options ...StartOption) (string, error) {
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
	if err := c.start(ctx, orchestrator, id, text, options...); err != nil {
		return "", err
	}
	return id, nil
}

func (c *Client) start(ctx context.Context, orchestrator, id, input string, options ...StartOption) error {
	request := &sidecar.CreateInstanceRequest{InstanceId: id, Name: orchestrator, Input: wrapperspb.String(input)}
	for _, option := range options {
		option(request)
	}
	if err := c.versions.check(request.Version); err != nil {
		return fmt.Errorf("starting %q: %w", id, err)
	}
	return c.invoke(ctx, "starting", id, "StartInstance", request, &sidecar.CreateInstanceResponse{})
}

// StartOption changes how an orchestration is started.
type StartOption func(*sidecar.CreateInstanceRequest)

// StartTags gives the instance tags, which its children without tags of their own get, too.
func StartTags(tags map[string]string) StartOption {
	return func(r *sidecar.CreateInstanceRequest) { r.Tags = maps.Clone(tags) }
}

// StartAt has the instance wait, Pending, until then. The host may be up to a second early.
func StartAt(at time.Time) StartOption {
	return func(r *sidecar.CreateInstanceRequest) { r.ScheduledStartTimestamp = timestamppb.New(at) }
}

// StartVersion is the version of the instance, in place of defaultVersion of host.json. One that the app does not take is
// ErrBadVersion: on the host that instance would stay Pending for ever.
func StartVersion(version string) StartOption {
	return func(r *sidecar.CreateInstanceRequest) { r.Version = wrapperspb.String(version) }
}

// StartTrace makes the instance's trace a part of another one: the values of the W3C headers traceparent and tracestate.
func StartTrace(parent, state string) StartOption {
	return func(r *sidecar.CreateInstanceRequest) {
		r.ParentTraceContext = &sidecar.TraceContext{TraceParent: parent}
		if state != "" {
			r.ParentTraceContext.TraceState = wrapperspb.String(state)
		}
	}
}

// replaceable are the statuses of an instance that StartOnce replaces.
var replaceable = []sidecar.OrchestrationStatus{
	sidecar.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED, sidecar.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED,
	sidecar.OrchestrationStatus_ORCHESTRATION_STATUS_CANCELED,
}

func once(r *sidecar.CreateInstanceRequest) {
	r.OrchestrationIdReusePolicy = &sidecar.OrchestrationIdReusePolicy{ReplaceableStatus: replaceable}
}

// StartOnce starts an orchestration unless the task hub has an instance of that id that is pending, running, suspended
// or completed: only one that failed, was terminated or canceled is replaced. It says whether it started one. The host
// decides in one step, so of any number of calls for one id, on any number of workers, no two start the orchestration.
// Of calls at the same moment more than one may be told that it did: the host answers some of them before it decides.
//
// When the call fails, or its context ends, the orchestration may have been started all the same; repeat the call.
//
// An extension older than 3.19 does not know the policy and would replace a completed instance. There StartOnce asks for
// the instance first, and two calls at the same moment may both start it.
func (c *Client) StartOnce(ctx context.Context, orchestrator, id string, input any, options ...StartOption) (started bool, err error) {
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
	err = c.start(ctx, orchestrator, id, text, append(options, once)...)
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
	return err == nil && !slices.Contains(replaceable, sidecar.OrchestrationStatus(m.RuntimeStatus)), err
}
