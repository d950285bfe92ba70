package taskhub

import (
	"context"
	"errors"
	"time"
)

// patience is how long the file may be unusable before the callers that wait for an instance get an error.
const patience = 10 * time.Second

// persist stores the outcome of a turn or an activity. It waits as long as the file cannot be written: running the work once
// more would fail at the same place. Only closing the host ends the wait; the next host then does the work.
func (h *TaskHub) persist(ctx context.Context, f func(tx) error) error {
	err := h.update(ctx, f)
	if err == nil || h.open.Err() == nil && !isFileError(err) {
		return err
	}
	h.addStuck(1)
	defer h.addStuck(-1)
	for wait := 50 * time.Millisecond; isFileError(err) && h.open.Err() == nil; wait = min(2*wait, 2*time.Second) {
		h.fails(err)
		_ = pause(h.open, wait)
		if h.open.Err() == nil {
			err = h.update(ctx, f)
		}
	}
	if err != nil && h.open.Err() != nil {
		return ErrNotStored
	}
	return err
}

// ErrNotStored reports that the task hub was closed before something could be stored. The next task hub does that work again.
var ErrNotStored = errors.New("not stored: the host was closed")

// fails notes that the file cannot be used. It logs one line when that begins. Once it has lasted, those who wait for an
// instance get an error.
func (h *TaskHub) fails(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !isFileError(err):
	case h.failing.IsZero():
		h.failing = time.Now()
		h.log.Error("the task hub cannot be used, trying again", "error", err)
	case time.Since(h.failing) > patience:
		h.failure = err
		for id := range h.watchers {
			h.wake(id)
		}
	}
}

func (h *TaskHub) cannotRead(what string, err error) {
	if err = explain(h.path, err); isFileError(err) {
		h.fails(err)
	} else {
		h.log.Error("cannot read the task hub, trying again", "what", what, "error", err)
	}
}

// addStuck changes the number of writes that wait for the file. The file counts as usable again when that is 0: on a full disk a
// small write may succeed while a larger one still waits.
func (h *TaskHub) addStuck(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stuck += n
	if h.stuck == 0 {
		h.failing, h.failure = time.Time{}, nil
	}
}
