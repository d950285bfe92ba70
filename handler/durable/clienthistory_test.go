package durable

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/internal/testkit"
)

// recordedHistory has events of each kind as the real host sends them.
const recordedHistory = `{"events":[
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38.281065200Z","orchestratorStarted":{}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","executionStarted":{"name":"Orch","input":"{\"n\":1}","orchestrationInstance":{"instanceId":"rw1","executionId":"c06813ec"}}},
	{"timestamp":"2026-11-26T00:13:38Z","taskScheduled":{"name":"Echo"}},
	{"eventId":1,"timestamp":"2026-11-26T00:13:38Z","timerCreated":{"fireAt":"2026-11-26T00:14:00Z"}},
	{"eventId":2,"timestamp":"2026-11-26T00:13:38Z","subOrchestrationInstanceCreated":{"instanceId":"rw1:c","name":"Child"}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","orchestratorCompleted":{}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","taskCompleted":{"result":"{\"a\":1}"}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","timerFired":{"fireAt":"2026-11-26T00:14:00Z","timerId":1}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","subOrchestrationInstanceFailed":{"taskScheduledId":2,"failureDetails":{"errorType":"E","errorMessage":"child says no"}}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:38Z","eventRaised":{"name":"Go","input":"true"}},
	{"eventId":-1,"timestamp":"2026-11-26T00:13:41Z","genericEvent":{"data":"again"}},
	{"eventId":9,"timestamp":"2026-11-26T00:13:41Z","executionCompleted":{"orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED","result":"\"done\""}}]}`

func TestHistory(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	host.Answer = func(context.Context, testkit.Call) (string, bool, error) { return recordedHistory, true, nil }
	got, err := newTestClient(t, host.Address).History(t.Context(), "rw1")
	if err != nil {
		t.Fatal(err)
	}
	fireAt := time.Date(2026, 11, 26, 0, 14, 0, 0, time.UTC)
	want := []Event{
		{Kind: "orchestratorStarted", ID: -1, Of: -1},
		{Kind: "executionStarted", ID: -1, Of: -1, Name: "Orch", Value: `{"n":1}`},
		{Kind: "taskScheduled", ID: 0, Of: -1, Name: "Echo"},
		{Kind: "timerCreated", ID: 1, Of: -1, FireAt: fireAt},
		{Kind: "subOrchestrationInstanceCreated", ID: 2, Of: -1, Name: "Child", InstanceID: "rw1:c"},
		{Kind: "orchestratorCompleted", ID: -1, Of: -1},
		{Kind: "taskCompleted", ID: -1, Of: 0, Value: `{"a":1}`},
		{Kind: "timerFired", ID: -1, Of: 1, FireAt: fireAt},
		{Kind: "subOrchestrationInstanceFailed", ID: -1, Of: 2, Failure: "E: child says no"},
		{Kind: "eventRaised", ID: -1, Of: -1, Name: "Go", Value: "true"},
		{Kind: "genericEvent", ID: -1, Of: -1, Value: "again"},
		{Kind: "executionCompleted", ID: 9, Of: -1, Value: `"done"`},
	}
	for i := range got {
		if got[i].At.Year() != 2026 {
			t.Errorf("event %d was at %s", i, got[i].At)
		}
		got[i].At = time.Time{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzHistoryEvent: whatever the host sends is an event or an error.
func FuzzHistoryEvent(f *testing.F) {
	for _, text := range []string{`{"eventId":1,"taskScheduled":{"name":"Echo"}}`, `{}`, `{"timerFired":{"timerId":3}}`,
		`{"historyState":{"orchestrationState":{"name":"x"}}}`, `{"taskFailed":{"taskScheduledId":2,"failureDetails":{"errorType":"E"}}}`} {
		var e backend.HistoryEvent
		if err := protojson.Unmarshal([]byte(text), &e); err != nil {
			f.Fatal(err)
		}
		raw, err := proto.Marshal(&e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := newEvent(raw)
		var known backend.HistoryEvent
		if bad := proto.Unmarshal(raw, &known) != nil; bad != (err != nil) {
			t.Errorf("got %+v, %v", e, err)
		} else if !bad && (e.Kind == "") != (known.EventType == nil) {
			t.Errorf("got the kind %q of %v", e.Kind, &known)
		}
	})
}
