package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// What messages and records say is printed so that it cannot break, colour or reverse a line of the terminal.

// oneLine escapes what a terminal would act on as in a Go string.
func oneLine(s string) string {
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

// beginning is at most n characters of a text, on one line.
func beginning(s string, n int) string {
	for i := range s {
		if n == 0 {
			return fmt.Sprintf("%s… (%d bytes)", oneLine(s[:i]), len(s))
		}
		n--
	}
	return oneLine(s)
}

// printJSON prints one line.
func printJSON(w io.Writer, v any) error {
	text, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// marshal is JSON with escapes for all that is not printable.
func marshal(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range string(text) {
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
