package route

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
)

// constraint reads a constraint such as int or range(1,9).
func constraint(text string) (func(string) bool, error) {
	name, rest, hasArguments := strings.Cut(text, "(")
	if hasArguments && !strings.HasSuffix(rest, ")") {
		return nil, fmt.Errorf("the constraint %q has a ( without a )", text)
	}
	argument := strings.TrimSuffix(rest, ")")
	if check, ok := kinds[strings.ToLower(name)]; ok && !hasArguments {
		return check, nil
	}
	if strings.EqualFold(name, "regex") && hasArguments {
		return matches(argument), nil
	}
	check, err := bounds(strings.ToLower(name), argument)
	if err != nil {
		return nil, fmt.Errorf("the constraint %q: %w", text, err)
	}
	return check, nil
}

var kinds = map[string]func(string) bool{
	"int":      func(s string) bool { _, err := strconv.ParseInt(s, 10, 32); return err == nil },
	"long":     func(s string) bool { _, err := strconv.ParseInt(s, 10, 64); return err == nil },
	"bool":     func(s string) bool { return strings.EqualFold(s, "true") || strings.EqualFold(s, "false") },
	"decimal":  isNumber,
	"double":   isNumber,
	"float":    isNumber,
	"guid":     func(s string) bool { return uuid.Validate(s) == nil },
	"datetime": isTime,
	"alpha":    regexp.MustCompile(`^[A-Za-z]*$`).MatchString,
	"required": func(s string) bool { return s != "" },
	"file":     isFile,
	"nonfile":  func(s string) bool { return !isFile(s) },
}

func isNumber(s string) bool { _, err := strconv.ParseFloat(s, 64); return err == nil }

func isTime(s string) bool {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly, "01/02/2006", "1/2/2006"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

// isFile says whether the last segment has a dot with something after it.
func isFile(s string) bool {
	name := s[strings.LastIndexByte(s, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	return dot >= 0 && dot < len(name)-1
}

// matches checks with a regular expression. An expression that only .NET understands accepts everything.
func matches(expression string) func(string) bool {
	pattern, err := regexp.Compile("(?i)" + expression)
	if err != nil {
		return func(string) bool { return true }
	}
	return pattern.MatchString
}

// bounds reads a constraint on the length or on the value.
func bounds(name, argument string) (func(string) bool, error) {
	var low, high int64
	first, second, two := strings.Cut(argument, ",")
	low, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	if high = low; two && err == nil {
		high, err = strconv.ParseInt(strings.TrimSpace(second), 10, 64)
	}
	between := func(n int64) bool { return n >= low && n <= high }
	length := func(s string) int64 { return int64(len(utf16.Encode([]rune(s)))) }
	value := func(s string, ok func(int64) bool) bool {
		n, err := strconv.ParseInt(s, 10, 64)
		return err == nil && ok(n)
	}
	check := map[string]func(string) bool{
		"minlength": func(s string) bool { return length(s) >= low },
		"maxlength": func(s string) bool { return length(s) <= low },
		"length":    func(s string) bool { return between(length(s)) },
		"min":       func(s string) bool { return value(s, func(n int64) bool { return n >= low }) },
		"max":       func(s string) bool { return value(s, func(n int64) bool { return n <= low }) },
		"range":     func(s string) bool { return value(s, between) },
	}[name]
	switch {
	case check == nil:
		return nil, errors.New("the host knows none of that name")
	case err != nil, low > high, two != (name == "range") && (name != "length"):
		return nil, fmt.Errorf("its arguments are %q, which are none for it", argument)
	}
	return check, nil
}
