package wire

import (
	"encoding/json"
	"errors"
	"strings"
)

// Details is what an activity's error carries beside its message. It travels behind the message in the reason phrase.
type Details struct {
	Code  string          `json:"code,omitempty"`
	Value json.RawMessage `json:"details,omitempty"`
}

// MaxDetails is how long the part of a reason phrase may be that holds details: together with the longest message it
// stays below what the host reads.
const MaxDetails = 16 << 10

// detailsMark begins the details. It cannot stand in a message: a backslash there is escaped, and \d is not an escape.
const detailsMark = `\d`

// Phrase returns what is to follow EncodePhrase's result: empty if there are no details, or too many.
func (d Details) Phrase() string {
	text, err := json.Marshal(d)
	if err != nil || string(text) == "{}" {
		return ""
	}
	var b strings.Builder
	b.WriteString(detailsMark)
	for _, r := range string(text) {
		b.WriteString(escape(r))
	}
	if b.Len() > MaxDetails {
		return ""
	}
	return b.String()
}

// DetailsOf returns the details that an error carries. It runs the function's code, whose panic counts as none.
func DetailsOf(err error) (d Details) {
	defer func() { _ = recover() }()
	var carrier interface{ FailureDetails() Details }
	if errors.As(err, &carrier) {
		d = carrier.FailureDetails()
	}
	return d
}

// cutDetails takes the details off an escaped message.
func cutDetails(message string) (string, Details) {
	var d Details
	for i := 0; i+1 < len(message); i++ {
		if message[i] != '\\' {
			continue
		}
		if message[i:i+2] == detailsMark && json.Unmarshal([]byte(phraseEscapes.Replace(message[i+2:])), &d) == nil {
			return message[:i], d
		}
		i++ // what is escaped
	}
	return message, Details{}
}
