package taskhub

import (
	"context"
	"slices"
	"sync"
	"time"
)

// queue holds the instances that have work, each once. If more work comes for an instance that is being worked on, it is queued
// again when that is done.
type queue struct {
	mu     sync.Mutex
	ready  []string
	states map[string]queueState
	wake   signal
}

type queueState int

const (
	queued  queueState = iota + 1 // in ready
	working                       // taken
	again                         // taken, and more work came meanwhile
)

func newQueue() *queue {
	return &queue{states: map[string]queueState{}, wake: newSignal()}
}

func (q *queue) add(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch q.states[id] {
	case queued, again:
	case working:
		q.states[id] = again
	default:
		q.push(id)
	}
}

func (q *queue) push(id string) {
	q.states[id] = queued
	q.ready = append(q.ready, id)
	q.wake.set()
}

// take waits for an instance. The caller must call done for it.
func (q *queue) take(ctx context.Context) (string, error) {
	for ctx.Err() == nil {
		if id, ok := q.tryTake(); ok {
			return id, nil
		}
		_ = q.wake.wait(ctx)
	}
	return "", ctx.Err()
}

func (q *queue) tryTake() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) == 0 {
		return "", false
	}
	id := q.ready[0]
	q.ready = q.ready[1:]
	q.states[id] = working
	return id, true
}

// next returns at most n of the instances that are taken next, without taking them.
func (q *queue) next(n int) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.ready[:min(n, len(q.ready))])
}

func (q *queue) done(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.states[id] == again {
		q.push(id)
	} else {
		delete(q.states, id)
	}
}

// signal wakes the one goroutine that waits for it. If none waits, one signal is kept.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

func (s signal) wait(ctx context.Context) error {
	select {
	case <-s:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
