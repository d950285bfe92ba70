package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Marker starts a JSON string that holds a JSON text, for a value that the host would alter or refuse. What travels
// inside a string survives. A function in another language sees that string: the value is what follows the marker.
const Marker = "durable-json:"

// EncodeValue returns an activity's input or result, a JSON text, as it must be sent to arrive as it is: unchanged, and
// not copied, when the host leaves it alone (ordinary values), else as a JSON string of Marker and the text. A text
// that is not one valid JSON value in UTF-8 is an error.
//
// Marked is what the host rewrites or refuses, and what comes near: numbers that a double does not hold to the last
// digit, -0, integers of more than 380 characters, strings that start like a date and time, /Date(…)/, lone surrogates,
// keys that start with $, repeated keys, more than 60 levels, strings that start with Marker.
func EncodeValue(text []byte) ([]byte, error) { return EncodeResult(text, nil) }

// EncodeResult is EncodeValue for a function with output bindings. The host takes a property of a result that is named
// exactly like an output for that output, so such a result is marked too.
func EncodeResult(text []byte, outputs []string) ([]byte, error) {
	if err := checkJSON(text); err != nil {
		return nil, err
	}
	s := scanner{text: text, outputs: outputs}
	if !s.altered() {
		return text, nil
	}
	return json.Marshal(Marker + string(text))
}

// DecodeValue takes the marker off. Anything without a marker, or with one that no JSON text follows, is returned as it
// is. Only one marker is taken off: a value that looks like a marked one comes back as it was.
func DecodeValue(text []byte) []byte {
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte(`"`+Marker)) {
		return text
	}
	marked, ok := unquote(text)
	if !ok {
		return text
	}
	value := marked[len(Marker):]
	if !json.Valid(value) {
		return text
	}
	return value
}

func checkJSON(text []byte) error {
	if !json.Valid(text) {
		return fmt.Errorf("the value is not JSON: %w", json.Unmarshal(text, new(any)))
	}
	if !utf8.Valid(text) {
		return errors.New("the value is not JSON: it holds bytes that are not UTF-8")
	}
	return nil
}

const (
	maxNesting = 60  // the host reads 64 levels, its own around the value included
	maxInteger = 380 // characters; Newtonsoft reads no longer integer
)

// scanner walks over a valid JSON text once, up to the first value that the host would alter.
type scanner struct {
	text    []byte
	pos     int
	depth   int
	outputs []string // names that no property of the outermost object may have
	keys    [][]byte // of the objects that are open, the innermost last
}

func (s *scanner) altered() bool {
	s.space()
	if s.text[s.pos] == '"' && isMarked(s.string()) {
		return true
	}
	s.pos = 0
	return s.value()
}

// value reports whether the host alters the value at pos. If it does not, pos is behind the value afterwards.
func (s *scanner) value() bool {
	s.space()
	switch s.text[s.pos] {
	case '{':
		return s.nested(s.object)
	case '[':
		return s.nested(s.array)
	case '"':
		return badString(s.string())
	case 't', 'n':
		s.pos += len("true")
	case 'f':
		s.pos += len("false")
	default:
		return badNumber(s.number())
	}
	return false
}

func (s *scanner) nested(container func() bool) bool {
	s.depth++
	s.pos++
	bad := s.depth > maxNesting || container()
	s.depth--
	return bad
}

func (s *scanner) array() bool {
	for !s.end(']') {
		if s.value() {
			return true
		}
	}
	return false
}

func (s *scanner) object() bool {
	outer := len(s.keys)
	for !s.end('}') {
		key, bad := s.key()
		if bad {
			return true
		}
		s.keys = append(s.keys, key)
		s.space()
		s.pos++ // the colon
		if s.value() {
			return true
		}
	}
	repeated := hasRepeated(s.keys[outer:])
	s.keys = s.keys[:outer]
	return repeated
}

func (s *scanner) key() (key []byte, bad bool) {
	key = s.string()
	if hasLoneSurrogate(key) { // what looks like a date is safe here
		return nil, true
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		key = unescape(key)
	}
	if bytes.HasPrefix(key, []byte("$")) || s.depth == 1 && slices.Contains(s.outputs, string(key)) {
		return nil, true
	}
	return key, false
}

// end moves behind the end of an array or object if it comes next, else to its next element.
func (s *scanner) end(closing byte) bool {
	s.space()
	if s.text[s.pos] == ',' {
		s.pos++
		s.space()
	}
	if s.text[s.pos] != closing {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.text) && s.text[s.pos] <= ' ' {
		s.pos++
	}
}

// string returns the text between the quotes, with its escapes, and moves behind them.
func (s *scanner) string() []byte {
	start := s.pos + 1
	for s.pos = start; s.text[s.pos] != '"'; s.pos++ {
		if s.text[s.pos] == '\\' {
			s.pos++
		}
	}
	s.pos++
	return s.text[start : s.pos-1]
}

func (s *scanner) number() []byte {
	start := s.pos
	for s.pos < len(s.text) && strings.IndexByte("+-.0123456789Ee", s.text[s.pos]) >= 0 {
		s.pos++
	}
	return s.text[start:s.pos]
}

func hasRepeated(keys [][]byte) bool {
	if len(keys) <= 8 {
		for i := range keys {
			for _, earlier := range keys[:i] {
				if bytes.Equal(keys[i], earlier) {
					return true
				}
			}
		}
		return false
	}
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		seen[string(k)] = true
	}
	return len(seen) < len(keys)
}

// badString reports whether the host alters a string. raw is the text between its quotes.
func badString(raw []byte) bool { return hasLoneSurrogate(raw) || looksLikeDate(raw) }

// looksLikeDate reports whether a string has the outer shape of a date and time, or of a /Date(…)/. It is generous: a
// time without an offset is mostly left alone.
func looksLikeDate(raw []byte) bool {
	if len(raw) == 0 || strings.IndexByte(`0123456789/\`, raw[0]) < 0 {
		return false
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = unescape(raw)
	}
	return len(raw) >= 19 && len(raw) <= 40 && raw[4] == '-' && raw[7] == '-' && raw[10] == 'T' ||
		bytes.HasPrefix(raw, []byte("/Date(")) && bytes.HasSuffix(raw, []byte(")/"))
}

func isMarked(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = unescape(raw)
	}
	return bytes.HasPrefix(raw, []byte(Marker))
}

// unescape returns the text of a string with escapes.
func unescape(raw []byte) []byte {
	text, _ := unquote(slices.Concat([]byte{'"'}, raw, []byte{'"'}))
	return text
}

// hasLoneSurrogate looks for half of a surrogate pair among the escapes. Outside of escapes, UTF-8 cannot have one.
func hasLoneSurrogate(raw []byte) bool {
	for i := bytes.IndexByte(raw, '\\'); i >= 0 && i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		unit := codeUnit(raw[i+1:])
		i += 4
		switch {
		case unit < 0xD800 || unit > 0xDFFF:
		case unit > 0xDBFF, !bytes.HasPrefix(raw[i+1:], []byte(`\u`)), codeUnit(raw[i+3:])&^0x3FF != 0xDC00:
			return true
		default:
			i += len(`\u0000`)
		}
	}
	return false
}

func codeUnit(hex []byte) uint64 {
	n, _ := strconv.ParseUint(string(hex[:4]), 16, 16) // the text is valid JSON
	return n
}

// badNumber reports whether the host alters a number's value. It keeps integers, of any length that it reads at all,
// and passes everything else through a double.
func badNumber(n []byte) bool {
	if !bytes.ContainsAny(n, ".eE") {
		return len(n) > maxInteger || string(n) == "-0"
	}
	d, ok := parseDecimal(n)
	if !ok {
		return true
	}
	if len(d.digits) == 0 || len(d.digits) <= 15 && d.exponent > -300 && d.exponent < 300 {
		return false // every decimal of 15 digits comes back from a double
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return true
	}
	back, _ := parseDecimal(strconv.AppendFloat(nil, f, 'e', -1, 64))
	return d.exponent != back.exponent || !bytes.Equal(d.digits, back.digits)
}

// decimal is 0.digits × 10^exponent, the digits without zeros at either end.
type decimal struct {
	digits   []byte
	exponent int
}

// parseDecimal reads a JSON number, its sign left out. It fails on an exponent of absurd size.
func parseDecimal(n []byte) (d decimal, ok bool) {
	mantissa := bytes.TrimPrefix(n, []byte("-"))
	if e := bytes.IndexAny(mantissa, "eE"); e >= 0 {
		exponent, err := strconv.ParseInt(string(mantissa[e+1:]), 10, 32)
		if err != nil {
			return d, false
		}
		mantissa, d.exponent = mantissa[:e], int(exponent)
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	d.exponent += len(whole)
	d.digits = whole
	if len(fraction) > 0 {
		d.digits = slices.Concat(whole, fraction)
	}
	significant := bytes.TrimLeft(d.digits, "0")
	d.exponent -= len(d.digits) - len(significant)
	d.digits = bytes.TrimRight(significant, "0")
	return d, true
}
