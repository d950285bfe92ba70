package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// TestSeenAsRecorded: the real host's request begins with what the one before had, byte for byte. There is one that does not: the
// host alters an entity's answer when it stores it.
func TestSeenAsRecorded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "..", "tests", "conformance", "testdata", "recordings")
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	more, _ := filepath.Glob(filepath.Join(dir, "3.19", "*.jsonl"))
	var went, not int
	for _, file := range append(files, more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		last := map[string][]byte{}
		for line := range bytes.Lines(text) {
			request, turn := recordedTurn(line)
			if turn == nil {
				continue
			}
			seen := last[turn.InstanceID]
			last[turn.InstanceID] = AppendSeen(nil, request)
			if before, err := UnmarshalRest(seen); err != nil || len(seen) == 0 || len(before.Past) > len(turn.Past) || !sameExecution(before, turn) {
				continue // the first turn, an earlier one again, or one of another execution
			}
			if bytes.HasPrefix(request, seen) {
				went++
			} else {
				not++
				t.Logf("%s: %s", filepath.Base(file), turn.InstanceID)
			}
		}
	}
	if went < 300 || not > 1 {
		t.Errorf("%d turns go on as the one before has ended, %d do not", went, not)
	}
}

func sameExecution(a, b *Turn) bool {
	return historyevent.Execution(historyevent.Start(a.Past)) == historyevent.Execution(historyevent.Start(b.New, b.Past))
}

// recordedTurn returns the orchestrator's turn in a line of a recording; nil if there is none.
func recordedTurn(line []byte) (request []byte, turn *Turn) {
	var c struct{ Request json.RawMessage }
	var text string
	if json.Unmarshal(line, &c) != nil || json.Unmarshal(c.Request, &text) != nil {
		return nil, nil
	}
	r, err := DecodeRequest([]byte(text))
	if err != nil {
		return nil, nil
	}
	for _, value := range r.Data {
		request, err = base64.StdEncoding.DecodeString(Text(value))
		if err != nil || InstanceOf(request) == "" {
			continue
		}
		if turn, err = UnmarshalTurn(request); err == nil {
			return request, turn
		}
	}
	return nil, nil
}

// FuzzSeen: a request's part that the next one begins with has all its events, as past ones, whatever else is in it.
func FuzzSeen(f *testing.F) {
	started, raised := historyevent.New("executionStarted", time.Unix(1, 0)), historyevent.New("eventRaised", time.Unix(2, 0))
	raised.GetEventRaised().Name = "Go"
	for _, turn := range []Turn{
		{InstanceID: "i", New: []*backend.HistoryEvent{started}},
		{InstanceID: "i", Past: []*backend.HistoryEvent{started}, New: []*backend.HistoryEvent{raised, raised}, DefaultVersion: "1", HTTPPause: time.Second},
	} {
		text, err := EncodeTurn(&turn)
		if err != nil {
			f.Fatal(err)
		}
		request, _ := base64.StdEncoding.DecodeString(text)
		f.Add(request)
		f.Add(request[:len(request)-3])
		f.Add(append(request, request...))
	}
	f.Add([]byte("\x22\x00\x0a\x01i\x1a\x00"))
	f.Fuzz(func(t *testing.T, request []byte) {
		turn, err := UnmarshalRest(request)
		if err != nil {
			return
		}
		if id := InstanceOf(request); id != "" && !strings.Contains(string(request), id) {
			t.Errorf("id %q", id)
		}
		seen, err := UnmarshalRest(AppendSeen(nil, request))
		if err != nil {
			t.Fatal(err)
		}
		if len(seen.New) > 0 || len(seen.Past) != len(turn.Past)+len(turn.New) || seen.InstanceID != turn.InstanceID {
			t.Errorf("%d past and %d new events of %d and %d", len(seen.Past), len(seen.New), len(turn.Past), len(turn.New))
		}
		if !inOrder(request) {
			return
		}
		for i, e := range slices.Concat(turn.Past, turn.New) {
			if !proto.Equal(e, seen.Past[i]) {
				t.Errorf("event %d is %v, was %v", i, seen.Past[i], e)
			}
		}
	})
}

// inOrder says whether the past events stand before the new ones.
func inOrder(request []byte) bool {
	last := 0
	for number := range historyevent.Fields(request) {
		if number == requestPastEvents && last >= requestNewEvents {
			return false
		}
		last = max(last, int(number))
	}
	return true
}
