// Package plainjson encodes JSON for the handler and the hosts, as encoding/json does, but without escapes for HTML.
package plainjson

import (
	"bytes"
	"encoding/json"
)

// Marshal returns v as JSON. Unlike json.Marshal it writes <, > and & as they are.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := Encode(&b, v)
	return b.Bytes(), err
}

// Encode is Marshal into an empty buffer.
func Encode(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	b.Truncate(max(b.Len()-len("\n"), 0))
	return err
}
