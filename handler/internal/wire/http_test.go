package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDecodeHTTPRequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ contentType, body, want string }{
		"text":                 {"text/plain", `"plain text"`, "plain text"},
		"JSON stays":           {"application/json", `"{\"n\": 1.50, \"d\":\"2026-11-22T10:11:12+02:00\"}"`, `{"n": 1.50, "d":"2026-11-22T10:11:12+02:00"}`},
		"a quoted string":      {"application/json", `"\"x\""`, `"x"`},
		"octets":               {"application/octet-stream", `"AAH//oBhYmM="`, "\x00\x01\xff\xfe\x80abc"},
		"octets, a parameter":  {"Application/Octet-Stream; a=b", `"AAH//oBhYmM="`, "\x00\x01\xff\xfe\x80abc"},
		"multipart":            {"multipart/form-data; boundary=x", `"LS14"`, "--x"},
		"not base64 after all": {"multipart/form-data", `"--x"`, "--x"},
		"base64 of another":    {"text/plain", `"LS14"`, "LS14"},
		"none":                 {"text/plain", `null`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := DecodeHTTPRequest(json.RawMessage(`{"Url":"http://h/api/x","Method":"POST","Headers":{"content-type":["` + c.contentType + `"]},"Params":{"a":"1","b":null},"Body":` + c.body + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Body) != c.want {
				t.Errorf("body %q, want %q", r.Body, c.want)
			}
			if len(r.Params) != 1 || r.Params["a"] != "1" {
				t.Errorf("params %v", r.Params)
			}
		})
	}
}

func TestDecodeHTTPRequestHidesKeys(t *testing.T) {
	t.Parallel()
	for _, value := range []string{`{"Url":"http://h/?code=SECRET","Method":7}`, `{"Url":"http://h/?code=SECRET"}`, `"SECRET"`, `null`} {
		if _, err := DecodeHTTPRequest(json.RawMessage(value)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: error %v", value, err)
		}
	}
}

func TestEncodeHTTPResponse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers    map[string][]string
		body, want string // "" is ErrNotCarried
	}{
		"text":            {map[string][]string{"Content-Type": {"text/markdown"}}, "# é <b>", `{"statusCode":201,"headers":{"Content-Type":"text/markdown"},"body":"# é \u003cb\u003e"}`},
		"several values":  {map[string][]string{"X-Multi": {"a", "b"}}, "", `{"statusCode":201,"headers":{"X-Multi":"a, b"},"body":""}`},
		"one cookie":      {map[string][]string{"Set-Cookie": {"a=b"}}, "", `{"statusCode":201,"headers":{"Set-Cookie":"a=b"},"body":""}`},
		"two cookies":     {map[string][]string{"Set-Cookie": {"a=b", "c=d"}}, "", ""},
		"the host's":      {map[string][]string{"Content-Length": {"5"}, "Connection": {"close"}, "Trailer:X": {"y"}}, "", `{"statusCode":201,"headers":{},"body":""}`},
		"a date":          {map[string][]string{"X-At": {"2026-11-22T10:11:12Z"}}, "2026-11-22T10:11:12+02:00", `{"statusCode":201,"headers":{"X-At":"2026-11-22T10:11:12Z "},"body":"2026-11-22T10:11:12+02:00\n"}`},
		"a date in JSON":  {nil, `"2026-11-22T10:11:12+02:00"`, `{"statusCode":201,"headers":{},"body":"\"2026-11-22T10:11:12+02:00\""}`},
		"$ in JSON":       {nil, `{"$type":"x"}`, `{"statusCode":201,"headers":{},"body":"{\"$type\":\"x\"}"}`},
		"$ in a header":   {map[string][]string{"$type": {"x"}}, "", ""},
		"bytes":           {nil, "\xff\xd8", ""},
		"bytes in header": {map[string][]string{"X": {"\xff"}}, "", ""},
		"lines in header": {map[string][]string{"X": {"a\r\nY: b"}}, "", `{"statusCode":201,"headers":{"X":"a  Y: b"},"body":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := EncodeHTTPResponse(201, c.headers, []byte(c.body))
			switch {
			case c.want == "" && (!errors.Is(err, ErrNotCarried) || !strings.Contains(err.Error(), "enableForwardingHttpRequest")):
				t.Errorf("%s, error %v, want one that says the way out", got, err)
			case c.want != "" && (err != nil || string(got) != c.want):
				t.Errorf("%s (%v), want %s", got, err, c.want)
			}
		})
	}
}

func FuzzDecodeHTTPRequest(f *testing.F) {
	f.Add(`{"Url":"http://127.0.0.1:7181/api/things/7/bob?q=1&q=2","Method":"POST","Headers":{"Content-Type":["application/octet-stream"],"X":[]},"Params":{"id":"7","name":null},"Body":"AAH//oBhYmM="}`)
	f.Add(`{"Url":"x","Method":"GET","Body":{"a":1}}`)
	f.Add(`{"Url":"x","Method":"GET","Body":"\ud800"}`)
	f.Fuzz(func(t *testing.T, value string) {
		if r, err := DecodeHTTPRequest(json.RawMessage(value)); err == nil && (r.Method == "" || r.URL == "") {
			t.Errorf("%q is taken without a method or URL", value)
		}
	})
}
