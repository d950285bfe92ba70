package manage

import (
	"strconv"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// describe returns an instance as the HTTP API shows it.
func describe(i taskhub.Instance) *newtonsoft.Object {
	o := &newtonsoft.Object{}
	o.AddText("name", i.Name)
	o.AddText("instanceId", i.ID)
	if i.Parent != "" {
		o.AddText("parentInstanceId", i.Parent)
	}
	o.AddText("runtimeStatus", historyevent.StatusName(i.Status))
	o.Add("input", valueOf(i.Input))
	o.Add("customStatus", valueOf(i.CustomStatus))
	o.Add("output", valueOf(i.Output))
	o.AddText("createdTime", seconds(i.CreatedAt))
	o.AddText("lastUpdatedTime", seconds(i.LastUpdatedAt))
	return o
}

func seconds(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// valueOf returns a stored value as the API shows it: JSON as it is, other text as a string, an empty text as null. For a text that
// only begins like JSON, the extension would show just that beginning.
func valueOf(text string) []byte {
	text = strings.TrimSpace(text)
	if text == "" {
		return null
	}
	if value, err := newtonsoft.Input([]byte(text)); err == nil {
		return value
	}
	return newtonsoft.Once(text)
}

// scheduled is what the end of an activity or a child shows of its start.
type scheduled struct {
	at          time.Time
	name, input string
	hasInput    bool
	instance    string // id of a child
}

// history collects events as the HTTP API shows them. A finished activity, timer or child is shown only by its end. Turns are
// not shown.
type history struct {
	inputs, outputs bool
	runs            map[int32]taskhub.Run // nil: show only what the extension shows
	activities      map[int32]scheduled
	children        map[int32]scheduled
	ended           map[string]bool // kind and id
}

func historyJSON(events []*backend.HistoryEvent, inputs, outputs bool, runs map[int32]taskhub.Run) []byte {
	h := history{inputs: inputs, outputs: outputs, runs: runs, activities: map[int32]scheduled{}, children: map[int32]scheduled{}, ended: map[string]bool{}}
	for _, e := range events {
		h.note(e)
	}
	list := []byte{'['}
	for _, e := range events {
		o := h.show(e)
		if o == nil {
			continue
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, o.Append(nil)...)
	}
	return append(list, ']')
}

func (h *history) note(e *backend.HistoryEvent) {
	at := e.GetTimestamp().AsTime()
	switch {
	case e.GetTaskScheduled() != nil:
		s := e.GetTaskScheduled()
		h.activities[e.GetEventId()] = scheduled{at, s.GetName(), s.GetInput().GetValue(), s.GetInput() != nil, ""}
		h.addRun(e.GetEventId())
	case e.GetSubOrchestrationInstanceCreated() != nil:
		s := e.GetSubOrchestrationInstanceCreated()
		h.children[e.GetEventId()] = scheduled{at, s.GetName(), s.GetInput().GetValue(), s.GetInput() != nil, s.GetInstanceId()}
	case e.GetTaskCompleted() != nil:
		h.ended[activityKey(e.GetTaskCompleted().GetTaskScheduledId())] = true
	case e.GetTaskFailed() != nil:
		h.ended[activityKey(e.GetTaskFailed().GetTaskScheduledId())] = true
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		h.ended[childKey(e.GetSubOrchestrationInstanceCompleted().GetTaskScheduledId())] = true
	case e.GetSubOrchestrationInstanceFailed() != nil:
		h.ended[childKey(e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId())] = true
	}
}

// addRun adds to an activity the input that the history does not keep.
func (h *history) addRun(id int32) {
	if run := h.runs[id]; run.Input != nil {
		s := h.activities[id]
		s.input, s.hasInput = *run.Input, true
		h.activities[id] = s
	}
}

// showRun adds the start time to an activity, and the id to a child that has ended.
func (h *history) showRun(o *newtonsoft.Object, e *backend.HistoryEvent) {
	if h.runs == nil {
		return
	}
	id := e.GetEventId()
	switch {
	case e.GetTaskCompleted() != nil:
		id = e.GetTaskCompleted().GetTaskScheduledId()
	case e.GetTaskFailed() != nil:
		id = e.GetTaskFailed().GetTaskScheduledId()
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		o.AddText("InstanceId", h.children[e.GetSubOrchestrationInstanceCompleted().GetTaskScheduledId()].instance)
		return
	case e.GetSubOrchestrationInstanceFailed() != nil:
		o.AddText("InstanceId", h.children[e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId()].instance)
		return
	case e.GetTaskScheduled() == nil:
		return
	}
	if started := h.runs[id].Started; !started.IsZero() {
		o.AddText("StartedTime", ticks(started)+"Z")
	}
}

func activityKey(id int32) string { return "activity " + strconv.Itoa(int(id)) }
func childKey(id int32) string    { return "child " + strconv.Itoa(int(id)) }

var null = []byte("null")

// show returns an event as the API shows it; nil if the event is not shown. The properties have the extension's order.
func (h *history) show(e *backend.HistoryEvent) *newtonsoft.Object {
	o := &newtonsoft.Object{}
	var end *scheduled
	switch {
	case e.GetOrchestratorStarted() != nil, e.GetOrchestratorCompleted() != nil,
		e.GetTaskScheduled() != nil && h.ended[activityKey(e.GetEventId())],
		e.GetSubOrchestrationInstanceCreated() != nil && h.ended[childKey(e.GetEventId())]:
		return nil
	case e.GetTaskScheduled() != nil, e.GetSubOrchestrationInstanceCreated() != nil:
		h.showScheduled(o, e)
	case e.GetTaskCompleted() != nil, e.GetTaskFailed() != nil, e.GetSubOrchestrationInstanceCompleted() != nil, e.GetSubOrchestrationInstanceFailed() != nil:
		end = h.showEnd(o, e)
	case e.GetExecutionStarted() != nil, e.GetExecutionCompleted() != nil, e.GetExecutionTerminated() != nil, e.GetExecutionSuspended() != nil, e.GetExecutionResumed() != nil:
		h.showExecution(o, e)
	default:
		h.showOther(o, e)
	}
	o.AddText("Timestamp", ticks(e.GetTimestamp().AsTime())+"Z")
	if s := e.GetExecutionStarted(); s != nil {
		o.AddText("FunctionName", s.GetName())
	}
	if end != nil {
		o.AddText("ScheduledTime", ticks(end.at)+"+00:00")
		o.AddText("FunctionName", end.name)
		h.input(o, end.input, end.hasInput)
	}
	h.showRun(o, e)
	return o
}

// ticks rounds a time as .NET does, which counts tenths of a microsecond.
func ticks(t time.Time) string { return t.UTC().Truncate(100).Format("2006-01-02T15:04:05.9999999") }

func (h *history) input(o *newtonsoft.Object, text string, has bool) {
	switch {
	case h.inputs && has:
		o.AddText("Input", text)
	case h.inputs:
		o.Add("Input", null)
	}
}

func (h *history) result(o *newtonsoft.Object, text string) {
	if h.outputs {
		o.Add("Result", valueOf(text))
	}
}

func (h *history) showScheduled(o *newtonsoft.Object, e *backend.HistoryEvent) {
	if s := e.GetTaskScheduled(); s != nil {
		begun := h.activities[e.GetEventId()]
		o.AddText("EventType", "TaskScheduled")
		o.AddText("Name", s.GetName())
		h.input(o, begun.input, begun.hasInput)
		o.Add("ParentTraceContext", null)
		o.Add("Tags", null)
		return
	}
	s := e.GetSubOrchestrationInstanceCreated()
	o.AddText("EventType", "SubOrchestrationInstanceCreated")
	o.AddText("Name", s.GetName())
	o.AddText("InstanceId", s.GetInstanceId())
	h.input(o, s.GetInput().GetValue(), s.GetInput() != nil)
	o.Add("ClientSpanId", null)
	o.Add("Tags", null)
}

// showEnd returns what an end shows of its start.
func (h *history) showEnd(o *newtonsoft.Object, e *backend.HistoryEvent) *scheduled {
	var begun scheduled
	var ok bool
	failure := func(kind, reason string, d *backend.TaskFailureDetails) {
		o.AddText("EventType", kind)
		o.Add("Reason", orNull(reason))
		o.Add("Details", null)
		o.Add("FailureDetails", failureJSON(d))
	}
	switch {
	case e.GetTaskCompleted() != nil:
		t := e.GetTaskCompleted()
		o.AddText("EventType", "TaskCompleted")
		h.result(o, t.GetResult().GetValue())
		begun, ok = h.activities[t.GetTaskScheduledId()]
	case e.GetTaskFailed() != nil:
		begun, ok = h.activities[e.GetTaskFailed().GetTaskScheduledId()]
		failure("TaskFailed", "Function '"+begun.name+"' failed with an unhandled exception.", e.GetTaskFailed().GetFailureDetails())
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		t := e.GetSubOrchestrationInstanceCompleted()
		o.AddText("EventType", "SubOrchestrationInstanceCompleted")
		h.result(o, t.GetResult().GetValue())
		begun, ok = h.children[t.GetTaskScheduledId()]
	default:
		details := e.GetSubOrchestrationInstanceFailed().GetFailureDetails()
		failure("SubOrchestrationInstanceFailed", details.GetErrorMessage(), details)
		begun, ok = h.children[e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId()]
	}
	if !ok {
		return nil
	}
	return &begun
}

func (h *history) showExecution(o *newtonsoft.Object, e *backend.HistoryEvent) {
	switch {
	case e.GetExecutionStarted() != nil:
		s := e.GetExecutionStarted()
		o.AddText("EventType", "ExecutionStarted")
		h.input(o, s.GetInput().GetValue(), s.GetInput() != nil)
		o.Add("Correlation", null)
		o.Add("ParentTraceContext", null)
		scheduled := null
		if at := s.GetScheduledStartTimestamp(); at != nil {
			scheduled = newtonsoft.Once(ticks(at.AsTime()) + "Z")
		}
		o.Add("ScheduledStartTime", scheduled)
		o.Add("Generation", []byte("0"))
		o.Add("GenerateNewTrace", []byte("false"))
	case e.GetExecutionCompleted() != nil:
		c := e.GetExecutionCompleted()
		o.AddText("EventType", "ExecutionCompleted")
		o.AddText("OrchestrationStatus", historyevent.StatusName(c.GetOrchestrationStatus()))
		h.result(o, c.GetResult().GetValue())
		o.Add("FailureDetails", failureJSON(c.GetFailureDetails()))
	case e.GetExecutionTerminated() != nil:
		o.AddText("EventType", "ExecutionTerminated")
		h.input(o, e.GetExecutionTerminated().GetInput().GetValue(), true)
	case e.GetExecutionSuspended() != nil:
		o.AddText("EventType", "ExecutionSuspended")
		o.Add("Reason", orNull(e.GetExecutionSuspended().GetInput().GetValue()))
	default:
		o.AddText("EventType", "ExecutionResumed")
		o.Add("Reason", orNull(e.GetExecutionResumed().GetInput().GetValue()))
	}
}

func (h *history) showOther(o *newtonsoft.Object, e *backend.HistoryEvent) {
	switch {
	case e.GetTimerCreated() != nil:
		o.AddText("EventType", "TimerCreated")
		o.AddText("FireAt", ticks(e.GetTimerCreated().GetFireAt().AsTime())+"Z")
	case e.GetTimerFired() != nil:
		o.AddText("EventType", "TimerFired")
		o.AddText("FireAt", ticks(e.GetTimerFired().GetFireAt().AsTime())+"Z")
	case e.GetEventSent() != nil:
		s := e.GetEventSent()
		o.AddText("EventType", "EventSent")
		o.AddText("InstanceId", s.GetInstanceId())
		o.AddText("Name", s.GetName())
		h.input(o, s.GetInput().GetValue(), s.GetInput() != nil)
	case e.GetEventRaised() != nil:
		r := e.GetEventRaised()
		o.AddText("EventType", "EventRaised")
		o.AddText("Name", r.GetName())
		h.input(o, r.GetInput().GetValue(), r.GetInput() != nil)
		o.Add("ParentTraceContext", null)
	default:
		o.AddText("EventType", "GenericEvent")
		o.Add("Data", orNull(e.GetGenericEvent().GetData().GetValue()))
	}
}

func orNull(text string) []byte {
	if text == "" {
		return null
	}
	return newtonsoft.Once(text)
}

func failureJSON(d *backend.TaskFailureDetails) []byte {
	if d == nil {
		return null
	}
	o := &newtonsoft.Object{}
	o.AddText("ErrorType", d.GetErrorType())
	o.AddText("ErrorMessage", d.GetErrorMessage())
	o.Add("StackTrace", orNull(d.GetStackTrace().GetValue()))
	o.Add("InnerFailure", failureJSON(d.GetInnerFailure()))
	o.Add("IsNonRetriable", strconv.AppendBool(nil, d.GetIsNonRetriable()))
	o.Add("Properties", null)
	return o.Append(nil)
}
