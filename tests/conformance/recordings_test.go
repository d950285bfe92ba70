// Package conformance plays recordings of the real Functions host to package handler, and compares its answers with the recorded
// ones:
//
//	go test ./tests/conformance -count=1 -v -recordings DIR
//
// DIR is an absolute path, or relative to this package. Every *.jsonl file below it is played; its content tells its format, not
// its name. TestRecordings plays what was recorded with the lab app. TestRecordedHistories plays the turns of the scripted
// handler. TestRecordedMessages, TestRecordedHTTP, TestRecordedTriggers and TestRecordedEntities play the rest.
// testdata/recordings/README.md describes the formats, the apps, and which answers count as the same. The tests print how many
// lines they could not compare; TestRecordingFormats names the files that have another format.
//
// TestLocalHost, TestLocalHostScripted, TestLocalHostEntities and TestHTTPAPI test the other side: the local host plays the real
// one's part, and its conversations are compared with the recorded ones.
package conformance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/handler/payload"
	"example.com/durablefunctions/internal/testkit"
)

const ownRecordings = "testdata/recordings"

var recordings = flag.String("recordings", ownRecordings, "directory of the *.jsonl files to play")

// record is one line of a recording: a request of the host, and the recorded app's answer.
type record struct {
	Function string
	Headers  map[string][]string
	Request  string
	Status   int
	Response string
	Note     string // the result of the client call that the recorded app made
	Decoded  struct{ Response json.RawMessage }
}

// recording is a file of recorded lines.
type recording struct {
	name  string // relative to the directory
	lines [][]byte
}

// readRecordings reads every *.jsonl file below the directory that the flag names.
func readRecordings(t *testing.T) (files []recording) {
	t.Helper()
	err := filepath.WalkDir(*recordings, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".jsonl" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(*recordings, path)
		files = append(files, recording{name, bytes.Split(bytes.TrimSpace(text), []byte("\n"))})
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no *.jsonl below %s (%v)", *recordings, err)
	}
	return files
}

// isScripted says whether a file was recorded with the scripted handler: it shows calls of a client, positions in the script, or
// functions that the lab app does not have.
func (f recording) isScripted() bool {
	return slices.ContainsFunc(f.lines, func(line []byte) bool {
		var l struct {
			RPC, Function string
			Decoded       struct{ Turn *int }
			Sent          json.RawMessage // in a line about a message
		}
		return json.Unmarshal(line, &l) == nil && l.Sent == nil && (l.RPC != "" || l.Decoded.Turn != nil || !slices.Contains(labFunctions, l.Function))
	})
}

// labFunctions are the functions of the lab app. The empty name stands for the host's readiness probe.
var labFunctions = []string{"", "QueueStart", "Echo", "Fail", "Orch"}

// tally counts what was done with the lines.
type tally map[string]int

func (c tally) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[what], what))
	}
	return strings.Join(parts, ", ")
}

// formats are the kinds of lines, each with a test that recognizes it.
var formats = []struct {
	name string
	is   func(map[string]json.RawMessage) bool
}{
	{"messages of Service Bus", func(l map[string]json.RawMessage) bool { return l["sent"] != nil && l["request"] != nil }},
	{"calls of the durable client", func(l map[string]json.RawMessage) bool { return l["rpc"] != nil }},
	{"requests of the host", func(l map[string]json.RawMessage) bool { return l["function"] != nil && l["request"] != nil }},
	{"calls of the HTTP API", func(l map[string]json.RawMessage) bool {
		return bytes.HasPrefix(l["request"], []byte("{")) && l["response"] != nil
	}},
	{"compressed texts", func(l map[string]json.RawMessage) bool { return l["text"] != nil && l["compressed"] != nil }},
}

// formatOf returns the name of a line's format, or "" if it is unknown.
func formatOf(line []byte) string {
	var l map[string]json.RawMessage
	if json.Unmarshal(line, &l) == nil {
		for _, f := range formats {
			if f.is(l) {
				return f.name
			}
		}
	}
	return ""
}

// TestRecordingFormats prints what each file holds. A line of an unknown format fails the test only in our own recordings.
func TestRecordingFormats(t *testing.T) {
	t.Parallel()
	for _, file := range readRecordings(t) {
		counted, unknown := tally{}, 0
		for i, line := range file.lines {
			if format := formatOf(line); format != "" {
				counted[format]++
			} else if unknown == 0 {
				unknown = i + 1
			}
		}
		switch {
		case unknown == 0:
			t.Logf("%s: %s", file.name, counted)
		case *recordings == ownRecordings:
			t.Errorf("%s:%d is in no format that testdata/recordings/README.md describes", file.name, unknown)
		default:
			t.Logf("%s:%d is in no format that testdata/recordings/README.md describes: such lines are skipped (recognised in this file: %s)", file.name, unknown, cmp.Or(counted.String(), "none"))
		}
	}
	for line, want := range map[string]string{
		`{"a":1}`: "", `nonsense`: "", `[]`: "", `{"request":{"path":"/"},"response":{}}`: "calls of the HTTP API",
	} {
		if got := formatOf([]byte(line)); got != want {
			t.Errorf("%s is taken for %q, want %q", line, got, want)
		}
	}
}

// TestRecordedTexts checks that the payload codec reads what .NET compressed.
func TestRecordedTexts(t *testing.T) {
	t.Parallel()
	for _, file := range readRecordings(t) {
		for i, line := range file.lines {
			var l struct{ Text, Compressed string }
			if formatOf(line) != "compressed texts" {
				continue
			}
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatal(err)
			}
			if got, err := payload.Decompress(l.Compressed, 64<<20); err != nil || got != l.Text {
				t.Errorf("%s:%d: %.100q, %v, recorded is %.100q", file.name, i+1, got, err, l.Text)
			}
		}
	}
}

func TestRecordings(t *testing.T) {
	t.Parallel()
	files := readRecordings(t)
	p := startPlayer(t)
	all := tally{}
	for _, file := range files {
		counted := tally{}
		scripted := file.isScripted()
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			switch {
			case scripted:
				counted["lines skipped: of the scripted handler"]++
				continue
			case err == nil && !ok:
				counted["lines skipped: another format"]++
				continue
			}
			counted["requests compared"]++
			differences := []string{fmt.Sprint("the line is not a recording: ", err)}
			if err == nil {
				differences = p.check(r)
			}
			for _, d := range differences {
				counted["differences"]++
				t.Errorf("%s:%d %s: %s", file.name, i+1, r.instance(), d)
			}
		}
		t.Logf("%s: %s", file.name, counted)
		for what, n := range counted {
			all[what] += n
		}
	}
	t.Logf("in all: %s", all)
	if all["requests compared"] == 0 && *recordings == ownRecordings {
		t.Error("no request was compared")
	}
}

// readRecord reads a line. ok is false if the line has another format: it names no function, or is about a message.
func readRecord(line []byte) (r record, ok bool, err error) {
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(line, &properties); err != nil {
		return r, false, err
	}
	if _, ok := properties["function"]; !ok || properties["sent"] != nil {
		return r, false, nil
	}
	return r, true, json.Unmarshal(line, &r)
}

// check plays the record and returns the differences between the answer and the recorded one.
func (p *player) check(r record) []string {
	a, err := p.play(r)
	if err != nil {
		return []string{err.Error()}
	}
	return compare(r, a)
}

// instance returns the id of the orchestration that the record belongs to, if it shows one.
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
