package text

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text      string
		limit     int
		short     string
		beginning string
	}{
		{"", 0, "", ""},
		{"abc", 3, "abc", "abc"},
		{"abcd", 3, "ab…", "ab… (4 bytes)"},
		{"ääää", 4, "ääää", "ääää"},
		{"ääää", 3, "ää…", "ää… (8 bytes)"},
		{"abc", 1, "…", "… (3 bytes)"},
		{"abc", 0, "", " (3 bytes)"},
		{"abc", -1, "", " (3 bytes)"},
		{"\xff\xfe\xfd", 2, "\xff…", "\xff… (3 bytes)"},
	} {
		if got := Shorten(c.text, c.limit); got != c.short {
			t.Errorf("Shorten(%q, %d) is %q, want %q", c.text, c.limit, got, c.short)
		}
		if got := Beginning(c.text, c.limit); got != c.beginning {
			t.Errorf("Beginning(%q, %d) is %q, want %q", c.text, c.limit, got, c.beginning)
		}
	}
}

func FuzzShorten(f *testing.F) {
	f.Add("a\xffä…", 2)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		got := Shorten(s, limit)
		if n := utf8.RuneCountInString(got); n > max(limit, 0) {
			t.Errorf("%q has %d characters, limit %d", got, n, limit)
		}
		if got != s && !strings.HasPrefix(s, strings.TrimSuffix(got, "…")) {
			t.Errorf("%q is not the beginning of %q", got, s)
		}
	})
}

func ExampleShorten() {
	fmt.Println(Shorten("a long story", 6))
	// Output: a lon…
}
