package taskhub

import (
	"context"
	"sync"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
)

// cache keeps the histories of instances that are between two turns, so that a long one is not read and decoded for each turn.
type cache struct {
	mu   sync.Mutex
	kept map[string]cached // by instance
	size int               // of all
}

type cached struct {
	execution string
	past      []*backend.HistoryEvent
	size      int // as protobuf
}

// maxCached bounds what the cache keeps, in bytes of protobuf. In memory it is several times as much.
const maxCached = 8 << 20

func newCache() *cache { return &cache{kept: map[string]cached{}} }

// take returns the history of an execution and forgets it, so that nobody else changes it meanwhile; nil if it is not kept.
func (c *cache) take(id, execution string) (found cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found = c.kept[id]; found.execution != execution {
		found = cached{}
	}
	c.remove(id)
	return found
}

// put keeps a history, in place of others if there is no room.
func (c *cache) put(id string, h cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(id)
	if h.size > maxCached {
		return
	}
	for other := range c.kept {
		if c.size+h.size <= maxCached {
			break
		}
		c.remove(other)
	}
	c.kept[id] = h
	c.size += h.size
}

func (c *cache) remove(id string) {
	c.size -= c.kept[id].size
	delete(c.kept, id)
}

// past returns the history of an instance as its last turn left it.
func (h *TaskHub) past(ctx context.Context, id, execution string) (cached, error) {
	if kept := h.histories.take(id, execution); len(kept.past) > 0 {
		var events int
		if err := h.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq) + 1, 0) FROM history WHERE instance = ?", id).Scan(&events); err != nil {
			return cached{}, err
		}
		if events == len(kept.past) { // else it was purged or replaced
			return kept, nil
		}
	}
	past, err := pastOf(ctx, h.read, id)
	if err != nil {
		return cached{}, err
	}
	read := cached{execution: execution, past: past}
	for _, e := range past {
		read.size += proto.Size(e)
	}
	return read, nil
}
