package wire

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// HTTPActivity is the name of the activity that the host itself runs: it makes an HTTP call.
const HTTPActivity = "BuiltIn::HttpActivity"

// propertiesField is the number of OrchestratorRequest's properties, a map, which durabletask-go does not know.
const propertiesField = 7

// The names of the properties that the handler reads.
const (
	versionProperty   = "defaultVersion"
	httpPauseProperty = "HttpDefaultAsyncRequestSleepTimeMilliseconds"
)

// appendProperties appends the properties that the host sends with a turn, in the host's order. Those that come from host.json are
// there only if they are set.
func (t *HostTurn) appendProperties(request []byte) ([]byte, error) {
	properties := []struct {
		name  string
		value *structpb.Value
		sent  bool
	}{
		{httpPauseProperty, structpb.NewNumberValue(float64(t.HTTPPause.Milliseconds())), t.HTTPPause > 0},
		{"IncludeState", structpb.NewBoolValue(true), true},
		{"IsExtendedSession", structpb.NewBoolValue(false), true},
		{"ExtendedSessionIdleTimeoutInSeconds", structpb.NewNumberValue(0), true},
		{versionProperty, structpb.NewStringValue(t.DefaultVersion), t.DefaultVersion != ""},
	}
	for _, p := range properties {
		if !p.sent {
			continue
		}
		value, err := proto.Marshal(p.value)
		if err != nil {
			return nil, err
		}
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), p.name)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), value)
		request = protowire.AppendBytes(protowire.AppendTag(request, propertiesField, protowire.BytesType), entry)
	}
	return request, nil
}

// readProperties takes what we need of the properties that the host sends beside the history.
func (t *Turn) readProperties(unknown []byte) {
	for number, entry := range historyevent.Fields(unknown) {
		if number == propertiesField {
			t.readProperty(entry)
		}
	}
}

// readProperty reads an entry of the map. A struct's field has the same form.
func (t *Turn) readProperty(entry []byte) {
	var field structpb.Struct
	// A struct has this map as its field 1.
	wrapped := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), entry)
	if proto.Unmarshal(wrapped, &field) != nil {
		return
	}
	for name, value := range field.Fields {
		switch name {
		case versionProperty:
			t.DefaultVersion = value.GetStringValue()
		case httpPauseProperty:
			if ms := value.GetNumberValue(); ms > 0 && ms < float64(24*time.Hour/time.Millisecond) {
				t.HTTPPause = time.Duration(ms * float64(time.Millisecond))
			}
		}
	}
}
