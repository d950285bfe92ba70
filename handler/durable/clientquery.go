package durable

import (
	"context"
	"fmt"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/internal/sidecar"
)

// Instance is the state of an orchestration.
type Instance struct {
	api.OrchestrationMetadata
	ParentID string            // empty for a root; List does not tell it on the Functions host
	Version  string            // empty if it has none; the Functions host tells it of no orchestration
	Tags     map[string]string // List does not tell them on the Functions host
}

func newInstance(s *sidecar.OrchestrationState) *Instance {
	i := &Instance{
		OrchestrationMetadata: api.OrchestrationMetadata{
			InstanceID:             api.InstanceID(s.GetInstanceId()),
			Name:                   s.GetName(),
			RuntimeStatus:          api.OrchestrationStatus(s.GetOrchestrationStatus()),
			SerializedInput:        s.GetInput().GetValue(),
			SerializedOutput:       s.GetOutput().GetValue(),
			SerializedCustomStatus: s.GetCustomStatus().GetValue(),
		},
		ParentID: s.GetParentInstanceId().GetValue(),
		Version:  s.GetVersion().GetValue(),
		Tags:     s.GetTags(),
	}
	if at := s.GetCreatedTimestamp(); at != nil {
		i.CreatedAt = at.AsTime()
	}
	if at := s.GetLastUpdatedTimestamp(); at != nil {
		i.LastUpdatedAt = at.AsTime()
	}
	if i.SerializedCustomStatus == "null" { // the host's word for none
		i.SerializedCustomStatus = ""
	}
	return i
}

// Query returns the state of an instance. SerializedOutput is JSON if the instance completed or was terminated (what was
// given to Terminate), plain text if it failed, and the reason that was given if it was suspended, or resumed and has not
// ended since. SerializedCustomStatus is empty if there is none.
func (c *Client) Query(ctx context.Context, id string) (*Instance, error) {
	return c.query(ctx, id, true)
}

// query leaves out the payloads, which may be many megabytes, unless the caller reads them.
func (c *Client) query(ctx context.Context, id string, payloads bool) (*Instance, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	var reply sidecar.GetInstanceResponse
	request := &sidecar.GetInstanceRequest{InstanceId: id, GetInputsAndOutputs: payloads}
	if err := c.invoke(ctx, "querying", id, "GetInstance", request, &reply); err != nil {
		return nil, err
	}
	if !reply.Exists {
		return nil, fmt.Errorf("querying %q: %w: %w", id, ErrNotFound, api.ErrInstanceNotFound)
	}
	return newInstance(reply.OrchestrationState), nil
}

// Wait returns the state of the instance when it has ended. Only the context bounds it.
func (c *Client) Wait(ctx context.Context, id string) (*Instance, error) {
	return c.wait(ctx, id, func(i *Instance) bool { return i.IsComplete() })
}

// WaitForStart returns the state of the instance when it has had its first turn. Only the context bounds it.
func (c *Client) WaitForStart(ctx context.Context, id string) (*Instance, error) {
	return c.wait(ctx, id, func(i *Instance) bool { return i.RuntimeStatus != api.RUNTIME_STATUS_PENDING })
}

// wait asks again and again: the host's own waits end for nobody whose instance is not there.
func (c *Client) wait(ctx context.Context, id string, until func(*Instance) bool) (i *Instance, err error) {
	ctx, span := begin(ctx, "WaitForInstance", &sidecar.GetInstanceRequest{InstanceId: id})
	defer func() { end(span, err) }()
	ctx = untraced(ctx) // one span for all questions
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		i, err = c.query(ctx, id, false)
		switch {
		case err == nil && until(i):
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
