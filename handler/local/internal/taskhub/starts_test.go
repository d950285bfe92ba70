package taskhub

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/historyevent"
)

// TestTagsOfChildren: as recorded, a child has its own tags and its parent's. It has no version unless it is given one. An instance
// that a client starts without a version gets the default version.
func TestTagsOfChildren(t *testing.T) {
	t.Parallel()
	h, err := Open(t.Context(), Options{DataDir: t.TempDir(), DefaultVersion: "2.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	start := started("p")
	historyevent.SetTags(start, map[string]string{"a": "b", "c": "d"})
	mustBe(t, h.CreateOrchestrationInstance(t.Context(), start), nil)
	item := take(t, h)
	if v := item.NewEvents[0].GetExecutionStarted().GetVersion().GetValue(); v != "2.0" {
		t.Errorf("the version is %q", v)
	}
	h.TagChildren("p", map[int32]map[string]string{0: {"c": "e"}})
	answerTurn(t, h, item, newActions().child("k").child("l"))
	for range 2 {
		item := take(t, h)
		want := map[string]string{"a": "b", "c": "d"}
		if item.InstanceID == "k" {
			want["c"] = "e"
		}
		got := item.NewEvents[0]
		if !maps.Equal(historyevent.Tags(got), want) || got.GetExecutionStarted().GetVersion() != nil {
			t.Errorf("%s starts with %v, want the tags %v", item.InstanceID, got, want)
		}
		answerTurn(t, h, item, newActions())
	}
}

// TestStartByEntity: an orchestration that an entity starts has the entity as its parent, a tag that says that nobody waits for
// it, and the input from the entity. The parent is not told of its end. Recorded: entities.jsonl, byentity1.
func TestStartByEntity(t *testing.T) {
	t.Parallel()
	h := openEntities(t)
	post(t, h, [3]string{"@c@a", "op", `{"op":"x","id":"1","signal":true}`})
	w, err := h.NextEntity(t.Context())
	mustBe(t, err, nil)
	answer := entity.Result{Outcomes: []entity.Outcome{{}}, Actions: []entity.Action{
		{InstanceID: "@c@b", Name: "y"},
		{Starts: true, InstanceID: "o", Name: "Orch", Input: []byte("1"), Version: "1.5", Tags: map[string]string{"t": "u"}, ScheduledAt: time.Now().Add(-time.Second)},
	}}
	decoded, err := entity.DecodeResult(answer.Encode())
	mustBe(t, err, nil)
	mustBe(t, h.CompleteEntity(t.Context(), w, decoded), nil)
	item := take(t, h)
	es := item.NewEvents[0].GetExecutionStarted()
	parent := es.GetParentInstance()
	if item.InstanceID != "o" || parent.GetTaskScheduledId() != 1 || parent.GetName().GetValue() != "@c@a" || parent.GetVersion() == nil ||
		parent.GetOrchestrationInstance().GetInstanceId() != "@c@a" || parent.GetOrchestrationInstance().GetExecutionId().GetValue() == "" {
		t.Errorf("the parent of %s is %v", item.InstanceID, parent)
	}
	if !maps.Equal(historyevent.Tags(item.NewEvents[0]), map[string]string{"FireAndForget": "", "t": "u"}) ||
		!proto.Equal(es.GetVersion(), wrapperspb.String("1.5")) || es.GetScheduledStartTimestamp() == nil {
		t.Errorf("it starts with %v", item.NewEvents[0])
	}
	answerTurn(t, h, item, newActions().child("k"))
	item = take(t, h)
	if tags := historyevent.Tags(item.NewEvents[0]); !maps.Equal(tags, map[string]string{"t": "u"}) {
		t.Errorf("its child has the tags %v", tags)
	}
	answerTurn(t, h, item, newActions().complete(3, ""))
	answerTurn(t, h, take(t, h), newActions().complete(1, "1"))
	if s := status(t, h, "o"); s != 1 {
		t.Errorf("it is %s", s)
	}
}

// TestPurgeOfEntities: the row of an entity without a state is deleted after the retention. A state stays.
func TestPurgeOfEntities(t *testing.T) {
	t.Parallel()
	h := openEntities(t)
	for _, id := range []string{"@c@empty", "@c@full", "@c@young"} {
		post(t, h, [3]string{id, "op", `{"op":"x","id":"1","signal":true}`})
		w, err := h.NextEntity(t.Context())
		mustBe(t, err, nil)
		r := &entity.Result{Outcomes: []entity.Outcome{{}}}
		if id == "@c@full" {
			r.State = []byte("1")
		}
		mustBe(t, h.CompleteEntity(t.Context(), w, r), nil)
		if id == "@c@young" {
			continue
		}
		_, err = h.write.Exec("UPDATE entities SET modified = 1 WHERE id = ?", id)
		mustBe(t, err, nil)
	}
	mustBe(t, h.purgeEntities(t.Context(), time.Now().Add(-time.Hour)), nil)
	page, _, err := h.QueryEntities(t.Context(), EntityFilter{Transient: true})
	if err != nil || len(page) != 2 || page[0].ID != "@c@full" || page[1].ID != "@c@young" {
		t.Errorf("left are %+v, %v", page, err)
	}
}

// TestEntityBatchSize: an entity gets at most as many operations at once as host.json says.
func TestEntityBatchSize(t *testing.T) {
	t.Parallel()
	h, err := Open(t.Context(), Options{DataDir: t.TempDir(), EntityBatch: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 3 {
		post(t, h, [3]string{"@c@a", "op", `{"op":"x","id":"1","signal":true}`})
	}
	w, err := h.NextEntity(t.Context())
	if err != nil || len(w.Batch.Operations) != 2 {
		t.Errorf("%+v, %v", w, err)
	}
}
