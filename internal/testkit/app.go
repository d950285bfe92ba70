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

// App is a custom handler that answers by hand, for tests of the local host. It stands for any custom handler: its orchestrator
// Orch runs through durabletask-go's executor, its activity Echo returns its input and Fail fails with it, and every other function
// answers {}.
type App struct {
	T         testing.TB
	Answers   map[string]http.HandlerFunc // in place of those answers, by function
	Outputs   func(input string) any      // Outputs of Orch's last turn, by the orchestration's input; may be nil
	OnRequest func(Request)               // is called with each request; may be nil

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

// NewApp makes an App.
func NewApp(t testing.TB) *App {
	return &App{T: t, registry: task.NewTaskRegistry(), Answers: map[string]http.HandlerFunc{}}
}

// Orchestrator makes o the orchestrator Orch.
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

// Turn answers a request for Orch.
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

// input is the orchestration's.
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
