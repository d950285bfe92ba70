// Package taskhub is the durable state of the local host, in one SQLite file: instances, their histories, events, timers and
// activities to run, messages and dead letters, and the mails that were sent. It is durabletask-go's backend.Backend, so that
// durabletask-go's workers run on it:
//
//	hub, err := taskhub.Open(ctx, taskhub.Options{DataDir: dir})
//	if err != nil {
//		return err
//	}
//	defer hub.Close()
//	turns := backend.NewOrchestrationWorker(hub, executor, logger)
//	activities := backend.NewActivityTaskWorker(hub, executor, logger)
//	worker := backend.NewTaskHubWorker(hub, turns, activities, logger)
//
// It knows nothing of HTTP, of .NET, or of the handler whose functions are run.
//
// # What differs from durabletask-go's own backend
//
// It waits for work instead of polling. It holds its locks in memory, where they cannot outlive the process: one process has the
// data directory, and what it was working on when it died is still in the file for the next one. Each generation of a
// continue-as-new is a turn of its own, as on the real host, and what an earlier execution asked for finds no receiver. A turn
// is stored in one transaction. A finished instance is replaced by a start, and a child by another child of its id, running or
// not, as on the real host.
package taskhub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TaskHub is an open task hub. Its methods may be called by several goroutines.
type TaskHub struct {
	*store
	log *slog.Logger
	// onInstance is called at a start, a new custom status and an end.
	onInstance func(Instance)

	putOffUnit     time.Duration
	entityBatch    int
	tracing        bool
	defaultVersion string

	queue     *queue // instances with events
	entities  *queue // entities with messages
	histories *cache
	taskAdd   signal // set when there may be more tasks

	open context.Context // ends when no more work is given out
	shut context.CancelFunc
	held chan struct{} // one entry for each of the engine's workers that gets no more work

	mu        sync.Mutex
	turns     map[api.InstanceID]*turn
	attempts  map[api.InstanceID]int // number of turns abandoned in a row
	retries   []*backend.ActivityWorkItem
	began     map[*backend.ActivityWorkItem]time.Time // when the running activities began
	watchers  map[string]*watcher
	timer     *time.Timer
	due       time.Time // when the timer fires
	closed    bool
	failing   time.Time                   // since when the file cannot be used; zero: it can be used
	failure   error                       // set once that has lasted
	stuck     int                         // number of writes that wait for the file
	fetched   []*backend.ActivityWorkItem // only the activity worker uses it, and lastFetch
	lastFetch int64
	suspects  []suspect

	left       map[string]bool // roots of the trees that get no work
	fetchAgain bool            // tasks that were passed over must be read now
	deaths     deaths
}

var _ backend.Backend = (*TaskHub)(nil)

// turn is an orchestrator turn in flight.
type turn struct {
	execution string
	lastSeq   int64 // the turn has the events up to this number that are visible at the cutoff
	cutoff    int64
	more      bool
	next      *Generation // set when the orchestration continues as new
	putOff    bool        // its events come again later
	past      past
	started   map[int32]int64             // when the activities began whose ends are among its events, by event id
	tags      map[int32]map[string]string // of the children that it starts, by the ids of the actions
}

// Generation is what a continue-as-new asks for: the next execution's input and its carried-over events.
type Generation struct {
	Input     *wrapperspb.StringValue
	Carryover []*backend.HistoryEvent
}

const (
	maxEventsPerTurn = 1000
	tasksPerFetch    = 64
	maxRetryDelay    = time.Minute
)

// unfinished is an SQL condition that an index serves.
var unfinished = fmt.Sprintf("status IN (%d, %d, %d, %d)", api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING,
	api.RUNTIME_STATUS_SUSPENDED, api.RUNTIME_STATUS_CONTINUED_AS_NEW)

// Options configure a task hub. DataDir is required.
type Options struct {
	DataDir string       // must exist; no other task hub may be open on it
	Log     *slog.Logger // nil: nothing is logged
	Tracing bool         // orchestrations become parts of traces

	// OnInstance is called after an instance's first turn, after each change of its custom status, and after its end: once for each
	// of them, and one call at a time for each instance. The instance waits until the call returns.
	OnInstance func(Instance)

	DefaultVersion string // for what a client starts without a version, not for children
	// LeaveUnfinished leaves the orchestrations that are unfinished now to the next process, except those that somebody starts or
	// waits for.
	LeaveUnfinished bool

	EntityBatch int // how many operations an entity gets at once; 0 means the host's default on a Consumption plan, 50

	PutOffUnit time.Duration // half of a put-off turn's first delay; 0 means a second
}

// Open opens the task hub of a data directory, or creates it. The error names the file and says what to do.
func Open(ctx context.Context, o Options) (*TaskHub, error) {
	s, err := openStore(ctx, filepath.Join(o.DataDir, fileName))
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnInstance == nil {
		o.OnInstance = func(Instance) {}
	}
	if o.PutOffUnit == 0 {
		o.PutOffUnit = time.Second
	}
	if o.EntityBatch == 0 {
		o.EntityBatch = defaultBatch
	}
	turnDeaths, err := countDeaths(ctx, s)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	open, shut := context.WithCancel(context.Background())
	h := &TaskHub{
		open: open, shut: shut, putOffUnit: o.PutOffUnit, entityBatch: o.EntityBatch, defaultVersion: o.DefaultVersion, tracing: o.Tracing, held: make(chan struct{}, 2),
		store: s, log: o.Log, onInstance: o.OnInstance, queue: newQueue(), entities: newQueue(), histories: newCache(), taskAdd: newSignal(),
		turns: map[api.InstanceID]*turn{}, attempts: map[api.InstanceID]int{}, began: map[*backend.ActivityWorkItem]time.Time{}, watchers: map[string]*watcher{},
		deaths: deaths{turns: turnDeaths, marked: map[string]bool{}, first: map[string]bool{}},
		left:   map[string]bool{},
	}
	if o.LeaveUnfinished {
		if err := h.leave(ctx); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// Close stops the timers and closes the file.
func (h *TaskHub) Close() error {
	h.forgetRunning()
	return errors.Join(h.Stop(context.Background()), h.store.close())
}

// Start continues the work that an earlier process left.
func (h *TaskHub) Start(ctx context.Context) error {
	rows, err := h.read.QueryContext(ctx, "SELECT DISTINCT instance FROM events WHERE visible = 0 UNION SELECT DISTINCT entity FROM entity_messages WHERE visible = 0")
	var ids []string
	if err == nil {
		err = eachString(rows, func(id string) { ids = append(ids, id) })
	}
	if err == nil {
		for _, id := range h.suspectsFirst(ids) {
			h.rouse(id)
		}
		h.fireTimers()
	}
	return explain(h.path, err)
}

func eachString(rows *sql.Rows, f func(string)) error {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		f(s)
	}
	return rows.Err()
}

// Retire gives out no more work and waits until both of the engine's workers have asked for more. Only then may the engine be
// shut down: durabletask-go v0.6.0 waits in a WaitGroup, which must not grow from zero during that wait.
func (h *TaskHub) Retire() {
	h.shut()
	for range cap(h.held) {
		<-h.held
	}
}

// hold blocks a worker that gets no more work, until the engine ends it.
func (h *TaskHub) hold(ctx context.Context) error {
	h.held <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// Stop stops the timers; Close also closes the file.
func (h *TaskHub) Stop(context.Context) error {
	h.shut()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	return nil
}

func (h *TaskHub) CreateTaskHub(context.Context) error { return nil } // openStore has created it
func (h *TaskHub) DeleteTaskHub(context.Context) error { return errors.ErrUnsupported }
