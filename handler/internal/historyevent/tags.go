package historyevent

import (
	"iter"
	"maps"
	"slices"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protowire"
)

// FireAndForget is the tag that the host gives an orchestration that an entity starts: nobody waits for its end.
const FireAndForget = "FireAndForget"

// startTags is the field number of the tags in ExecutionStartedEvent, a map that durabletask-go does not know.
const startTags = 9

// Tags returns the tags with which an instance was started.
func Tags(start *backend.HistoryEvent) map[string]string {
	return TagsIn(start.GetExecutionStarted().ProtoReflect().GetUnknown(), startTags)
}

// SetTags gives a start its tags, in place of those that it has.
func SetTags(start *backend.HistoryEvent, tags map[string]string) {
	m := start.GetExecutionStarted().ProtoReflect()
	var others []byte
	for rest := m.GetUnknown(); len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		if number != startTags {
			others = append(others, rest[:n]...)
		}
		rest = rest[n:]
	}
	m.SetUnknown(AppendTags(others, startTags, tags))
}

// TagsIn reads a map of texts from the fields with that number; nil if there are none.
func TagsIn(raw []byte, field protowire.Number) (tags map[string]string) {
	for number, entry := range Fields(raw) {
		if number != field {
			continue
		}
		if tags == nil {
			tags = map[string]string{}
		}
		var parts [3]string // by number: the name is 1, the value 2
		for number, text := range Fields(entry) {
			if number < 3 {
				parts[number] = string(text)
			}
		}
		tags[parts[1]] = parts[2]
	}
	return tags
}

// Fields yields the texts, bytes and messages in an encoded message, each with the number of its field. It ends at bytes that are
// not a field.
func Fields(raw []byte) iter.Seq2[protowire.Number, []byte] {
	return func(yield func(protowire.Number, []byte) bool) {
		for rest := raw; len(rest) > 0; {
			number, kind, n := protowire.ConsumeTag(rest)
			if n < 0 {
				return
			}
			rest = rest[n:]
			if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
				return
			}
			if value, _ := protowire.ConsumeBytes(rest[:n]); kind == protowire.BytesType && !yield(number, value) {
				return
			}
			rest = rest[n:]
		}
	}
}

// AppendTags is the reverse of TagsIn, in the order of the names.
func AppendTags(raw []byte, field protowire.Number, tags map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		entry = protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), tags[name])
		raw = protowire.AppendBytes(protowire.AppendTag(raw, field, protowire.BytesType), entry)
	}
	return raw
}
