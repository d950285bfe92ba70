package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzDetails: whatever the message and the details are, both come back as they were, and nothing of one is in the other.
func FuzzDetails(f *testing.F) {
	f.Add("no", "declined", `{"a":1}`)
	f.Add(`\\d{"code":"x"}`, "", "")
	f.Add("a\\", "c", `"\\d{}"`)
	f.Add("", "", `"\u007f\\u00ff"`)
	f.Fuzz(func(t *testing.T, message, code, details string) {
		if len(message) > 4000 || len(code)+len(details) > 4000 {
			t.Skip()
		}
		message, code, details = strings.ToValidUTF8(message, ""), strings.ToValidUTF8(code, ""), strings.ToValidUTF8(details, "")
		d := Details{Code: code}
		if json.Valid([]byte(details)) {
			d.Value = json.RawMessage(details)
		}
		phrase := EncodePhrase(KindFailed, message)
		_, plain, none, _ := DecodeFailure(Latin1(phrase))
		_, again, got, _ := DecodeFailure(Latin1(phrase + d.Phrase()))
		if plain != again || none.Code != "" || none.Value != nil {
			t.Errorf("%q became %q, with %v", plain, again, none)
		}
		want, _ := json.Marshal(d)
		if had, _ := json.Marshal(got); d.Phrase() != "" && string(had) != string(want) {
			t.Errorf("%s became %s", want, had)
		}
	})
}

// FuzzProperties: what the host sends beside the history is read or left out.
func FuzzProperties(f *testing.F) {
	f.Add([]byte("\x3a\x09\x0a\x01a\x12\x04\x1a\x02bc"))
	f.Fuzz(func(t *testing.T, unknown []byte) {
		var turn Turn
		if turn.readProperties(unknown); turn.HTTPPause < 0 {
			t.Error(turn.HTTPPause)
		}
	})
}
