package wire

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckInstanceID returns an error for an instance id that some storage provider would choke on.
func CheckInstanceID(id string) error {
	bad := strings.ContainsAny(id, `/\#?`) || strings.HasPrefix(id, "@") || strings.ContainsFunc(id, unicode.IsControl)
	if n := utf8.RuneCountInString(id); bad || n < 1 || n > 100 || !utf8.ValidString(id) {
		return fmt.Errorf("%.120q must have 1 to 100 characters, none of / \\ # ? nor control characters, and not start with @", id)
	}
	return nil
}
