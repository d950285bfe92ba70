package myclientfunction

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text  string
		ids   []string
		batch string
		err   string
	}{
		"strings and numbers": {text: `{"RecordIds":["C-001",17,-3,12345678901234567890]}`, ids: []string{"C-001", "17", "-3", "12345678901234567890"}},
		"each once":           {text: `{"RecordIds":["a",1,"a","1",1]}`, ids: []string{"a", "1"}},
		"none":                {text: `{"RecordIds":[]}`, ids: []string{}},
		"batch":               {text: `{"Batch":"2026-11"}`, batch: "2026-11"},
		"any case":            {text: `{"recordIDS":["a"],"BATCH":null}`, ids: []string{"a"}},
		"null is absent":      {text: `{"RecordIds":null,"Batch":"b"}`, batch: "b"},
		"other fields":        {text: `{"sys":{},"MessageId":1,"RecordId":"x","Batch":"b","Data":[]}`, batch: "b"},
		"white space":         {text: " \n{ \"Batch\" : \"b\" }\n", batch: "b"},
		"escapes":             {text: `{"RecordIds":["\u0043-001","C-001"]}`, ids: []string{"C-001"}},
		"not JSON":            {text: `C-001`, err: "not JSON"},
		"truncated":           {text: `{"RecordIds":["a"`, err: "not JSON"},
		"two values":          {text: `{"Batch":"b"}{}`, err: "not JSON"},
		"string":              {text: `"C-001"`, err: "JSON string"},
		"twice":               {text: `"{\"RecordIds\":[\"a\"]}"`, ids: []string{"a"}},
		"three times":         {text: `"\"{}\""`, err: "JSON string"},
		"blanks":              {text: `{"RecordIds":[" a","a\t"," b "]}`, ids: []string{"a", "b"}},
		"blanks round batch":  {text: `{"Batch":" 2026-11\n"}`, batch: "2026-11"},
		"empty batch beside":  {text: `{"RecordIds":["a"],"Batch":" "}`, ids: []string{"a"}},
		"no ids beside":       {text: `{"RecordIds":[ ],"Batch":"b"}`, batch: "b"},
		"both empty":          {text: `{"RecordIds":[],"Batch":""}`, ids: []string{}},
		"empty string of ids": {text: `{"RecordIds":"","Batch":"b"}`, batch: "b"},
		"null":                {text: `null`, err: "neither"},
		"neither":             {text: `{}`, err: "neither"},
		"both":                {text: `{"RecordIds":[1],"Batch":"b"}`, err: "both"},
		"ids are an object":   {text: `{"RecordIds":{"a":1}}`, err: "array"},
		"empty id":            {text: `{"RecordIds":["a"," "]}`, err: "RecordIds[1] is empty"},
		"null id":             {text: `{"RecordIds":[null]}`, err: "RecordIds[0] is null"},
		"fraction":            {text: `{"RecordIds":[1.5]}`, err: "RecordIds[0] is 1.5"},
		"exponent":            {text: `{"RecordIds":[1e3]}`, err: "RecordIds[0] is 1e3"},
		"bool":                {text: `{"RecordIds":[true]}`, err: "RecordIds[0] is true"},
		"empty batch":         {text: `{"Batch":" "}`, err: "non-empty"},
		"batch is a number":   {text: `{"Batch":202611}`, batch: "202611"},
		"batch is a fraction": {text: `{"Batch":2026.11}`, err: "string"},
		"too large":           {text: `{"Batch":"` + strings.Repeat("b", 1000) + `"}`, err: "limit is 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := Parse(c.text, 1000)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			case err != nil || !slices.Equal(m.RecordIds, c.ids) || m.Batch != c.batch:
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"RecordIds":["C-001",17]}`, `{"Batch":"2026-11"}`, `{"RECORDIDS":[null],"batch":""}`, `[]`, ``, `{"RecordIds":["\ud800"]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text, 1<<16)
		if err != nil {
			if strings.Contains(err.Error(), "\n") && !strings.Contains(text, "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if (m.Batch == "") == (m.RecordIds == nil) {
			t.Errorf("%q: %+v has both or neither", text, m)
		}
		seen := map[string]bool{}
		for _, id := range m.RecordIds {
			if strings.TrimSpace(id) == "" || seen[id] {
				t.Errorf("%q: id %q is empty or twice", text, id)
			}
			seen[id] = true
		}
	})
}

func TestInstanceID(t *testing.T) {
	t.Parallel()
	id := func(text string, metadata ...string) string {
		return InstanceID(text, func(name string) (string, bool) {
			for i := 0; i < len(metadata); i += 2 {
				if metadata[i] == name {
					return metadata[i+1], true
				}
			}
			return "", false
		})
	}
	const at, later = "2026-11-26T00:02:11", "2026-11-26T00:02:12"
	same := id("text", "MessageId", "m")
	if same != id("text", "MessageId", "m", "SequenceNumber", "2") || len(same) != 32 {
		t.Errorf("id %q", same)
	}
	for _, identity := range [][]string{
		{"MessageId", "m", "SequenceNumber", "7"}, {"SequenceNumber", "7", "EnqueuedTimeUtc", at}, {"Id", "storage queue"},
	} {
		first := id("text", identity...)
		if again := id("text", identity...); again != first {
			t.Errorf("%v: a second delivery has the id %s, not %s", identity, again, first)
		}
	}
	seen := map[string]bool{same: true}
	for _, other := range []string{
		id("text2", "MessageId", "m"), id("text", "MessageId", "m2"), id("ext", "MessageId", "mt"),
		id("text", "SequenceNumber", "7", "EnqueuedTimeUtc", at), id("text", "SequenceNumber", "7", "EnqueuedTimeUtc", later),
		id("text", "SequenceNumber", "8", "EnqueuedTimeUtc", at), id("text", "Id", "m3"), id("text"), id("text"), id("text", "MessageId", ""),
	} {
		if seen[other] {
			t.Errorf("id %q twice", other)
		}
		seen[other] = true
	}
}

func TestReadSettings(t *testing.T) {
	t.Parallel()
	env := map[string]string{"PROCESS_ATTEMPTS": "5", "MAIL_RETRY_INTERVAL": "1500ms", "AlertEmailTo": "ops@example.com", "MESSAGE_MAX_BYTES": "100"}
	s, err := ReadSettings(func(n string) string { return env[n] })
	if err != nil || s.Input.Attempts != 5 || s.Input.MailRetryIntervalSeconds != 1.5 || s.Input.AlertEmailTo != "ops@example.com" || s.MaxMessageBytes != 100 {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ReadSettings(func(n string) string {
		return map[string]string{"AlertEmailTo": " ; ", "AlertEmailFrom": "Alerts <a@example.com>"}[n]
	})
	if err != nil || s.Input.AlertEmailTo != "" || s.Input.AlertEmailFrom != "Alerts <a@example.com>" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"PROCESS_ATTEMPTS=0", "MAIL_ATTEMPTS=x", "MAIL_RETRY_INTERVAL=5", "PROCESS_RETRY_INTERVAL=-1s", "MESSAGE_MAX_BYTES=-1",
		"AlertEmailTo=ops", "AlertEmailFrom=ops", "AlertEmailFrom=a@example.com;b@example.com", "SendGridKey=SG.x\n"} {
		name, value, _ := strings.Cut(bad, "=")
		_, err := ReadSettings(func(n string) string { return map[string]string{name: value}[n] })
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one that names it", bad, err)
		}
	}
}

// A message's bytes are text that is read as it was written, or refused with a line that says what to do.
func TestDecode(t *testing.T) {
	t.Parallel()
	const text = `{"Batch":"é"}`
	utf16 := func(order unicode.Endianness, mark unicode.BOMPolicy) string {
		encoded, err := unicode.UTF16(order, mark).NewEncoder().String(text)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	for name, body := range map[string]string{
		"UTF-8": text, "with a mark": "\ufeff" + text,
		"UTF-16 LE": utf16(unicode.LittleEndian, unicode.UseBOM), "UTF-16 BE": utf16(unicode.BigEndian, unicode.UseBOM),
	} {
		if got, err := decode([]byte(body)); got != text || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, body := range map[string]string{
		"Latin-1": "{\"Batch\":\"\xe9\"}", "UTF-16 LE without a mark": utf16(unicode.LittleEndian, unicode.IgnoreBOM), "UTF-16 BE without a mark": utf16(unicode.BigEndian, unicode.IgnoreBOM),
	} {
		if got, err := decode([]byte(body)); err == nil || !strings.Contains(err.Error(), "send it as UTF-8") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
