package newtonsoft

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Object builds a JSON object and keeps the order of its properties.
type Object struct {
	names  []string
	values [][]byte
	index  map[string]int // by lower-case name, of those that were set
}

// Set adds a property. If there is one with that name in any case, Set replaces its value and keeps its place and spelling,
// because no two names in the host's binding data differ only in case.
func (o *Object) Set(name string, value []byte) {
	if o.index == nil {
		o.index = map[string]int{}
	}
	key := strings.ToLower(name)
	if i, ok := o.index[key]; ok {
		o.values[i] = value
		return
	}
	o.index[key] = len(o.names)
	o.Add(name, value)
}

// Add adds a property without looking at the other names.
func (o *Object) Add(name string, value []byte) {
	o.names = append(o.names, name)
	o.values = append(o.values, value)
}

// AddText adds a property that is a string.
func (o *Object) AddText(name, text string) { o.Add(name, Once(text)) }

// Append appends the object as JSON.
func (o *Object) Append(to []byte) []byte {
	to = append(to, '{')
	for i, name := range o.names {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(AppendString(to, name), ':')
		to = append(to, o.values[i]...)
	}
	return append(to, '}')
}

// Once encodes a value that is not a string as the host does: as a JSON string with its text.
func Once(text string) []byte { return AppendString(nil, text) }

// Twice encodes a string as the host does: as a JSON string that holds its JSON literal.
func Twice(text string) []byte {
	return AppendString(make([]byte, 0, len(text)+8), string(AppendString(make([]byte, 0, len(text)+4), text)))
}

// AppendString appends a JSON string as Newtonsoft.Json writes it. It escapes only what it must, and the line separators U+0085,
// U+2028 and U+2029.
func AppendString(to []byte, text string) []byte {
	to = append(to, '"')
	start := 0
	for i := 0; i < len(text); {
		size, escape := escapeAt(text[i:])
		if escape != "" {
			to = append(to, text[start:i]...)
			to = append(to, escape...)
			start = i + size
		}
		i += size
	}
	to = append(to, text[start:]...)
	return append(to, '"')
}

// escapeAt returns the size of text's first character, and its escape if it needs one.
func escapeAt(text string) (size int, escape string) {
	c := text[0]
	switch {
	case c == '"':
		return 1, `\"`
	case c == '\\':
		return 1, `\\`
	case c < ' ':
		return 1, controlEscapes[c]
	case c < utf8.RuneSelf:
		return 1, ""
	}
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case r == utf8.RuneError && size == 1:
		return 1, "\ufffd" // .NET's strings cannot hold it
	case r == '\u0085':
		return size, `\u0085`
	case r == '\u2028':
		return size, `\u2028`
	case r == '\u2029':
		return size, `\u2029`
	}
	return size, ""
}

var controlEscapes = func() (escapes [' ']string) {
	for c := range escapes {
		escapes[c] = `\u00` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15])
	}
	escapes['\b'], escapes['\t'], escapes['\n'], escapes['\f'], escapes['\r'] = `\b`, `\t`, `\n`, `\f`, `\r`
	return escapes
}()

// Encode encodes a JSON value as the host does. An object stays as it is. Anything else is encoded once, a string with its quotes.
func Encode(value []byte) []byte {
	value = Compact(value)
	if bytes.HasPrefix(value, []byte("{")) {
		return value
	}
	return Once(string(value))
}

// Compact returns a JSON value without blanks between its parts, and anything else as it is.
func Compact(value []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}

// CopyProperties copies the top-level properties of a trigger value that is a JSON object over the binding data, as the host does:
// it leaves out arrays and null, copies objects, and makes a string of anything else.
func (o *Object) CopyProperties(value []byte) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') || !json.Valid(value) {
		return
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return
		}
		var property json.RawMessage
		if decoder.Decode(&property) != nil {
			return
		}
		switch property[0] {
		case '[', 'n':
		case '{':
			o.Set(name.(string), Compact(property))
		default:
			o.Set(name.(string), Twice(Text(property)))
		}
	}
}

// Text returns the text of a scalar as .NET's ToString writes it.
func Text(scalar json.RawMessage) string {
	switch string(scalar) {
	case "true":
		return "True"
	case "false":
		return "False"
	case "null":
		return ""
	}
	var text string
	if json.Unmarshal(scalar, &text) != nil {
		return string(scalar) // a number
	}
	value, _ := rewriteDate(text) // a date out of range stays text
	if d, ok := value.(date); ok {
		return d.Format("01/02/2006 15:04:05")
	}
	return text
}
