package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// NotFailedError reports that an instance cannot be rewound because it has not failed.
type NotFailedError struct {
	ID     string
	Status api.OrchestrationStatus
}

func (e *NotFailedError) Error() string {
	return fmt.Sprintf("the instance %s has not failed: only failed ones can be rewound", e.ID)
}

// Rewind lets a failed instance continue from where it failed, as the real host does. In the history it replaces every failure
// with a generic event, and also the event that scheduled a failed activity, so that the orchestrator schedules the activity
// again. It rewinds failed children too, and their end wakes the parent. If there are no such children, an event with the reason
// wakes the instance itself. Work in flight is lost: the orchestrator's next turn sees it as scheduled but not finished.
//
// The error is [api.ErrInstanceNotFound] or a [*NotFailedError].
func (h *TaskHub) Rewind(ctx context.Context, id, reason string) error {
	var rewound, woken []string
	err := h.update(ctx, func(t tx) error {
		r := rewinding{tx: t, reason: reason}
		err := r.rewind(id)
		rewound, woken = r.rewound, r.woken
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range rewound {
		h.notify(id)
	}
	for _, id := range woken {
		h.queue.add(id)
	}
	return nil
}

type rewinding struct {
	tx
	reason         string
	rewound, woken []string
}

func (r *rewinding) rewind(id string) error {
	status, err := statusOf(r.tx, id)
	if err == nil && status != api.RUNTIME_STATUS_FAILED {
		err = &NotFailedError{ID: id, Status: status}
	}
	if err != nil {
		return err
	}
	past, err := pastOf(r.ctx, r.tx, id)
	if err != nil {
		return err
	}
	err = errors.Join(
		r.clearFailures(id, past),
		r.exec("UPDATE instances SET status = ?, updated = ?, output = '' WHERE id = ?", api.RUNTIME_STATUS_PENDING, time.Now().UnixNano(), id),
	)
	if err != nil {
		return err
	}
	r.rewound = append(r.rewound, id)
	children, err := r.rewindChildren(id, past)
	if children || err != nil {
		return err
	}
	wake := historyevent.New("genericEvent", time.Now())
	wake.GetGenericEvent().Data = wrapperspb.String(r.reason)
	r.woken = append(r.woken, id)
	return putEvent(r.tx, id, "", 0, wake)
}

// clearFailures replaces each failure in a history, and each event that scheduled a failed activity. The events keep their places,
// ids and times.
func (r *rewinding) clearFailures(id string, past []*backend.HistoryEvent) error {
	failed := map[int32]bool{}
	for _, e := range past {
		if f := e.GetTaskFailed(); f != nil {
			failed[f.GetTaskScheduledId()] = true
		}
	}
	for seq, e := range past {
		isFailure := e.GetTaskFailed() != nil || e.GetSubOrchestrationInstanceFailed() != nil || e.GetExecutionCompleted() != nil
		if !isFailure && !(e.GetTaskScheduled() != nil && failed[e.GetEventId()]) {
			continue
		}
		cleared := historyevent.New("genericEvent", e.GetTimestamp().AsTime())
		cleared.EventId = e.GetEventId()
		payload, err := marshal(cleared)
		if err != nil {
			return err
		}
		if err := r.exec("UPDATE history SET payload = ? WHERE instance = ? AND seq = ?", payload, id, seq); err != nil {
			return err
		}
	}
	return nil
}

// rewindChildren rewinds the failed children, except those that are gone or have been started again. It reports whether there was
// one to rewind.
func (r *rewinding) rewindChildren(id string, past []*backend.HistoryEvent) (any bool, err error) {
	failed := map[int32]bool{}
	for _, e := range past {
		if f := e.GetSubOrchestrationInstanceFailed(); f != nil {
			failed[f.GetTaskScheduledId()] = true
		}
	}
	for _, e := range past {
		child := e.GetSubOrchestrationInstanceCreated()
		if child == nil || !failed[e.GetEventId()] {
			continue
		}
		var parent string
		err := r.queryRow("SELECT parent FROM instances WHERE id = ?", child.GetInstanceId()).Scan(&parent)
		if errors.Is(err, sql.ErrNoRows) || err == nil && parent != id {
			continue
		} else if err != nil {
			return any, err
		}
		switch err := r.rewind(child.GetInstanceId()); {
		case err == nil:
			any = true
		case !errors.As(err, new(*NotFailedError)):
			return any, err
		}
	}
	return any, nil
}

// Restart starts an instance again, with its name and its latest input: in its own place if it has finished, or beside it as a
// new instance. The started instance is a root. Restart returns its id. The error is [api.ErrInstanceNotFound] or a
// [*NotFinishedError].
func (h *TaskHub) Restart(ctx context.Context, id string, newID bool) (string, error) {
	again := id
	if newID {
		again = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	return again, h.RestartAs(ctx, id, again, "")
}

// RestartAs is Restart with the new instance's id. A finished instance with that id is replaced. A version that is not empty
// becomes the new instance's version.
func (h *TaskHub) RestartAs(ctx context.Context, id, again, version string) error {
	err := h.update(ctx, func(t tx) error {
		if _, err := statusOf(t, id); err != nil {
			return err
		}
		if status, err := statusOf(t, again); err == nil && !historyevent.IsEnd(status) {
			return &NotFinishedError{ID: again, Status: status}
		} else if err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
			return err
		}
		start, err := startOf(t, id)
		if err != nil {
			return err
		}
		start = proto.Clone(start).(*backend.HistoryEvent)
		start.Timestamp = timestamppb.Now()
		es := start.GetExecutionStarted()
		es.OrchestrationInstance.InstanceId, es.OrchestrationInstance.ExecutionId = again, wrapperspb.String(uuid.NewString())
		es.ParentInstance, es.ScheduledStartTimestamp = nil, nil
		if version != "" {
			es.Version = wrapperspb.String(version)
		}
		return putRoot(t, start, 0)
	})
	if err == nil {
		h.announce(again, 0)
	}
	return err
}

// startOf returns the event that started an instance.
func startOf(t tx, id string) (*backend.HistoryEvent, error) {
	past, err := pastOf(t.ctx, t, id)
	if err != nil {
		return nil, err
	}
	if start := historyevent.Start(past); start != nil {
		return start, nil
	}
	events, err := queryEvents(t.ctx, t, "events", "SELECT seq, payload FROM events WHERE instance = ? ORDER BY seq", id)
	if err != nil {
		return nil, err
	}
	if start := historyevent.Start(events); start != nil {
		return start, nil
	}
	return nil, fmt.Errorf("the instance %s cannot be started again: there is no record of its start", id)
}
