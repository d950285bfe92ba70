package funchost

import (
	"encoding/json"
	"slices"
	"testing"

	"example.com/durablefunctions/handler/internal/config"
)

func TestOutputMessages(t *testing.T) {
	t.Parallel()
	binary := map[string]any{"dataType": "binary"}
	for name, c := range map[string]struct {
		properties map[string]any
		value      string
		want       []string
	}{
		"nothing":                    {nil, ``, nil},
		"null":                       {nil, ` null `, nil},
		"text":                       {nil, `"order 7."`, []string{"order 7."}},
		"empty text":                 {nil, `""`, []string{""}},
		"base64":                     {nil, `"aGVsbG8="`, []string{"hello"}},
		"base64 with blanks":         {nil, `"aGVs\n bG8="`, []string{"hello"}},
		"text like base64":           {nil, `"mail from http"`, []string{"\x99\xa8\xa5~\xba&\x86\xdbi"}},
		"text of another length":     {nil, `"Done ok 4567"`, []string{"Done ok 4567"}},
		"base64 in a binary binding": {binary, `"aGVsbG8="`, []string{"aGVsbG8="}},
		"object":                     {nil, `{"a":1,"b":{},"c":[]}`, []string{"{\n  \"a\": 1,\n  \"b\": {},\n  \"c\": []\n}"}},
		"array":                      {nil, `["one",{"a":1},[2],3,true,null,"aGVsbG8="]`, []string{"one", "{\n  \"a\": 1\n}", "[\n  2\n]", "3", "True", "", "aGVsbG8="}},
		"empty array":                {nil, `[]`, nil},
		"object in a string":         {nil, `" {\"a\":1} "`, []string{"{\n  \"a\": 1\n}"}},
		"array in a string":          {nil, `"[\"one\",2]"`, []string{"one", "2"}},
		"number":                     {nil, `42`, []string{"42"}},
		"whole number with a point":  {nil, `42.0`, []string{"42"}},
		"fraction":                   {nil, `1.5`, []string{"1.5"}},
		"true":                       {nil, `true`, []string{"True"}},
		"date":                       {nil, `"2026-11-22T08:11:12+00:00"`, []string{"11/22/2026 08:11:12"}},
		"date in an object":          {nil, `{"at":"2026-11-22T08:11:12+00:00"}`, []string{"{\n  \"at\": \"2026-11-22T08:11:12+00:00\"\n}"}},
	} {
		messages, err := OutputMessages(config.Binding{Name: "out", Type: "queue", Properties: c.properties}, json.RawMessage(c.value))
		var got []string
		for _, m := range messages {
			got = append(got, string(m))
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	for _, value := range []string{`"[note] sent [7]"`, `"{text}"`} {
		if messages, err := OutputMessages(config.Binding{}, json.RawMessage(value)); err == nil {
			t.Errorf("%s was sent as %q", value, messages)
		}
	}
}
