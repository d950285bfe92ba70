package newtonsoft

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzTwice(f *testing.F) {
	for _, s := range []string{"", "hello", `{"a":1}`, "\x00\u0085\u2028\"\\\n", "日本語😀", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		valid := strings.ToValidUTF8(s, "\ufffd")
		var outer, inner string
		if err := json.Unmarshal(Twice(s), &outer); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if err := json.Unmarshal([]byte(outer), &inner); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		// ToValidUTF8 makes one replacement character of a run of bad bytes, .NET makes one of each byte.
		if strings.ReplaceAll(inner, "\ufffd", "") != strings.ReplaceAll(valid, "\ufffd", "") {
			t.Errorf("%q came back as %q", s, inner)
		}
	})
}

// TestCopyProperties: null and arrays change nothing. Anything else replaces the property with that name in any case.
func TestCopyProperties(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`{"Id":null,"id":[1],"other":null}`: `{"Id":"\"mine\""}`,
		`{"ID":7,"b":true}`:                 `{"Id":"\"7\"","b":"\"True\""}`,
		`{"id":{"a":null}}`:                 `{"Id":{"a":null}}`,
		`["id"]`:                            `{"Id":"\"mine\""}`,
		`{"id":"x"`:                         `{"Id":"\"mine\""}`,
	} {
		o := &Object{}
		o.Set("Id", Twice("mine"))
		o.CopyProperties([]byte(value))
		if got := string(o.Append(nil)); got != want {
			t.Errorf("%s makes %s, want %s", value, got, want)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{`{"a":1,"A":{"b":[]},"c":[1],"d":"2026-11-22T10:11:12Z","e":null}`, "[]", "{", `{"a":}`, `{"":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		o := &Object{}
		o.Set("sys", Once("F"))
		o.CopyProperties(value)
		if encoded := o.Append(nil); !json.Valid(encoded) {
			t.Errorf("%q becomes %s", value, encoded)
		}
	})
}
