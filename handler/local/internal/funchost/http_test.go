package funchost

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"example.com/durablefunctions/handler/internal/config"
)

// TestWriteHTTP: what the host answers to an http output, as it was seen.
func TestWriteHTTP(t *testing.T) {
	t.Parallel()
	f := config.Function{Name: "F", Bindings: []config.Binding{{Name: "req", Type: "httpTrigger", Direction: "in"}, {Name: "res", Type: "http", Direction: "out"}}}
	for name, c := range map[string]struct {
		answer            string
		status            int
		body, contentType string
	}{
		"text":         {`{"Outputs":{"res":{"statusCode":201,"headers":{"Content-Type":"text/markdown"},"body":"# x"}}}`, 201, "# x", "text/markdown; charset=utf-8"},
		"any case":     {`{"Outputs":{"res":{"STATUS":"418","Body":{"x":1}}}}`, 418, `{"x":1}`, "application/json; charset=utf-8"},
		"result":       {`{"ReturnValue":{"res":{"statusCode":202,"body":"x"}}}`, 202, "x", "text/plain; charset=utf-8"},
		"no output":    {`{"Outputs":null,"ReturnValue":null}`, 204, "", ""},
		"no body":      {`{"Outputs":{"res":{"a":1}}}`, 200, `{"a":1}`, "application/json; charset=utf-8"},
		"list":         {`{"Outputs":{"res":{"body":[1,2]}}}`, 200, listType, "text/plain; charset=utf-8"},
		"date":         {`{"Outputs":{"res":{"body":"2026-11-22T10:11:12+02:00"}}}`, 200, "11/22/2026 08:11:12", "text/plain; charset=utf-8"},
		"date, a line": {`{"Outputs":{"res":{"body":"2026-11-22T10:11:12+02:00\n"}}}`, 200, "2026-11-22T10:11:12+02:00\n", "text/plain; charset=utf-8"},
		"short offset": {`{"Outputs":{"res":{"body":"2026-11-22T10:11:12+02"}}}`, 200, "11/22/2026 08:11:12", "text/plain; charset=utf-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := ReadAnswer(f, &Reply{Status: 200, ContentType: "application/json", Body: []byte(c.answer)})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			a.WriteHTTP(w, f)
			if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != c.contentType {
				t.Errorf("%d %q %q, want %d %q %q", w.Code, w.Body, w.Header().Get("Content-Type"), c.status, c.body, c.contentType)
			}
		})
	}
}

func FuzzWriteHTTP(f *testing.F) {
	f.Add(`{"statusCode":201,"headers":{"X":["a"]},"body":"x"}`)
	f.Add(`{"statusCode":99,"body":5}`)
	f.Add(`[1]`)
	on := config.Function{Bindings: []config.Binding{{Name: "res", Type: "http", Direction: "out"}}}
	f.Fuzz(func(t *testing.T, value string) {
		if !json.Valid([]byte(value)) {
			return
		}
		defer func() { _ = recover() }() // as net/http does
		w := httptest.NewRecorder()
		(&Answer{Outputs: map[string]json.RawMessage{"res": json.RawMessage(value)}}).WriteHTTP(w, on)
		if w.Code < 100 {
			t.Errorf("%s: status %d", value, w.Code)
		}
	})
}
