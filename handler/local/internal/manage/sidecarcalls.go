package manage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/sidecar"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// answerNew answers the calls that durabletask-go's service does not support, or supports without their newer fields. done is
// false for any other call.
func (s *Sidecar) answerNew(ctx context.Context, method string, request proto.Message) (response proto.Message, done bool, err error) {
	switch method {
	case "StartInstance":
		response, err = answerAs(ctx, request, s.start)
	case "QueryInstances":
		response, err = answerAs(ctx, request, s.query)
	case "RewindInstance":
		response, err = answerAs(ctx, request, s.rewind)
	case "PurgeInstances":
		var r sidecar.PurgeInstancesRequest
		if err := convert(request, &r); err != nil {
			return nil, true, err
		}
		switch by := r.Request.(type) {
		case *sidecar.PurgeInstancesRequest_InstanceId:
			response, err = s.purge(ctx, by.InstanceId)
		case *sidecar.PurgeInstancesRequest_PurgeInstanceFilter:
			response, err = s.purgeFiltered(ctx, by.PurgeInstanceFilter)
		case *sidecar.PurgeInstancesRequest_InstanceBatch:
			err = status.Error(codes.InvalidArgument, "Unknown purge request type 'InstanceBatch'.")
		default:
			err = status.Error(codes.InvalidArgument, "Unknown purge request type 'None'.")
		}
	default:
		return nil, false, nil
	}
	return response, true, err
}

// answerUnknown answers the calls that durabletask-go's service does not know.
func (s *Sidecar) answerUnknown(_ any, stream grpc.ServerStream) error {
	ctx := stream.Context()
	if _, err := s.callers.find(ctx); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	var response proto.Message
	var err error
	switch path.Base(method) {
	case "RestartInstance":
		var r sidecar.RestartInstanceRequest
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		response, err = s.restart(ctx, &r)
	case "StreamInstanceHistory":
		var r sidecar.StreamInstanceHistoryRequest
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		response, err = s.history(ctx, &r)
	default:
		return status.Error(codes.Unimplemented, "")
	}
	if err != nil {
		return s.explain(ctx, method, err)
	}
	return stream.SendMsg(response)
}

// answerAs converts the request to the type that f needs; the fields of both types have the same numbers.
func answerAs[In any, Out proto.Message, P interface {
	*In
	proto.Message
}](ctx context.Context, request proto.Message, f func(context.Context, P) (Out, error)) (proto.Message, error) {
	in := P(new(In))
	if err := convert(request, in); err != nil {
		return nil, err
	}
	out, err := f(ctx, in)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func convert(from, to proto.Message) error {
	raw, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	return proto.Unmarshal(raw, to)
}

// start keeps an instance's version, tags and trace, which durabletask-go's service drops.
func (s *Sidecar) start(ctx context.Context, r *sidecar.CreateInstanceRequest) (*sidecar.CreateInstanceResponse, error) {
	if r.InstanceId == "" {
		r.InstanceId = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	e := historyevent.New("executionStarted", time.Now())
	started := &sidecar.ExecutionStarted{
		Name: r.Name, Version: r.Version, Input: r.Input, ScheduledStartTimestamp: r.ScheduledStartTimestamp,
		ParentTraceContext: r.ParentTraceContext, Tags: r.Tags,
		OrchestrationInstance: &sidecar.OrchestrationInstance{InstanceId: r.InstanceId, ExecutionId: wrapperspb.String(uuid.NewString())},
	}
	if err := convert(started, e.GetExecutionStarted()); err != nil {
		return nil, err
	}
	var reuse []backend.OrchestrationIdReusePolicyOptions
	if p := r.OrchestrationIdReusePolicy; p != nil {
		policy := &api.OrchestrationIdReusePolicy{OperationStatus: statusesOf(p.ReplaceableStatus)}
		reuse = append(reuse, backend.WithOrchestrationIdReusePolicy(policy))
	}
	if err := s.backend.CreateOrchestrationInstance(ctx, e, reuse...); err != nil {
		return nil, err
	}
	return &sidecar.CreateInstanceResponse{InstanceId: r.InstanceId}, nil
}

// query answers in the order of the ids. If the request has no page size, the host sends an empty page that is never the last one.
func (s *Sidecar) query(ctx context.Context, r *sidecar.QueryInstancesRequest) (*sidecar.QueryInstancesResponse, error) {
	q := r.Query
	if q == nil {
		return nil, handlerException()
	}
	from, err := pageStart(q.ContinuationToken.GetValue())
	if err != nil || !s.isOurs(q.TaskHubNames) {
		return &sidecar.QueryInstancesResponse{}, nil
	}
	page, err := s.hub.Query(ctx, taskhub.Filter{
		Statuses: statusesOf(q.RuntimeStatus), CreatedFrom: timeOf(q.CreatedTimeFrom), CreatedTo: timeOf(q.CreatedTimeTo),
		IDPrefix: q.InstanceIdPrefix.GetValue(), Inputs: q.FetchInputsAndOutputs, From: from, PageSize: int(q.MaxInstanceCount),
	})
	if err != nil {
		return nil, err
	}
	if q.MaxInstanceCount <= 0 && len(page.Instances) > 0 {
		page = taskhub.Page{Next: page.Instances[0].ID}
	}
	reply := &sidecar.QueryInstancesResponse{}
	for _, i := range page.Instances {
		if strings.HasPrefix(i.ID, "@") && !strings.HasPrefix(q.InstanceIdPrefix.GetValue(), "@") {
			continue // an entity
		}
		reply.OrchestrationState = append(reply.OrchestrationState, stateOf(i))
	}
	if page.Next != "" {
		reply.ContinuationToken = wrapperspb.String(pageToken(page.Next))
	}
	return reply, nil
}

// isOurs reports whether a query is for this task hub.
func (s *Sidecar) isOurs(hubs []*wrapperspb.StringValue) bool {
	return len(hubs) == 0 || slices.ContainsFunc(hubs, func(hub *wrapperspb.StringValue) bool { return strings.EqualFold(hub.GetValue(), s.hubName) })
}

func stateOf(i taskhub.Instance) *sidecar.OrchestrationState {
	state := &sidecar.OrchestrationState{
		InstanceId: i.ID, Name: i.Name, OrchestrationStatus: sidecar.OrchestrationStatus(i.Status),
		CreatedTimestamp: timestamppb.New(i.CreatedAt), LastUpdatedTimestamp: timestamppb.New(i.LastUpdatedAt),
		Input: textOf(i.Input), Output: textOf(i.Output), CustomStatus: textOf(i.CustomStatus),
	}
	if state.CustomStatus == nil && i.Status != api.RUNTIME_STATUS_PENDING {
		state.CustomStatus = wrapperspb.String("null")
	}
	return state
}

func textOf(s string) *wrapperspb.StringValue {
	if s == "" {
		return nil
	}
	return wrapperspb.String(s)
}

func statusesOf(list []sidecar.OrchestrationStatus) (out []api.OrchestrationStatus) {
	for _, s := range list {
		out = append(out, api.OrchestrationStatus(s))
	}
	return out
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// cannotPurge is the host's text for an unfinished instance.
func cannotPurge(id string, e *taskhub.NotFinishedError) string {
	return fmt.Sprintf("Only orchestrations in a terminal state can be purged, but the orchestration with instance ID %s has status %s", id, historyevent.StatusName(e.Status))
}

// purge also deletes the finished instances below the instance. The real host leaves them.
func (s *Sidecar) purge(ctx context.Context, id string) (*sidecar.PurgeInstancesResponse, error) {
	n, err := s.hub.Purge(ctx, id)
	running := (*taskhub.NotFinishedError)(nil)
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return &sidecar.PurgeInstancesResponse{}, nil
	case errors.As(err, &running):
		return nil, status.Error(codes.FailedPrecondition, cannotPurge(id, running))
	}
	return &sidecar.PurgeInstancesResponse{DeletedInstanceCount: int32(n)}, err
}

// purgeFiltered deletes only finished instances, whatever the filter says. The real host also deletes running ones.
func (s *Sidecar) purgeFiltered(ctx context.Context, f *sidecar.PurgeInstanceFilter) (*sidecar.PurgeInstancesResponse, error) {
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if f.Timeout != nil {
		bounded, cancel = context.WithTimeout(ctx, f.Timeout.AsDuration())
	}
	defer cancel()
	n, err := s.hub.PurgeAll(bounded, taskhub.Filter{
		Statuses: statusesOf(f.RuntimeStatus), CreatedFrom: timeOf(f.CreatedTimeFrom), CreatedTo: timeOf(f.CreatedTimeTo),
	})
	reply := &sidecar.PurgeInstancesResponse{DeletedInstanceCount: int32(n)}
	late := err != nil && bounded.Err() != nil && ctx.Err() == nil
	if f.Timeout != nil {
		reply.IsComplete = wrapperspb.Bool(!late)
	}
	switch {
	case late:
		return reply, nil
	case errors.Is(err, api.ErrNotCompleted):
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return reply, err
}

func (s *Sidecar) rewind(ctx context.Context, r *sidecar.RewindInstanceRequest) (*sidecar.RewindInstanceResponse, error) {
	err := s.hub.Rewind(ctx, r.InstanceId, r.Reason.GetValue())
	notFailed := (*taskhub.NotFailedError)(nil)
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return nil, status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", r.InstanceId)
	case errors.As(err, &notFailed):
		return nil, status.Error(codes.FailedPrecondition, "The rewind operation is only supported on failed orchestration instances.")
	}
	return &sidecar.RewindInstanceResponse{}, err
}

func (s *Sidecar) restart(ctx context.Context, r *sidecar.RestartInstanceRequest) (*sidecar.RestartInstanceResponse, error) {
	id, err := s.hub.Restart(ctx, r.InstanceId, r.RestartWithNewInstanceId)
	running := (*taskhub.NotFinishedError)(nil)
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return nil, status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", r.InstanceId)
	case errors.As(err, &running):
		return nil, status.Errorf(codes.FailedPrecondition, "Non-terminal instance with this instance ID already exists: An Orchestration instance with the status %s already exists.",
			historyevent.StatusName(running.Status))
	}
	return &sidecar.RestartInstanceResponse{InstanceId: id}, err
}

// history answers with one chunk, as the host does.
func (s *Sidecar) history(ctx context.Context, r *sidecar.StreamInstanceHistoryRequest) (*sidecar.HistoryChunk, error) {
	events, err := s.hub.History(ctx, r.InstanceId)
	if errors.Is(err, api.ErrInstanceNotFound) {
		return nil, status.Errorf(codes.NotFound, "Orchestration instance with ID %s was not found.", r.InstanceId)
	}
	chunk := &sidecar.HistoryChunk{}
	for _, e := range events {
		raw, encodeErr := proto.Marshal(historyevent.AsStored(e))
		err = errors.Join(err, encodeErr)
		chunk.Events = append(chunk.Events, raw)
	}
	return chunk, err
}

// addStart adds to an answer the parts of the start that durabletask-go leaves out: parent, version and tags.
func (s *Sidecar) addStart(ctx context.Context, response proto.Message) (proto.Message, error) {
	reply := &sidecar.GetInstanceResponse{}
	if err := convert(response, reply); err != nil || !reply.Exists {
		return response, err
	}
	state := reply.OrchestrationState
	i, err := s.hub.Get(ctx, state.InstanceId)
	if err != nil {
		return response, nil //nolint:nilerr // it was purged meanwhile: the answer is from before the purge
	}
	state.ParentInstanceId = textOf(i.Parent)
	events, err := s.hub.History(ctx, state.InstanceId)
	if err != nil {
		return response, nil //nolint:nilerr // as above
	}
	state.Tags, err = tagsOf(events)
	return reply, err
}

// tagsOf returns the tags with which an instance was started.
func tagsOf(events []*backend.HistoryEvent) (map[string]string, error) {
	start := historyevent.Start(events)
	if start == nil {
		return nil, nil
	}
	var started sidecar.ExecutionStarted
	err := convert(start.GetExecutionStarted(), &started)
	return started.Tags, err
}

// tags adds the tags. An instance whose start cannot be read has none.
func addTags(o *newtonsoft.Object, events []*backend.HistoryEvent) {
	tags, err := tagsOf(events)
	if err != nil || len(tags) == 0 {
		return
	}
	list := &newtonsoft.Object{}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		list.AddText(name, tags[name])
	}
	o.Add("tags", list.Append(nil))
}
