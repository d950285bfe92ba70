package entity

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"
)

// Scope collects what an operation asks the host to do besides storing its state.
type Scope struct {
	ID string // the entity's instance id

	requestID string
	mu        sync.Mutex
	actions   []Action
	deleted   bool
	started   int // ids made
}

type scopeKey struct{}

func newScope(id, requestID string) *Scope { return &Scope{ID: id, requestID: requestID} }

// Current returns the scope of the operation that ctx belongs to. If there is none, as in a unit test of an operation, it returns a
// new one.
func Current(ctx context.Context) *Scope {
	if s, ok := ctx.Value(scopeKey{}).(*Scope); ok {
		return s
	}
	return newScope("@test@test", "")
}

// Add makes the host do the action if the operation succeeds.
func (s *Scope) Add(a Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actions = append(s.actions, a)
}

// Delete deletes the entity if the operation succeeds.
func (s *Scope) Delete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = true
}

// scopeSpace is the namespace of the ids, a random UUID.
var scopeSpace = uuid.MustParse("2d4a50c1-6a8e-4f0f-8d0a-5f2c31f1c5b7")

// NewInstanceID returns an id for an orchestration that the operation starts. If the host asks for the operation again, the id is
// the same, so that the orchestration is not started twice.
func (s *Scope) NewInstanceID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started++
	return uuid.NewSHA1(scopeSpace, fmt.Appendf(nil, "%s\x00%s\x00%d", s.ID, s.requestID, s.started)).String()
}

func (s *Scope) close() ([]Action, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.actions, s.deleted
}
