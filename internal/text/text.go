// Package text shortens what comes from outside before it goes into a log, a result or a line of a terminal.
//
//	text.Shorten("a long story", 6) // "a lon…"
package text

import (
	"fmt"
	"unicode/utf8"
)

// Shorten returns at most limit characters of a text. If something is cut off, the last character is an ellipsis.
func Shorten(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	if limit <= 0 {
		return ""
	}
	end := 0
	for range limit - 1 {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	return s[:end] + "…"
}

// Beginning is Shorten, followed by the size of the whole text if something is cut off.
func Beginning(s string, limit int) string {
	short := Shorten(s, limit)
	if short == s {
		return s
	}
	return fmt.Sprintf("%s (%d bytes)", short, len(s))
}
