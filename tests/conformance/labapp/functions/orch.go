package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
)

// order is the orchestrator's input.
type order struct {
	Mode string `json:"mode"`
	N    int    `json:"n"`
	Vals []json.RawMessage
	Text string
}

// orch calls durabletask-go directly where the recorded app did, so that the errors in its results have the SDK's text.
func orch(ctx *task.OrchestrationContext, in order) (any, error) {
	switch in.Mode {
	case "fanout":
		return fanOut(ctx, in.N)
	case "echo":
		return echoEach(ctx, in.Vals), nil
	case "fail":
		err := ctx.CallActivity("Fail", task.WithActivityInput(in.Text)).Await(nil)
		return fmt.Sprint("await: ", err), nil
	case "unknown":
		var v any
		err := ctx.CallActivity("NoSuchActivity", task.WithActivityInput(1)).Await(&v)
		return fmt.Sprintf("await: %v value %v", err, v), nil
	case "sub":
		var v any
		err := callSub(ctx, "Orch", "child", order{Mode: "fanout", N: 2}).Await(&v)
		return fmt.Sprintf("child %v %v", v, err), nil
	case "subfail":
		err := callSub(ctx, "Orch", "c", order{Mode: "error", Text: "child says no"}).Await(nil)
		return fmt.Sprint("await: ", err), nil
	case "subunknown":
		err := callSub(ctx, "NoSuchOrchestrator", "c", 1).Await(nil)
		return fmt.Sprint("await: ", err), nil
	case "timer":
		durable.SetCustomStatus(ctx, map[string]bool{"waiting": true})
		return "fired", ctx.CreateTimer(time.Second).Await(nil)
	case "status":
		ctx.SetCustomStatus("plain text, not JSON")
		return "ok", nil
	case "event":
		var data json.RawMessage
		err := ctx.WaitForSingleEvent("Go", 30*time.Second).Await(&data)
		return data, err
	case "again":
		if in.N > 0 {
			ctx.ContinueAsNew(order{Mode: "again", N: in.N - 1})
			return nil, nil
		}
		return "generations done", nil
	case "error":
		return nil, errors.New(in.Text)
	case "outputonly":
		durable.SetOutput(ctx, "mail", "aGVsbG8=")
		return nil, nil
	}
	return nil, fmt.Errorf("unknown mode %q", in.Mode)
}

func fanOut(ctx *task.OrchestrationContext, n int) (any, error) {
	tasks := make([]task.Task, n)
	for i := range tasks {
		record := map[string]string{"RecordId": strconv.Itoa(i), "instanceId": "forged", "sys": "forged"}
		tasks[i] = ctx.CallActivity("Echo", task.WithActivityInput(record))
	}
	for _, t := range tasks {
		if err := t.Await(nil); err != nil {
			return nil, err
		}
	}
	durable.SetOutput(ctx, "mail", map[string]any{"subject": "done", "n": n})
	return n, nil
}

func echoEach(ctx *task.OrchestrationContext, vals []json.RawMessage) []any {
	results := make([]any, len(vals))
	for i, v := range vals {
		var result json.RawMessage
		if err := ctx.CallActivity("Echo", task.WithRawActivityInput(string(v))).Await(&result); err != nil {
			results[i] = fmt.Sprint("ERROR ", err)
		} else {
			results[i] = result
		}
	}
	return results
}

func callSub(ctx *task.OrchestrationContext, name, suffix string, input any) task.Task {
	return ctx.CallSubOrchestrator(name, task.WithSubOrchestratorInput(input),
		task.WithSubOrchestrationInstanceID(fmt.Sprintf("%s:%s", ctx.ID, suffix)))
}
