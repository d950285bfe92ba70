package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind says why an invocation was answered as failed.
type Kind string

// The kinds of failure that a reason phrase can name.
const (
	KindFailed        Kind = "failed"         // the function returned an error
	KindPanic         Kind = "panicked"       // the function panicked
	KindDeadline      Kind = "timed-out"      // the function ran past our own deadline
	KindNotUnderstood Kind = "not-understood" // the handler could not read the request
)

// The handler's reason phrases consist of phraseMark, the kind, a colon and, unless it is empty, a space and the message.
const phraseMark = "durable/"

// maxPhrase leaves room below the 65,536 bytes that the host reads of all headers together.
const maxPhrase = 32 << 10

// EncodePhrase returns the reason phrase that carries a failure through the host: bytes fit for a status line, at most
// 32 KiB of them. Line ends, other control characters and the backslash are escaped; all other text stays readable in
// the host's logs. A message that does not fit is cut and says so; bytes that are not UTF-8 become U+FFFD.
func EncodePhrase(kind Kind, message string) string {
	if kind == "" {
		kind = KindFailed
	}
	phrase := phraseMark + string(kind) + ":"
	if message == "" {
		return phrase
	}
	return escapeEnd(appendEscaped(phrase+" ", message))
}

// appendEscaped leaves room to escape the last character.
func appendEscaped(phrase, message string) string {
	var b strings.Builder
	b.WriteString(phrase)
	cut := fmt.Sprintf("… [cut: the message has %d bytes]", len(message))
	whole := b.Len() // what leaves room for the cut mark
	for _, r := range message {
		if b.Len() <= maxPhrase-len(cut) {
			whole = b.Len()
		}
		if b.WriteString(escape(r)); b.Len() > maxPhrase-len(`x20`) {
			return b.String()[:whole] + cut
		}
	}
	return b.String()
}

func escape(r rune) string {
	switch {
	case r == '\\':
		return `\\`
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r < ' ' && r != '\t', r == 0x7f:
		return fmt.Sprintf(`\x%02x`, r)
	}
	return string(r)
}

// escapeEnd escapes white space at the end, which could be trimmed on the way.
func escapeEnd(phrase string) string {
	last := len(phrase) - 1
	if c := phrase[last]; c == ' ' || c == '\t' {
		return fmt.Sprintf(`%s\x%02x`, phrase[:last], c)
	}
	return phrase
}

// DecodePhrase reads a reason phrase as it stands in the failure details, where each byte that was sent is a character.
// A phrase without phraseMark is returned as it is, read as UTF-8 again where that is possible. An unknown kind counts as
// KindFailed.
func DecodePhrase(phrase string) (kind Kind, message string, marked bool) {
	kind, message, _, marked = DecodeFailure(phrase)
	return kind, message, marked
}

// DecodeFailure is DecodePhrase with the details.
func DecodeFailure(phrase string) (kind Kind, message string, d Details, marked bool) {
	phrase = fromLatin1(phrase)
	rest, ours := strings.CutPrefix(phrase, phraseMark)
	name, message, colon := strings.Cut(rest, ":")
	if !ours || !colon || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return KindFailed, phrase, d, false
	}
	switch kind = Kind(name); kind {
	case KindPanic, KindDeadline, KindNotUnderstood:
	default:
		kind = KindFailed
	}
	message, d = cutDetails(strings.TrimPrefix(message, " "))
	return kind, phraseEscapes.Replace(message), d, true
}

var phraseEscapes = strings.NewReplacer(escapes()...)

// escapes pairs each escape with its character.
func escapes() []string {
	pairs := []string{`\\`, `\`, `\n`, "\n", `\r`, "\r"}
	for c := range 0x80 {
		pairs = append(pairs, fmt.Sprintf(`\x%02x`, c), string(rune(c)))
	}
	return pairs
}

// PhraseOf returns the reason phrase out of the message of an HttpRequestException, and whether there is one: "Response
// status code does not indicate success: 500 (the phrase)." An empty phrase leaves "500.".
func PhraseOf(errorMessage string) (phrase string, ok bool) {
	rest, ok := strings.CutPrefix(errorMessage, "Response status code does not indicate success: ")
	if !ok {
		return "", false
	}
	rest = strings.TrimLeft(rest, "0123456789")
	if rest == "." {
		return "", true
	}
	rest, opened := strings.CutPrefix(rest, " (")
	phrase, closed := strings.CutSuffix(rest, ").")
	if !opened || !closed {
		return "", false
	}
	return phrase, true
}

// Latin1 returns what the host makes of a reason phrase: each byte is a character.
func Latin1(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, c := range []byte(s) {
		b.WriteRune(rune(c))
	}
	return b.String()
}

// fromLatin1 is the reverse of Latin1 where that gives UTF-8, else it returns s.
func fromLatin1(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if r > 0xFF {
			return s
		}
		b.WriteByte(byte(r))
	}
	if !utf8.ValidString(b.String()) {
		return s
	}
	return b.String()
}
