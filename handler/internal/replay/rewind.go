package replay

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/entity"
)

// rewind is what a history says of the rewind that brought a failed orchestration back.
//
// What was in flight when the orchestration failed is lost: the host discards what completes after the failure. So the
// first turn after the rewind schedules it again, under the ids it had. Until then the history tells what that is: it
// was scheduled before the rewind and is not completed since.
//
// The host replaces events by a genericEvent each: the failure of the orchestration, the failures of its activities
// together with what scheduled them (these run again), and the failures of its sub-orchestrations, without what scheduled
// them (these are rewound and go on themselves). Their completion, and not the rewind, wakes the orchestration then.
type rewind struct {
	at       int // the place of the last genericEvent in the history; -1: none
	children int // how many sub-orchestrations failed and are rewound as well
	woken    bool
	lost     map[int32]bool // by id
}

// add counts a genericEvent. One that replaces something scheduled, or the orchestration's failure, has the id of that event. One
// that replaces the failure of something, or wakes the orchestration, has no id.
func (r *rewind) add(at int, e *backend.HistoryEvent) {
	r.woken = e.EventId < 0
	if r.at < 0 {
		r.children = 1 // the orchestration's own failure has an id but replaces no activity
	}
	if r.woken {
		r.children++
	} else {
		r.children--
	}
	r.at = at
}

// findLost finds what was in flight when the orchestration failed and was not scheduled again since.
func (h *history) findLost(events []*backend.HistoryEvent) {
	type operation struct {
		kind opKind
		id   int32
	}
	done := map[operation]int{} // where it was completed
	for i, e := range events {
		if id, kind, _ := completion(outcome{event: e}); isCompletion(e) {
			done[operation{kind, id}] = i + 1
		}
	}
	answered := map[string]bool{} // the calls of entities, by their GUIDs
	for _, e := range events {
		if r := e.GetEventRaised(); r != nil {
			answered[strings.ToUpper(r.Name)] = true
		}
	}
	newest := map[int32]scheduled{}
	for _, e := range h.scheduled {
		newest[e.EventId] = e
	}
	h.rewind.lost = map[int32]bool{}
	var children []int32
	for id, e := range newest {
		kind := kindOfEvent(e.HistoryEvent)
		if e.at > h.rewind.at || done[operation{kind, id}] > e.at || kind == message && !awaitsAnswer(e.HistoryEvent, answered) {
			continue
		}
		if kind == subOrchestration {
			children = append(children, id)
		} else {
			h.rewind.lost[id] = true
		}
	}
	if !h.rewind.woken && len(children) <= h.rewind.children {
		return // they are those that are rewound as well
	}
	for _, id := range children {
		h.rewind.lost[id] = true
	}
}

func isCompletion(e *backend.HistoryEvent) bool {
	return matters(e) && e.GetOrchestratorStarted() == nil && e.GetEventRaised() == nil
}

func kindOfEvent(e *backend.HistoryEvent) opKind {
	switch {
	case e.GetTaskScheduled() != nil:
		return activity
	case e.GetSubOrchestrationInstanceCreated() != nil:
		return subOrchestration
	case e.GetEventSent() != nil:
		return message
	}
	return timer
}

// awaitsAnswer says whether a message to an entity is a call, or the request for a lock, that has no answer yet. All other messages
// have arrived: sent again, they would count twice.
func awaitsAnswer(e *backend.HistoryEvent, answered map[string]bool) bool {
	var m entity.Message
	err := json.Unmarshal([]byte(e.GetEventSent().GetInput().GetValue()), &m)
	return err == nil && e.GetEventSent().Name == entity.RequestEvent && !m.Signal && m.ID != "" && !answered[strings.ToUpper(m.ID)]
}

// again is the id of a sub-orchestration that is scheduled again, or empty if id is not one. It is another one than
// before, because the host would replace a child that still runs. Whichever of the two completes first is the one that
// counts.
func (h *history) again(id int32) string {
	if !h.rewind.lost[id] {
		return ""
	}
	before, times := "", 0
	for _, e := range h.scheduled {
		if c := e.GetSubOrchestrationInstanceCreated(); c != nil && e.EventId == id {
			if times++; times == 1 {
				before = c.InstanceId
			}
		}
	}
	if times == 0 {
		return ""
	}
	return fitID(before, fmt.Sprintf("~%d", times))
}
