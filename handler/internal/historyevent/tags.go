package historyevent

import (
	"maps"
	"slices"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protowire"
)

// FireAndForget is the tag that the host gives an orchestration that an entity starts: nobody waits for its end.
const FireAndForget = "FireAndForget"

// startTags is the number of ExecutionStartedEvent's tags, a map, which durabletask-go does not know.
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

// TagsIn reads the map of texts that stands in fields of that number; nil if there is none.
func TagsIn(raw []byte, field protowire.Number) (tags map[string]string) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return tags
		}
		raw = raw[n:]
		if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
			return tags
		}
		if number == field && kind == protowire.BytesType {
			entry, _ := protowire.ConsumeBytes(raw)
			if tags == nil {
				tags = map[string]string{}
			}
			name, value := entryOf(entry)
			tags[name] = value
		}
		raw = raw[n:]
	}
	return tags
}

func entryOf(entry []byte) (name, value string) {
	var parts [3]string
	for len(entry) > 0 {
		number, kind, n := protowire.ConsumeTag(entry)
		if n < 0 {
			break
		}
		entry = entry[n:]
		if n = protowire.ConsumeFieldValue(number, kind, entry); n < 0 {
			break
		}
		if text, m := protowire.ConsumeString(entry); kind == protowire.BytesType && m > 0 && number < 3 {
			parts[number] = text
		}
		entry = entry[n:]
	}
	return parts[1], parts[2]
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
