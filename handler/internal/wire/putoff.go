package wire

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// AgainEvent is the name of the event that an instance sends itself to have another turn soon. It means nothing to an
// orchestrator, and a replay leaves it out.
const AgainEvent = "~durable:again"

// againID is the id of the action that sends it. The orchestrator's own ids count up from 0 and never meet it.
const againID = -100

// Numbers of fields in protobuf.
const (
	requestInstanceID = 1 // OrchestratorRequest
	requestPastEvents = 3
	requestNewEvents  = 4

	responseRequiresHistory = 7 // OrchestratorResponse, which durabletask-go v0.6.0 does not know
)

// PutOff is the answer to a turn that cannot be done now: the host stores nothing of it and asks the same again, after 2
// seconds, 4, 8 and so on up to 600. A first turn may not be refused so: the host would lose the events that arrive
// until it asks again. It is answered by an event to the instance itself, which has the host store that turn as done, and
// ask for a second one at once.
func PutOff(instanceID string, first bool) *backend.ExecutionResults {
	results := NewResults(instanceID)
	if !first {
		flag := protowire.AppendTag(nil, responseRequiresHistory, protowire.VarintType)
		results.Response.ProtoReflect().SetUnknown(protowire.AppendVarint(flag, 1))
		return results
	}
	actions := results.Response.ProtoReflect().Descriptor().Fields().ByName("actions")
	action := results.Response.ProtoReflect().Mutable(actions).List().AppendMutable().Message()
	action.Mutable(action.Descriptor().Fields().ByName("sendEvent"))
	a := results.Response.Actions[0]
	a.Id = againID
	a.GetSendEvent().Instance = newOf(a.GetSendEvent().Instance)
	a.GetSendEvent().Instance.InstanceId = instanceID
	a.GetSendEvent().Name = AgainEvent
	a.GetSendEvent().Data = wrapperspb.String("null")
	return results
}

// RequiresHistory says whether an answer refuses its turn, as PutOff does.
func RequiresHistory(results *backend.ExecutionResults) bool {
	refused := false
	for rest := results.Response.ProtoReflect().GetUnknown(); len(rest) > 0; {
		number, kind, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		if tag := protowire.SizeTag(number); number == responseRequiresHistory && kind == protowire.VarintType {
			value, _ := protowire.ConsumeVarint(rest[tag:])
			refused = value != 0
		}
		rest = rest[n:]
	}
	return refused
}

// PeekTurn reads from the start of a turn's request, of which the rest may be missing, whose turn it is and whether it
// is the first one. The host writes the fields in the order of their numbers, so that the first event tells.
func PeekTurn(start []byte, binding string) (instanceID string, first, ok bool) {
	text, ok := peekValue(start, binding)
	if !ok {
		return "", false, false
	}
	text = text[:len(text)/4*4] // what can be decoded by itself
	message, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return "", false, false
	}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		switch {
		case n < 0:
			return "", false, false
		case number == requestPastEvents, number == requestNewEvents:
			return instanceID, number == requestNewEvents, instanceID != ""
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return "", false, false
		}
		if number == requestInstanceID {
			id, _ := protowire.ConsumeString(message)
			instanceID = id
		}
		message = message[n:]
	}
	return "", false, false
}

// maxPeek is how much of a turn is looked at: an instance id of any length that the host takes, and more.
const maxPeek = 8 << 10

// peekValue returns the start of a value in Data, base64 in a string that is encoded once or twice.
func peekValue(start []byte, binding string) ([]byte, bool) {
	d := jsontext.NewDecoder(bytes.NewReader(start), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	enter := func(name string) bool { // goes before the value of that name in the next object
		if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
			return false
		}
		for {
			token, err := d.ReadToken()
			if err != nil || token.Kind() != '"' {
				return false
			}
			if strings.EqualFold(token.String(), name) {
				return true
			}
			if d.SkipValue() != nil {
				return false
			}
		}
	}
	if !enter("Data") || !enter(binding) {
		return nil, false
	}
	value := start[d.InputOffset():]
	value = bytes.TrimLeft(value[:min(len(value), maxPeek)], ": \t\r\n")
	value, ok := bytes.CutPrefix(value, []byte(`"`))
	value = bytes.TrimPrefix(value, []byte(`\"`))
	if end := bytes.IndexAny(value, `"\`); end >= 0 {
		value = value[:end]
	}
	return value, ok
}
