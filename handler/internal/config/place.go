package config

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// placed is an error with its place in a file: property names and list indexes, from the outermost to the innermost.
type placed struct {
	path []string
	error
}

func (p placed) Unwrap() error { return p.error }

// at puts the errors that are joined in err at a place.
func at(err error, path ...string) error {
	var each []error
	for _, e := range errorList(err) {
		p, ok := e.(placed)
		if !ok {
			p.error = e
		}
		each = append(each, placed{append(slices.Clone(path), p.path...), p.error})
	}
	return errors.Join(each...)
}

// errorList splits what errors.Join has joined.
func errorList(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, errorList(e)...)
	}
	return list
}

// first returns the first of the errors that are joined in err.
func first(err error) error {
	if list := errorList(err); len(list) > 0 {
		return list[0]
	}
	return nil
}

// file is the text of a JSON file in which lines can be looked up.
type file struct {
	text []byte
	root hujson.Value
}

// openFile parses the text of a file. In a text that is not JSON every path is on line 1.
func openFile(text []byte) file {
	f := file{text: decodeText(text)}
	f.root, _ = hujson.Parse(bytes.Clone(f.text))
	return f
}

// line returns the line of the value at the path, or of the part of the path that exists. Case is ignored.
func (f file) line(path ...string) int {
	offset, at := 0, f.root
	for _, name := range path {
		next, start, ok := child(at, name)
		if !ok {
			break
		}
		offset, at = start, next
	}
	return 1 + bytes.Count(f.text[:min(offset, len(f.text))], []byte("\n"))
}

// has says whether there is a value at the path.
func (f file) has(path ...string) bool {
	at, ok := f.root, true
	for _, name := range path {
		if at, _, ok = child(at, name); !ok {
			return false
		}
	}
	return true
}

func child(v hujson.Value, name string) (found hujson.Value, offset int, ok bool) {
	switch v := v.Value.(type) {
	case *hujson.Object:
		for _, m := range v.Members {
			if strings.EqualFold(memberName(m), name) {
				return m.Value, m.Name.StartOffset, true
			}
		}
	case *hujson.Array:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(v.Elements) {
			return v.Elements[i], v.Elements[i].StartOffset, true
		}
	}
	return hujson.Value{}, 0, false
}

func memberName(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }
