package durable

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"sync"
)

// decode is json.Unmarshal, but much faster for strings without escapes and for JSON that is kept as it is.
func decode(text string, v any) error {
	switch v := v.(type) {
	case *string:
		if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' && isLiteral(text[1:n-1]) {
			*v = text[1 : n-1]
			return nil
		}
	case *json.RawMessage:
		if raw := []byte(text); json.Valid(raw) {
			*v = bytes.TrimSpace(raw)
			return nil
		}
	}
	return json.Unmarshal([]byte(text), v)
}

// isLiteral says whether the inside of a JSON string is what it stands for.
func isLiteral(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// plainTypes holds what isPlain found.
var plainTypes sync.Map // reflect.Type → bool

// isPlain says whether the value's type is one whose values can always be JSON and cannot be changed later through a pointer:
// booleans, whole numbers, strings, and structs and arrays of them.
func isPlain(v any) bool {
	t := reflect.TypeOf(v)
	if t == nil {
		return false
	}
	plain, known := plainTypes.Load(t)
	if !known {
		plain, _ = plainTypes.LoadOrStore(t, isPlainType(t))
	}
	return plain.(bool)
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	number        = reflect.TypeFor[json.Number]()
)

func isPlainType(t reflect.Type) bool {
	if p := reflect.PointerTo(t); t == number || p.Implements(marshaler) || p.Implements(textMarshaler) {
		return false
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Array:
		return isPlainType(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isPlainType(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}
