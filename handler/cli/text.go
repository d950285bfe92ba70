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

// What messages and records say is printed so that it cannot break, colour or reverse a line of the terminal.

// OneLine returns a text in which what a terminal would act on is escaped as in a Go string.
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

// Beginning is at most n characters of a text, on one line, and the size of the whole if that is more.
func Beginning(s string, n int) string { return OneLine(text.Beginning(s, n)) }

// PrintJSON prints a value as one line of JSON with escapes for all that is not printable.
func PrintJSON(w io.Writer, v any) error {
	line, err := marshalPrintable(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, line)
	return err
}

// marshalPrintable is JSON with escapes for all that is not printable.
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
