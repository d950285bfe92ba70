package testkit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// query answers as recorded: ordered by id, without entities, always with outputs, and with a token that ends in a blank. Without
// maxInstanceCount it answers an empty page, and there is always a next one.
func (s *Sidecar) query(c Call) (string, error) {
	if _, ok := c.Fields["query"]; !ok {
		return "", status.Error(codes.Unknown, "Exception was thrown by handler.")
	}
	from, err := base64.StdEncoding.DecodeString(strings.TrimSpace(c.Fields["query.continuationToken"]))
	if err != nil {
		return `{}`, nil
	}
	size, _ := strconv.Atoi(c.Fields["query.maxInstanceCount"])
	page := map[string]any{}
	var states []any
	for _, id := range slices.Sorted(maps.Keys(s.instances)) {
		i := s.instances[id]
		if id < string(from) || !i.chosen(c, "query.") || !strings.HasPrefix(id, c.Fields["query.instanceIdPrefix"]) || id[0] == '@' && c.Fields["query.instanceIdPrefix"] == "" {
			continue
		}
		if len(states) == size {
			page["continuationToken"] = base64.StdEncoding.EncodeToString([]byte(id)) + " "
			break
		}
		state := i.fields(id, c.Fields["query.fetchInputsAndOutputs"] == "true")
		state["output"] = i.output
		states = append(states, state)
	}
	page["orchestrationState"] = states
	reply, err := json.Marshal(page)
	return string(reply), err
}

// chosen says whether a filter chooses the instance. The filter's fields begin with prefix.
func (i *instance) chosen(c Call, prefix string) bool {
	from, _ := time.Parse(time.RFC3339Nano, c.Fields[prefix+"createdTimeFrom"])
	to, err := time.Parse(time.RFC3339Nano, c.Fields[prefix+"createdTimeTo"])
	if i.created.Before(from) || err == nil && i.created.After(to) {
		return false
	}
	named := false
	for field, v := range c.Fields {
		if strings.HasPrefix(field, prefix+"runtimeStatus[") {
			named = true
			if v == i.status.String() {
				return true
			}
		}
	}
	return !named
}

// purgeFiltered deletes the instances that the filter chooses. Running ones are deleted too unless the filter excludes them.
func (s *Sidecar) purgeFiltered(c Call) string {
	n := 0
	for id, i := range s.instances {
		if i.chosen(c, "purgeInstanceFilter.") {
			delete(s.instances, id)
			n++
		}
	}
	return fmt.Sprintf(`{"deletedInstanceCount":%d,"isComplete":true}`, n)
}

func (s *Sidecar) restart(c Call) (string, error) {
	id := c.Fields["instanceId"]
	i, newID := s.instances[id], c.Fields["restartWithNewInstanceId"] == "true"
	switch {
	case i == nil:
		return "", status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case !newID && !i.ended():
		return "", status.Errorf(codes.FailedPrecondition, "Non-terminal instance with this instance ID already exists: An Orchestration instance with the status %s already exists.", i.word())
	case newID:
		id = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	s.started = append(s.started, Start{i.name, id, i.input})
	s.instances[id] = &instance{name: i.name, input: i.input, tags: i.tags, status: s.StartedAs, created: time.Now()}
	return `{"instanceId":"` + id + `"}`, nil
}

func (i *instance) rewind(id string) error {
	switch {
	case i == nil:
		return status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case i.status != api.RUNTIME_STATUS_FAILED:
		return status.Error(codes.FailedPrecondition, "The rewind operation is only supported on failed orchestration instances.")
	}
	i.status = api.RUNTIME_STATUS_PENDING
	return nil
}

// history returns the history of an instance after its first turn.
func (i *instance) history(id string) (string, error) {
	if i == nil {
		return "", status.Errorf(codes.NotFound, "Orchestration instance with ID %s was not found.", id)
	}
	at := i.created.UTC().Format(time.RFC3339Nano)
	reply, err := json.Marshal(map[string]any{"events": []any{
		map[string]any{"eventId": -1, "timestamp": at, "orchestratorStarted": map[string]any{}},
		map[string]any{"eventId": -1, "timestamp": at, "executionStarted": map[string]any{"name": i.name, "input": i.input}},
		map[string]any{"eventId": -1, "timestamp": at, "orchestratorCompleted": map[string]any{}},
	}})
	return string(reply), err
}

// packEvents encodes the events of a chunk of history, given in JSON, as the bytes that travel over gRPC.
func packEvents(chunk string) (string, error) {
	var c struct{ Events []json.RawMessage }
	if err := json.Unmarshal([]byte(chunk), &c); err != nil {
		return "", err
	}
	var packed struct {
		Events [][]byte `json:"events"`
	}
	for _, text := range c.Events {
		var e backend.HistoryEvent
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &e); err != nil {
			return "", err
		}
		raw, err := proto.Marshal(&e)
		if err != nil {
			return "", err
		}
		packed.Events = append(packed.Events, raw)
	}
	text, err := json.Marshal(packed)
	return string(text), err
}

func tags(c Call) map[string]string {
	found := map[string]string{}
	for field, v := range c.Fields {
		if name, ok := strings.CutPrefix(field, "tags["); ok {
			found[strings.TrimSuffix(name, "]")] = v
		}
	}
	return found
}
