package conformance

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// turn is what an Orch request holds.
type turn struct {
	instanceID string
	past, new  []*backend.HistoryEvent
}

func (t turn) history() []*backend.HistoryEvent { return slices.Concat(t.past, t.new) }

// text takes a value of Data or Metadata out of its encoding: a string is unwrapped, and once more if it holds a JSON
// string.
func text(raw json.RawMessage) string {
	var once, twice string
	if json.Unmarshal(raw, &once) != nil {
		return string(raw)
	}
	if strings.HasPrefix(once, `"`) && json.Unmarshal([]byte(once), &twice) == nil {
		return twice
	}
	return once
}

func decodeTurn(request string) (turn, error) {
	var envelope struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(request), &envelope); err != nil {
		return turn{}, fmt.Errorf("the request is no invocation: %w", err)
	}
	m, err := decodeMessage("OrchestratorRequest", text(envelope.Data["context"]))
	if err != nil {
		return turn{}, fmt.Errorf("the request: %w", err)
	}
	get := func(name protoreflect.Name) protoreflect.Value { return m.Get(m.Descriptor().Fields().ByName(name)) }
	events := func(name protoreflect.Name) (events []*backend.HistoryEvent) {
		for list, i := get(name).List(), 0; i < list.Len(); i++ {
			events = append(events, list.Get(i).Message().Interface().(*backend.HistoryEvent))
		}
		return events
	}
	return turn{instanceID: get("instanceId").String(), past: events("pastEvents"), new: events("newEvents")}, nil
}

func decodeMessage(name protoreflect.FullName, text string) (protoreflect.Message, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("not base64: %w", err)
	}
	if len(raw) == 0 {
		return nil, errors.New("empty")
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, err
	}
	m := t.New()
	if err := proto.Unmarshal(raw, m.Interface()); err != nil {
		return nil, fmt.Errorf("no %s: %w", name, err)
	}
	return m, nil
}

// fields lists all that a message holds, by path.
func fields(m protoreflect.Message) map[string]string {
	out := map[string]string{}
	addFields(out, "", m)
	return out
}

func addFields(out map[string]string, prefix string, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(f.Name())
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				addField(out, fmt.Sprintf("%s[%d]", path, i), f, v.List().Get(i))
			}
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				addField(out, fmt.Sprintf("%s[%s]", path, key), f.MapValue(), v)
				return true
			})
		default:
			addField(out, path, f, v)
		}
		return true
	})
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		out[prefix+"unknown fields"] = fmt.Sprintf("%x", []byte(unknown))
	}
}

func addField(out map[string]string, path string, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.Enum() != nil:
		out[path] = fmt.Sprint(v.Enum())
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			out[path] = string(value.Name())
		}
		return
	case f.Message() == nil:
		out[path] = v.String()
		return
	}
	switch m := v.Message().Interface().(type) {
	case *wrapperspb.StringValue:
		out[path] = m.Value
	case *timestamppb.Timestamp:
		out[path] = m.AsTime().Format(time.RFC3339Nano)
	default:
		out[path] = "" // it is there, whatever it holds
		addFields(out, path+".", v.Message())
	}
}

// compareFields says which fields differ.
func compareFields(what string, got, want map[string]string) (differences []string) {
	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g, inGot := got[name]
		w, inWant := want[name]
		switch {
		case !inGot:
			differences = append(differences, fmt.Sprintf("%s%s is missing, recorded is %s", what, name, short(w)))
		case !inWant:
			differences = append(differences, fmt.Sprintf("%s%s is %s, not recorded", what, name, short(g)))
		case g != w:
			differences = append(differences, fmt.Sprintf("%s%s is %s, recorded is %s", what, name, short(g), short(w)))
		}
	}
	return differences
}

func short(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%.300q… (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
