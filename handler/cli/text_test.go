package cli

import (
	"encoding/json"
	"testing"
)

func TestOneLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"Batch": "ünï 漢字 😀"}`: `{"Batch": "ünï 漢字 😀"}`,
		"a\nb\r\tc":             `a\nb\r\tc`,
		"\x1b[31m\x7f\x00":      `\x1b[31m\x7f\x00`,
		"\u009b31m":             `\u009b31m`,
		"\u202eevil\u2066":      `\u202eevil\u2066`,
		"\U000e0041":            `\U000e0041`,
		"bad \xff UTF-8":        "bad \ufffd UTF-8",
		"":                      "",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("OneLine(%q) is %q, want %q", text, got, want)
		}
	}
}

func TestBeginning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"hello", 5, "hello"},
		{"hello", 4, "hel… (5 bytes)"},
		{"üü\x1bx", 3, `üü… (6 bytes)`},
		{"", 3, ""},
	} {
		if got := Beginning(c.text, c.n); got != c.want {
			t.Errorf("Beginning(%q, %d) is %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

// The JSON is printable, and still holds the same value.
func TestMarshal(t *testing.T) {
	t.Parallel()
	const text = "a\x1b[31m\u009b\u202e\U000e0041 <ü>\n"
	got, err := marshalPrintable(text)
	if err != nil || got != OneLine(got) {
		t.Errorf("marshal: %q, %v", got, err)
	}
	var back string
	if err := json.Unmarshal([]byte(got), &back); err != nil || back != text {
		t.Errorf("%s is %q, %v", got, back, err)
	}
}
