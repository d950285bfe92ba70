package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/sidecar"
)

// Filter chooses instances. Its zero value chooses all of them.
type Filter struct {
	Statuses               []api.OrchestrationStatus // any of these; none: whatever the status is
	CreatedFrom, CreatedTo time.Time                 // both included; zero: no limit
	IDPrefix               string
	Name                   string // of the orchestrator, in any case; compared here, as the host cannot
	Inputs                 bool   // with the instances' inputs, which may be large; outputs come always
}

// pageSize is how many instances the host is asked for at once. It must say a number: for none the Functions host answers
// with empty pages without end.
const pageSize = 100

// List returns the instances that the filter chooses, by pages as the loop goes on. An error ends the loop.
//
//	for instance, err := range client.List(ctx, durable.Filter{IDPrefix: "order-"}) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// The Functions host orders them by id, and shows neither tags nor parents here: Query does.
func (c *Client) List(ctx context.Context, f Filter) iter.Seq2[*Instance, error] {
	return func(yield func(*Instance, error) bool) {
		query := f.query()
		for {
			page, err := c.page(ctx, query)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, state := range page.OrchestrationState {
				if f.Name != "" && !strings.EqualFold(f.Name, state.GetName()) {
					continue
				}
				if !yield(newInstance(state), nil) {
					return
				}
			}
			next := page.ContinuationToken
			if next.GetValue() == "" {
				return
			}
			if next.Value == query.ContinuationToken.GetValue() {
				yield(nil, fmt.Errorf("listing instances: the host's page %q goes on with itself", next.Value))
				return
			}
			query.ContinuationToken = next // as it is: the host's ends in a blank
		}
	}
}

func (f Filter) query() *sidecar.InstanceQuery {
	q := &sidecar.InstanceQuery{MaxInstanceCount: pageSize, FetchInputsAndOutputs: f.Inputs, RuntimeStatus: f.statuses()}
	q.CreatedTimeFrom, q.CreatedTimeTo = timestamp(f.CreatedFrom), timestamp(f.CreatedTo)
	if f.IDPrefix != "" {
		q.InstanceIdPrefix = wrapperspb.String(f.IDPrefix)
	}
	return q
}

func (f Filter) statuses() (list []sidecar.OrchestrationStatus) {
	for _, s := range f.Statuses {
		list = append(list, sidecar.OrchestrationStatus(s))
	}
	return list
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// page asks for a page, and for a smaller one if it is too large for an answer.
func (c *Client) page(ctx context.Context, query *sidecar.InstanceQuery) (*sidecar.QueryInstancesResponse, error) {
	for {
		var page sidecar.QueryInstancesResponse
		err := c.invoke(ctx, "listing instances", query.InstanceIdPrefix.GetValue(), "QueryInstances", &sidecar.QueryInstancesRequest{Query: query}, &page)
		if !errors.Is(err, ErrTooLarge) || query.MaxInstanceCount == 1 {
			return &page, err
		}
		query.MaxInstanceCount = max(1, query.MaxInstanceCount/4)
	}
}

// Purge deletes all that is stored of a finished instance, and of nothing below it. One that has not finished is
// ErrNotValid.
func (c *Client) Purge(ctx context.Context, id string) error {
	return c.call(ctx, "purging", id, func(ctx context.Context, id api.InstanceID) error {
		return c.hub.PurgeOrchestrationState(ctx, id)
	})
}

// PurgeTree purges a finished instance and the finished ones below it, as far as their ids were made by this package: those
// that were started WithInstanceID stay. An instance that has not finished is ErrNotValid; one below it that has not
// finished stays.
func (c *Client) PurgeTree(ctx context.Context, id string) error {
	i, err := c.query(ctx, id, false)
	if err == nil && !i.IsComplete() {
		err = fmt.Errorf("%q: %w: it is %s", id, ErrNotValid, i.RuntimeStatus)
	}
	if err != nil {
		return fmt.Errorf("purging: %w", err)
	}
	tree, err := c.below(ctx, id)
	if err != nil {
		return fmt.Errorf("purging %q: %w", id, err)
	}
	for _, child := range tree {
		if err := c.Purge(ctx, child); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotValid) {
			return err
		}
	}
	return c.Purge(ctx, id) // last, so that a purge that was interrupted can be repeated
}

// below returns the ids of the finished instances below one, the deepest first.
func (c *Client) below(ctx context.Context, id string) ([]string, error) {
	var ids []string
	for i, err := range c.List(ctx, Filter{IDPrefix: replay.TreePrefix(id), Statuses: finished}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, string(i.InstanceID))
	}
	return replay.Below(id, ids), nil
}

// finished are the statuses of an instance that has ended.
var finished = []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED}

// PurgeAll deletes the finished instances that the filter chooses and returns how many it has deleted, also beside an
// error. It is ErrBadFilter unless the filter names statuses, all of them finished ones: for any other the Functions host
// deletes what is running.
//
// The instances below a chosen one are deleted if the filter chooses them, too.
func (c *Client) PurgeAll(ctx context.Context, f Filter) (n int, err error) {
	if len(f.Statuses) == 0 {
		return 0, fmt.Errorf("%w: name the statuses to purge, such as Completed", ErrBadFilter)
	}
	for _, s := range f.Statuses {
		if !(&api.OrchestrationMetadata{RuntimeStatus: s}).IsComplete() {
			return 0, fmt.Errorf("%w: leave out the status %s", ErrBadFilter, s)
		}
	}
	if f.IDPrefix == "" && f.Name == "" {
		return c.purgeFiltered(ctx, f)
	}
	f.Inputs = false
	for i, err := range c.List(ctx, f) { // the host's purge knows neither prefix nor name
		if err != nil {
			return n, err
		}
		switch err := c.Purge(ctx, string(i.InstanceID)); {
		case err == nil:
			n++
		case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotValid): // it has gone, or was started anew
			return n, err
		}
	}
	return n, nil
}

// purgeFiltered has the host purge in parts that end before a call does.
func (c *Client) purgeFiltered(ctx context.Context, f Filter) (n int, err error) {
	filter := &sidecar.PurgeInstanceFilter{
		CreatedTimeFrom: timestamp(f.CreatedFrom), CreatedTimeTo: timestamp(f.CreatedTo), RuntimeStatus: f.statuses(),
		Timeout: durationpb.New(c.timeout / 2),
	}
	request := &sidecar.PurgeInstancesRequest{Request: &sidecar.PurgeInstancesRequest_PurgeInstanceFilter{PurgeInstanceFilter: filter}}
	for {
		var reply sidecar.PurgeInstancesResponse
		if err := c.invoke(ctx, "purging instances", "", "PurgeInstances", request, &reply); err != nil {
			return n, err
		}
		n += int(reply.DeletedInstanceCount)
		if reply.IsComplete == nil || reply.IsComplete.Value {
			return n, nil
		}
	}
}
