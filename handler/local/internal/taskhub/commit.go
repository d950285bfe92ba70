package taskhub

import (
	"database/sql"
	"errors"
	"maps"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// commit stores a turn in one transaction and notes which instances have work afterwards.
type commit struct {
	turn  *turn
	id    string
	state *backend.OrchestrationRuntimeState
	root  string

	past    past      // after the turn; empty if the instance has ended
	woken   []string  // instances that got events
	timer   int64     // when the earliest timer is due; 0: there is none
	tasks   int       // activities to run
	started *Instance // set after the instance's first turn
	changed *Instance // set if somebody may be waiting for the change
	report  bool      // the change is a new custom status or the end

	replaced bool // a child with the same id has taken the instance's place
}

func (c *commit) run(t tx) error {
	before, err := c.load(t)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it was replaced or purged meanwhile: the turn is void
	} else if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM events WHERE instance = ? AND seq <= ? AND visible <= ?", c.id, c.turn.lastSeq, c.turn.cutoff); err != nil {
		return err
	}
	if historyevent.IsEnd(before.Status) || len(c.state.NewEvents()) == 0 {
		return nil // the events came too late
	}
	c.passTrace()
	if err := c.sendMessages(t); err != nil {
		return err
	}
	if c.replaced {
		return nil
	}
	if c.turn.next != nil {
		err = c.startGeneration(t)
	} else {
		err = c.storeTurn(t)
	}
	if err != nil {
		return err
	}
	return c.storeInstance(t, before)
}

// passTrace makes everything that the turn scheduled a part of the orchestration's trace.
func (c *commit) passTrace() {
	scheduled := c.state.PendingTasks()
	for _, message := range c.state.PendingMessages() {
		scheduled = append(scheduled[:len(scheduled):len(scheduled)], message.HistoryEvent)
	}
	past, added := c.state.OldEvents(), c.state.NewEvents()
	historyevent.PassTrace(historyevent.Start(added, past), scheduled, past, added)
}

func (c *commit) load(t tx) (Instance, error) {
	before := Instance{ID: c.id}
	var created int64
	err := t.queryRow("SELECT name, parent, root, status, custom_status, output, created FROM instances WHERE id = ? AND execution = ?", c.id, c.turn.execution).
		Scan(&before.Name, &before.Parent, &c.root, &before.Status, &before.CustomStatus, &before.Output, &created)
	before.CreatedAt = fromNanos(created)
	return before, err
}

// storeTurn appends the turn to the history and stores what it scheduled.
func (c *commit) storeTurn(t tx) error {
	past := c.turn.past // must stay unchanged: storing the turn may fail and be tried again
	for _, e := range append(c.state.NewEvents(), historyevent.New("orchestratorCompleted", time.Now())) {
		input, started := keptInput(e), c.turn.started[endedTask(e)]
		e = historyevent.AsStored(e)
		payload, err := marshal(e)
		if err != nil {
			return err
		}
		err = t.exec("INSERT INTO history (instance, seq, payload, input, started) VALUES (?, ?, ?, ?, ?)", c.id, past.events, payload, input, started)
		if err != nil {
			return err
		}
		past = past.append(e, payload)
	}
	if !historyevent.IsEnd(c.status()) {
		c.past = past
	}
	if err := c.storeTimers(t); err != nil {
		return err
	}
	return c.storeTasks(t)
}

func (c *commit) storeTimers(t tx) error {
	for _, e := range c.state.PendingTimers() {
		due := max(toNanos(e.GetTimerFired().GetFireAt().AsTime()), 1)
		if err := putEvent(t, c.id, c.turn.execution, due, e); err != nil {
			return err
		}
		if c.timer == 0 || due < c.timer {
			c.timer = due
		}
	}
	return nil
}

func (c *commit) storeTasks(t tx) error {
	c.tasks = len(c.state.PendingTasks())
	for _, e := range c.state.PendingTasks() {
		payload, err := marshal(e)
		if err != nil {
			return err
		}
		if err := t.exec("INSERT INTO tasks (instance, execution, payload) VALUES (?, ?, ?)", c.id, c.turn.execution, payload); err != nil {
			return err
		}
	}
	return nil
}

// startGeneration deletes the history and starts the next execution. What the old execution scheduled in this turn is not
// done. The results of what it scheduled before are dropped. Events from outside stay.
func (c *commit) startGeneration(t tx) error {
	next := nextGeneration(historyevent.Start(c.state.NewEvents(), c.state.OldEvents()), c.turn.next.Input)
	err := errors.Join(
		t.exec("DELETE FROM history WHERE instance = ?", c.id),
		t.exec("DELETE FROM events WHERE instance = ? AND execution <> ''", c.id),
		t.exec("UPDATE instances SET execution = ?, input = ? WHERE id = ?", historyevent.Execution(next), next.GetExecutionStarted().GetInput().GetValue(), c.id),
	)
	var last int64
	if err == nil {
		err = t.queryRow("SELECT COALESCE(MAX(seq), 0) FROM events WHERE instance = ?", c.id).Scan(&last)
	}
	if err != nil {
		return err
	}
	// The host's order: first the start, then the carried-over events, then an orchestratorCompleted event without a turn. The
	// events that no turn has seen yet come last. So the events keep their order, and if one turn cannot hold all of them, the first
	// turn still begins with the start.
	added := append([]*backend.HistoryEvent{next}, c.turn.next.Carryover...)
	for _, e := range append(added, historyevent.New("orchestratorCompleted", time.Now())) {
		if err := putEvent(t, c.id, "", 0, e); err != nil {
			return err
		}
	}
	c.woken = append(c.woken, c.id)
	return errors.Join(
		t.exec("INSERT INTO events (instance, execution, visible, payload) SELECT instance, execution, visible, payload FROM events WHERE instance = ? AND seq <= ? ORDER BY seq", c.id, last),
		t.exec("DELETE FROM events WHERE instance = ? AND seq <= ?", c.id, last),
	)
}

// sendMessages starts children, sends the result to the parent and sends events.
func (c *commit) sendMessages(t tx) error {
	for _, message := range c.state.PendingMessages() {
		e, target := message.HistoryEvent, message.TargetInstanceID
		var err error
		switch {
		case e.GetExecutionStarted() != nil:
			err = c.startChild(t, e)
		case e.GetSubOrchestrationInstanceCompleted() != nil, e.GetSubOrchestrationInstanceFailed() != nil:
			parent := historyevent.Start(c.state.NewEvents(), c.state.OldEvents()).GetExecutionStarted().GetParentInstance()
			err = answer(t, target, parent.GetOrchestrationInstance().GetExecutionId().GetValue(), e, 0)
		case e.GetEventSent() != nil && isEntity(target):
			err = c.sendToEntity(t, target, e)
		case e.GetEventSent() != nil:
			err = sendEvent(t, target, eventRaised(e))
		default:
			err = sendEvent(t, target, e)
		}
		if err != nil {
			return err
		}
		c.woken = append(c.woken, target)
	}
	return nil
}

// startChild starts a sub-orchestration in place of any instance that has its id. Like the real host, it replaces even a running
// instance, whose work is lost.
func (c *commit) startChild(t tx, start *backend.HistoryEvent) error {
	es := start.GetExecutionStarted()
	for _, e := range c.state.NewEvents() {
		if created := e.GetSubOrchestrationInstanceCreated(); created.GetInstanceId() == es.GetOrchestrationInstance().GetInstanceId() && created.GetVersion() != nil {
			es.Version = created.Version // durabletask-go drops it
		}
	}
	historyevent.SetTags(start, c.tagsOf(es.GetParentInstance().GetTaskScheduledId()))
	es.GetParentInstance().GetOrchestrationInstance().ExecutionId = wrapperspb.String(c.turn.execution)
	c.replaced = c.replaced || es.GetOrchestrationInstance().GetInstanceId() == c.id
	return putInstance(t, start, c.id, c.root, 0)
}

// tagsOf returns the tags of a child: those of its parent, overridden by its own. The tag that says that nobody waits for the
// parent is not passed on.
func (c *commit) tagsOf(action int32) map[string]string {
	tags := historyevent.Tags(historyevent.Start(c.state.NewEvents(), c.state.OldEvents()))
	if tags == nil {
		tags = map[string]string{}
	}
	delete(tags, historyevent.FireAndForget)
	maps.Copy(tags, c.turn.tags[action])
	return tags
}

// storeInstance updates the instance's row.
func (c *commit) storeInstance(t tx, before Instance) error {
	after := before
	after.Status, after.LastUpdatedAt = c.status(), time.Now().UTC()
	if sent := c.state.CustomStatus; sent != nil || len(c.state.OldEvents()) > 0 {
		after.CustomStatus = sent.GetValue() // a turn without a custom status erases it, except the first turn of a generation
	}
	after.Output = c.output()
	if !after.IsFinished() {
		after.Output = c.reason(before.Output)
	}
	if before.Status == api.RUNTIME_STATUS_PENDING && len(c.state.OldEvents()) == 0 {
		c.started = &Instance{ID: c.id, Name: before.Name, Parent: before.Parent, Status: api.RUNTIME_STATUS_RUNNING, CreatedAt: before.CreatedAt, LastUpdatedAt: after.LastUpdatedAt}
	}
	c.report = historyevent.IsEnd(after.Status) || after.CustomStatus != before.CustomStatus
	if c.report || before.Status == api.RUNTIME_STATUS_PENDING {
		c.changed = &after
	}
	if historyevent.IsEnd(after.Status) {
		if err := t.exec("DELETE FROM events WHERE instance = ?", c.id); err != nil {
			return err
		}
	}
	return t.exec("UPDATE instances SET status = ?, updated = ?, custom_status = ?, output = ? WHERE id = ?",
		after.Status, after.LastUpdatedAt.UnixNano(), after.CustomStatus, after.Output, c.id)
}

// status returns the instance's status after the turn. durabletask-go would report an instance that was terminated while suspended
// as suspended for ever. As on the real host, a termination counts if the turn's answer does not end the orchestration; the
// parent is not told then.
func (c *commit) status() api.OrchestrationStatus {
	end, terminated := c.end()
	switch {
	case end != nil:
		return end.GetExecutionCompleted().GetOrchestrationStatus()
	case terminated != nil:
		return api.RUNTIME_STATUS_TERMINATED
	}
	return c.state.RuntimeStatus()
}

// end returns the event that ends the orchestration in this turn, and the event that terminates it; nil where there is none.
func (c *commit) end() (completed, terminated *backend.HistoryEvent) {
	for _, e := range c.state.NewEvents() {
		switch {
		case e.GetExecutionCompleted() != nil && completed == nil:
			completed = e
		case e.GetExecutionTerminated() != nil && terminated == nil:
			terminated = e
		}
	}
	return completed, terminated
}

// reason returns why the instance was last suspended or resumed. The host shows it as the output of an unfinished instance.
func (c *commit) reason(before string) string {
	for _, e := range c.state.NewEvents() {
		switch {
		case e.GetExecutionSuspended() != nil:
			before = e.GetExecutionSuspended().GetInput().GetValue()
		case e.GetExecutionResumed() != nil:
			before = e.GetExecutionResumed().GetInput().GetValue()
		}
	}
	return before
}

// output returns the result. If there is none, it says why in plain text.
func (c *commit) output() string {
	end, terminated := c.end()
	if end == nil {
		return terminated.GetExecutionTerminated().GetInput().GetValue()
	}
	completed := end.GetExecutionCompleted()
	if details := completed.GetFailureDetails(); details != nil {
		return details.GetErrorType() + ": " + details.GetErrorMessage()
	}
	return completed.GetResult().GetValue()
}

// sendToEntity sends a message to an entity, now or at a later time.
func (c *commit) sendToEntity(t tx, target string, e *backend.HistoryEvent) error {
	due, err := putEntityMessage(t, target, e.GetEventSent().GetName(), e.GetEventSent().GetInput().GetValue())
	if due > 0 && (c.timer == 0 || due < c.timer) {
		c.timer = due
	}
	return err
}
