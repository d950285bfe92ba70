package handler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"example.com/durablefunctions/handler"
)

// bytesOf posts a value of a binding with the given function.json entry and returns what Bytes makes of it.
func bytesOf(t *testing.T, binding, value string) (got []byte) {
	t.Helper()
	app := handler.New()
	app.Trigger("T", func(_ context.Context, in *handler.Invocation) error {
		got = in.Bytes("value")
		return nil
	})
	h := start(t, app, map[string]string{"T/function.json": `{"bindings":[` + binding + `]}`}, nil)
	if a := h.post("T", `{"Data":{"value":`+value+`},"Metadata":{}}`); a.Status != 200 {
		t.Errorf("status %d (%s)", a.Status, a.Phrase)
	}
	return got
}

// TestBytes plays what the real host sent for messages and blobs whose bytes are known.
func TestBytes(t *testing.T) {
	t.Parallel()
	recorded, err := os.Open("testdata/binary.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer recorded.Close()
	lines := bufio.NewScanner(recorded)
	for lines.Scan() {
		var c struct {
			Case, Trigger, DataType string
			Value                   json.RawMessage
			Bytes                   []byte
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Case+" "+c.DataType, func(t *testing.T) {
			binding := fmt.Sprintf(`{"name":"value","type":%q,"direction":"in","dataType":%q}`, c.Trigger, c.DataType)
			if got := bytesOf(t, binding, string(c.Value)); !bytes.Equal(got, c.Bytes) {
				t.Errorf("got %q, want %q", got, c.Bytes)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

func TestBytesOfOtherValues(t *testing.T) {
	t.Parallel()
	const queue = `{"name":"item","type":"queueTrigger","direction":"in","queueName":"q"},`
	for name, c := range map[string]struct{ binding, value, want string }{
		"a blob that is not there":      {queue + `{"name":"value","type":"blob","direction":"in","path":"a/b"}`, `"null"`, "<nil>"},
		"an empty blob":                 {queue + `{"name":"value","type":"blob","direction":"in","path":"a/b"}`, `""`, ""},
		"a message with these bytes":    {`{"name":"value","type":"queueTrigger","direction":"in","dataType":"binary"}`, `"null"`, "\x9e\xe9\x65"},
		"binary, but sent as text":      {`{"name":"value","type":"queueTrigger","direction":"in","dataType":"binary"}`, `"\"hello\""`, "hello"},
		"binary, but sent as an object": {`{"name":"value","type":"queueTrigger","direction":"in","dataType":"binary"}`, `{"a":1}`, `{"a":1}`},
		"base64 as text":                {`{"name":"value","type":"queueTrigger","direction":"in"}`, `"\"aGVsbG8=\""`, "aGVsbG8="},
		"no such binding":               {queue + `{"name":"other","type":"blob","direction":"in","path":"a/b"}`, `"eA=="`, "eA=="},
	} {
		got := bytesOf(t, c.binding, c.value)
		text := string(got)
		if got == nil {
			text = "<nil>"
		}
		if text != c.want {
			t.Errorf("%s: got %q, want %q", name, text, c.want)
		}
	}
	if got := (&handler.Invocation{}).Bytes("value"); got != nil {
		t.Errorf("of no binding: %q", got)
	}
}

// TestHandlerOfTwoRoots: a function that one root disables is disabled there, whatever another root said before.
func TestHandlerOfTwoRoots(t *testing.T) {
	t.Parallel()
	app := handler.New()
	app.Trigger("T", func(context.Context, *handler.Invocation) error { return nil })
	const bindings = `"bindings":[{"name":"item","type":"queueTrigger","direction":"in","queueName":"q"}]}`
	on := start(t, app, map[string]string{"T/function.json": `{` + bindings}, nil)
	off := start(t, app, map[string]string{"T/function.json": `{"disabled":true,` + bindings}, nil)
	const body = `{"Data":{"item":"\"x\""},"Metadata":{}}`
	if a := on.post("T", body); a.Status != 200 {
		t.Errorf("enabled: %d (%s)", a.Status, a.Phrase)
	}
	if a := off.post("T", body); a.Status != 404 {
		t.Errorf("disabled: %d (%s)", a.Status, a.Phrase)
	}
}
