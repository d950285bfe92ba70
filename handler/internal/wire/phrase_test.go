package wire

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// throughHost carries a phrase as the host does, into the message of an exception and out of it.
func throughHost(t *testing.T, phrase string) (Kind, string, bool) {
	t.Helper()
	message := "Response status code does not indicate success: 500."
	if phrase != "" {
		message = "Response status code does not indicate success: 500 (" + Latin1(phrase) + ")."
	}
	arrived, ok := PhraseOf(message)
	if !ok {
		t.Fatalf("PhraseOf(%q) finds no phrase", message)
	}
	return DecodePhrase(arrived)
}

func TestPhrase(t *testing.T) {
	t.Parallel()
	tests := []struct{ message, phrase string }{
		{"card declined: 42", "durable/failed: card declined: 42"},
		{"", "durable/failed:"},
		{" ", `durable/failed: \x20`},
		{" a ", `durable/failed:  a\x20`},
		{"a\t", `durable/failed: a\x09`},
		{"a\tb", "durable/failed: a\tb"},
		{"one\r\ntwo\n", `durable/failed: one\r\ntwo\n`},
		{"nul\x00 esc\x1b del\x7f", `durable/failed: nul\x00 esc\x1b del\x7f`},
		{`C:\new\x41`, `durable/failed: C:\\new\\x41`},
		{"Zahlung abgelehnt – 支払い 😀", "durable/failed: Zahlung abgelehnt – 支払い 😀"},
		{"a) (b).", "durable/failed: a) (b)."},
		{"durable/panicked: x", "durable/failed: durable/panicked: x"},
		{"\u0080\u0085\u2028", "durable/failed: \u0080\u0085\u2028"},
	}
	for _, tt := range tests {
		phrase := EncodePhrase(KindFailed, tt.message)
		if phrase != tt.phrase {
			t.Errorf("EncodePhrase(%q) = %q, want %q", tt.message, phrase, tt.phrase)
		}
		if kind, message, marked := throughHost(t, phrase); kind != KindFailed || message != tt.message || !marked {
			t.Errorf("%q arrived as %q, %q, %v", tt.message, kind, message, marked)
		}
	}
}

func TestPhraseKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{KindFailed, KindPanic, KindDeadline, KindNotUnderstood} {
		if got, message, marked := throughHost(t, EncodePhrase(kind, "why")); got != kind || message != "why" || !marked {
			t.Errorf("kind %q arrived as %q, %q, %v", kind, got, message, marked)
		}
	}
	for _, kind := range []Kind{"", "from-the-future"} {
		if got, message, marked := throughHost(t, EncodePhrase(kind, "why")); got != KindFailed || message != "why" || !marked {
			t.Errorf("kind %q arrived as %q, %q, %v; want %q", kind, got, message, marked, KindFailed)
		}
	}
}

func TestPhraseIsCut(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		strings.Repeat("x", 100<<10), strings.Repeat("\n", 100<<10), strings.Repeat("\x00", 100<<10), strings.Repeat(" ", 100<<10),
		strings.Repeat("é", 50<<10), strings.Repeat("ab😀", 17<<10),
	} {
		phrase := EncodePhrase(KindFailed, message)
		if len(phrase) > maxPhrase || len(phrase) < maxPhrase-100 {
			t.Errorf("%.4q…: the phrase has %d bytes, want up to %d", message, len(phrase), maxPhrase)
		}
		_, got, _ := throughHost(t, phrase)
		kept, mark, found := strings.Cut(got, "… [cut: the message has ")
		if !found || !strings.HasPrefix(message, kept) || !utf8.ValidString(kept) || !strings.HasSuffix(mark, " bytes]") {
			t.Errorf("%.4q… arrived as …%q", message, got[max(0, len(got)-60):])
		}
	}
	fits := strings.Repeat("x", maxPhrase-len("durable/failed: ")-3)
	if _, got, _ := throughHost(t, EncodePhrase(KindFailed, fits)); got != fits {
		t.Errorf("a message that just fits arrived as …%q", got[max(0, len(got)-60):])
	}
}

func TestPhraseNotUTF8(t *testing.T) {
	t.Parallel()
	if _, got, _ := throughHost(t, EncodePhrase(KindFailed, "a\xffb\xe2\x80")); got != "a\ufffdb\ufffd\ufffd" {
		t.Errorf("got %q", got)
	}
}

func TestForeignPhrases(t *testing.T) {
	t.Parallel()
	for arrived, want := range map[string]string{
		"":                          "",
		"Internal Server Error":     "Internal Server Error",
		`C:\new`:                    `C:\new`,
		Latin1("支払い"):               "支払い",
		"caf\u00e9":                 "café", // Latin-1 that is no UTF-8
		"支払い":                       "支払い",  // never was Latin-1
		"durable/":                  "durable/",
		"durable/Failed: x":         "durable/Failed: x",
		"durable/not a kind: x":     "durable/not a kind: x",
		"x durable/failed: message": "x durable/failed: message",
	} {
		if kind, message, marked := DecodePhrase(arrived); kind != KindFailed || message != want || marked {
			t.Errorf("DecodePhrase(%q) = %q, %q, %v; want %q without a mark", arrived, kind, message, marked, want)
		}
	}
}

func TestPhraseOf(t *testing.T) {
	t.Parallel()
	const prefix = "Response status code does not indicate success: "
	tests := []struct {
		message, phrase string
		ok              bool
	}{
		{prefix + "500 (card declined: 42).", "card declined: 42", true},
		{prefix + "500 ().", "", true},
		{prefix + "500.", "", true},
		{prefix + "404 (a) (b).).", "a) (b).", true},
		{prefix + "500", "", false},
		{prefix + "500 (cut", "", false},
		{"Connection refused (127.0.0.1:1)", "", false},
		{"", "", false},
	}
	for _, tt := range tests {
		if phrase, ok := PhraseOf(tt.message); phrase != tt.phrase || ok != tt.ok {
			t.Errorf("PhraseOf(%q) = %q, %v; want %q, %v", tt.message, phrase, ok, tt.phrase, tt.ok)
		}
	}
}

// TestRecordedPhrases reads what the real host made of reason phrases: the activity Fail answers with its input as the
// phrase, the next turn of that instance holds the failure.
func TestRecordedPhrases(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/fail.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inputs := map[string]string{} // by instance
	failures := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var l struct{ Function, Request string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		r, err := DecodeRequest([]byte(l.Request))
		if err != nil {
			t.Fatal(err)
		}
		if l.Function == "Fail" {
			var input string
			if err := json.Unmarshal([]byte(Text(r.Data["input"])), &input); err != nil {
				t.Fatal(err)
			}
			properties, err := r.Properties()
			if err != nil {
				t.Fatal(err)
			}
			inputs[Text(properties["instanceId"])] = input
			continue
		}
		turn, err := DecodeTurn(Text(r.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range turn.New {
			failed := e.GetTaskFailed()
			if failed == nil {
				continue
			}
			failures++
			arrived, ok := PhraseOf(failed.FailureDetails.InnerFailure.ErrorMessage)
			_, message, marked := DecodePhrase(arrived)
			if want := inputs[turn.InstanceID]; !ok || marked || message != want {
				t.Errorf("%s: %q became %q, %v, %v", turn.InstanceID, want, message, marked, ok)
			}
			if want := Latin1(inputs[turn.InstanceID]); arrived != want {
				t.Errorf("%s: arrived as %q, Latin1 makes it %q", turn.InstanceID, arrived, want)
			}
		}
	}
	if failures != 3 {
		t.Errorf("found %d failures, want 3", failures)
	}
}

func FuzzPhrase(f *testing.F) {
	for _, seed := range []string{"", "card declined", "a\nb\r\x00\\", "支払い", "\xff", "durable/failed: x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		DecodePhrase(message)
		if phrase, ok := PhraseOf(message); ok && !strings.Contains(message, phrase) {
			t.Fatalf("PhraseOf(%q) = %q", message, phrase)
		}
		if got := fromLatin1(Latin1(message)); utf8.ValidString(message) && got != message {
			t.Fatalf("%q became %q as Latin-1 and back", message, got)
		}
		phrase := EncodePhrase(KindPanic, message)
		if len(phrase) > maxPhrase || strings.TrimRight(phrase, " \t") != phrase {
			t.Fatalf("%q: the phrase has %d bytes and ends with %q", message, len(phrase), phrase[len(phrase)-1])
		}
		for _, c := range []byte(phrase) {
			if c < ' ' && c != '\t' || c == 0x7f {
				t.Fatalf("%q: the phrase holds the byte %#x", message, c)
			}
		}
		got, text, marked := throughHost(t, phrase)
		want := strings.Map(func(r rune) rune { return r }, message) // each bad byte becomes U+FFFD
		if got != KindPanic || !marked || len(message) < maxPhrase/4-100 && text != want {
			t.Fatalf("%q arrived as %q, %q, %v", message, got, text, marked)
		}
	})
}
