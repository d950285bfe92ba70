package handler

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// bodyCost is how many times the size of its body an invocation holds at most, the body included: an orchestrator's
	// history is in memory as text, as bytes and as events, an activity's input as text and as the value, beside its result.
	bodyCost = 4

	defaultMemory = 1 << 30  // for large bodies, where there is enough
	worthFreeing  = 32 << 20 // so much garbage is given back to the system
)

// room is the memory that large bodies share.
type room struct {
	size int64
	free *semaphore.Weighted

	mu      sync.Mutex
	inside  int   // how many bodies hold some
	garbage int64 // what those that have left held
	freeing bool
}

func newRoom(size int64) *room { return &room{size: size, free: semaphore.NewWeighted(size)} }

// enter waits until n bytes are free and takes them. shrink returns those that turn out not to be needed, leave the rest.
func (r *room) enter(ctx context.Context, n int64) error {
	if err := r.free.Acquire(ctx, n); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside++
	return nil
}

func (r *room) shrink(n int64) { r.free.Release(n) }

// leave returns n bytes. When the last one has left, the memory goes back to the system: left to itself the collector
// keeps what a burst of large bodies took.
func (r *room) leave(n int64) {
	r.free.Release(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.garbage += n
	if r.inside > 0 || r.garbage < worthFreeing || r.freeing {
		return
	}
	r.garbage, r.freeing = 0, true
	go func() {
		debug.FreeOSMemory()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.freeing = false
	}()
}

// availableMemory is how much memory this process may use; 0: unknown. Without GOMEMLIMIT it leaves a part of the machine
// or container to the host, which runs beside it.
func availableMemory(system fs.FS) int64 {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit
	}
	whole := systemMemory(system)
	return max(whole/2, whole-512<<20, 0)
}

// systemMemory is the memory of the container, else of the machine, as Linux tells them; 0: unknown.
func systemMemory(system fs.FS) int64 {
	limit := int64(math.MaxInt64)
	text, _ := fs.ReadFile(system, "proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if kilobytes, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			limit = atMost(limit, strings.TrimSuffix(strings.TrimSpace(kilobytes), " kB"), 1024)
		}
	}
	text, _ = fs.ReadFile(system, "proc/self/cgroup")
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		// 0::/path is version 2, 4:memory:/path version 1. Each folder up to the root may hold a limit. In a container the
		// path may be that of the machine, and only the root be there.
		_, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, folder, _ := strings.Cut(rest, ":")
		root, file := "sys/fs/cgroup", "memory.max"
		if controllers != "" {
			root, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		if controllers != "" && controllers != "memory" {
			continue
		}
		for folder = path.Clean("/" + folder); ; folder = path.Dir(folder) {
			text, _ := fs.ReadFile(system, path.Join(root, folder, file))
			limit = atMost(limit, strings.TrimSpace(string(text)), 1)
			if folder == "/" {
				break
			}
		}
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

// atMost is the lower one of the limit and the number, if text is a positive one.
func atMost(limit int64, text string, unit int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return limit
	}
	return min(limit, n*unit)
}
