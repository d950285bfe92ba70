package newtonsoft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// A parsed value is nil, a bool, a string, a []any, a parsedObject, a date or a number.
type (
	parsedObject []member // in their order, repeated ones too
	member       struct {
		key   string
		value any
	}
	number string // .NET's text for it
)

// maxDepth is how many arrays and objects may be open at once in the host.
const maxDepth = 64

const maxIntegerDigits = 380 // the sign counts

// parse reads one JSON value. It rewrites its numbers and, if asked, its dates.
func parse(text []byte, dates bool) (any, error) {
	if !json.Valid(text) {
		return nil, &Error{readerException, "the value is not JSON"}
	}
	p := parser{json.NewDecoder(bytes.NewReader(text)), dates}
	p.UseNumber()
	return p.value(0)
}

type parser struct {
	*json.Decoder
	dates bool
}

func (p parser) value(depth int) (any, error) {
	token, err := p.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if depth++; depth > maxDepth {
			return nil, &Error{readerException, fmt.Sprintf("The reader's MaxDepth of %d has been exceeded.", maxDepth)}
		}
		if token == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	case json.Number:
		return rewriteNumber(string(token))
	case string:
		if p.dates {
			return rewriteDate(token)
		}
	}
	return token, nil
}

func (p parser) array(depth int) (any, error) {
	a := []any{}
	for p.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := p.Token()
	return a, err
}

func (p parser) object(depth int) (any, error) {
	o := parsedObject{}
	for p.More() {
		key, err := p.Token()
		if err != nil {
			return nil, err
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		o = append(o, member{key.(string), v})
	}
	_, err := p.Token()
	return o, err
}

// rewriteNumber returns .NET's text for a number: that of a long, a BigInteger or a double.
func rewriteNumber(text string) (any, error) {
	if !isDouble(text) {
		switch {
		case len(text) > maxIntegerDigits:
			return nil, &Error{readerException, fmt.Sprintf("JSON integer %.20s… is too large to parse.", text)}
		case text == "-0":
			return number("0"), nil
		}
		return number(text), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, err
	}
	switch {
	case math.IsInf(f, 1):
		return "Infinity", nil
	case math.IsInf(f, -1):
		return "-Infinity", nil
	}
	return number(formatDouble(f)), nil
}

// formatDouble writes a finite double as .NET does with "R", and as Newtonsoft completes it: the shortest digits that
// read back the same, an exponent only above 17 digits or below 0.0001, and never without a point or an exponent.
func formatDouble(f float64) string {
	shortest := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := bytes.Cut([]byte(shortest), []byte("e"))
	e, _ := strconv.Atoi(string(exponent))
	if e >= 17 || e < -4 {
		return fmt.Sprintf("%sE%+03d", mantissa, e)
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !isDouble(plain) {
		plain += ".0"
	}
	return plain
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case number:
		return append(b, v...)
	case date:
		return AppendString(b, v.String())
	case string:
		return AppendString(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, e)
		}
		return append(b, ']')
	case parsedObject:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendString(b, m.key), ':')
			b = appendValue(b, m.value)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("newtonsoft: no JSON value is a %T", v)) // parse makes no other
}
