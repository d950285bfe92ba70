package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// setAside fails the instance that owns a row that cannot be decoded, so that everything else can go on.
func (h *TaskHub) setAside(ctx context.Context, id string, broken *RowError) {
	reason := "the task hub is damaged: " + broken.Error()
	h.log.Error("an instance fails: the task hub is damaged", "instance", id, "table", broken.Table, "row", broken.Row, "error", broken.Err)
	h.failInstance(ctx, failing{id: id, reason: reason}, func(t tx) error {
		if broken.Table != "tasks" {
			return nil
		}
		return t.exec("DELETE FROM tasks WHERE seq = ?", broken.Row)
	})
}

// failInstance ends an instance without a turn and runs also in the same transaction. It reports whether that is stored.
func (h *TaskHub) failInstance(ctx context.Context, why failing, also func(tx) error) bool {
	var f failing
	err := h.persist(ctx, func(t tx) error {
		f = why
		f.tx = t
		if err := also(t); err != nil {
			return err
		}
		return f.run()
	})
	switch {
	case errors.Is(err, ErrNotStored):
		return false
	case err != nil:
		h.log.Error("an instance that fails could not be ended", "instance", f.id, "error", err)
		return false
	case f.parent != "":
		h.queue.add(f.parent)
	}
	if !f.ended {
		return true
	}
	if i, err := h.Get(context.WithoutCancel(ctx), f.id); err == nil {
		h.onInstance(i)
	}
	h.notify(f.id)
	return true
}

// failing is the work of ending an instance without a turn.
type failing struct {
	tx
	id, reason string
	details    *backend.TaskFailureDetails // for the parent
	parent     string                      // the instance's parent; empty for a root
	ended      bool                        // false: it had already ended
}

func (f *failing) run() error {
	if err := f.exec("DELETE FROM events WHERE instance = ?", f.id); err != nil {
		return err
	}
	n, err := f.execCount("UPDATE instances SET status = ?, updated = ?, output = ?, custom_status = '' WHERE id = ? AND "+unfinished,
		api.RUNTIME_STATUS_FAILED, time.Now().UnixNano(), f.reason, f.id)
	if err != nil || n == 0 {
		return err
	}
	f.ended = true
	return errors.Join(f.endHistory(), f.tellParent())
}

// endHistory adds the failure to the history, as a turn would do. A later rewind needs it.
func (f *failing) endHistory() error {
	var last sql.NullInt64
	if err := f.queryRow("SELECT MAX(seq) FROM history WHERE instance = ?", f.id).Scan(&last); err != nil || !last.Valid {
		return err
	}
	end := historyevent.New("executionCompleted", time.Now())
	end.EventId = 0
	end.GetExecutionCompleted().OrchestrationStatus = api.RUNTIME_STATUS_FAILED
	end.GetExecutionCompleted().Result = wrapperspb.String(f.reason)
	end.GetExecutionCompleted().FailureDetails = f.details
	payload, err := marshal(end)
	if err != nil {
		return err
	}
	return f.exec("INSERT INTO history (instance, seq, payload) VALUES (?, ?, ?)", f.id, last.Int64+1, payload)
}

// tellParent sends the failure to the parent, with the event id under which the parent's history has this child.
func (f *failing) tellParent() error {
	var execution string
	err := f.queryRow("SELECT p.id, p.execution FROM instances i JOIN instances p ON p.id = i.parent WHERE i.id = ?", f.id).Scan(&f.parent, &execution)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	past, err := pastOf(f.ctx, f.tx, f.parent)
	if errors.As(err, new(*RowError)) {
		return nil // its own next turn fails it
	} else if err != nil {
		return err
	}
	for _, e := range past {
		if e.GetSubOrchestrationInstanceCreated().GetInstanceId() == f.id {
			failed := historyevent.New("subOrchestrationInstanceFailed", time.Now())
			failed.GetSubOrchestrationInstanceFailed().TaskScheduledId = e.GetEventId()
			failed.GetSubOrchestrationInstanceFailed().FailureDetails = f.details
			err = answer(f.tx, f.parent, execution, failed, 0)
		}
	}
	return err
}
