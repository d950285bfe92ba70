package wire

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asEncodingJSON is how encoding/json reads an envelope.
type asEncodingJSON struct{ Data, Metadata map[string]json.RawMessage }

var envelopes = []string{
	`{"Data":{"a":"\"x\"","b":1},"Metadata":{"m":"\"y\"","sys":{"n":[1,2]}}}`,
	` { "data" : { "a" : [ 1 , 2 ] } , "METADATA" : { "m" : null } } `,
	`{"Data":{"a":1},"Data":{"a":2,"b":3},"Metadata":{"m":1,"n":1},"Metadata":{"m":2}}`,
	`{"Data":{"a":1,"a":2},"Metadata":{"m":1,"m":2,"M":3}}`,
	`{"Data":{"a":1},"Data":null,"Metadata":{"m":1},"Metadata":null}`,
	`{"Data":null,"Data":{"a":1},"Metadata":null,"Metadata":{"m":1}}`,
	`{"Other":{"Data":{"a":1}},"Data":{"":0,"\u0041\ud800":0}}`,
	"{\"Data\":{\"a\xff\":\"\xff\"},\"Metadata\":{\"\xff\":\"\xff\"}}",
	`{}`, `null`, ``, ` `, `1`, `"Data"`, `[]`, `{`, `{"Data":{}`, `{"Data":{}}{}`, `{"Data":{}} x`, `{"Data":{},}`,
	`{"Data":[]}`, `{"Data":"x"}`, `{"Data":1}`, `{"Data":true}`, `{"Data":{"a":}}`, `{"Data":{"a":01}}`, `{"Data":{"a":"` + "\n" + `"}}`,
	`{"Metadata":[]}`, `{"Metadata":"x"}`, `{"Metadata":1}`, `{"Metadata":false}`, `{"Metadata":{"m":}}`, `{"Metadata":{"m":[1,{"n":nul}]}}`,
	`{"Data":{"a":1},"Metadata":{"m":"\x"}}`, `{"Other":[01]}`,
}

func TestDecodeRequestAsEncodingJSON(t *testing.T) {
	for _, text := range envelopes {
		compareDecoders(t, text)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, text := range envelopes {
		f.Add(text)
	}
	f.Fuzz(compareDecoders)
}

func compareDecoders(t *testing.T, text string) {
	var want asEncodingJSON
	wantErr := json.Unmarshal([]byte(text), &want)
	r, err := DecodeRequest([]byte(text))
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%s: error %v, encoding/json's is %v", text, err, wantErr)
	}
	if err != nil {
		return
	}
	metadata, err := r.Properties()
	if err != nil {
		t.Fatalf("%s: Properties: %v", text, err)
	}
	for _, c := range []struct{ got, want map[string]json.RawMessage }{{r.Data, want.Data}, {metadata, want.Metadata}} {
		if len(c.got)+len(c.want) > 0 && !cmp.Equal(c.got, c.want) {
			t.Errorf("%s: %s", text, cmp.Diff(c.want, c.got))
		}
	}
}
