package testkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"
	"google.golang.org/protobuf/proto"
)

// App is a custom handler for tests of the local host, written by hand and without package handler. Its orchestrator Orch runs in
// durabletask-go's executor, its activity Echo returns its input, its activity Fail fails with its input, and every other
// function answers {}.
type App struct {
	T         testing.TB
	Answers   map[string]http.HandlerFunc // by function; used in place of the answers above
	Outputs   func(input string) any      // Outputs of Orch's last turn, by the orchestration's input; may be nil
	OnRequest func(Request)               // called with each request; may be nil

	registry *task.TaskRegistry
	mu       sync.Mutex
	requests []Request
}

// Request is an invocation that has reached an App.
type Request struct {
	Invocation
	Function string
	Header   http.Header
	Chunked  bool
	Body     string
}

// NewApp returns an App whose orchestrators and activities a test then sets.
func NewApp(t testing.TB) *App {
	return &App{T: t, registry: task.NewTaskRegistry(), Answers: map[string]http.HandlerFunc{}}
}

// Orchestrator sets the orchestrator that Orch runs.
func (a *App) Orchestrator(o task.Orchestrator) *App {
	if err := a.registry.AddOrchestratorN("Orch", o); err != nil {
		a.T.Fatal(err)
	}
	return a
}

func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the host was closed
	}
	request := Request{Function: r.URL.Path[1:], Header: r.Header, Body: string(body), Chunked: r.ContentLength == -1}
	if request.Invocation, err = ParseInvocation(request.Body); err != nil {
		a.T.Errorf("%v in %s", err, body)
	}
	a.mu.Lock()
	a.requests = append(a.requests, request)
	a.mu.Unlock()
	if a.OnRequest != nil {
		a.OnRequest(request)
	}
	if answer := a.Answers[request.Function]; answer != nil {
		answer(w, r)
		return
	}
	switch request.Function {
	case "Orch":
		a.Turn(w, request)
	case "Echo":
		AnswerJSON(w, map[string]any{"ReturnValue": json.RawMessage(Text(request.Data["input"])), "Logs": []string{"log line of Echo"}})
	case "Fail":
		AnswerStatus(w, http.StatusInternalServerError, Text(request.Data["input"]))
	default:
		AnswerJSON(w, map[string]any{})
	}
}

// Turn answers an invocation of Orch.
func (a *App) Turn(w http.ResponseWriter, request Request) {
	turn, err := DecodeTurn(request.Body)
	if err != nil {
		a.T.Errorf("decode the turn: %v", err)
		return
	}
	results, err := task.NewTaskExecutor(a.registry).ExecuteOrchestrator(context.Background(), api.InstanceID(turn.InstanceID), turn.Past, turn.New)
	if err != nil {
		a.T.Errorf("run the turn: %v", err)
		return
	}
	value, err := proto.Marshal(results.Response)
	if err != nil {
		a.T.Error(err)
	}
	answer := map[string]any{"ReturnValue": base64.StdEncoding.EncodeToString(value)}
	for _, action := range results.Response.Actions {
		if action.GetCompleteOrchestration() != nil && a.Outputs != nil {
			answer["Outputs"] = a.Outputs(turn.input())
		}
	}
	AnswerJSON(w, answer)
}

// input is the input of the orchestration.
func (t Turn) input() (input string) {
	for _, e := range t.History() {
		if s := e.GetExecutionStarted(); s != nil {
			input = s.GetInput().GetValue()
		}
	}
	return input
}

// Seen returns the requests for a function so far.
func (a *App) Seen(function string) (list []Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.requests {
		if r.Function == function {
			list = append(list, r)
		}
	}
	return list
}
