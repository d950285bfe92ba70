package taskhub

import (
	"context"
	"sync"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// past is the history of an execution as its last turn left it: as the request of a turn has it, and decoded only what the engine
// looks at. So nothing of a long history is decoded or encoded for each turn.
type past struct {
	execution string
	events    int
	encoded   []byte // by historyevent.AppendPast
	state     []*backend.HistoryEvent
}

// append adds an event. What was encoded before may have the same bytes in common, not more.
func (p past) append(e *backend.HistoryEvent, payload []byte) past {
	p.events++
	p.encoded = historyevent.AppendPast(p.encoded, payload)
	if concernsEngine(e) {
		p.state = append(p.state[:len(p.state):len(p.state)], e)
	}
	return p
}

// concernsEngine says whether durabletask-go's engine looks at an event when it is in the past, or the trace does, which another
// execution makes after a rewind.
func concernsEngine(e *backend.HistoryEvent) bool {
	return e.GetGenericEvent() != nil || e.GetExecutionStarted() != nil || e.GetExecutionCompleted() != nil || e.GetExecutionSuspended() != nil || e.GetExecutionResumed() != nil
}

// cache keeps the histories of instances that are between two turns, so that a long one is not read for each turn.
type cache struct {
	mu   sync.Mutex
	kept map[string]past // by instance
	size int             // of all
}

// maxCached bounds what the cache keeps, in bytes.
const maxCached = 8 << 20

func newCache() *cache { return &cache{kept: map[string]past{}} }

// take returns the history of an execution and forgets it, so that nobody else changes it meanwhile; an empty one if it is not kept.
func (c *cache) take(id, execution string) (found past) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found = c.kept[id]; found.execution != execution {
		found = past{}
	}
	c.remove(id)
	return found
}

// put keeps a history, in place of others if there is no room.
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

// pastFor returns the history of an instance as its last turn left it.
func (h *TaskHub) pastFor(ctx context.Context, id, execution string) (past, error) {
	if kept := h.histories.take(id, execution); kept.events > 0 {
		var events int
		if err := h.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq) + 1, 0) FROM history WHERE instance = ?", id).Scan(&events); err != nil {
			return past{}, err
		}
		if events == kept.events { // else it was purged or replaced
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

// Past returns the past of the turn that the instance has, as the request of that turn has it, and the number of its events.
func (h *TaskHub) Past(id string) (encoded []byte, events int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.turns[api.InstanceID(id)]; t != nil {
		return t.past.encoded, t.past.events
	}
	return nil, 0
}
