package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler/internal/entity"
)

// EntityInfo is what the host tells of an entity.
type EntityInfo struct {
	ID       EntityID
	Modified time.Time
	Backlog  int             // messages that wait for it
	LockedBy string          // the instance id of the orchestration that holds it, empty if none does
	State    json.RawMessage // nil unless it was asked for
}

// EntityFilter says which entities Client.Entities returns: those of which all set fields are true.
type EntityFilter struct {
	Name                     string // of the function
	KeyPrefix                string // needs Name
	ModifiedFrom, ModifiedTo time.Time
	State                    bool // with their states
	Transient                bool // also those that have no state: locked ones, or such as have messages only
	PageSize                 int  // how many the host is asked for at a time, 0: 100
}

func (c *Client) sendSignal(ctx context.Context, s signal) error {
	if len(s.input) > c.maxPayload {
		return fmt.Errorf("signalling %s: %w: %d bytes of JSON, the limit is %d", s.to, ErrTooLarge, len(s.input), c.maxPayload)
	}
	// The id must be a GUID: the host fails at anything else.
	request := map[string]any{"instanceId": s.to.String(), "name": s.operation, "input": string(s.input), "requestId": uuid.NewString()}
	if !s.at.IsZero() {
		request["scheduledTime"] = s.at.UTC()
	}
	return explain("signalling", s.to.String(), c.callEntities(ctx, "SignalEntity", request, nil))
}

// Read returns the state of the entity with that key, and whether the entity exists. It may be older than the operations
// that are on their way.
func (name EntityName[State]) Read(ctx context.Context, c *Client, key string) (state State, exists bool, err error) {
	id := name.ID(key)
	if err := checkEntityID(id); err != nil {
		return state, false, err
	}
	var reply struct {
		Exists bool
		Entity struct{ SerializedState string }
	}
	err = c.callEntities(ctx, "GetEntity", map[string]any{"instanceId": id.String(), "includeState": true}, &reply)
	if err != nil || !reply.Exists {
		return state, false, explain("reading", id.String(), err)
	}
	if err := decodeEntity([]byte(reply.Entity.SerializedState), &state); err != nil {
		return state, true, fmt.Errorf("reading %s: the state is no %T: %w", id, state, err)
	}
	return state, true, nil
}

// Entities lists entities by id, page by page as the loop goes on. After an error it ends.
func (c *Client) Entities(ctx context.Context, f EntityFilter) iter.Seq2[EntityInfo, error] {
	return func(yield func(EntityInfo, error) bool) {
		token := ""
		for {
			page, next, err := c.entityPage(ctx, f, token)
			if err != nil {
				yield(EntityInfo{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if next == "" || next == token {
				return
			}
			token = next
		}
	}
}

func (f EntityFilter) request(token string) map[string]any {
	query := map[string]any{"includeState": f.State, "includeTransient": f.Transient, "pageSize": 100}
	if f.PageSize > 0 {
		query["pageSize"] = f.PageSize
	}
	if f.Name != "" {
		query["instanceIdStartsWith"] = entity.NewID(f.Name, f.KeyPrefix).String()
	}
	if !f.ModifiedFrom.IsZero() {
		query["lastModifiedFrom"] = f.ModifiedFrom.UTC()
	}
	if !f.ModifiedTo.IsZero() {
		query["lastModifiedTo"] = f.ModifiedTo.UTC()
	}
	if token != "" {
		query["continuationToken"] = token
	}
	return map[string]any{"query": query}
}

func (c *Client) entityPage(ctx context.Context, f EntityFilter, token string) (page []EntityInfo, next string, err error) {
	if f.KeyPrefix != "" && f.Name == "" {
		return nil, "", fmt.Errorf("listing entities: a prefix of keys needs the entities' name")
	}
	var reply struct {
		Entities []struct {
			InstanceID       string
			LastModifiedTime time.Time
			BacklogQueueSize int
			LockedBy         string
			SerializedState  *string
		}
		ContinuationToken string
	}
	if err := c.callEntities(ctx, "QueryEntities", f.request(token), &reply); err != nil {
		return nil, "", explain("listing entities of", f.Name, err)
	}
	for _, e := range reply.Entities {
		id, ok := entity.ParseID(e.InstanceID)
		if !ok {
			continue
		}
		info := EntityInfo{ID: id, Modified: e.LastModifiedTime, Backlog: e.BacklogQueueSize, LockedBy: e.LockedBy}
		if e.SerializedState != nil {
			info.State = json.RawMessage(*e.SerializedState)
		}
		page = append(page, info)
	}
	return page, reply.ContinuationToken, nil
}

// CleanEntities deletes what the host keeps of entities that have neither state, lock nor messages, and gives back the
// locks of orchestrations that have ended. It says how many of each there were.
func (c *Client) CleanEntities(ctx context.Context) (removed, released int, err error) {
	for token := ""; ; {
		request := map[string]any{"removeEmptyEntities": true, "releaseOrphanedLocks": true}
		if token != "" {
			request["continuationToken"] = token
		}
		var reply struct {
			EmptyEntitiesRemoved, OrphanedLocksReleased int
			ContinuationToken                           string
		}
		if err := c.callEntities(ctx, "CleanEntityStorage", request, &reply); err != nil {
			return removed, released, explain("cleaning up", "entities", err)
		}
		removed, released = removed+reply.EmptyEntitiesRemoved, released+reply.OrphanedLocksReleased
		if strings.TrimSpace(reply.ContinuationToken) == "" || reply.ContinuationToken == token {
			return removed, released, nil
		}
		token = reply.ContinuationToken
	}
}

// callEntities makes a call whose messages durabletask-go has, and exports no types of: here they are protobuf JSON.
func (c *Client) callEntities(ctx context.Context, method string, request map[string]any, reply any) error {
	kindOf := func(name string) (proto.Message, error) {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
		if err != nil {
			return nil, err
		}
		return kind.New().Interface(), nil
	}
	in, err := kindOf(method + "Request")
	if err != nil {
		return err
	}
	out, err := kindOf(method + "Response")
	if err != nil {
		return err
	}
	text, err := json.Marshal(request)
	if err == nil {
		err = protojson.Unmarshal(text, in)
	}
	if err != nil {
		return err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.endpoint.Invoke(ctx, "/TaskHubSidecarService/"+method, in, out); err != nil || reply == nil {
		return err
	}
	if text, err = protojson.Marshal(out); err == nil {
		err = json.Unmarshal(text, reply)
	}
	return err
}
