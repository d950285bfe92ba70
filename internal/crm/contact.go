package crm

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
)

// Limits of RFC 5321, section 4.5.3.1, in bytes.
const (
	maxEmail     = 254
	maxLocalPart = 64
	maxLabel     = 63
)

// normalizeName removes superfluous white space.
func normalizeName(name string) string {
	return strings.Join(strings.Fields(name), " ")
}

// normalizeEmail returns the address without white space around it and with its domain in lower case. The part before the @ stays,
// because it may be case-sensitive. The error is a reason for a [RecordError].
func normalizeEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	if email == "" {
		return "", errors.New("has no e-mail address")
	}
	if err := checkEmail(email); err != nil {
		return "", fmt.Errorf("has the malformed e-mail address %q: %w", oneLine(email, 100), err)
	}
	at := strings.LastIndexByte(email, '@')
	return email[:at] + strings.ToLower(email[at:]), nil
}

// checkEmail accepts one bare address at an internet domain. net/mail accepts more, a whole header field, and its errors are about
// that. So it comes last, and decides only on the part before the @.
func checkEmail(email string) error {
	at := strings.LastIndexByte(email, '@')
	switch {
	case at < 0:
		return errors.New("it has no @")
	case strings.ContainsAny(email, ",;"):
		return errors.New("it must be a single address")
	case strings.ContainsAny(email, "<>()\""):
		return errors.New("it must be a bare address, without name, comment or quotes")
	case strings.ContainsFunc(email, unicode.IsSpace):
		return errors.New("it has a space in it")
	case strings.ContainsFunc(email, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("it has an invisible character in it")
	case len(email) > maxEmail:
		return fmt.Errorf("it is longer than %d bytes", maxEmail)
	case at > maxLocalPart:
		return fmt.Errorf("the part before the @ is longer than %d bytes", maxLocalPart)
	}
	if err := checkDomain(email[at+1:]); err != nil {
		return err
	}
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email {
		return errors.New("the part before the @ is invalid")
	}
	return nil
}

func checkDomain(domain string) error {
	labels := strings.Split(domain, ".")
	if len(labels) < 2 {
		return errors.New("its domain has no dot")
	}
	for _, label := range labels {
		if !isLabel(label) {
			return fmt.Errorf("its domain has the invalid part %q", oneLine(label, 100))
		}
	}
	if top := labels[len(labels)-1]; strings.Trim(top, "0123456789") == "" {
		return errors.New("its domain ends in a number")
	}
	return nil
}

// isLabel says whether s can stand between the dots of a domain name. It may have letters of any script (RFC 6531).
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '-' && !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit)
	}) < 0
}
