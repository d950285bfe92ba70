// Package wire holds what travels between the Functions host and a custom handler: the envelope of an invocation, the
// protobuf of an orchestrator turn, the marker around values that the host would alter, and the reason phrase that
// carries an activity's error.
//
//	request, err := wire.DecodeRequest(body)
//	input := wire.DecodeValue(wire.Unwrap(request.Data["input"]))
//	…
//	value, err := wire.EncodeValue(result) // the ReturnValue of a Response
package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Request is the body of an invocation. Data holds the trigger and the input bindings by name, Metadata (see Properties)
// the trigger's binding data, which most functions never read. Whoever writes a queue message can forge Metadata: the host
// copies the properties of a JSON message over its own values.
type Request struct {
	Data     map[string]json.RawMessage
	metadata []json.RawMessage // the objects of that name, in their order
}

// DecodeRequest reads the body of an invocation. The values are parts of the body, not copies. It accepts and refuses the same
// bodies as encoding/json does with maps, in a fraction of the time.
func DecodeRequest(body []byte) (Request, error) {
	r := Request{Data: map[string]json.RawMessage{}}
	err := decode(body, func(d decoder) error {
		return d.object(func(name string) error {
			switch {
			case strings.EqualFold(name, "Metadata"):
				return d.metadata(&r)
			case strings.EqualFold(name, "Data"):
				if d.PeekKind() == 'n' {
					clear(r.Data)
				}
				return d.values(r.Data)
			}
			return d.SkipValue()
		})
	})
	return r, err
}

// metadata keeps the text of Metadata, of which a body may hold several.
func (d decoder) metadata(r *Request) error {
	kind := d.PeekKind()
	value, err := d.value()
	switch {
	case err != nil:
		return err
	case kind == 'n':
		r.metadata = nil
	case kind == '{':
		r.metadata = append(r.metadata, value)
	default:
		return errors.New("the value of Metadata is not a JSON object")
	}
	return nil
}

// Properties returns the properties of Metadata.
func (r *Request) Properties() (map[string]json.RawMessage, error) {
	properties := map[string]json.RawMessage{}
	for _, object := range r.metadata {
		if err := decode(object, func(d decoder) error { return d.values(properties) }); err != nil {
			return nil, err
		}
	}
	return properties, nil
}

// FailedBefore says whether this is a turn that the host asks again, by a retry policy, because the orchestration failed
// in the last answer to it. It trusts Metadata, which nobody but the host writes for a turn of a function with a policy.
func (r *Request) FailedBefore() bool {
	properties, _ := r.Properties()
	var retry struct {
		Exception struct{ InnerException struct{ ClassName string } }
	}
	err := json.Unmarshal(properties["RetryContext"], &retry)
	return err == nil && retry.Exception.InnerException.ClassName == "DurableTask.Core.Exceptions.OrchestrationFailureException"
}

// decoder decodes a text and takes what encoding/json takes.
type decoder struct {
	*jsontext.Decoder
	text []byte
}

var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// decode has f read the one value of the text.
func decode(text []byte, f func(decoder) error) error {
	d := decoder{decoders.Get().(*jsontext.Decoder), text}
	defer decoders.Put(d.Decoder)
	d.Reset(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := f(d); err != nil {
		return err
	}
	switch _, err := d.ReadToken(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("more follows after the JSON object")
	default:
		return err
	}
}

// object reads an object and calls f before the value of each of its properties, in order. null has none.
func (d decoder) object(f func(name string) error) error {
	switch start, err := d.ReadToken(); {
	case err != nil:
		return err
	case start.Kind() == 'n':
		return nil
	case start.Kind() != '{':
		return errors.New("it is not a JSON object")
	}
	for {
		name, err := d.ReadToken()
		if err != nil || name.Kind() == '}' {
			return err
		}
		if err := f(name.String()); err != nil {
			return err
		}
	}
}

// values reads the properties of an object.
func (d decoder) values(into map[string]json.RawMessage) error {
	return d.object(func(name string) (err error) {
		into[name], err = d.value()
		return err
	})
}

// value reads a value and returns it as a part of the text: jsontext's own is gone with the next one.
func (d decoder) value() (json.RawMessage, error) {
	v, err := d.ReadValue()
	end := d.InputOffset()
	return d.text[end-int64(len(v)) : end : end], err
}

// Response is the body of a good answer. The host never ends an invocation that is answered with an empty body or null.
type Response struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// Text returns the text of a value of Data or Metadata, whatever its encoding: the host encodes strings twice, bytes,
// arrays, numbers and dates once, objects not at all. So a string is unwrapped once, and once more if the result is
// itself a JSON string literal.
func Text(raw json.RawMessage) string { return string(Unwrap(raw)) }

// Unwrap is Text without the copy: what it returns may be a part of raw.
func Unwrap(raw json.RawMessage) []byte {
	if inner, ok := plainTwice(raw); ok {
		return inner
	}
	once, ok := unquote(raw)
	if !ok {
		return bytes.TrimSpace(raw)
	}
	if bytes.HasPrefix(once, []byte(`"`)) {
		if twice, ok := unquote(once); ok {
			return twice
		}
	}
	return once
}

// Bytes returns the bytes of a value that the host sends as base64, encoded once. If the value is optional, as a blob that may not
// exist, the text "null" means that it does not. Of a value in any other form Bytes returns the text.
func Bytes(raw json.RawMessage, optional bool) []byte {
	text, ok := unquote(raw)
	switch {
	case !ok, bytes.HasPrefix(text, []byte(`"`)):
		return bytes.Clone(Unwrap(raw))
	case optional && string(text) == "null":
		return nil
	}
	if decoded, err := base64.StdEncoding.AppendDecode(make([]byte, 0, len(text)), text); err == nil {
		return decoded
	}
	return text
}

// plainTwice unwraps the commonest value without decoding it: a string encoded twice that holds nothing to escape, such
// as the base64 of an orchestrator turn, which can be many megabytes long.
func plainTwice(raw []byte) ([]byte, bool) {
	if !bytes.HasPrefix(raw, []byte(`"\"`)) || !bytes.HasSuffix(raw, []byte(`\""`)) || len(raw) < 6 {
		return nil, false
	}
	inner := raw[3 : len(raw)-3]
	return inner, bytes.IndexByte(inner, '\\') < 0
}

func unquote(raw []byte) ([]byte, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '"' {
		return nil, false
	}
	if text, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw); err == nil {
		return text, true
	}
	var s string
	err := json.Unmarshal(raw, &s) // takes what jsontext refuses: lone surrogates, bytes that are not UTF-8
	return []byte(s), err == nil
}
