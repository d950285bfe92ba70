package durable

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// FuzzDecode: every text is read as encoding/json reads it.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{`"plain"`, `""`, `"`, `"a\nb"`, `"ü"`, "\"\xff\"", `"a"b"`, " \"a\" ", "null", " {\"a\": 1.50} \n", "\v1", "1\u00a0", `[1,`, "", `"\ud800"`, "\"\x7f\""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		same[string](t, text)
		same[json.RawMessage](t, text)
		same[int](t, text)
		same[any](t, text)
	})
}

func same[T any](t *testing.T, text string) {
	t.Helper()
	var got, want T
	gotErr, wantErr := decode(text, &got), json.Unmarshal([]byte(text), &want)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
		t.Errorf("%q: got %#v %v, want %#v %v", text, got, gotErr, want, wantErr)
	}
}

type loud string

func (loud) MarshalText() ([]byte, error) { return nil, fmt.Errorf("no") }

func TestIsPlain(t *testing.T) {
	t.Parallel()
	type inner struct{ A string }
	for _, v := range []any{true, "a", 1, uint8(2), inner{"x"}, [2]inner{}, struct {
		inner
		B int `json:",string"`
	}{}} {
		if _, err := json.Marshal(v); err != nil || !isPlain(v) {
			t.Errorf("%T is not plain (%v)", v, err)
		}
	}
	for _, v := range []any{nil, 1.5, []int{1}, map[string]int{}, &inner{}, json.Number("x"), json.RawMessage("x"), loud("x"), struct{ L loud }{}, time.Time{}, make(chan int), struct{ A any }{}} {
		if isPlain(v) {
			t.Errorf("%T is plain", v)
		}
	}
}
