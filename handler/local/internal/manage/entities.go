package manage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// callEntities answers the calls about entities; ok is false for any other call. durabletask-go has the messages but exports no
// types for them, so they are handled here as protobuf JSON.
func (s *Sidecar) callEntities(ctx context.Context, method string, request any) (reply any, ok bool, err error) {
	calls := map[string]func(context.Context, []byte) (any, error){
		"SignalEntity": s.signalEntity, "GetEntity": s.getEntity, "QueryEntities": s.queryEntities, "CleanEntityStorage": s.cleanEntities,
		"PurgeInstances": s.purgeEntity,
	}
	call, ok := calls[method]
	if purge, isPurge := request.(interface{ GetInstanceId() string }); isPurge && method == "PurgeInstances" {
		_, ok = entity.ParseID(purge.GetInstanceId())
	}
	if !ok {
		return nil, false, nil
	}
	text, err := protojson.Marshal(request.(proto.Message))
	if err != nil {
		return nil, true, handlerException()
	}
	answer, err := call(ctx, text)
	if err != nil {
		if _, isStatus := status.FromError(err); !isStatus {
			s.log.Error("a call of the durable client failed", "method", method, "error", err)
			err = handlerException()
		}
		return nil, true, err
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(method + "Response"))
	if err != nil {
		return nil, true, err
	}
	m := kind.New().Interface()
	text, err = json.Marshal(answer)
	if err == nil {
		err = protojson.Unmarshal(text, m)
	}
	return m, true, err
}

func (s *Sidecar) signalEntity(ctx context.Context, text []byte) (any, error) {
	var r struct {
		InstanceID, Name, RequestID string
		Input                       *string
		ScheduledTime               time.Time
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(r.RequestID); err != nil {
		return nil, handlerException() // the host answers the same
	}
	if _, ok := entity.ParseID(r.InstanceID); !ok {
		return struct{}{}, nil // the host accepts it and loses it
	}
	signal := entity.Signal{ID: r.RequestID, Operation: r.Name, ScheduledAt: r.ScheduledTime}
	if r.Input != nil {
		signal.Input = []byte(*r.Input)
	}
	return struct{}{}, s.hub.SignalEntity(ctx, r.InstanceID, signal)
}

// entityMetadata is an EntityMetadata.
func entityMetadata(e taskhub.Entity, state bool) map[string]any {
	m := map[string]any{"instanceId": e.ID, "lastModifiedTime": e.Modified, "backlogQueueSize": e.Backlog}
	if e.LockedBy != "" {
		m["lockedBy"] = e.LockedBy
	}
	if state && e.State != nil {
		m["serializedState"] = *e.State
	}
	return m
}

func (s *Sidecar) getEntity(ctx context.Context, text []byte) (any, error) {
	var r struct {
		InstanceID   string
		IncludeState bool
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	e, exists, err := s.hub.Entity(ctx, r.InstanceID)
	if err != nil || !exists {
		return struct{}{}, err
	}
	return map[string]any{"exists": true, "entity": entityMetadata(e, r.IncludeState)}, nil
}

func (s *Sidecar) queryEntities(ctx context.Context, text []byte) (any, error) {
	var r struct {
		Query struct {
			InstanceIDStartsWith, ContinuationToken string
			LastModifiedFrom, LastModifiedTo        time.Time
			IncludeState, IncludeTransient          bool
			PageSize                                int
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	q := r.Query
	after, err := pageStart(q.ContinuationToken)
	if err != nil {
		return nil, handlerException()
	}
	page, next, err := s.hub.QueryEntities(ctx, taskhub.EntityFilter{
		Prefix: q.InstanceIDStartsWith, From: q.LastModifiedFrom, To: q.LastModifiedTo, Transient: q.IncludeTransient, PageSize: q.PageSize, After: after,
	})
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	list := make([]any, len(page))
	for i, e := range page {
		list[i] = entityMetadata(e, q.IncludeState)
	}
	answer["entities"] = list
	if next != "" {
		answer["continuationToken"] = pageToken(next)
	}
	return answer, nil
}

func (s *Sidecar) purgeEntity(ctx context.Context, text []byte) (any, error) {
	var r struct{ InstanceID string }
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	deleted, err := s.hub.PurgeEntity(ctx, r.InstanceID)
	return map[string]any{"deletedInstanceCount": deleted}, err
}

func (s *Sidecar) cleanEntities(ctx context.Context, text []byte) (any, error) {
	var r struct{ RemoveEmptyEntities, ReleaseOrphanedLocks bool }
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	removed, released, err := s.hub.CleanEntities(ctx, r.RemoveEmptyEntities, r.ReleaseOrphanedLocks)
	return map[string]any{"emptyEntitiesRemoved": removed, "orphanedLocksReleased": released}, err
}
