package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/internal/testkit"
)

// TestRecordedHistories plays turns that were recorded with a scripted handler. Our handler must accept every history that an
// orchestrator of ours could have, and must give the recorded answer.
func TestRecordedHistories(t *testing.T) {
	t.Parallel()
	h := startScripted(t)
	all := tally{}
	for _, file := range readRecordings(t) {
		if !file.isScripted() {
			continue
		}
		counted := tally{}
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			if err != nil || !ok {
				counted["lines without a request"]++
				continue
			}
			what, differences := h.check(t, r)
			counted[what]++
			for _, d := range differences {
				t.Errorf("%s:%d %s: %s", file.name, i+1, r.instance(), d)
			}
		}
		t.Logf("%s: %s", file.name, counted)
		for what, n := range counted {
			all[what] += n
		}
	}
	t.Logf("in all: %s", all)
	if *recordings == ownRecordings && (all[compared] < 150 || all[accepted] < 100) {
		t.Errorf("too few turns were played: %s", all)
	}
}

// What check did with a line.
const (
	compared = "turns compared"
	accepted = "turns accepted whose recorded answer cannot be ours"
	skipped  = "requests skipped: "
)

// scripted is a handler whose orchestrators follow a script.
type scripted struct {
	testkit.Host
	steps atomic.Pointer[[]step]
}

// orchestrators are the names of the recorded handler's orchestrators.
var orchestrators = []string{"Orch", "OrchRetry", "OrchTwo", "OrchRetry0", "OrchRetryInf"}

func startScripted(t *testing.T) *scripted {
	t.Helper()
	h := &scripted{}
	app, root := handler.New(), t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	for _, name := range orchestrators {
		app.Orchestrator(name, h.orchestrate)
		testkit.WriteFile(t, filepath.Join(root, name, "function.json"), `{"bindings":[{"name":"context","type":"orchestrationTrigger","direction":"in"}]}`)
	}
	functions, err := app.Handler(handler.Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(functions)
	t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

// step is one step of an orchestrator: it schedules something, awaits what it has scheduled, or ends.
type step struct {
	kind string // activity, child, timer, event; await; fail, again, complete
	name string // of an activity, child or event; the text of a failure
	id   string // of a child
	task int    // which task to await: the index among those scheduled so far
	text string // JSON: the result, or the input of the next execution
}

// orchestrate follows the script. At the end of the script it waits for ever.
func (h *scripted) orchestrate(ctx *task.OrchestrationContext) (any, error) {
	var scheduled []task.Task
	for _, s := range *h.steps.Load() {
		switch s.kind {
		case "activity":
			scheduled = append(scheduled, ctx.CallActivity(s.name))
		case "child":
			scheduled = append(scheduled, ctx.CallSubOrchestrator(s.name, task.WithSubOrchestrationInstanceID(s.id)))
		case "timer":
			scheduled = append(scheduled, ctx.CreateTimer(time.Second))
		case "event":
			_ = ctx.WaitForSingleEvent(s.name, -1).Await(nil)
		case "await":
			_ = scheduled[s.task].Await(nil)
		case "fail":
			return nil, errors.New(s.name)
		case "again":
			ctx.ContinueAsNew(json.RawMessage(s.text))
			return nil, nil
		case "complete":
			return json.RawMessage(s.text), nil
		}
	}
	return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
}

// check plays a line. It returns what it did with the line, and the differences between the answer and the recorded one.
func (h *scripted) check(t *testing.T, r record) (string, []string) {
	s, reason := scriptOf(r)
	if reason != "" {
		return skipped + reason, nil
	}
	differences := s.compare(h.play(t, r, s), r)
	if s.comparable || s.terminated {
		return compared, differences
	}
	return accepted, differences
}

// play sends the recorded turn to an orchestrator that follows the script.
func (h *scripted) play(t *testing.T, r record, s script) testkit.Answer {
	t.Helper()
	h.steps.Store(&s.steps)
	return h.Post(t, r.Function, r.Request)
}

// scriptOf returns the script of an orchestrator that has the turn's history and gives the recorded answer, or the reason why an
// orchestrator of ours cannot do so.
func scriptOf(r record) (s script, reason string) {
	if !slices.Contains(orchestrators, r.Function) {
		return s, "no orchestrator's"
	}
	turn, err := testkit.DecodeTurn(r.Request)
	if err != nil {
		return s, "the turn was cut short"
	}
	s.id = turn.InstanceID
	for _, e := range turn.History() {
		s.follow(e)
	}
	if s.foreign != "" {
		return s, s.foreign
	}
	want, err := recordedResponse(r)
	s.comparable = r.Status == 200 && err == nil && !s.steered && s.answer(actionsOf(want))
	return s, ""
}

func recordedResponse(r record) (protoreflect.Message, error) {
	var recorded envelope
	if err := json.Unmarshal([]byte(r.Response), &recorded); err != nil {
		return nil, err
	}
	return testkit.DecodeResponse(recorded.ReturnValue)
}

// compare returns the differences between an answer and what it must be: the recorded one if an orchestrator of ours can give it,
// otherwise any answer that accepts the history.
func (s script) compare(answer testkit.Answer, r record) []string {
	ours, err := testkit.DecodeResponse(answer.ReturnValue)
	switch {
	case answer.Status != 200 || err != nil:
		return []string{fmt.Sprintf("the turn is not accepted: %s (%v)", answer, err)}
	case s.terminated:
		return compareTermination(r, actionsOf(ours))
	case !s.comparable:
		return refusals(actionsOf(ours))
	}
	want, err := recordedResponse(r)
	if err != nil {
		return []string{err.Error()}
	}
	return compareFields("", scriptedFields(turnFields(ours, nil)), scriptedFields(turnFields(want, nil)))
}

// action is one of the actions in the answer to a turn.
type action struct {
	ID                     int32
	ScheduleTask           *struct{ Name string }
	CreateSubOrchestration *struct{ Name, InstanceID string }
	CreateTimer            *struct{}
	SendEvent              *struct{ Instance struct{ InstanceID string } }
	CompleteOrchestration  *struct {
		OrchestrationStatus, Result string
		FailureDetails              struct{ ErrorMessage string }
	}
}

func actionsOf(response protoreflect.Message) []action {
	var r struct{ Actions []action }
	text, err := protojson.Marshal(response.Interface())
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		panic(err) // cannot happen: it was decoded from protobuf
	}
	return r.Actions
}

// refusals returns the failures that say that the handler did not understand a history.
func refusals(actions []action) (differences []string) {
	for _, a := range actions {
		if c := a.CompleteOrchestration; c != nil && strings.HasSuffix(c.OrchestrationStatus, "FAILED") {
			differences = append(differences, "the history is refused: "+c.FailureDetails.ErrorMessage)
		}
	}
	return differences
}

// compareTermination checks that the answer ends the orchestration, without which its parent would never learn of the end, and
// that it sends its children the events that the recorded handler sent.
func compareTermination(r record, actions []action) (differences []string) {
	told, ended := map[string]bool{}, false
	for _, a := range actions {
		if a.SendEvent != nil {
			told[a.SendEvent.Instance.InstanceID] = true
		}
		ended = ended || a.CompleteOrchestration != nil && a.CompleteOrchestration.OrchestrationStatus == "ORCHESTRATION_STATUS_TERMINATED"
	}
	if !ended {
		differences = append(differences, fmt.Sprintf("the turn that terminates is answered with %+v", actions))
	}
	want, err := recordedResponse(r)
	if err != nil {
		return differences // the recorded turn got no answer
	}
	for _, a := range actionsOf(want) {
		if a.SendEvent != nil && !told[a.SendEvent.Instance.InstanceID] {
			differences = append(differences, fmt.Sprintf("%s is not told of the termination", a.SendEvent.Instance.InstanceID))
		}
	}
	return differences
}

// scriptedFields returns the fields that must be the same in both answers: the actions, their ids, and how the orchestration
// ends.
func scriptedFields(fields map[string]string) map[string]string {
	out := map[string]string{}
	for path, v := range fields {
		switch {
		case !strings.HasPrefix(path, "action "), strings.HasSuffix(path, ".input"), strings.HasSuffix(path, ".fireAt"), strings.Contains(path, ".failureDetails"),
			strings.HasSuffix(path, ".details"), strings.HasSuffix(path, ".version"), strings.HasSuffix(path, ".newVersion"), strings.Contains(path, ".tags"),
			strings.Contains(path, "unknown fields"), strings.Contains(path, ".carryoverEvents"):
			continue
		case strings.Contains(path, ": completeOrchestration"): // its id has no meaning
			_, path, _ = strings.Cut(path, ": ")
			if path == "completeOrchestration.result" && fields[path] == "" && v == "null" {
				continue
			}
		}
		out[path] = v
	}
	if strings.HasSuffix(out["completeOrchestration.orchestrationStatus"], "FAILED") {
		delete(out, "completeOrchestration.result")
	}
	return out
}

// script is what an orchestrator must do so that a history is the result.
type script struct {
	id         string
	steps      []step
	scheduled  int
	foreign    string // why no orchestrator of ours can have this history
	steered    bool   // somebody suspended it: the answer does not depend on the orchestrator
	terminated bool
	comparable bool // an orchestrator of ours can give the recorded answer
	rewound    bool
}

// schedule adds a task that was scheduled under an id. Our ids are numbered from 0. After a rewind an id comes a second time,
// without the orchestrator scheduling it again.
func (s *script) schedule(id int32, next step) {
	switch {
	case int(id) == s.scheduled:
		s.scheduled++
		s.steps = append(s.steps, next)
	case int(id) > s.scheduled || id < 0:
		s.foreign = "ids that are not ours"
	case !s.rewound:
		s.foreign = "an id twice"
	}
}

func (s *script) await(id int32) {
	if int(id) < s.scheduled && id >= 0 {
		s.steps = append(s.steps, step{kind: "await", task: int(id)})
	}
}

// follow adds an event of the history.
func (s *script) follow(e *backend.HistoryEvent) {
	switch {
	case e.GetTaskScheduled() != nil:
		s.schedule(e.EventId, step{kind: "activity", name: e.GetTaskScheduled().Name})
	case e.GetSubOrchestrationInstanceCreated() != nil:
		c := e.GetSubOrchestrationInstanceCreated()
		s.child(e.EventId, c.Name, c.InstanceId)
	case e.GetTimerCreated() != nil:
		s.schedule(e.EventId, step{kind: "timer"})
	case e.GetTaskCompleted() != nil:
		s.await(e.GetTaskCompleted().TaskScheduledId)
	case e.GetTaskFailed() != nil:
		s.await(e.GetTaskFailed().TaskScheduledId)
	case e.GetSubOrchestrationInstanceCompleted() != nil:
		s.await(e.GetSubOrchestrationInstanceCompleted().TaskScheduledId)
	case e.GetSubOrchestrationInstanceFailed() != nil:
		s.await(e.GetSubOrchestrationInstanceFailed().TaskScheduledId)
	case e.GetTimerFired() != nil:
		s.await(e.GetTimerFired().TimerId)
	case e.GetEventRaised() != nil:
		s.steps = append(s.steps, step{kind: "event", name: e.GetEventRaised().Name})
	case e.GetEventSent() != nil:
		s.foreign = "an event sent"
	case e.GetGenericEvent() != nil:
		s.rewound = true
	case e.GetExecutionSuspended() != nil:
		s.steered = true
	case e.GetExecutionTerminated() != nil:
		s.terminated = true
	case e.GetExecutionCompleted() != nil:
		s.foreign = "an end in the history"
	}
}

func (s *script) child(id int32, name, instance string) {
	if instance == "" || instance == s.id || len(instance) > 100 || slices.ContainsFunc(s.steps, func(o step) bool { return o.kind == "child" && o.id == instance }) {
		s.foreign = "a child's id that is refused"
		return
	}
	s.schedule(id, step{kind: "child", name: name, id: instance})
}

// answer adds the actions with which the recorded handler answered. It returns whether an orchestrator of ours can give the same
// answer.
func (s *script) answer(actions []action) bool {
	for i, a := range actions {
		switch c := a.CompleteOrchestration; {
		case a.ScheduleTask != nil:
			s.schedule(a.ID, step{kind: "activity", name: a.ScheduleTask.Name})
		case a.CreateSubOrchestration != nil:
			s.child(a.ID, a.CreateSubOrchestration.Name, a.CreateSubOrchestration.InstanceID)
		case a.CreateTimer != nil:
			s.schedule(a.ID, step{kind: "timer"})
		case c == nil || i < len(actions)-1:
			return false // an action of another kind, or one after the completion
		default:
			end, ok := map[string]step{
				"ORCHESTRATION_STATUS_COMPLETED":        {kind: "complete", text: c.Result},
				"ORCHESTRATION_STATUS_FAILED":           {kind: "fail", name: c.FailureDetails.ErrorMessage},
				"ORCHESTRATION_STATUS_CONTINUED_AS_NEW": {kind: "again", text: c.Result},
			}[c.OrchestrationStatus]
			if !ok || end.kind != "fail" && !json.Valid([]byte(c.Result)) {
				return false
			}
			s.steps = append(s.steps, end)
		}
	}
	return s.foreign == ""
}
