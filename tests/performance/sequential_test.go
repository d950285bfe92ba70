//go:build unix

package performance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/testkit"
)

var (
	lengths = []int{200, 400, 800, 1600}
	addOne  = durable.ActivityName[int, int]("Work")
)

// sequence calls activities one after the other.
func sequence(ctx *task.OrchestrationContext, n int) (sum int, err error) {
	for range n {
		if sum, err = addOne.Call(ctx, sum).Await(); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func addsOne(_ context.Context, n int) (int, error) { return n + 1, nil }

// BenchmarkSequential runs an orchestration of activities one after the other on the local host. Each activity makes a turn, whose
// request has the whole history: four events for each activity before it.
func BenchmarkSequential(b *testing.B) {
	for _, n := range lengths {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			root := appRoot(b, map[string]string{"Orch": "orchestrationTrigger", "Work": "activityTrigger"})
			testkit.WriteFile(b, filepath.Join(root, "Start", "function.json"),
				`{"bindings":[{"name":"item","type":"queueTrigger","direction":"in","queueName":"q","connection":"AzureWebJobsStorage"},{"name":"starter","type":"durableClient","direction":"in"}]}`)
			app := handler.New()
			app.Queue("Start", func(ctx context.Context, _ handler.Message) error {
				client, err := durable.FromContext(ctx)
				if err == nil {
					_, err = client.Start(ctx, "Orch", "", n)
				}
				return err
			})
			app.Orchestrator("Orch", durable.Orchestrator(sequence))
			app.Activity("Work", durable.Activity(addsOne))
			functions, err := app.Handler(handler.Options{Root: root, Getenv: func(string) string { return "" }, Environ: []string{}})
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan local.Instance, 1)
			h, err := local.Open(b.Context(), local.Options{Root: root, DataDir: b.TempDir(), Handler: functions, OnInstance: func(i local.Instance) {
				if i.Status == api.RUNTIME_STATUS_COMPLETED {
					ended <- i
				}
			}})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close(context.Background())
			before := cpuTime(b)
			for b.Loop() {
				if err := h.Enqueue(b.Context(), "Start", local.Message{Body: []byte("x")}); err != nil {
					b.Fatal(err)
				}
				if i := <-ended; i.Output != fmt.Sprint(n) {
					b.Fatal(i.Output)
				}
			}
			perActivity(b, before, n)
		})
	}
}

// BenchmarkSequentialTest runs the same in durabletest.
func BenchmarkSequentialTest(b *testing.B) {
	for _, n := range lengths {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				env := durabletest.New(b)
				env.Activity("Work", durable.Activity(addsOne))
				if r := env.Run(durable.Orchestrator(sequence), n); r.Output != fmt.Sprint(n) {
					b.Fatal(r.Failure)
				}
			}
			perActivity(b, before, n)
		})
	}
}

// BenchmarkRetriesTest runs one activity in durabletest that fails many times. Each attempt takes two turns.
func BenchmarkRetriesTest(b *testing.B) {
	for _, n := range lengths {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				env := durabletest.New(b)
				env.Activity("Work", durable.Activity(func(context.Context, int) (int, error) { return 0, errors.New("no") }))
				env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, n int) (int, error) {
					return addOne.Call(ctx, 1, durable.WithRetry(durable.RetryPolicy{Attempts: n, FirstInterval: time.Second})).Await()
				}), n)
				if calls := len(env.Calls("Work")); calls != n {
					b.Fatal(calls)
				}
			}
			perActivity(b, before, n)
		})
	}
}

func perActivity(b *testing.B, before time.Duration, n int) {
	cpu := cpuTime(b) - before
	report(b, (cpu / time.Duration(b.N)).Seconds(), "cpu-s/run")
	report(b, float64(cpu.Microseconds())/float64(b.N*n), "cpu-µs/activity")
}
