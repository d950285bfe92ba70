package funchost

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/handler/payload"
)

// NoOrchestrator returns the exception of a turn whose orchestrator the app does not have.
func NoOrchestrator(name string, functions map[string]config.Function) *Exception {
	var known []string
	for _, f := range functions {
		if f.Trigger().Is(config.OrchestrationTrigger) {
			known = append(known, "'"+f.Name+"'")
		}
	}
	slices.Sort(known)
	return &Exception{Message: fmt.Sprintf("The function '%s' doesn't exist, is disabled, or is not an orchestrator function. Additional info: The following are the known orchestrator functions: %s.",
		name, strings.Join(known, ", "))}
}

// Turn reads the answer to an orchestrator's turn, and refuses what would stall the real host's task hub or this engine.
// The error is an [*Exception].
func (a *Answer) Turn(f config.Function) (*TurnResults, error) {
	results, err := decodeTurn(a.ReturnValue)
	if err == nil {
		err = checkTurn(results)
	}
	if refusal := (*Exception)(nil); errors.As(err, &refusal) {
		return nil, Failed(f.Name, refusal)
	}
	if err != nil {
		return nil, Failed(f.Name, &Exception{Type: invalidOperationException, Message: err.Error()})
	}
	return results, nil
}

// nullResponse is the host's message for an answer to a turn whose ReturnValue is not a text.
const nullResponse = "The function invocation resulted in a null response. This means that either the orchestrator function was implemented incorrectly, " +
	"the Durable Task language SDK was implemented incorrectly, or that the destination language worker is not sending the function result back to the host."

func decodeTurn(value json.RawMessage) (*TurnResults, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil || text == "" {
		return nil, &Exception{Type: invalidOperationException, Message: nullResponse}
	}
	results, err := wire.DecodeActions(text)
	if corrupt := base64.CorruptInputError(0); errors.As(err, &corrupt) {
		return nil, &Exception{Type: formatException, Message: "The input is not a valid Base-64 string as it contains a non-base 64 character, more than two padding characters, or an illegal character among the padding characters."}
	}
	if err != nil {
		return nil, fmt.Errorf("the answer's ReturnValue is no OrchestratorResponse: %w", err)
	}
	sendSignals(results)
	return results, nil
}

const maxCustomStatus = 16384 // bytes of UTF-16

// checkTurn refuses a custom status that is too large, and actions that stall the real host's task hub or that the engine
// cannot carry out.
func checkTurn(results *TurnResults) error {
	if size := payload.UTF16Len(results.Response.GetCustomStatus().GetValue()); size > maxCustomStatus {
		return &Exception{Type: argumentException, Message: fmt.Sprintf("CustomStatus is too large: limit = 16 KB (UTF-16), actual = %.2f KB.", float64(size)/1024)}
	}
	children := map[string]bool{}
	for _, action := range results.Response.Actions {
		switch {
		case action.GetCreateSubOrchestration() != nil:
			id := action.GetCreateSubOrchestration().GetInstanceId()
			if err := CheckInstanceID(id); err != nil {
				return fmt.Errorf("sub-orchestration %s: %w", action.GetCreateSubOrchestration().GetName(), err)
			}
			if children[id] {
				return fmt.Errorf("two sub-orchestrations of one turn have the id %q: give each its own", id)
			}
			children[id] = true
		case action.GetSendEvent() != nil:
			if action.GetSendEvent().GetInstance() == nil {
				return fmt.Errorf("the event %q is sent to no instance", action.GetSendEvent().GetName())
			}
		case action.GetCreateTimer() != nil:
			if err := checkTimer(action.GetCreateTimer().GetFireAt()); err != nil {
				return err
			}
		case action.GetTerminateOrchestration() != nil:
			return unsupported("TerminateOrchestration")
		case action.GetScheduleTask() == nil && action.GetCompleteOrchestration() == nil:
			return unsupported("None")
		}
	}
	return nil
}

func unsupported(action string) error {
	return &Exception{Type: notSupportedException, Message: "Received unsupported action type '" + action + "'."}
}

// KeepLastEnd drops all actions that end the orchestration except the last one, which counts on the real host.
func KeepLastEnd(results *TurnResults) {
	actions, last := results.Response.Actions, -1
	for i, a := range actions {
		if a.GetCompleteOrchestration() != nil {
			last = i
		}
	}
	kept := actions[:0]
	for i, a := range actions {
		if a.GetCompleteOrchestration() == nil || i == last {
			kept = append(kept, a)
		}
	}
	results.Response.Actions = kept
}

// maxTimer is the longest wait that the host's storage accepts.
const maxTimer = 7 * 24 * time.Hour

func checkTimer(fireAt *timestamppb.Timestamp) error {
	switch {
	case fireAt == nil:
		return errors.New("a timer has no time at which it fires")
	case time.Until(fireAt.AsTime()) > maxTimer:
		return fmt.Errorf("a timer fires at %s, in more than 7 days, which stalls the real host's task hub: wait in several steps", timestamp(fireAt.AsTime()))
	}
	return nil
}

// maxInstanceID is the longest id that the host's storage accepts. On the real host, a longer one stalls the whole task hub.
const maxInstanceID = 512

// CheckInstanceID refuses ids that the real host accepts and then cannot work with.
func CheckInstanceID(id string) error {
	switch {
	case id == "":
		return errors.New("the instance id is empty, which stalls the real host's task hub: give it one")
	case len(id) > maxInstanceID:
		return fmt.Errorf("the instance id has %d characters, which stalls the real host's task hub: at most %d, better 100", len(id), maxInstanceID)
	case id[0] == '@':
		return fmt.Errorf("the instance id %q starts with @, which the real host takes for an entity: choose another", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }):
		return fmt.Errorf("the instance id %q holds control characters, which the real host's storage refuses: choose another", id)
	}
	return nil
}

// TurnResults are the actions of a turn's answer, as the engine takes them.
type TurnResults = backend.ExecutionResults

func newTurnResults() *TurnResults {
	results := &TurnResults{}
	results.Response = newOf(results.Response)
	return results
}

// FailedTurn returns the results of a turn that the host fails for good: the output is the exception, the custom status is gone,
// and a parent gets no details.
func FailedTurn(orchestrator string, e *Exception) *TurnResults {
	results := newTurnResults()
	action := newElement(results.Response.Actions)
	m := action.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("completeOrchestration"))
	action.GetCompleteOrchestration().OrchestrationStatus = api.RUNTIME_STATUS_FAILED
	action.GetCompleteOrchestration().Result = wrapperspb.String(e.Output(orchestrator))
	results.Response.Actions = append(results.Response.Actions, action)
	results.Response.CustomStatus = wrapperspb.String("")
	return results
}

// newOf and newElement make values of types that durabletask-go does not export.
func newOf[T any](*T) *T { return new(T) }

func newElement[T any]([]*T) *T { return new(T) }
