package taskhub

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

// With Options.LeaveUnfinished a process does only its own work and leaves what it finds to the next process. It leaves whole
// trees of instances, so their roots are kept. It never leaves entities, because anybody may call them.

// leave marks the trees that are unfinished now as left.
func (h *TaskHub) leave(ctx context.Context) error {
	roots, err := h.strings(ctx, "SELECT DISTINCT root FROM instances WHERE "+unfinished)
	if err != nil {
		return explain(h.path, err)
	}
	for _, root := range roots {
		h.left[root] = true
	}
	return nil
}

// takeUp starts to work on an instance's tree, if the tree was left.
func (h *TaskHub) takeUp(ctx context.Context, id string) error {
	root, err := h.leftRoot(ctx, id)
	if root == "" || err != nil {
		return err
	}
	ids, err := h.strings(ctx, "SELECT DISTINCT instance FROM events WHERE instance IN (SELECT id FROM instances WHERE root = ?)", root)
	if err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.left, root)
	h.fetchAgain = true
	h.mu.Unlock()
	for _, id := range ids {
		h.queue.add(id)
	}
	h.taskAdd.set()
	return nil
}

// leftRoot returns the root of an instance's tree if the tree is left, otherwise "".
func (h *TaskHub) leftRoot(ctx context.Context, id string) (root string, err error) {
	h.mu.Lock()
	none := len(h.left) == 0
	h.mu.Unlock()
	if none {
		return "", nil
	}
	err = h.read.QueryRowContext(ctx, "SELECT root FROM instances WHERE id = ?", id).Scan(&root)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || !h.left[root] {
		return "", err
	}
	return root, nil
}

// isLeft reports whether an instance is left and gets no turn. If that cannot be read, the instance counts as not left.
func (h *TaskHub) isLeft(ctx context.Context, id string) bool {
	root, _ := h.leftRoot(ctx, id)
	return root != ""
}

// notLeft is an SQL condition for tasks. Its parameter is [TaskHub.leftTrees].
const notLeft = "instance NOT IN (SELECT id FROM instances WHERE root IN (SELECT value FROM json_each(?)))"

// leftTrees returns the left roots as a JSON list, and whether tasks that were passed over must be read now.
func (h *TaskHub) leftTrees() (roots string, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again, h.fetchAgain = h.fetchAgain, false
	list := slices.Collect(maps.Keys(h.left))
	if list == nil {
		return "[]", again
	}
	text, _ := json.Marshal(list) // a list of strings can always be encoded
	return string(text), again
}
