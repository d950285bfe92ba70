package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/internal/testkit"
)

// TestChangedRecordings changes one thing at a time in a recorded answer. The comparison accepts the unchanged answer and must
// find each change.
func TestChangedRecordings(t *testing.T) {
	t.Parallel()
	p := startPlayer(t)
	files := map[string][][]byte{}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			if files[m.file] == nil {
				content, err := os.ReadFile(filepath.Join("testdata", "recordings", m.file+".jsonl"))
				if err != nil {
					t.Fatal(err)
				}
				files[m.file] = bytes.Split(content, []byte("\n"))
			}
			r, ok, err := readRecord(files[m.file][m.line-1])
			if !ok || err != nil {
				t.Fatalf("%s:%d is not a recording: %v", m.file, m.line, err)
			}
			a, err := p.play(r)
			if err != nil {
				t.Fatal(err)
			}
			if d := compare(r, a); len(d) > 0 {
				t.Fatalf("unchanged, it differs: %q", d)
			}
			changed := m.change(t, r)
			if reflect.DeepEqual(changed, r) {
				t.Fatal("nothing was changed")
			}
			if len(compare(changed, a)) == 0 {
				t.Errorf("the change was not found; the answer is %s", a.Body)
			}
		})
	}
}

type mutation struct {
	name   string
	file   string
	line   int
	change func(*testing.T, record) record
}

var mutations = []mutation{
	{"readiness status", "conversations", 1, statusCode(503)},
	{"status of a turn", "conversations", 3, statusCode(500)},
	{"status of an activity", "conversations", 4, statusCode(202)},
	{"status of a failed activity", "conversations", 12, statusCode(503)},
	{"body of a failed activity", "conversations", 12, body("", "{}")},
	{"activity's result", "conversations", 4, body(`"RecordId":"1"`, `"RecordId":"2"`)},
	{"activity's result gone", "conversations", 4, body(`"ReturnValue":{`, `"Return":{`)},
	{"activity's result null", "values", 6, body(`true`, `null`)},
	{"activity's result for null", "values", 4, body(`"ReturnValue":null`, `"ReturnValue":0`)},
	{"another type", "values", 12, body(`"ReturnValue":1`, `"ReturnValue":"1"`)},
	{"a digit of a large integer", "values", 28, body(`9007199254740993`, `9007199254740992`)},
	{"a digit of a fraction", "values", 58, body(`0.12345678901234568`, `0.12345678901234567`)},
	{"the sign of zero", "values", 47, body(`-0.0`, `0.0`)},
	{"a date as the host would write it", "values", 66, body(`2026-11-22T10:11:12+02:00`, `2026-11-22T08:11:12+00:00`)},
	{"a key of another case", "values", 98, body(`"A":1`, `"a":1`)},
	{"an output of an activity", "conversations", 4, body(`"Outputs":null`, `"Outputs":{"mail":1}`)},
	{"an answer that is not an object", "conversations", 4, body(`{"Logs"`, `[{"Logs"`)},
	{"no answer", "conversations", 4, func(_ *testing.T, r record) record { r.Response = ""; return r }},
	{"output's value", "conversations", 9, body(`"n":3`, `"n":4`)},
	{"output gone", "conversations", 9, body(`{"mail":`, `{"male":`)},
	{"output of a string", "conversations", 48, body(`aGVsbG8=`, `hello`)},
	{"no output", "conversations", 9, func(_ *testing.T, r record) record {
		r.Response = `{"Outputs":null,` + r.Response[strings.Index(r.Response, `"ReturnValue"`):]
		return r
	}},

	{"action's name", "conversations", 3, actions(`"name":"Echo"`, `"name":"Eche"`)},
	{"action's input", "conversations", 3, actions(`\"RecordId\":\"1\"`, `\"RecordId\":\"7\"`)},
	{"action's input gone", "conversations", 23, actions(`,"input":"1"`, ``)},
	{"order of ids", "conversations", 3, actions(`{"id":1,`, `{"id":9,`, `{"id":2,`, `{"id":1,`, `{"id":9,`, `{"id":2,`)},
	{"id", "conversations", 9, actions(`"id":3`, `"id":4`)},
	{"action left out", "conversations", 23, actions(`{"scheduleTask":{"name":"NoSuchActivity","input":"1"}}`, ``)},
	{"action added", "conversations", 23, actions(`"actions":[`, `"actions":[{"id":1,"scheduleTask":{"name":"Echo","input":"1"}},`)},
	{"action doubled", "conversations", 23, actions(`"actions":[`, `"actions":[{"scheduleTask":{"name":"NoSuchActivity","input":"1"}},`)},
	{"kind of action", "conversations", 23, actions(`"scheduleTask"`, `"createSubOrchestration"`)},
	{"child's id", "conversations", 26, actions(`"c-sub:child"`, `"c-sub:c"`)},
	{"child's name", "conversations", 37, actions(`"NoSuchOrchestrator"`, `"Orch"`)},
	{"child's input", "conversations", 26, actions(`\"n\":2`, `\"n\":3`)},
	{"timer's time", "conversations", 50, actions(`12.103656600Z`, `12.103656700Z`)},
	{"result", "conversations", 9, actions(`"result":"3"`, `"result":"4"`)},
	{"result is text", "conversations", 9, actions(`"result":"3"`, `"result":"\"3\""`)},
	{"no result", "conversations", 9, actions(`,"result":"3"`, ``)},
	{"a result where there is none", "conversations", 48, actions(`"ORCHESTRATION_STATUS_COMPLETED"`, `"ORCHESTRATION_STATUS_COMPLETED","result":"null"`)},
	{"an element of a result", "values", 52, actions(`[null,true,false`, `[null,true,true`)},
	{"result beside an error", "conversations", 31, actions(`child 2 `, `child 3 `)},
	{"an error's prefix", "conversations", 24, actions(`await: `, `wait: `)},
	{"an error in a list", "values", 109, actions(`ERROR `, `error `)},
	{"orchestration's status", "conversations", 9, actions(`STATUS_COMPLETED`, `STATUS_FAILED`)},
	{"terminated", "lifecycle", 27, actions(`STATUS_TERMINATED`, `STATUS_COMPLETED`)},
	{"reason of a termination", "lifecycle", 27, actions(`why`, `because`)},
	{"reason that is not JSON", "http-handler", 18, actions(`"stop"`, `"stopped"`)},
	{"continued as new", "conversations", 44, actions(`CONTINUED_AS_NEW`, `COMPLETED`)},
	{"input of the next generation", "conversations", 44, actions(`\"n\":1`, `\"n\":2`)},
	{"error message", "conversations", 40, actions(`it does not work`, `it works`)},
	{"error type", "conversations", 40, actions(`errors.errorString`, `fmt.wrapError`)},
	{"error gone", "conversations", 40, actions(`"failureDetails"`, `"carryoverEvents":[],"failureDetails"`, `"errorMessage":"it does not work: ü"`, `"errorMessage":""`)},
	{"a third completion of a rewound one", "lifecycle", 49, actions(`"actions":[`, `"actions":[{"id":2,"completeOrchestration":{}},`)},
	{"the error of a rewound one", "lifecycle", 49, actions(`to be rewound`, `rewound`)},
	{"custom status", "conversations", 50, actions(`\"waiting\":true`, `\"waiting\":false`)},
	{"custom status of text", "conversations", 42, actions(`plain text`, `text`)},
	{"custom status gone", "conversations", 50, actions(`"{\"waiting\":true}"`, `""`)},
	{"custom status where none was set", "conversations", 3, actions(`"customStatus":""`, `"customStatus":"1"`)},
	{"an action of a suspended one", "lifecycle", 18, actions(`"customStatus"`, `"actions":[{"completeOrchestration":{}}],"customStatus"`)},
	{"instance", "conversations", 3, actions(`"instanceId":"c-fan"`, `"instanceId":"c-fat"`)},
	{"a turn's answer that is not base64", "conversations", 3, body(`"ReturnValue":"`, `"ReturnValue":"!`)},
	{"a turn's answer that is cut", "conversations", 9, func(_ *testing.T, r record) record {
		end := strings.LastIndex(r.Response, `"`)
		r.Response = r.Response[:end-8] + r.Response[end:]
		return r
	}},
	{"a turn's answer that is null", "conversations", 8, func(_ *testing.T, r record) record {
		r.Response = r.Response[:strings.Index(r.Response, `"ReturnValue"`)] + `"ReturnValue":null}`
		return r
	}},
	{"what was decoded", "conversations", 9, func(_ *testing.T, r record) record {
		r.Decoded.Response = bytes.Replace(r.Decoded.Response, []byte(`"3"`), []byte(`"4"`), 1)
		return r
	}},

	{"note's id", "conversations", 2, noteText(`c-fan`, `c-fat`)},
	{"note's verb", "lifecycle", 17, noteText(`suspended`, `resumed`)},
	{"note's code", "lifecycle", 16, noteText(`AlreadyExists`, `AlreadyThere`)},
	{"note's call", "lifecycle", 25, noteText(`failed to raise event`, `failed to start orchestrator`)},
	{"note's error", "lifecycle", 16, noteText(`rpc error: `, ``)},
	{"note that it was no command", "conversations", 2, noteText(`c-fan`, `not a command: c-fan`)},
	{"note that it was a command", "conversations", 68, noteText(`not a command: 42`, `42`)},
	{"note's state", "conversations", 71, noteText(`ORCHESTRATION_STATUS_COMPLETED`, `done well`)},
	{"note's instance", "conversations", 71, noteText(`InstanceID:c-fan`, `InstanceID:c-fat`)},
	{"note without id", "conversations", 59, noteText(`f905aa6c-927e-47fa-8d7f-980899af2a38`, ``)},
	{"note without end", "conversations", 2, noteText(` err=<nil>`, ``)},
}

func statusCode(code int) func(*testing.T, record) record {
	return func(_ *testing.T, r record) record {
		r.Status = code
		return r
	}
}

func noteText(oldNew ...string) func(*testing.T, record) record {
	return func(_ *testing.T, r record) record {
		r.Note = strings.NewReplacer(oldNew...).Replace(r.Note)
		return r
	}
}

func body(old, new string, more ...string) func(*testing.T, record) record {
	return func(_ *testing.T, r record) record {
		r.Response = strings.Replace(r.Response, old, new, 1)
		for ; len(more) > 0; more = more[2:] {
			r.Response = strings.Replace(r.Response, more[0], more[1], 1)
		}
		return r
	}
}

// actions changes the protobuf JSON of an answer to a turn: each replacement once, in order.
func actions(oldNew ...string) func(*testing.T, record) record {
	return func(t *testing.T, r record) record {
		var e struct {
			Outputs     json.RawMessage
			ReturnValue string
		}
		if err := json.Unmarshal([]byte(r.Response), &e); err != nil {
			t.Fatal(err)
		}
		m, err := testkit.DecodeMessage("OrchestratorResponse", e.ReturnValue)
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer // protojson adds spaces at random
		if err := json.Compact(&compact, []byte(protojson.Format(m.Interface()))); err != nil {
			t.Fatal(err)
		}
		text := compact.String()
		for i := 0; i < len(oldNew); i += 2 {
			if !strings.Contains(text, oldNew[i]) {
				t.Fatalf("there is no %s in %s", oldNew[i], text)
			}
			text = strings.Replace(text, oldNew[i], oldNew[i+1], 1)
		}
		changed := m.New().Interface()
		if err := protojson.Unmarshal([]byte(text), changed); err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		e.ReturnValue = base64.StdEncoding.EncodeToString(raw)
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		r.Response, r.Decoded.Response = string(body), nil
		return r
	}
}

// TestSameMeaning makes changes that do not change the meaning: no difference may be found.
func TestSameMeaning(t *testing.T) {
	p := startPlayer(t)
	const first = `{"scheduleTask":{"name":"Echo","input":"{\"RecordId\":\"0\",\"instanceId\":\"forged\",\"sys\":\"forged\"}"}}`
	for _, m := range []mutation{
		{"order of actions", "conversations", 3, actions(`[`+first+`,`, `[`, `],"customStatus"`, `,`+first+`],"customStatus"`)},
		{"order of keys in an action", "conversations", 3, actions(`\"instanceId\":\"forged\",\"sys\":\"forged\"`, `\"sys\":\"forged\",\"instanceId\":\"forged\"`)},
		{"order of keys in an output", "conversations", 9, body(`"subject":"done","n":3`, `"n":3,"subject":"done"`)},
		{"keys in another case", "conversations", 4, body(`"ReturnValue"`, `"returnvalue"`)},
		{"another text of a number", "values", 18, body(`1.5`, `15.00e-1`)},
		{"logs", "conversations", 4, body(`log line`, `other line`)},
		{"what follows an error's prefix", "conversations", 13, actions(`task failed with an error`, `it did not work`)},
	} {
		content, err := os.ReadFile(filepath.Join("testdata", "recordings", m.file+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := readRecord(bytes.Split(content, []byte("\n"))[m.line-1])
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.play(r)
		if err != nil {
			t.Fatal(err)
		}
		changed := m.change(t, r)
		if changed.Response == r.Response {
			t.Errorf("%s: nothing was changed", m.name)
		}
		if d := compare(changed, a); len(d) > 0 {
			t.Errorf("%s: %q", m.name, d)
		}
	}
}

// TestBadLines plays lines that cannot be compared: each must be reported as a difference.
func TestBadLines(t *testing.T) {
	p := startPlayer(t)
	for name, line := range map[string]string{
		"unknown function":     `{"function":"Other","request":"{}","status":200,"response":"{}"}`,
		"no note":              `{"function":"","request":"","status":200,"response":""}`,
		"no request":           `{"function":"Orch","request":"","status":400,"response":"{}"}`,
		"turn without history": `{"function":"Orch","request":"{\"Data\":{}}","status":200,"response":"{}"}`,
		"no client":            `{"function":"QueueStart","request":"{\"Data\":{\"item\":\"5\"}}","status":200,"response":"{}","note":"not a command: 5 err=<nil>"}`,
	} {
		r, ok, err := readRecord([]byte(line))
		if !ok || err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(p.check(r)) == 0 {
			t.Errorf("%s: no difference", name)
		}
	}
	if _, _, err := readRecord([]byte(`{"function":"Orch"`)); err == nil {
		t.Error("half a line is a recording")
	}
	if _, ok, err := readRecord([]byte(`{"text":"a"}`)); ok || err != nil {
		t.Errorf("a line of another format: %t, %v", ok, err)
	}
}

func TestDecodePhrase(t *testing.T) {
	t.Parallel()
	for phrase, want := range map[string]string{
		`card declined: 42`:                 `card declined: 42`,
		`durable/failed: a\nb\\n\x00\x20 –`: "a\nb\\n\x00  –",
		`durable/failed:`:                   ``,
		`a \n b`:                            `a \n b`,
	} {
		if got := decodePhrase(phrase); got != want {
			t.Errorf("%q is %q, want %q", phrase, got, want)
		}
	}
	long := strings.Repeat("x", 100_000)
	if cut := long[:31_000] + "… [cut: the message has 100000 bytes]"; !isCut(cut, long) || isCut(cut, long[1:]) || isCut(long[:9]+cut[31_000:], long) {
		t.Error("isCut")
	}
}

// TestChangedHistories changes one thing in each turn that TestRecordedHistories compares, in the recorded answer or in the
// history. Each change must be found.
func TestChangedHistories(t *testing.T) {
	t.Parallel()
	h := startScripted(t)
	found := map[string]int{}
	for _, file := range readRecordings(t) {
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			if !file.isScripted() || !ok || err != nil {
				continue
			}
			s, reason := scriptOf(r)
			if reason != "" || !s.comparable {
				continue
			}
			answer := h.play(t, r, s)
			for name, change := range answerChanges {
				changed, ok := changeMessage(t, r.Response, "ReturnValue", "OrchestratorResponse", change)
				if !ok {
					continue
				}
				was := r.Response
				r.Response = changed
				if len(s.compare(answer, r)) == 0 {
					t.Errorf("%s:%d: a change of the answer was not found: %s", file.name, i+1, name)
				}
				r.Response = was
				found[name]++
			}
			for name, change := range historyChanges {
				changed := r
				if s.terminated {
					continue // a termination ends any orchestration, even if the handler does not understand its history
				}
				if changed.Request, ok = changeTurn(t, r.Request, change); !ok {
					continue
				}
				if len(s.compare(h.play(t, changed, s), r)) == 0 {
					t.Errorf("%s:%d: a change of the history was not found: %s", file.name, i+1, name)
				}
				found[name]++
			}
		}
	}
	for _, names := range [][]string{slices.Collect(maps.Keys(answerChanges)), slices.Collect(maps.Keys(historyChanges))} {
		for _, name := range names {
			if found[name] == 0 && *recordings == ownRecordings {
				t.Errorf("%s: no turn was changed", name)
			}
		}
	}
	t.Log(found)
}

// TestChangedBatteries changes one thing in each request of the lab app's batteries of extension 3.19.
func TestChangedBatteries(t *testing.T) {
	t.Parallel()
	p := startPlayer(t)
	found := map[string]int{}
	for _, file := range readRecordings(t) {
		if !strings.HasPrefix(filepath.Base(file.name), "lab-") {
			continue
		}
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			if !ok || err != nil {
				continue
			}
			a, err := p.play(r)
			if err != nil {
				t.Fatal(err)
			}
			for name, changed := range changedBattery(t, r) {
				if len(compare(changed, a)) == 0 {
					t.Errorf("%s:%d: a change was not found: %s", file.name, i+1, name)
				}
				found[name]++
			}
		}
	}
	t.Log(found)
	if len(found) < 7 && *recordings == ownRecordings {
		t.Errorf("only %v", found)
	}
}

func changedBattery(t *testing.T, r record) map[string]record {
	t.Helper()
	all := map[string]record{}
	set := func(name string, change func(*record)) {
		changed := r
		change(&changed)
		all[name] = changed
	}
	set("status", func(r *record) { r.Status++ })
	switch r.Function {
	case "Echo":
		set("activity's result", func(r *record) { r.Response = `{"Outputs":null,"Logs":null,"ReturnValue":"another"}` })
	case "QueueStart":
		if strings.Contains(r.Request, `starter`) && strings.Contains(r.Note, "err=<nil>") && !strings.HasPrefix(r.Note, "not a command") {
			set("client's call", func(r *record) { r.Request = strings.Replace(r.Request, "LabHub", "OtherHub", 1) })
		}
	case "Orch":
		for name, change := range answerChanges {
			if response, ok := changeMessage(t, r.Response, "ReturnValue", "OrchestratorResponse", change); ok {
				set(name, func(r *record) { r.Response, r.Decoded.Response = response, nil })
			}
		}
	}
	return all
}

// TestChangedMessages changes one thing in the message that was sent to Service Bus, or in the recorded request.
func TestChangedMessages(t *testing.T) {
	t.Parallel()
	for _, m := range readMessages(t) {
		recorded, err := testkit.ParseInvocation(m.Request)
		if err != nil {
			t.Fatal(err)
		}
		for name := range recorded.Metadata {
			if slices.Contains(unknownHere, name) || name == "sys" {
				continue
			}
			changed := testkit.Invocation{Data: recorded.Data, Metadata: maps.Clone(recorded.Metadata)}
			changed.Metadata[name] = json.RawMessage(`"other"`)
			if len(compareMessageRequests(changed, recorded)) == 0 {
				t.Errorf("%s: another %s was not found", m.Case, name)
			}
		}
		if len(compareMessageRequests(testkit.Invocation{Metadata: recorded.Metadata}, recorded)) == 0 {
			t.Errorf("%s: a request without a body was not found", m.Case)
		}
		seen := invoked(t, m)
		if d := compareMessage(t, m, seen); len(d) > 0 {
			t.Errorf("%s: unchanged, it differs: %q", m.Case, d)
		}
		other := m
		other.Sent.Body, other.Sent.BodyBase64, other.Case = m.Sent.Body+"x", "", ""
		if len(compareMessage(t, other, seen)) == 0 {
			t.Errorf("%s: another body was not found", m.Case)
		}
		other = m
		other.Sent.MessageID += "x"
		if len(compareMessage(t, other, seen)) == 0 && !strings.Contains(m.Sent.Body, "MessageId") {
			t.Errorf("%s: another MessageId was not found", m.Case)
		}
	}
}

// answerChanges change the protobuf JSON of an answer to a turn.
var answerChanges = map[string]func(string) string{
	"an activity's name": replaced(`"scheduleTask":{"name":"`, `"scheduleTask":{"name":"x`),
	"a child's id":       replaced(`"createSubOrchestration":{"instanceId":"`, `"createSubOrchestration":{"instanceId":"x`),
	"a timer": func(text string) string {
		return regexp.MustCompile(`"createTimer":{[^}]*}`).ReplaceAllString(text, `"scheduleTask":{"name":"x"}`)
	},
	"the status": replaced(`"orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED"`, `"orchestrationStatus":"ORCHESTRATION_STATUS_CANCELED"`),
	"the result": replaced(`_COMPLETED","result":"`, `_COMPLETED","result":"7`),
	"an id":      replaced(`"id":1,"scheduleTask"`, `"id":7,"scheduleTask"`),
}

func replaced(old, by string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, by, 1) }
}

// changeMessage changes a message in a body through its protobuf JSON. ok is false if there is nothing to change.
func changeMessage(t *testing.T, body, property string, kind protoreflect.FullName, change func(string) string) (changed string, ok bool) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatal(err)
	}
	m, err := testkit.DecodeMessage(kind, testkit.Text(object[property]))
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(m.Interface())
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(strings.ReplaceAll(string(text), `": `, `":`), `, "`, `,"`) // protojson adds blanks at random
	now := change(plain)
	if now == plain {
		return body, false
	}
	into := m.New().Interface()
	if err := protojson.Unmarshal([]byte(now), into); err != nil {
		t.Fatalf("%v: %s", err, now)
	}
	raw, err := proto.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	object[property], _ = json.Marshal(base64.StdEncoding.EncodeToString(raw))
	out, _ := json.Marshal(object)
	return string(out), true
}

// historyChanges change the past events of a turn. They return false if there is nothing to change.
var historyChanges = map[string]func(*backend.HistoryEvent) bool{
	"another activity was scheduled": func(e *backend.HistoryEvent) bool {
		s := e.GetTaskScheduled()
		if s != nil {
			s.Name += "x"
		}
		return s != nil
	},
	"another child was started": func(e *backend.HistoryEvent) bool {
		s := e.GetSubOrchestrationInstanceCreated()
		if s != nil {
			s.Name += "x"
		}
		return s != nil
	},
	"what was scheduled has another id": func(e *backend.HistoryEvent) bool {
		if e.GetTaskScheduled() == nil && e.GetTimerCreated() == nil && e.GetSubOrchestrationInstanceCreated() == nil {
			return false
		}
		e.EventId += 70
		return true
	},
}

func changeTurn(t *testing.T, request string, change func(*backend.HistoryEvent) bool) (string, bool) {
	t.Helper()
	turn, err := testkit.DecodeTurn(request)
	if err != nil {
		t.Fatal(err)
	}
	ok := slices.ContainsFunc(turn.Past, change)
	return turn.Body(), ok
}
