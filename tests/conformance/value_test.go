package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// canonical writes a JSON text so that two texts with the same value become equal. Numbers are exact decimals (1.50 is 1.5, -0 is
// not 0). Strings are compared by their characters, including lone surrogates. The keys of an object are sorted; a key that
// occurs more than once keeps its values in order.
func canonical(text string, change func(string) string) (string, error) {
	if !json.Valid([]byte(text)) {
		return "", errors.New("not JSON")
	}
	if !utf8.ValidString(text) {
		return "", errors.New("not UTF-8")
	}
	w := writer{text: text, tokens: json.NewDecoder(strings.NewReader(text)), change: change}
	w.tokens.UseNumber()
	return w.value(), nil
}

type writer struct {
	text   string
	tokens *json.Decoder
	change func(string) string // applied to strings that are not keys; may be nil
}

func (w writer) value() string {
	token, raw := w.next()
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			return w.array()
		}
		return w.object()
	case json.Number:
		return canonicalNumber(raw)
	case string:
		s := unescape(raw)
		if w.change != nil {
			s = w.change(s)
		}
		return strconv.Quote(s)
	}
	return raw
}

// next returns a token, and also its text, because the decoder's strings lose their lone surrogates.
func (w writer) next() (json.Token, string) {
	start := w.tokens.InputOffset()
	token, _ := w.tokens.Token() // the text is valid
	return token, strings.TrimLeft(w.text[start:w.tokens.InputOffset()], " \t\r\n,:")
}

func (w writer) array() string {
	var elements []string
	for w.tokens.More() {
		elements = append(elements, w.value())
	}
	w.next()
	return "[" + strings.Join(elements, ",") + "]"
}

func (w writer) object() string {
	var members [][2]string
	for w.tokens.More() {
		_, key := w.next()
		members = append(members, [2]string{strconv.Quote(unescape(key)), w.value()})
	}
	w.next()
	slices.SortStableFunc(members, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	var b strings.Builder
	for i, m := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m[0] + ":" + m[1])
	}
	return "{" + b.String() + "}"
}

// canonicalNumber writes a number as digits without zeros at either end, and a power of ten.
func canonicalNumber(s string) string {
	digits, negative := strings.CutPrefix(s, "-")
	sign := map[bool]string{true: "-"}[negative]
	exponent := new(big.Int)
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		exponent.SetString(strings.TrimPrefix(digits[i+1:], "+"), 10)
		digits = digits[:i]
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	digits = whole + fraction
	trimmed := strings.TrimRight(digits, "0")
	exponent.Add(exponent, big.NewInt(int64(len(digits)-len(trimmed)-len(fraction))))
	if trimmed = strings.TrimLeft(trimmed, "0"); trimmed == "" {
		return sign + "0"
	}
	return sign + trimmed + "e" + exponent.String()
}

// unescape returns the characters of a JSON string. It turns a lone surrogate into three bytes that are not UTF-8.
func unescape(quoted string) string {
	raw := quoted[1 : len(quoted)-1]
	var b []byte
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b = append(b, raw[i])
			continue
		}
		i++
		if raw[i] != 'u' {
			b = append(b, escapes.Replace(raw[i:i+1])...)
			continue
		}
		r := codeUnit(raw[i+1:])
		i += 4
		if utf16.IsSurrogate(r) {
			if strings.HasPrefix(raw[i+1:], `\u`) {
				if pair := utf16.DecodeRune(r, codeUnit(raw[i+3:])); pair != utf8.RuneError {
					b = utf8.AppendRune(b, pair)
					i += 6
					continue
				}
			}
			b = append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
			continue
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

var escapes = strings.NewReplacer("b", "\b", "f", "\f", "n", "\n", "r", "\r", "t", "\t")

func codeUnit(hex string) rune {
	n, _ := strconv.ParseUint(hex[:4], 16, 16) // the text is valid
	return rune(n)
}

func TestCanonical(t *testing.T) {
	same := [][2]string{
		{`1.50`, `1.5`}, {`1e2`, `100`}, {`1E+2`, `100.0`}, {`-0.0`, `-0`}, {`0.00`, `0e9`}, {`1e400`, `10e399`}, {`0.1e1`, `1`},
		{`123456789012345678901234567890`, `12345678901234567890123456789e1`},
		{`{"a":1,"b":[ ]}`, ` { "b":[],"\u0061":1.0} `}, {`"\ud83d\ude00\/"`, `"😀/"`}, {`"\u003c"`, `"<"`}, {`{"a":1,"b":2,"a":3}`, `{"b":2,"a":1,"a":3}`},
		{`[",:"," "]`, `[ ",:" , " " ]`},
	}
	for _, c := range same {
		a, err1 := canonical(c[0], nil)
		b, err2 := canonical(c[1], nil)
		if err1 != nil || err2 != nil || a != b {
			t.Errorf("%s is %s (%v), %s is %s (%v)", c[0], a, err1, c[1], b, err2)
		}
	}
	distinct := [][2]string{
		{`0`, `-0`}, {`1`, `"1"`}, {`null`, `"null"`}, {`9007199254740993`, `9007199254740992`}, {`0.1`, `0.10000000000000001`}, {`1e400`, `1e401`}, {`1`, `-1`},
		{`{"a":1}`, `{"A":1}`}, {`{"a":1,"a":2}`, `{"a":2}`}, {`{"a":1,"a":2}`, `{"a":2,"a":1}`}, {`[1,2]`, `[2,1]`}, {`[]`, `{}`}, {`[]`, `[null]`},
		{`"\ud800"`, `"\ufffd"`}, {`"\ud800"`, `"\ud801"`}, {`"a"`, `"a "`}, {`{}`, `{"":null}`}, {`["a","b"]`, `["a,b"]`}, {`["a\",\"b"]`, `["a","b"]`},
	}
	for _, c := range distinct {
		a, err1 := canonical(c[0], nil)
		b, err2 := canonical(c[1], nil)
		if err1 != nil || err2 != nil || a == b {
			t.Errorf("%s and %s are both %s (%v, %v)", c[0], c[1], a, err1, err2)
		}
	}
	for _, bad := range []string{``, `{`, `1 2`, `'a'`, "\"\xff\"", `plain`} {
		if v, err := canonical(bad, nil); err == nil {
			t.Errorf("%q is %s", bad, v)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"a":[1.50,-0,"\ud800\u0000",null],"a":{}}`, `"\ud83d\ude00\/"`, `1e-400`, ` [ true , false ] `, `{`, "\"\xff\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		was, err := canonical(text, nil)
		if err != nil {
			return
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(text), " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if now, err := canonical(indented.String(), nil); err != nil || now != was {
			t.Errorf("%q is %s, indented it is %s (%v)", text, was, now, err)
		}
	})
}
