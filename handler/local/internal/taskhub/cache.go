package taskhub

import (
	"context"
	"sync"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// past is the history of an execution after its last turn. It is encoded as the request of a turn needs it. Only the events that
// the engine looks at are also decoded, so a turn neither decodes nor encodes a long history again.
type past struct {
	execution string
	events    int
	encoded   []byte // by historyevent.AppendPast
	state     []*backend.HistoryEvent
}

// append adds an event. The new value may share bytes with the old one, but it never changes them.
func (p past) append(e *backend.HistoryEvent, payload []byte) past {
	p.events++
	p.encoded = historyevent.AppendPast(p.encoded, payload)
	if concernsEngine(e) {
		p.state = append(p.state[:len(p.state):len(p.state)], e)
	}
	return p
}

// concernsEngine reports whether a past event matters to durabletask-go's engine, or to the trace, which gets another execution
// after a rewind.
func concernsEngine(e *backend.HistoryEvent) bool {
	return e.GetGenericEvent() != nil || e.GetExecutionStarted() != nil || e.GetExecutionCompleted() != nil || e.GetExecutionSuspended() != nil || e.GetExecutionResumed() != nil
}

// cache keeps the histories of instances between two turns, so that a long history is not read again for each turn.
type cache struct {
	mu   sync.Mutex
	kept map[string]past // by instance
	size int             // of all histories, in bytes
}

// maxCached bounds what the cache keeps, in bytes.
const maxCached = 8 << 20

func newCache() *cache { return &cache{kept: map[string]past{}} }

// take returns the history of an execution and removes it from the cache, so that nobody else changes it. If the cache does not
// have it, the result is empty.
func (c *cache) take(id, execution string) (found past) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found = c.kept[id]; found.execution != execution {
		found = past{}
	}
	c.remove(id)
	return found
}

// put keeps a history. If there is no room, it removes others.
func (c *cache) put(id string, p past) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(id)
	size := cap(p.encoded)
	if size > maxCached {
		return
	}
	for other := range c.kept {
		if c.size+size <= maxCached {
			break
		}
		c.remove(other)
	}
	c.kept[id] = p
	c.size += size
}

func (c *cache) remove(id string) {
	c.size -= cap(c.kept[id].encoded)
	delete(c.kept, id)
}

// pastFor returns an instance's history after its last turn, from the cache or from the file.
func (h *TaskHub) pastFor(ctx context.Context, id, execution string) (past, error) {
	if kept := h.histories.take(id, execution); kept.events > 0 {
		var events int
		if err := h.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq) + 1, 0) FROM history WHERE instance = ?", id).Scan(&events); err != nil {
			return past{}, err
		}
		if events == kept.events { // otherwise it was purged or replaced
			return kept, nil
		}
	}
	rows, err := h.read.QueryContext(ctx, pastQuery, id)
	if err != nil {
		return past{}, err
	}
	defer rows.Close()
	read := past{execution: execution}
	for rows.Next() {
		e, _, payload, err := scanPayload(rows, "history")
		if err != nil {
			return past{}, err
		}
		read = read.append(e, payload)
	}
	return read, rows.Err()
}

// Past returns the past events of the instance's current turn, encoded for the request of that turn, and their number.
func (h *TaskHub) Past(id string) (encoded []byte, events int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.turns[api.InstanceID(id)]; t != nil {
		return t.past.encoded, t.past.events
	}
	return nil, 0
}
