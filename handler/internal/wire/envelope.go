// Package wire holds what travels between the Functions host and a custom handler: the envelope of an invocation, the
// protobuf of an orchestrator turn, the marker around values that the host would alter, and the reason phrase that
// carries an activity's error.
package wire

import (
	"bytes"
	"encoding/json"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Request is the body of an invocation. Data holds the trigger and the input bindings by name, Metadata the trigger's
// binding data. Whoever writes a queue message can forge Metadata: the host copies the properties of a JSON message
// over its own values.
type Request struct {
	Data     map[string]json.RawMessage
	Metadata json.RawMessage // an object, which most functions never read
}

// asV1 reads a body as encoding/json does, at a fraction of the time.
var asV1 = jsonv2.JoinOptions(jsonv2.MatchCaseInsensitiveNames(true), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// DecodeRequest reads the body of an invocation.
func DecodeRequest(body []byte) (r Request, err error) {
	return r, jsonv2.Unmarshal(body, &r, asV1)
}

// Properties returns the properties of Metadata.
func (r *Request) Properties() (properties map[string]json.RawMessage, err error) {
	return properties, jsonv2.Unmarshal(r.Metadata, &properties, asV1)
}

// Response is the body of a good answer. The host never ends an invocation that is answered with an empty body or null.
type Response struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// Text returns the text of a value of Data or Metadata, whatever its encoding: the host encodes strings twice, bytes,
// arrays, numbers and dates once, objects not at all. So a string is unwrapped once, and once more if the result is
// itself a JSON string literal.
func Text(raw json.RawMessage) string {
	if s, ok := plainTwice(raw); ok {
		return s
	}
	once, ok := unquote(raw)
	if !ok {
		return string(bytes.TrimSpace(raw))
	}
	if strings.HasPrefix(once, `"`) {
		if twice, ok := unquote([]byte(once)); ok {
			return twice
		}
	}
	return once
}

// plainTwice unwraps the commonest value without decoding it: a string encoded twice that holds nothing to escape, such
// as the base64 of an orchestrator turn, which can be many megabytes long.
func plainTwice(raw []byte) (string, bool) {
	if !bytes.HasPrefix(raw, []byte(`"\"`)) || !bytes.HasSuffix(raw, []byte(`\""`)) || len(raw) < 6 {
		return "", false
	}
	inner := raw[3 : len(raw)-3]
	if bytes.IndexByte(inner, '\\') >= 0 {
		return "", false
	}
	return string(inner), true
}

func unquote(raw []byte) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}
