package newtonsoft

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// step is one value on its way through the real host: as the orchestrator scheduled it, as the activity received and returned it,
// and as the next turn's history holds the result.
type step struct {
	instance                          string
	scheduled, received, returned     string
	result                            string
	wasScheduled, wasRun, done, fails bool
}

// TestRecordings: the model turns every input and result of values.jsonl into exactly what was recorded.
func TestRecordings(t *testing.T) {
	t.Parallel()
	steps := readSteps(t)
	if len(steps) < 60 {
		t.Fatalf("only %d activities found in the recording", len(steps))
	}
	for _, s := range steps {
		if !s.wasScheduled || !s.wasRun || !s.done {
			t.Fatalf("%s: the recording is not understood: %+v", s.instance, s)
		}
		got, err := Input([]byte(s.scheduled))
		if err != nil || string(got) != s.received {
			t.Errorf("%s: Input(%s) = %s, %v; recorded %s", s.instance, s.scheduled, got, err, s.received)
		}
		got, err = Result([]byte(s.returned))
		if s.fails {
			if want := (*Error)(nil); !errors.As(err, &want) {
				t.Errorf("%s: Result(%s) = %s, %v; the host failed the invocation", s.instance, s.returned, got, err)
			}
			continue
		}
		if err != nil || string(got) != s.result {
			t.Errorf("%s: Result(%s) = %s, %v; recorded %s", s.instance, s.returned, got, err, s.result)
		}
	}
}

// TestOutputs compares more values with what the host's HTTP API showed of orchestrations that echoed them. Value is the input as
// the API showed it. Output is what came back; it starts with ERROR if the invocation failed.
func TestOutputs(t *testing.T) {
	t.Parallel()
	lines := 0
	for line := range readLines(t, "testdata/outputs.jsonl") {
		lines++
		var row struct{ Instance, Value, Output string }
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		input, err := Input([]byte(row.Value))
		if err != nil {
			t.Fatalf("%s: Input(%s): %v", row.Instance, row.Value, err)
		}
		got, err := Result(input)
		if strings.HasPrefix(row.Output, `"ERROR `) {
			if err == nil {
				t.Errorf("%s: Result(%s) = %s, want an error", row.Instance, input, got)
			}
			continue
		}
		if err != nil || string(got) != row.Output {
			t.Errorf("%s: Result(%s) = %s, %v; want %s", row.Instance, input, got, err, row.Output)
		}
	}
	if lines < 100 {
		t.Fatalf("only %d lines found", lines)
	}
}

// readSteps follows each instance's activities, one after the other, through the recording.
func readSteps(t *testing.T) []*step {
	var steps []*step
	tasks := map[string]*step{}   // by instance and task id
	running := map[string]*step{} // by instance
	for line := range readLines(t, "testdata/values.jsonl") {
		var l struct{ Function, Request, Response string }
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		var request struct{ Data, Metadata map[string]json.RawMessage }
		var response struct{ ReturnValue json.RawMessage }
		if l.Function != "Orch" && l.Function != "Echo" {
			continue
		}
		if err := errors.Join(json.Unmarshal([]byte(l.Request), &request), json.Unmarshal([]byte(l.Response), &response)); err != nil {
			t.Fatal(err)
		}
		if l.Function == "Echo" {
			s := running[unquote(t, unquote(t, string(request.Metadata["instanceId"])))]
			s.received, s.returned, s.wasRun = unquote(t, unquote(t, string(request.Data["input"]))), string(response.ReturnValue), true
			continue
		}
		instance, events := decodeTurn(t, unquote(t, unquote(t, string(request.Data["context"]))))
		for _, e := range events {
			if c := e.GetTaskCompleted(); c != nil {
				s := tasks[fmt.Sprint(instance, c.TaskScheduledId)]
				s.done, s.result = true, "null"
				if c.Result != nil {
					s.result = c.Result.Value
				}
			}
			if f := e.GetTaskFailed(); f != nil {
				s := tasks[fmt.Sprint(instance, f.TaskScheduledId)]
				s.done, s.fails = true, true
			}
		}
		for _, a := range decodeAnswer(t, unquote(t, string(response.ReturnValue))).Response.Actions {
			if schedule := a.GetScheduleTask(); schedule != nil {
				s := &step{instance: instance, scheduled: schedule.Input.GetValue(), wasScheduled: true}
				steps = append(steps, s)
				tasks[fmt.Sprint(instance, a.Id)], running[instance] = s, s
			}
		}
	}
	return steps
}

func readLines(t *testing.T, name string) func(func([]byte) bool) {
	t.Helper()
	return func(yield func([]byte) bool) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			if !yield(lines.Bytes()) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func unquote(t *testing.T, text string) (s string) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// decodeTurn reads a base64 OrchestratorRequest, whose type durabletask-go registers but does not export.
func decodeTurn(t *testing.T, text string) (instance string, events []*backend.HistoryEvent) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName("OrchestratorRequest")
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New()
	if err := proto.Unmarshal(raw, m.Interface()); err != nil {
		t.Fatal(err)
	}
	fields := kind.Descriptor().Fields()
	for _, name := range []protoreflect.Name{"pastEvents", "newEvents"} {
		list := m.Get(fields.ByName(name)).List()
		for i := range list.Len() {
			events = append(events, list.Get(i).Message().Interface().(*backend.HistoryEvent))
		}
	}
	return m.Get(fields.ByName("instanceId")).String(), events
}

func decodeAnswer(t *testing.T, text string) *backend.ExecutionResults {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	results := &backend.ExecutionResults{}
	results.Response = newOf(results.Response)
	if err := proto.Unmarshal(raw, results.Response); err != nil {
		t.Fatal(err)
	}
	return results
}

func newOf[T any](*T) *T { return new(T) }

// TestRules has cases that the recordings do not show, or show only after a change, but that the sources and the protocol do show.
func TestRules(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct{ text, input, result string }{
		{`1e15`, `1000000000000000.0`, `1000000000000000.0`},
		{`1e16`, `10000000000000000.0`, `10000000000000000.0`},
		{`1e17`, `1E+17`, `1E+17`},
		{`123456789012345678.5`, `1.2345678901234568E+17`, `1.2345678901234568E+17`},
		{`0.0001`, `0.0001`, `0.0001`},
		{`0.00001`, `1E-05`, `1E-05`},
		{`-1e400`, `"-Infinity"`, `"-Infinity"`},
		{`1e-400`, `0.0`, `0.0`},
		{`-1e-400`, `-0.0`, `-0.0`},
		{`1.7976931348623157e308`, `1.7976931348623157E+308`, `1.7976931348623157E+308`},
		{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`, `{"b":2,"a":3}`},
		{`[{"a":{"a":1,"a":2}}]`, `[{"a":{"a":2}}]`, `[{"a":{"a":2}}]`},
		{`"\u2028\u0085\u001f\u007f\/'<é"`, `"\u2028\u0085\u001f` + "\u007f" + `/'<é"`, `"\u2028\u0085\u001f` + "\u007f" + `/'<é"`},
		{`"\ud83d\ude00"`, `"😀"`, `"😀"`},
		{`"\ude00\ud83d"`, "\"\ufffd\ufffd\"", "\"\ufffd\ufffd\""},
		{` [ 1 , {"a" : 2 } ] `, `[1,{"a":2}]`, `[1,{"a":2}]`},
		{`"2026-11-22T10:11:12.500Z"`, `"2026-11-22T10:11:12.500Z"`, `"2026-11-22T10:11:12.5Z"`},
		{`"2026-11-22T10:11:12.500"`, `"2026-11-22T10:11:12.500"`, `"2026-11-22T10:11:12.5"`},
		{`"2026-11-22T24:00:00.1Z"`, `"2026-11-22T24:00:00.1Z"`, `"2026-11-22T24:00:00.1Z"`},
		{`"2026-11-22T10:11:12-0530"`, `"2026-11-22T10:11:12-0530"`, `"2026-11-22T15:41:12+00:00"`},
		{`"2026-11-22T10:11:12+02"`, `"2026-11-22T10:11:12+02"`, `"2026-11-22T08:11:12+00:00"`},
		{`"2026-13-22T10:11:12Z"`, `"2026-13-22T10:11:12Z"`, `"2026-13-22T10:11:12Z"`},
		{`"0001-01-01T00:00:00+02:00"`, `"0001-01-01T00:00:00+02:00"`, `"0001-01-01T00:00:00+00:00"`},
		{`"9999-12-31T23:59:59-02:00"`, `"9999-12-31T23:59:59-02:00"`, `"9999-12-31T23:59:59.9999999+00:00"`},
		{`"\/Date(-1)\/"`, `"/Date(-1)/"`, `"1969-12-31T23:59:59.999Z"`},
		{`"/Date(1-0800)/"`, `"/Date(1-0800)/"`, `"1970-01-01T00:00:00.001+00:00"`},
		{`"/Date(99999999999999999)/"`, `"/Date(99999999999999999)/"`, ``},
		{`{"$id":"1","$values":[1]}`, `{"$id":"1","$values":[1]}`, `[1]`},
		{`{"$type":null}`, `{"$type":null}`, ``},
		{`{"$id":{"a":1}}`, `{"$id":{"a":1}}`, ``},
		{`{"$ref":null,"a":1}`, `{"$ref":null,"a":1}`, `{"a":1}`},
		{`{"$ref":"2026-11-22T10:11:12Z"}`, `{"$ref":"2026-11-22T10:11:12Z"}`, ``},
		{`{"a":{"b":{"$ref":"1","c":2}}}`, `{"a":{"b":{"$ref":"1","c":2}}}`, `{"a":{"b":{"$ref":"1","c":2}}}`},
		{nested(64), nested(64), nested(64)},
		{nested(65), ``, ``},
		{strings.Repeat("1", 380), strings.Repeat("1", 380), strings.Repeat("1", 380)},
		{strings.Repeat("1", 381), ``, ``},
		{`null`, `null`, `null`},
		{`{`, ``, ``},
		{`1 2`, ``, ``},
		{`NaN`, ``, ``},
	}
	for _, tt := range tests {
		for name, f := range map[string]struct {
			alter func([]byte) ([]byte, error)
			want  string
		}{"Input": {Input, tt.input}, "Result": {Result, tt.result}} {
			got, err := f.alter([]byte(tt.text))
			var refused *Error
			if f.want == "" && !errors.As(err, &refused) || f.want != "" && err != nil || string(got) != f.want {
				t.Errorf("%s(%.80s) = %.80s, %v; want %.80s", name, tt.text, got, err, f.want)
			}
		}
	}
}

// The host leaves alone what it has altered once.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{`{"a":[1.50,-0,1e400,"2026-11-22T10:11:12.50+02:00"],"a":1}`, `{"$id":1,"$values":{"x":"/Date(1)/"}}`, `"\ud800"`, `[[]]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, alter := range []func([]byte) ([]byte, error){Input, Result} {
			once, err := alter(text)
			if err != nil {
				if refused := (*Error)(nil); !errors.As(err, &refused) {
					t.Fatalf("%q: error of type %T: %v", text, err, err)
				}
				continue
			}
			if !json.Valid(once) {
				t.Fatalf("%q became %q, which is not JSON", text, once)
			}
			twice, err := Input(once)
			if err != nil || string(twice) != string(once) {
				t.Fatalf("%q became %q, and that became %q, %v", text, once, twice, err)
			}
		}
	})
}
