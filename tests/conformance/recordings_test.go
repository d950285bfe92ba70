// Package conformance plays recordings of the real Functions host against the lab app, which is built on package
// handler, and compares the answers with the recorded ones:
//
//	go test ./tests/conformance -run TestRecordings -count=1 -v -recordings DIR
//
// DIR is an absolute path, or relative to this package; every *.jsonl in it is played. The format, the app and what
// counts as the same are described in testdata/recordings/README.md.
//
// TestLocalHost goes the other way: the local host plays the real one's part, and its conversations are compared with
// the recorded ones.
package conformance

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

var recordings = flag.String("recordings", "testdata/recordings", "directory of the *.jsonl files to play")

// record is one line of a recording: a request of the host and what the recorded app answered.
type record struct {
	Function string
	Headers  map[string][]string
	Request  string
	Status   int
	Response string
	Note     string // what the recorded app saw of the durable client
	Decoded  struct{ Response json.RawMessage }
}

func TestRecordings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(*recordings, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no *.jsonl in %s (%v)", *recordings, err)
	}
	p := startPlayer(t)
	var compared, skipped, different int
	for _, file := range files {
		lines, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var n, s int
		for i, line := range bytes.Split(lines, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue // the end of the file
			}
			r, ok, err := readRecord(line)
			if err == nil && !ok {
				s++
				continue
			}
			n++
			differences := []string{fmt.Sprint("the line is no recording: ", err)}
			if err == nil {
				differences = p.check(r)
			}
			for _, d := range differences {
				different++
				t.Errorf("%s:%d %s: %s", filepath.Base(file), i+1, r.instance(), d)
			}
		}
		t.Logf("%s: %d requests compared, %d lines skipped", filepath.Base(file), n, s)
		compared, skipped = compared+n, skipped+s
	}
	t.Logf("in all: %d requests compared, %d lines skipped, %d differences", compared, skipped, different)
	if compared == 0 {
		t.Errorf("no *.jsonl in %s holds a request to compare", *recordings)
	}
}

// readRecord reads a line. ok is false if it is of another format, one without a function.
func readRecord(line []byte) (r record, ok bool, err error) {
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(line, &properties); err != nil {
		return r, false, err
	}
	if _, ok := properties["function"]; !ok {
		return r, false, nil
	}
	return r, true, json.Unmarshal(line, &r)
}

// check plays the record and says how the answer differs from the recorded one.
func (p *player) check(r record) []string {
	a, err := p.play(r)
	if err != nil {
		return []string{err.Error()}
	}
	return compare(r, a)
}

// instance names the orchestration that the record belongs to, as far as that can be told.
func (r record) instance() string {
	var request struct {
		Data     map[string]json.RawMessage
		Metadata map[string]json.RawMessage
	}
	switch {
	case json.Unmarshal([]byte(r.Request), &request) != nil:
		return "no instance"
	case r.Function == "Orch":
		if turn, err := testkit.DecodeTurn(r.Request); err == nil {
			return turn.InstanceID
		}
	case r.Function == "QueueStart":
		if p, err := planOf(r); err == nil && p.id != "" {
			return p.id
		}
	default:
		if id := testkit.Text(request.Metadata["instanceId"]); id != "" {
			return id
		}
	}
	return "no instance"
}
