package handler

import (
	"bytes"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/replay"
	"example.com/durablefunctions/handler/internal/wire"
)

const (
	// longHistory is from how many events on a history gets a session: with fewer, a replay takes less than a millisecond, and a
	// session is not worth its memory.
	longHistory = 500

	sessionMemory = 16 << 20    // for all sessions
	eventMemory   = 512         // which an event takes beside its bytes, about
	sessionIdle   = time.Minute // how long a session is kept without a turn
)

// sessions keeps the orchestrators of long orchestrations between their turns, by instance id. The zero value is empty.
type sessions struct {
	mu   sync.Mutex
	kept map[string]*session
	size int // of all
}

// session is an orchestrator that waits for its next turn, or runs one.
type session struct {
	replay.Session
	seen  []byte // the request of the next turn must begin with this
	start *backend.HistoryEvent
	since time.Time
	idle  *time.Timer
}

// read reads a turn's request. If a session continues with it, the turn has only the events that the session has not seen.
// Otherwise the turn is whole, and the session is new, or nil if the history is short.
func (s *sessions) read(request []byte) (*wire.Turn, *session, error) {
	id := wire.InstanceOf(request)
	if kept := s.take(id); kept != nil {
		if turn := kept.goOn(id, request); turn != nil {
			return turn, kept, nil
		}
		go kept.Leave() // which takes as long as the orchestrator's deferred functions
	}
	turn, err := wire.UnmarshalTurn(request)
	if err != nil {
		return turn, nil, err
	}
	length := len(turn.Past) + len(turn.New)
	if length < longHistory || len(request)+eventMemory*length > sessionMemory {
		return turn, nil, nil
	}
	return turn, &session{seen: wire.AppendSeen(make([]byte, 0, len(request)), request), start: historyevent.Start(turn.New, turn.Past)}, nil
}

// goOn returns the turn that the session continues with; nil if the request does not fit.
func (s *session) goOn(id string, request []byte) *wire.Turn {
	rest, ok := bytes.CutPrefix(request, s.seen)
	if !ok {
		return nil
	}
	turn, err := wire.UnmarshalRest(rest)
	if err != nil || !s.Follows(turn) {
		return nil
	}
	turn.InstanceID = id
	s.seen = wire.AppendSeen(s.seen, rest)
	return turn
}

func (s *session) size() int { return len(s.seen) + eventMemory*s.Length() }

// take removes the instance's session and returns it; nil if it has no session.
func (s *sessions) take(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept[id]
	if kept != nil {
		s.drop(id)
	}
	return kept
}

func (s *sessions) drop(id string) {
	kept := s.kept[id]
	kept.idle.Stop()
	s.size -= kept.size()
	delete(s.kept, id)
}

// keep keeps a session whose orchestrator waits. If all sessions together are too large, it leaves those that have waited longest.
func (s *sessions) keep(id string, k *session) {
	if !k.Waits() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]*session{}
	}
	if s.kept[id] != nil { // the host has asked for a turn twice at the same time
		s.leave(id)
	}
	k.since = time.Now()
	k.idle = time.AfterFunc(sessionIdle, func() { s.expire(id, k) })
	s.kept[id] = k
	for s.size += k.size(); s.size > sessionMemory; {
		s.leave(s.oldest())
	}
}

// leave leaves the instance's session.
func (s *sessions) leave(id string) {
	go s.kept[id].Leave()
	s.drop(id)
}

func (s *sessions) expire(id string, k *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[id] == k {
		s.leave(id)
	}
}

func (s *sessions) oldest() (oldest string) {
	for id, k := range s.kept {
		if first := s.kept[oldest]; first == nil || k.since.Before(first.since) {
			oldest = id
		}
	}
	return oldest
}
