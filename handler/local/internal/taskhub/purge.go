package taskhub

import (
	"context"
	"errors"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// purgeInterval is the shortest time between two purges of a host.
const purgeInterval = time.Hour

// PurgeEvery deletes instances that ended longer ago than retention: now, and again from time to time. It also deletes the rows of
// entities that have had no state, no lock and no messages for that long. An entity's state is data and stays, however old it is.
func (h *TaskHub) PurgeEvery(ctx context.Context, retention time.Duration) {
	ticker := time.NewTicker(min(retention, purgeInterval))
	defer ticker.Stop()
	for {
		before := time.Now().Add(-retention)
		if err := errors.Join(h.purge(ctx, before), h.purgeEntities(ctx, before)); err != nil && ctx.Err() == nil {
			h.log.Error("cannot purge what has ended long ago, trying again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// purgeable finds root instances that have ended before a time together with all instances below them. Instances below a root that
// was purged earlier are still found by the root's id. The index instances_root holds all that the query reads.
var purgeable = "SELECT root FROM instances GROUP BY root HAVING MAX(updated) < ? AND MAX(" + unfinished + ") = 0 LIMIT 1000"

func (h *TaskHub) purgeEntities(ctx context.Context, before time.Time) error {
	return h.update(ctx, func(t tx) error {
		return t.exec("DELETE FROM entities WHERE state IS NULL AND locked_by = '' AND modified < ? AND id NOT IN (SELECT entity FROM entity_messages)", before.UnixNano())
	})
}

func (h *TaskHub) purge(ctx context.Context, before time.Time) error {
	for ctx.Err() == nil {
		roots, err := h.strings(ctx, purgeable, before.UnixNano())
		if err != nil || len(roots) == 0 {
			return err
		}
		for _, root := range roots {
			if err := h.purgeTree(ctx, root, before); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// purgeTree deletes a root instance after all instances below it. If it is interrupted, the next purge finds the rest.
func (h *TaskHub) purgeTree(ctx context.Context, root string, before time.Time) error {
	ids, err := h.strings(ctx, "SELECT id FROM instances WHERE root = ? ORDER BY id = root", root)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for done := false; !done; {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := h.update(ctx, func(t tx) (err error) {
				done, err = purgePart(t, id, root, before)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// purgePart deletes a small part of an instance, so that other writers do not wait long. It does so even if the tree is in use
// again, because its root may have been started again.
func purgePart(t tx, id, root string, before time.Time) (done bool, err error) {
	var alive bool
	err = t.queryRow("SELECT EXISTS (SELECT 1 FROM instances WHERE root = ? AND (updated >= ? OR "+unfinished+"))", root, before.UnixNano()).Scan(&alive)
	if err != nil || alive {
		return true, err
	}
	const part = 1000
	n, err := t.execCount("DELETE FROM history WHERE instance = ? AND seq IN (SELECT seq FROM history WHERE instance = ? LIMIT ?)", id, id, part)
	if err != nil || n == part {
		return false, err
	}
	return true, errors.Join(t.exec("DELETE FROM mails WHERE instance = ?", id), deleteInstance(t, id))
}

// Purge deletes a finished instance and all finished instances below it, in one transaction, and returns how many it deleted.
// Running instances below it stay. The error is [api.ErrInstanceNotFound] or a [*NotFinishedError].
func (h *TaskHub) Purge(ctx context.Context, id string) (n int, err error) {
	err = h.update(ctx, func(t tx) (err error) {
		n, err = purgeFinished(t, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func purgeFinished(t tx, id string) (n int, err error) {
	status, err := statusOf(t, id)
	if err == nil && !historyevent.IsEnd(status) {
		err = &NotFinishedError{ID: id, Status: status}
	}
	if err != nil {
		return 0, err
	}
	tree, err := finishedTree(t, id)
	for _, below := range tree {
		err = errors.Join(err, t.exec("DELETE FROM mails WHERE instance = ?", below), deleteInstance(t, below))
	}
	return len(tree), err
}

// PurgeOrchestrationState is Purge for durabletask-go.
func (h *TaskHub) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	_, err := h.Purge(ctx, string(id))
	return err
}

// finishedTree returns a finished instance and the finished instances below it.
func finishedTree(t tx, id string) ([]string, error) {
	rows, err := t.QueryContext(t.ctx, "SELECT id, parent FROM instances WHERE root = (SELECT root FROM instances WHERE id = ?) AND NOT "+unfinished, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	children := map[string][]string{}
	for rows.Next() {
		var child, parent string
		if err := rows.Scan(&child, &parent); err != nil {
			return nil, err
		}
		if child != parent { // a child that replaced its own parent is its own child
			children[parent] = append(children[parent], child)
		}
	}
	tree := []string{id}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, rows.Err()
}

// strings runs a query that has one column.
func (h *TaskHub) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := h.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var list []string
	err = eachString(rows, func(s string) { list = append(list, s) })
	return list, err
}
