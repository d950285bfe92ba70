package wire

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// TestPutOffAsRecorded compares the two answers with those that the real host took (instances rh1 and rh8).
func TestPutOffAsRecorded(t *testing.T) {
	t.Parallel()
	again, err := EncodeActions(PutOff("rh1", false))
	if err != nil || string(again) != `"CgNyaDE4AQ=="` {
		t.Errorf("refused: %s, %v", again, err)
	}
	first := PutOff("rh8", true)
	if n := len(first.Response.Actions); n != 1 {
		t.Fatalf("%d actions", n)
	}
	a := first.Response.Actions[0]
	if s := a.GetSendEvent(); a.Id != -100 || s.GetInstance().GetInstanceId() != "rh8" || s.GetName() != AgainEvent || s.GetData().GetValue() != "null" {
		t.Errorf("a first turn: %v", a)
	}
}

func TestRequiresHistory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"CgNyaDE4AQ==":         true,  // recorded
		"CgNyaDQ=":             false, // recorded
		"CgNyaDE4AA==":         false, // false
		"CgNyaDFCAXg4AQ==":     true,  // behind another unknown field
		"CgNyaDE4AUIBeA==":     true,  // before one
		"CgNyaDE4AYIBAXiIAQE=": true,  // and others with larger numbers
	} {
		results, err := DecodeActions(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := RequiresHistory(results); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	for _, first := range []bool{false, true} {
		encoded, _ := EncodeActions(PutOff("i", first))
		back, err := DecodeActions(strings.Trim(string(encoded), `"`))
		if err != nil || RequiresHistory(back) == first {
			t.Errorf("first %t: %v, %v", first, back, err)
		}
	}
}

// TestPeekTurnAsRecorded peeks into turns of the real host, whole and cut anywhere.
func TestPeekTurnAsRecorded(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/turns.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	turns := 0
	for lines.Scan() {
		var c struct{ Request string }
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		request, err := DecodeRequest([]byte(c.Request))
		if err != nil {
			t.Fatal(err)
		}
		turn, err := DecodeTurn(Text(request.Data["context"]))
		if err != nil {
			t.Fatal(err)
		}
		turns++
		id, first, ok := PeekTurn([]byte(c.Request), "context")
		if !ok || id != turn.InstanceID || first != (len(turn.Past) == 0) {
			t.Errorf("%s with %d past events: %q, first %t, %t", turn.InstanceID, len(turn.Past), id, first, ok)
		}
		for n := range 200 { // no cut says anything else
			if id, f, ok := PeekTurn([]byte(c.Request[:n]), "context"); ok && (id != turn.InstanceID || f != first) {
				t.Errorf("cut at %d: %q, first %t", n, id, f)
			}
		}
	}
	if turns < 10 {
		t.Errorf("only %d turns", turns)
	}
}

func TestPeekTurnOfOtherForms(t *testing.T) {
	t.Parallel()
	started := historyevent.New("executionStarted", time.Now())
	long := strings.Repeat("i", 500)
	past, err := EncodeTurn(&Turn{InstanceID: long, Past: []*backend.HistoryEvent{started}, New: []*backend.HistoryEvent{started}})
	if err != nil {
		t.Fatal(err)
	}
	none, _ := EncodeTurn(&Turn{InstanceID: long})
	noID, _ := EncodeTurn(&Turn{New: []*backend.HistoryEvent{started}})
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"encoded twice":             {`{"Data":{"context":"\"` + past + `\""}}`, true},
		"encoded once, with blanks": {` { "data" : { "other" : [1,{"context":2}], "CONTEXT" : "` + past, true},
		"metadata first":            {`{"Metadata":{"Data":{"context":"x"}},"Data":{"context":"\"` + past, true},
		"no events":                 {`{"Data":{"context":"\"` + none + `\""}}`, false},
		"no id":                     {`{"Data":{"context":"\"` + noID + `\""}}`, false},
		"no base64":                 {`{"Data":{"context":"\"....` + past, false},
		"no protobuf":               {`{"Data":{"context":"` + base64.StdEncoding.EncodeToString([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), false},
		"an object":                 {`{"Data":{"context":{"a":1}}}`, false},
		"no such binding":           {`{"Data":{"input":"x"}}`, false},
		"no JSON":                   {`"`, false},
		"nothing":                   {``, false},
	} {
		id, first, ok := PeekTurn([]byte(c.text), "context")
		if ok != c.ok || ok && (id != long || first) {
			t.Errorf("%s: %q, first %t, %t", name, id, first, ok)
		}
	}
}
