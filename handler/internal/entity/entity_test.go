package entity

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded returns the batches that the real host sent to a handler, and the answers to them, in base64.
func recorded(t testing.TB) (batches, results []string) {
	t.Helper()
	f, err := os.Open("../../../tests/conformance/testdata/recordings/3.19/entities.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var l struct {
			Function          string
			Request, Response json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		var text, trigger string
		var request struct{ Data struct{ Context string } }
		var answer struct{ ReturnValue string }
		if !strings.HasPrefix(l.Function, "Entity") || json.Unmarshal(l.Request, &text) != nil ||
			json.Unmarshal([]byte(text), &request) != nil || json.Unmarshal([]byte(request.Data.Context), &trigger) != nil {
			continue
		}
		batches = append(batches, trigger)
		if json.Unmarshal(l.Response, &text) == nil && json.Unmarshal([]byte(text), &answer) == nil && answer.ReturnValue != "" {
			results = append(results, answer.ReturnValue)
		}
	}
	if len(batches) < 40 || len(results) < 30 {
		t.Fatalf("%d batches and %d answers are recorded", len(batches), len(results))
	}
	return batches, results
}

// TestRecordedBytes: what is decoded of the recorded batches and answers is encoded to the same bytes.
func TestRecordedBytes(t *testing.T) {
	t.Parallel()
	batches, results := recorded(t)
	for _, text := range batches {
		b, err := DecodeBatch([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := b.Encode(); got != text {
			t.Errorf("batch\n%s\nbecomes\n%s", text, got)
		}
	}
	for _, text := range results {
		raw, _ := base64.StdEncoding.DecodeString(text)
		if strings.Contains(string(raw), "byentity1") {
			continue // it has tags, which we do not send
		}
		r, err := DecodeResult(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := r.Encode(); got != text {
			t.Errorf("answer\n%q\nbecomes\n%q", raw, got)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	class := &Class{Name: "Text", Operations: map[string]Function{
		"append": func(ctx context.Context, state, input []byte) ([]byte, []byte, error) {
			Current(ctx).Add(Action{InstanceID: "@log@1", Name: "note", Input: input})
			after := append(slices.Clone(state), input...)
			return after, after, nil
		},
		"fail": func(context.Context, []byte, []byte) ([]byte, []byte, error) {
			return nil, []byte("lost"), errors.New("no")
		},
		"panic": func(context.Context, []byte, []byte) ([]byte, []byte, error) { panic("bang") },
		"worse": func(context.Context, []byte, []byte) ([]byte, []byte, error) { return nil, nil, (*Error)(nil) },
		"delete": func(ctx context.Context, _, _ []byte) ([]byte, []byte, error) {
			Current(ctx).Delete()
			return nil, []byte("x"), nil
		},
	}}
	for name, c := range map[string]struct {
		operations string
		state      string // afterwards, "none": none
		actions    int
		want       string
	}{
		"none":            {"", "s", 0, ""},
		"one":             {"append", "sa", 1, "sa"},
		"names in case":   {"APPEND", "sa", 1, "sa"},
		"several":         {"append append", "saa", 2, "sa saa"},
		"rollback":        {"append fail append", "saa", 2, "sa EntityOperationFailed:no saa"},
		"panic":           {"panic append", "sa", 1, "EntityOperationPanic:panic: bang sa"},
		"a bad error":     {"worse append", "sa", 1, "EntityOperationPanic:panic: runtime error: invalid memory address or nil pointer dereference sa"},
		"unknown":         {"x append", "sa", 1, `EntityOperationNotFound:entity Text has no operation "x" sa`},
		"too large":       {"append append append append", "saaa", 3, "sa saa saaa EntityOperationFailed:the result of operation append has 5 bytes, the limit is 4"},
		"deleted":         {"append delete", "none", 1, "sa "},
		"deleted, anew":   {"delete append", "a", 1, " a"},
		"failed deletion": {"delete fail", "none", 0, " EntityOperationFailed:no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &Batch{ID: "@text@1", State: []byte("s")}
			for _, o := range strings.Fields(c.operations) {
				b.Operations = append(b.Operations, Operation{Name: o, Input: []byte("a")})
			}
			run := NewRun(b, class, 4, slog.New(slog.DiscardHandler))
			run.Do(t.Context())
			r := run.Result()
			got := outcomes(r)
			state := string(r.State)
			if r.State == nil {
				state = "none"
			}
			if !strings.HasPrefix(got, c.want) || len(r.Outcomes) != len(b.Operations) || state != c.state || len(r.Actions) != c.actions {
				t.Errorf("%q, state %s, %d actions; want %+v", got, state, len(r.Actions), c)
			}
		})
	}
}

// TestImplicitDelete: an entity without an operation of that name can be deleted, too.
func TestImplicitDelete(t *testing.T) {
	t.Parallel()
	b := &Batch{ID: "@text@1", State: []byte("1"), Operations: []Operation{{Name: "Delete"}}}
	run := NewRun(b, &Class{Name: "Text"}, 0, slog.New(slog.DiscardHandler))
	run.Do(t.Context())
	if r := run.Result(); r.State != nil || len(r.Outcomes) != 1 || r.Outcomes[0].Failure != nil {
		t.Errorf("%+v", r)
	}
}

func outcomes(r *Result) string {
	var list []string
	for _, o := range r.Outcomes {
		if o.Failure != nil {
			list = append(list, o.Failure.Type+":"+o.Failure.Message)
		} else {
			list = append(list, string(o.Result))
		}
	}
	return strings.Join(list, " ")
}

// TestGiveUp: what was done before is kept, the running operation fails, and those behind it are left out.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan bool), make(chan bool)
	class := &Class{Name: "Text", Operations: map[string]Function{
		"quick": func(context.Context, []byte, []byte) ([]byte, []byte, error) { return nil, []byte("quick"), nil },
		"slow": func(ctx context.Context, _, _ []byte) ([]byte, []byte, error) {
			begun <- true
			<-finish
			return nil, []byte("slow"), nil
		},
	}}
	b := &Batch{ID: "@text@1", Operations: []Operation{{Name: "quick"}, {Name: "slow"}, {Name: "quick"}}}
	run := NewRun(b, class, 0, slog.New(slog.DiscardHandler))
	done := make(chan bool)
	go func() { run.Do(t.Context()); close(done) }()
	<-begun
	r := run.GiveUp(DeadlineType, "too slow")
	close(finish)
	<-done
	if got := outcomes(r); got != " EntityOperationDeadlineExceeded:too slow" || string(r.State) != "quick" {
		t.Errorf("%q %s", got, r.State)
	}
}

// TestGiveUpBetweenOperations: an operation that has not begun when time is up does not fail. The host asks for it again.
func TestGiveUpBetweenOperations(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	class := &Class{Name: "Text", Operations: map[string]Function{
		"last": func(context.Context, []byte, []byte) ([]byte, []byte, error) {
			cancel()
			return nil, []byte("last"), nil
		},
		"next": func(context.Context, []byte, []byte) ([]byte, []byte, error) { return nil, []byte("next"), nil },
	}}
	run := NewRun(&Batch{ID: "@text@1", Operations: []Operation{{Name: "last"}, {Name: "next"}}}, class, 0, slog.New(slog.DiscardHandler))
	run.Do(ctx)
	if r := run.GiveUp(DeadlineType, "too slow"); len(r.Outcomes) != 1 || r.Outcomes[0].Failure != nil || string(r.State) != "last" {
		t.Errorf("%+v", r)
	}
}

func TestNewInstanceID(t *testing.T) {
	t.Parallel()
	a, b := newScope("@a@1", "r1"), newScope("@a@1", "r1")
	first := a.NewInstanceID()
	if first != b.NewInstanceID() {
		t.Error("the id is another one when the operation is asked for again")
	}
	if first == a.NewInstanceID() || first == newScope("@a@1", "r2").NewInstanceID() || first == newScope("@a@2", "r1").NewInstanceID() {
		t.Error("two starts have one id")
	}
}

// TestResponses are the bytes of recorded responses.
func TestResponses(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Response{
		`{"result":"4"}`:  Outcome{Result: []byte("4")}.Response(),
		`{"result":null}`: Outcome{}.Response(),
		`{"result":null,"failureDetails":{"ErrorType":"E","ErrorMessage":"entity says no","StackTrace":"st","InnerFailure":{"ErrorType":"Inner","ErrorMessage":"cause","StackTrace":null,"InnerFailure":null,"IsNonRetriable":false,"Properties":{}},"IsNonRetriable":false,"Properties":{}}}`:                                                                                                                                                                                                                                           Outcome{Failure: &Failure{Type: "E", Message: "entity says no", StackTrace: "st", Inner: &Failure{Type: "Inner", Message: "cause"}}}.Response(),
		`{"result":"The function 'nosuch' doesn't exist, is disabled, or is not an entity function. Additional info: The following are the known entity functions: 'Entity'.","exceptionType":"entity dispatch failed","failureDetails":{"ErrorType":"EntityFunctionNotFound","ErrorMessage":"The function 'nosuch' doesn't exist, is disabled, or is not an entity function. Additional info: The following are the known entity functions: 'Entity'.","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true,"Properties":null}}`: NotDispatched(NoFunction("nosuch", []string{"Entity"})),
	} {
		if got := r.Encode(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	batches, _ := recorded(f)
	for _, b := range batches {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := DecodeBatch([]byte(text))
		if err != nil {
			return
		}
		again, err := DecodeBatch([]byte(b.Encode()))
		if err != nil || again.ID != b.ID || len(again.Operations) != len(b.Operations) || (again.State == nil) != (b.State == nil) {
			t.Errorf("%v becomes %v (%v)", b, again, err)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	_, results := recorded(f)
	for _, r := range results {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := DecodeResult(text)
		if err != nil {
			return
		}
		again, err := DecodeResult(r.Encode())
		if err != nil || len(again.Outcomes) != len(r.Outcomes) || len(again.Actions) != len(r.Actions) || again.Refused != r.Refused {
			t.Errorf("%v becomes %v (%v)", r, again, err)
		}
	})
}

func FuzzDecodeSignal(f *testing.F) {
	f.Add(Signal{ID: "1", Operation: "add", Input: []byte("3"), Target: "@entity@k"}.Encode())
	f.Fuzz(func(t *testing.T, unknown []byte) {
		s, ok := DecodeSignal(unknown)
		if again, still := DecodeSignal(s.Encode()); ok && (!still || again.Target != s.Target || again.Operation != s.Operation) {
			t.Errorf("%+v becomes %+v", s, again)
		}
	})
}
