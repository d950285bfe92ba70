package durable

import (
	"context"
	"fmt"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/sidecar"
)

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

// Rewind lets a failed instance go on from where it failed: what failed is tried again, what succeeded is not. A child that
// failed is rewound with it. Any other instance is ErrNotValid.
func (c *Client) Rewind(ctx context.Context, id, reason string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	request := &sidecar.RewindInstanceRequest{InstanceId: id, Reason: wrapperspb.String(reason)}
	return c.invoke(ctx, "rewinding", id, "RewindInstance", request, &sidecar.RewindInstanceResponse{})
}

// Restart starts an instance once more, with its input and tags: in its place, if it has finished, or beside it under a new
// id. It returns the id. In the place of one that has not finished it is ErrNotValid.
func (c *Client) Restart(ctx context.Context, id string, newID bool) (string, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	var reply sidecar.RestartInstanceResponse
	request := &sidecar.RestartInstanceRequest{InstanceId: id, RestartWithNewInstanceId: newID}
	err := c.invoke(ctx, "restarting", id, "RestartInstance", request, &reply)
	return reply.InstanceId, err
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
