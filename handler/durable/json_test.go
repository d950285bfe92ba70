package durable_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// odd has what two JSON packages treat differently.
type odd struct {
	Number json.Number
	Lasts  time.Duration `json:",format:sec"`
	At     time.Time     `json:",format:unix"`
	Quoted int           `json:",string"`
	Bytes  []byte
	Empty  []string
	Map    map[int]string
	Raw    json.RawMessage
	Nested *odd `json:",omitempty"`
}

// TestOneJSON: inputs and results are written and read by one JSON package, so that each value comes back as it was,
// which is as encoding/json has it.
func TestOneJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 1, 2, 3, 4, time.UTC)
	value := odd{Number: "12345678901234567890.10", Lasts: 3 * time.Second, At: at, Quoted: 7, Bytes: []byte{0, 255},
		Map: map[int]string{1: "a"}, Raw: json.RawMessage(`{"b":1.50}`), Nested: &odd{Number: "0", Raw: json.RawMessage("null")}}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var want odd
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	const work = durable.ActivityName[odd, odd]("Work")
	const child = durable.OrchestratorName[odd, odd]("Child")
	echo := durable.Activity(func(_ context.Context, in odd) (odd, error) { return in, nil })
	run := durable.Orchestrator(func(ctx *task.OrchestrationContext, in odd) ([]odd, error) {
		a, err := work.Call(ctx, in).Await()
		if err != nil {
			return nil, err
		}
		b, err := child.Call(ctx, a).Await()
		return []odd{in, a, b}, err
	})
	env := durabletest.New(t)
	env.Activity("Work", echo)
	env.Orchestrator("Child", durable.Orchestrator(func(_ *task.OrchestrationContext, in odd) (odd, error) { return in, nil }))
	r := env.Run(run, value)
	var got []odd
	if err := json.Unmarshal([]byte(r.Output), &got); err != nil {
		t.Fatalf("%v: %s", err, r.Output)
	}
	for i, v := range got {
		if !reflect.DeepEqual(v, want) {
			t.Errorf("value %d is %+v, want %+v", i, v, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("got %d values", len(got))
	}
}
