package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	"example.com/durablefunctions/internal/text"
)

// Text from messages and records must not break, colour or reverse a line of the terminal.

// OneLine returns a text in which every character that a terminal would interpret is escaped as in a Go string.
func OneLine(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(fmt.Sprintf("%+q", r), "'"))
		}
	}
	return b.String()
}

// Beginning returns at most n characters of a text on one line, followed by the full size if the text is longer.
func Beginning(s string, n int) string { return OneLine(text.Beginning(s, n)) }

// PrintJSON prints a value as one line of JSON, with escapes for every character that is not printable.
func PrintJSON(w io.Writer, v any) error {
	line, err := marshalPrintable(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, line)
	return err
}

// marshalPrintable returns JSON with escapes for every character that is not printable.
func marshalPrintable(v any) (string, error) {
	encoded, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range string(encoded) {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String(), nil
}
