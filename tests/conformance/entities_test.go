package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/encoding/protojson"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// The entity of the recorded handler, written in Go: it adds numbers.
const (
	entities  = durable.EntityName[int]("Entity")
	retrieds  = durable.EntityName[int]("EntityRetry")
	unknowns  = durable.EntityName[int]("nosuch")
	plainText = "entity says no"
)

func sum(s *int, _ context.Context, input json.RawMessage) (int, error) {
	var script struct{ N int }
	if json.Unmarshal(input, &script.N) != nil {
		if err := json.Unmarshal(input, &script); err != nil {
			return 0, err
		}
	}
	*s += script.N
	return *s, nil
}

var (
	entityAdd  = durable.NewOperation(entities, "add", sum)
	entityGet  = durable.NewOperation(entities, "get", func(s *int, _ context.Context, _ json.RawMessage) (int, error) { return *s, nil })
	entityFail = durable.NewOperation(entities, "fail", func(s *int, _ context.Context, _ json.RawMessage) (int, error) {
		*s = -1
		return 0, errors.New(plainText)
	})
	entityDelete = durable.NewOperation(entities, "delete", func(_ *int, ctx context.Context, _ json.RawMessage) (any, error) {
		durable.Current(ctx).Delete()
		return nil, nil
	})
	entityObj = durable.NewOperation(entities, "obj", func(_ *int, _ context.Context, in json.RawMessage) (any, error) {
		return map[string]any{"op": "obj", "input": in}, nil
	})
	retryAdd   = durable.NewOperation(retrieds, "add", sum)
	unknownAdd = durable.NewOperation(unknowns, "add", sum)
)

// entityCallers are orchestrators, by instance id. They make the same calls with package durable that the recorded handler made
// by answering with actions.
var entityCallers = map[string]func(*task.OrchestrationContext) (any, error){
	"ec3": func(ctx *task.OrchestrationContext) (any, error) {
		first := entityAdd.Call(ctx, "k3", raw("4"))
		entityFail.Call(ctx, "k3", raw("null"))
		entityGet.Call(ctx, "k3", raw("null"))
		_, err := first.Await()
		return "done", err
	},
	"e4b": func(ctx *task.OrchestrationContext) (any, error) {
		entityAdd.Call(ctx, "k4b", raw("4"))
		entityFail.Call(ctx, "k4b", raw("null"))
		entityGet.Call(ctx, "k4b", raw("null"))
		return never(ctx)
	},
	"e4c": func(ctx *task.OrchestrationContext) (any, error) {
		entityAdd.Call(ctx, "k4c", raw("4"))
		return never(ctx)
	},
	"e4d": func(ctx *task.OrchestrationContext) (any, error) {
		entityAdd.Signal(ctx, "k4d", raw("4"))
		entityGet.Signal(ctx, "k4d", raw("null"))
		return never(ctx)
	},
	"lock1": func(ctx *task.OrchestrationContext) (any, error) {
		lock := durable.LockEntities(ctx, entities.ID("lb"), entities.ID("la"))
		_, err := entityAdd.Call(ctx, "la", raw("4")).Await()
		_, err2 := durable.Timer(ctx, 5*time.Second).Await()
		lock.Release()
		return 1, errors.Join(err, err2)
	},
	"ew1": func(ctx *task.OrchestrationContext) (any, error) {
		unknownAdd.Call(ctx, "x", raw("1"))
		entityAdd.Call(ctx, "w1", raw(`{"result": {"status": 500, "reason": "entity handler fault", "times": 99}}`))
		entityAdd.Call(ctx, "w2", raw(`{"result": {"failureDetails": {"errorType": "Batch", "errorMessage": "whole batch failed"}, "entityState": "77", "times": 99}}`))
		entityAdd.Call(ctx, "w3", raw(`{"result": {"returnValue": "", "status": 200, "times": 99}}`))
		entityDelete.Call(ctx, "w4", raw("null"))
		entityObj.Call(ctx, "w5", raw(`{"a":[1,2,{"d":"2026-11-22T10:11:12+02:00"}],"n":1.50}`))
		return never(ctx)
	},
	"er1": func(ctx *task.OrchestrationContext) (any, error) {
		_, err := retryAdd.Call(ctx, "a", raw(`{"n": 3, "result": {"status": 500, "reason": "first fault", "times": 1}}`)).Await()
		return 1, err
	},
	"esig": func(ctx *task.OrchestrationContext) (any, error) {
		entityAdd.Signal(ctx, "sch", raw("3"), durable.At(time.Date(2026, 11, 26, 0, 48, 36, 265e6, time.UTC)))
		return "done", nil
	},
}

func raw(text string) json.RawMessage { return json.RawMessage(text) }

func never(ctx *task.OrchestrationContext) (any, error) {
	return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
}

func startEntities(t *testing.T) testkit.Host {
	t.Helper()
	app, root := handler.New(), t.TempDir()
	app.Entity("Entity", durable.Entity(entityAdd, entityGet, entityFail, entityDelete, entityObj))
	app.Entity("EntityRetry", durable.Entity(retryAdd))
	app.Orchestrator("Orch", func(ctx *task.OrchestrationContext) (any, error) { return entityCallers[string(ctx.ID)](ctx) })
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	for name, trigger := range map[string]string{"Entity": "entityTrigger", "EntityRetry": "entityTrigger", "Orch": "orchestrationTrigger"} {
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), `{"bindings":[{"name":"context","type":"`+trigger+`","direction":"in"}]}`)
	}
	functions, err := app.Handler(handler.Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(functions)
	t.Cleanup(server.Close)
	return testkit.Host{URL: server.URL}
}

// TestRecordedEntities plays the recorded batches of entities, and the turns of orchestrations that call, signal and lock
// entities. The answers of our handler must be answers that the real host accepted.
func TestRecordedEntities(t *testing.T) {
	t.Parallel()
	h := startEntities(t)
	all := tally{}
	for _, file := range readRecordings(t) {
		ours := map[string][]string{} // the GUIDs of each orchestration, in order
		theirs := map[string][]string{}
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			if err != nil || !ok {
				continue
			}
			var differences []string
			switch turn, err := testkit.DecodeTurn(r.Request); {
			case strings.HasPrefix(r.Function, "Entity"):
				what := "batches compared"
				if what, differences = compareBatch(t, h, r); what != "" {
					all[what]++
				}
			case r.Function == "Orch" && err == nil && file.isEntities() && entityCallers[turn.InstanceID] != nil:
				all["turns compared"]++
				differences = compareEntityTurn(t, h, r, turn.InstanceID, ours, theirs)
			}
			for _, d := range differences {
				t.Errorf("%s:%d: %s", file.name, i+1, d)
			}
		}
	}
	t.Logf("in all: %s", all)
	if *recordings == ownRecordings && (all["batches compared"] < 20 || all["turns compared"] < 14) {
		t.Errorf("too little was played: %s", all)
	}
}

// isEntities says whether the file shows calls of entities by orchestrations that entityCallers knows.
func (f recording) isEntities() bool {
	return slices.ContainsFunc(f.lines, func(line []byte) bool {
		var l struct{ RPC string }
		return json.Unmarshal(line, &l) == nil && l.RPC == "SignalEntity"
	})
}

// batchResult has the fields of an answer to a batch that are compared.
type batchResult struct {
	Results []struct {
		Success *struct{ Result string }
		Failure *struct {
			FailureDetails struct{ ErrorMessage string }
		}
	}
	Actions     []json.RawMessage
	EntityState *string
}

func decodeBatchResult(value json.RawMessage) (string, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", err
	}
	m, err := testkit.DecodeMessage("EntityBatchResult", text)
	if err != nil {
		return "", err
	}
	out, err := protojson.Marshal(m.Interface())
	if err != nil {
		return "", err
	}
	var r batchResult
	err = json.Unmarshal(out, &r)
	for _, result := range r.Results {
		if result.Success != nil { // a missing result means null
			result.Success.Result = jsonText(cmp.Or(result.Success.Result, "null"), nil)
		}
	}
	canonical, _ := json.Marshal(r)
	return string(canonical), err
}

// compareBatch posts the batch. Our entity cannot give answers that follow a script in the input; then it need only accept the
// batch.
func compareBatch(t *testing.T, h testkit.Host, r record) (string, []string) {
	var request struct {
		Data struct{ Context json.RawMessage }
	}
	if err := json.Unmarshal([]byte(r.Request), &request); err != nil {
		return "", nil
	}
	m, err := testkit.DecodeMessage("EntityBatchRequest", testkit.Text(request.Data.Context))
	if err != nil {
		return "batches cut short", nil
	}
	a := h.Post(t, r.Function, r.Request)
	got, err := decodeBatchResult(a.ReturnValue)
	if a.Status != 200 || err != nil {
		return "batches accepted", []string{fmt.Sprintf("the batch is not taken: %s (%v)", a, err)}
	}
	for path, value := range testkit.Fields(m) {
		value = strings.ReplaceAll(value, " ", "")
		if strings.HasSuffix(path, ".input") && (strings.Contains(value, `"result":{`) || strings.Contains(value, `"actions"`)) {
			return "batches accepted", nil
		}
	}
	var recorded envelope
	if err := json.Unmarshal([]byte(r.Response), &recorded); err != nil || r.Status != 200 {
		return "batches accepted", nil
	}
	want, err := decodeBatchResult(recorded.ReturnValue)
	if err != nil {
		return "batches accepted", nil
	}
	if got != want {
		return "batches compared", []string{fmt.Sprintf("the answer is\n%s\nrecorded is\n%s", got, want)}
	}
	return "batches compared", nil
}

var guid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// compareEntityTurn posts the turn. It first replaces the recorded GUIDs by ours, because the host answers a request under the
// GUID that the caller gave it.
func compareEntityTurn(t *testing.T, h testkit.Host, r record, id string, ours, theirs map[string][]string) []string {
	t.Helper()
	var request struct {
		Data struct{ Context json.RawMessage }
	}
	_ = json.Unmarshal([]byte(r.Request), &request)
	text := testkit.Text(request.Data.Context)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return []string{err.Error()}
	}
	for i, theirs := range theirs[id] {
		if i < len(ours[id]) {
			raw = bytes.ReplaceAll(raw, []byte(theirs), []byte(ours[id][i]))
		}
	}
	body := `{"Data":{"context":` + testkit.Twice(base64.StdEncoding.EncodeToString(raw)) + `},"Metadata":{}}`
	a := h.Post(t, r.Function, body)
	got, err := testkit.DecodeResponse(a.ReturnValue)
	if err != nil {
		return []string{a.String()}
	}
	want, err := recordedResponse(r)
	if err != nil {
		return []string{err.Error()}
	}
	var differences []string
	gotActions, gotIDs := entityActions(testkit.Fields(got))
	wantActions, wantIDs := entityActions(testkit.Fields(want))
	ours[id], theirs[id] = append(ours[id], gotIDs...), append(theirs[id], wantIDs...)
	if id == "lock1" || id == "e4d" { // a lock and its release have the same ids; a signal may leave out its parent
		gotActions, wantActions = withoutParent(gotActions), withoutParent(wantActions)
	}
	if !slices.Equal(gotActions, wantActions) {
		differences = append(differences, fmt.Sprintf("%s answers\n  %s\nrecorded is\n  %s", id, strings.Join(gotActions, "\n  "), strings.Join(wantActions, "\n  ")))
	}
	return differences
}

// entityActions returns the actions of an answer and, in order, the GUIDs of the requests in them.
func entityActions(fields map[string]string) (actions, guids []string) {
	for n := 0; ; n++ {
		prefix := fmt.Sprintf("actions[%d].", n)
		own := map[string]string{}
		for path, value := range fields {
			if rest, ok := strings.CutPrefix(path, prefix); ok {
				own[rest] = value
			}
		}
		if len(own) == 0 {
			return actions, guids
		}
		switch {
		case own["sendEvent.name"] != "":
			action, request := entityMessage(own)
			actions, guids = append(actions, action), append(guids, request...)
		case own["createTimer.fireAt.seconds"] != "" || own["createTimer.fireAt"] != "":
			actions = append(actions, own["id"]+" timer")
		case own["unknown fields"] != "":
			actions = append(actions, own["id"]+" "+own["unknown fields"][:4])
		default:
			actions = append(actions, "end "+own["completeOrchestration.orchestrationStatus"]+" "+own["completeOrchestration.result"])
		}
	}
}

// entityMessage returns a message without its GUIDs and times, and the GUIDs.
func entityMessage(fields map[string]string) (action string, guids []string) {
	var data map[string]any
	text := fields["sendEvent.data"]
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		return "no JSON: " + text, nil
	}
	if id, ok := data["id"].(string); ok && fields["sendEvent.name"] == "op" {
		guids = []string{id}
	}
	if input, ok := data["input"].(string); ok {
		data["input"] = jsonText(input, nil)
	}
	maps.DeleteFunc(data, func(key string, v any) bool {
		return key == "id" || key == "timestamp" || key == "predecessor" || key == "input" && v == "null" || key == "parentExecution"
	})
	canonical, _ := json.Marshal(data)
	return fmt.Sprint(fields["id"], " ", fields["sendEvent.instance.instanceId"], " ", fields["sendEvent.name"], " ", guid.ReplaceAllString(string(canonical), "GUID")), guids
}

func withoutParent(actions []string) []string {
	var out []string
	for _, a := range actions {
		out = append(out, regexp.MustCompile(`,?"parent":"[^"]*"`).ReplaceAllString(a, ""))
	}
	return out
}
