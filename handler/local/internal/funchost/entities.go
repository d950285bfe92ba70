package funchost

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// EntityRequest returns the request for a batch of entity operations.
func EntityRequest(f config.Function, try Try, b *entity.Batch) []byte {
	data, metadata := &newtonsoft.Object{}, &newtonsoft.Object{}
	data.Set(f.Trigger().Name, newtonsoft.Twice(b.Encode()))
	metadata.Set("sys", sys(f.Name))
	try.describe(metadata, f.Name)
	return envelope(data, metadata)
}

// Entity reads the answer to a batch. The error is an [*Exception].
func (a *Answer) Entity(f config.Function) (*entity.Result, error) {
	var text string
	err := json.Unmarshal(a.ReturnValue, &text)
	if err == nil && text == "" {
		err = errors.New("it is empty")
	}
	var r *entity.Result
	if err == nil {
		r, err = entity.DecodeResult(text)
	}
	if err != nil {
		return nil, Failed(f.Name, &Exception{Type: invalidOperationException, Message: fmt.Sprintf("the answer's ReturnValue is no EntityBatchResult: %v", err)})
	}
	for _, action := range r.Actions {
		if !action.Starts {
			continue
		}
		if err := CheckInstanceID(action.InstanceID); err != nil {
			return nil, Failed(f.Name, &Exception{Type: invalidOperationException, Message: fmt.Sprintf("orchestration %s: %v", action.Name, err)})
		}
	}
	return r, nil
}

// NoEntity returns the failure of operations on an entity for which the app has no function.
func NoEntity(name string, functions map[string]config.Function) *entity.ResponseFailure {
	var known []string
	for _, f := range functions {
		if f.Trigger().Is(config.EntityTrigger) {
			known = append(known, f.Name)
		}
	}
	slices.Sort(known)
	return entity.NoFunction(name, known)
}

// EntityFailure returns the failure of each operation of a batch whose invocation failed.
func EntityFailure(name string, failure *Exception) *entity.ResponseFailure {
	return &entity.ResponseFailure{
		ErrorType:    "FunctionInvocationFailed",
		ErrorMessage: fmt.Sprintf("Invocation of function '%s' failed with an exception.", name),
		InnerFailure: failure.response(),
	}
}

func (e *Exception) response() *entity.ResponseFailure {
	if e == nil {
		return nil
	}
	return &entity.ResponseFailure{ErrorType: e.Type, ErrorMessage: e.Message, InnerFailure: e.Inner.response()}
}

// sendSignals turns the actions that signal entities into events, as the host does.
func sendSignals(results *TurnResults) {
	for _, action := range results.Response.Actions {
		m := action.ProtoReflect()
		signal, ok := entity.DecodeSignal(m.GetUnknown())
		if !ok {
			continue
		}
		m.SetUnknown(nil)
		event := m.Mutable(m.Descriptor().Fields().ByName("sendEvent")).Message()
		event.Mutable(event.Descriptor().Fields().ByName("instance"))
		action.GetSendEvent().Instance.InstanceId = signal.Target
		action.GetSendEvent().Name = entity.RequestEvent
		if !signal.ScheduledAt.IsZero() {
			action.GetSendEvent().Name += "@" + signal.ScheduledAt.UTC().Format(entity.TimeFormat)
		}
		action.GetSendEvent().Data = wrapperspb.String(signal.Message().Encode())
	}
}
