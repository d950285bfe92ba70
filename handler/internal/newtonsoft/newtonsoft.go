// Package newtonsoft is a model of what the Functions host does to values on their way, in both directions. It reads an activity's
// input and result ([Input], [Result]) with Newtonsoft.Json and its defaults, which rewrite numbers, dates and some objects, and
// refuse others. It writes what a trigger tells as strings within strings ([Once], [Twice], [Encode]) and copies a message's
// properties over its metadata ([Object.CopyProperties]). A local host that leaves values alone would hide that until the app runs
// on Azure.
//
// The model follows Newtonsoft's sources and the recordings in testdata. It takes the host's time zone to be UTC, as it is on
// Azure. It reads JSON as RFC 8259 defines it: comments, single quotes and NaN, which Newtonsoft also accepts, are errors here.
package newtonsoft

import (
	"fmt"
	"strings"
)

// Error says why the host fails an invocation because of a value.
type Error struct {
	Type    string // the .NET exception, as it stands in the failure details
	Message string
}

func (e *Error) Error() string { return "the host refuses the value: " + e.Message }

const (
	readerException        = "Newtonsoft.Json.JsonReaderException"
	serializationException = "Newtonsoft.Json.JsonSerializationException"
	rangeException         = "System.ArgumentOutOfRangeException"
	nullException          = "System.NullReferenceException"
)

// Input returns an activity's input as the handler receives it, or an *Error where the host fails the invocation.
func Input(text []byte) ([]byte, error) {
	v, err := parse(text, false)
	if err != nil {
		return nil, err
	}
	return appendValue(nil, unique(v, false)), nil
}

// Properties returns the value of a trigger, a JSON object, as the host copies its properties to the metadata.
func Properties(text []byte) ([]byte, error) {
	v, err := parse(text, true)
	if err != nil {
		return nil, err
	}
	return appendValue(nil, unique(v, false)), nil
}

// Result returns an activity's ReturnValue as the orchestrator receives it, or an *Error where the host fails the
// invocation. The result null means that the orchestrator receives none.
func Result(text []byte) ([]byte, error) {
	v, err := parse(text, true)
	if err != nil {
		return nil, err
	}
	if v, err = takeMetadata(v); err != nil {
		return nil, err
	}
	v = unique(v, true)
	// The host looks for outputs among the properties of a result. For that it reads each of them once more, which has no effect
	// except that it may fail.
	if o, ok := v.(parsedObject); ok {
		for _, m := range o {
			if _, err := takeMetadata(m.value); err != nil {
				return nil, err
			}
		}
	}
	return appendValue(nil, v), nil
}

// takeMetadata does what Newtonsoft does to an object whose first key starts with $: the properties that Newtonsoft takes for its
// own vanish, or stand for something else.
func takeMetadata(v any) (any, error) {
	o, ok := v.(parsedObject)
	if !ok {
		return v, nil
	}
	for ; len(o) > 0; o = o[1:] {
		switch first := o[0]; first.key {
		case "$type", "$id":
			if err := checkScalar(first); err != nil {
				return nil, err
			}
		case "$values":
			if len(o) > 1 {
				return nil, &Error{serializationException, "Unexpected content beside a $values property."}
			}
			return first.value, nil
		case "$ref":
			if first.value == nil {
				continue
			}
			if _, ok := first.value.(string); !ok {
				return nil, &Error{serializationException, "JSON reference $ref property must have a string or null value."}
			}
			if len(o) > 1 {
				return nil, &Error{serializationException,
					"Additional content found in JSON reference object. A JSON reference object should only have a $ref property."}
			}
			return nil, nil // a reference to nothing
		default:
			return o, nil
		}
	}
	return o, nil
}

func checkScalar(m member) error {
	switch m.value.(type) {
	case parsedObject, []any:
		return &Error{serializationException, fmt.Sprintf("Unexpected value of a %s property.", m.key)}
	case nil:
		if m.key == "$type" {
			return &Error{nullException, "Object reference not set to an instance of an object."}
		}
	}
	return nil
}

// unique keeps only the last of several properties with one name: at the place of the last one (as a JTokenWriter does) or of the
// first one (as JToken.Load does).
func unique(v any, atLast bool) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = unique(v[i], atLast)
		}
	case parsedObject:
		return v.unique(atLast)
	}
	return v
}

func (o parsedObject) unique(atLast bool) parsedObject {
	last := make(map[string]int, len(o))
	for i, m := range o {
		last[m.key] = i
		o[i].value = unique(m.value, atLast)
	}
	if len(last) == len(o) {
		return o
	}
	out := make(parsedObject, 0, len(last))
	done := make(map[string]bool, len(last))
	for i, m := range o {
		if done[m.key] || atLast && last[m.key] != i {
			continue
		}
		done[m.key] = true
		out = append(out, o[last[m.key]])
	}
	return out
}

// isDouble says whether Newtonsoft reads a number as a double: anything but plain digits.
func isDouble(number string) bool { return strings.ContainsAny(number, ".eE") }
