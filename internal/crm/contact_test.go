package crm

import (
	"strings"
	"testing"
)

func TestNormalizeEmail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	tests := []struct{ email, want, reason string }{
		{email: "ann@example.com", want: "ann@example.com"},
		{email: "\t Ann.Lee@EXAMPLE.Com\n", want: "Ann.Lee@example.com"},
		{email: "o'brien+crm@mail.example.co.nz", want: "o'brien+crm@mail.example.co.nz"},
		{email: "jürgen@bücher.example", want: "jürgen@bücher.example"},
		{email: long + "@example.com", want: long + "@example.com"},

		{email: "", reason: "has no e-mail address"},
		{email: " \t", reason: "has no e-mail address"},
		{email: "ann", reason: `malformed e-mail address "ann": it has no @`},
		{email: "@example.com", reason: "the part before the @ is invalid"},
		{email: "ann@", reason: "its domain has no dot"},
		{email: "ann@@example.com", reason: "the part before the @ is invalid"},
		{email: "ann@example", reason: "its domain has no dot"},
		{email: "ann lee@example.com", reason: "it has a space in it"},
		{email: "ann..lee@example.com", reason: "the part before the @ is invalid"},
		{email: "ann@example..com", reason: `its domain has the invalid part ""`},
		{email: "ann@example.com.", reason: `its domain has the invalid part ""`},
		{email: "ann@-example.com", reason: `its domain has the invalid part "-example"`},
		{email: "ann@exa_mple.com", reason: `its domain has the invalid part "exa_mple"`},
		{email: "ann@" + strings.Repeat("b", 64) + ".com", reason: "its domain has the invalid part"},
		{email: "ann@192.0.2.1", reason: "its domain ends in a number"},
		{email: "ann@[192.0.2.1]", reason: "its domain has the invalid part"},
		{email: "Ann Lee <ann@example.com>", reason: "must be a bare address"},
		{email: "<ann@example.com>", reason: "must be a bare address"},
		{email: "ann@example.com (Ann)", reason: "must be a bare address"},
		{email: `"ann lee"@example.com`, reason: "must be a bare address"},
		{email: "ann@example.com, bob@example.com", reason: "must be a single address"},
		{email: "ann@example.com;bob@example.com", reason: "must be a single address"},
		{email: long + "a@example.com", reason: "the part before the @ is longer than 64 bytes"},
		{email: "ann@" + strings.Repeat("example.", 40) + "com", reason: "it is longer than 254 bytes"},
		{email: "ann@example.com\r\nBcc: bob@example.com", reason: `"ann@example.com Bcc: bob@example.com": it has a space in it`},
		{email: "ann\x00@example.com", reason: `"ann @example.com": it has an invisible character in it`},
		{email: "ann\xff@example.com", reason: `@example.com": the part before the @ is invalid`},
	}
	for _, test := range tests {
		got, err := normalizeEmail(test.email)
		if got != test.want {
			t.Errorf("%q: got %q, want %q", test.email, got, test.want)
		}
		if (err == nil) != (test.reason == "") {
			t.Errorf("%q: error %v, want %q", test.email, err, test.reason)
		} else if err != nil && (!strings.Contains(err.Error(), test.reason) || strings.ContainsAny(err.Error(), "\r\n\x00")) {
			t.Errorf("%q: the error %q does not hold %q in one line", test.email, err, test.reason)
		}
	}
}

// FuzzNormalizeEmail checks that what was normalised is accepted again, and unchanged.
func FuzzNormalizeEmail(f *testing.F) {
	for _, seed := range []string{" Ann@EXAMPLE.com ", "ann", "Ann <ann@example.com>", "jürgen@BÜCHER.example", "a@b.1", "ann@İ.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, email string) {
		once, err := normalizeEmail(email)
		if err != nil {
			return
		}
		if twice, err := normalizeEmail(once); err != nil || twice != once {
			t.Errorf("%q became %q, and that %q: %v", email, once, twice, err)
		}
	})
}
