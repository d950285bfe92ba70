package performance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/backend/sqlite"
	"github.com/microsoft/durabletask-go/task"

	myclientfunction "example.com/durablefunctions/MyClientFunction"
	myorchestration "example.com/durablefunctions/MyOrchestration"
	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

// idle is a record store whose batches are named by their size. To process a record it does nothing but tell that it was called.
type idle struct{ begun chan<- time.Time }

func (idle) Records(_ context.Context, batch string) ([]string, error) {
	n, err := strconv.Atoi(batch)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("C-%06d", i)
	}
	return ids, err
}

func (s idle) Process(context.Context, string, string) error {
	select {
	case s.begun <- time.Now():
	default:
	}
	return nil
}

// host is the app on the local host, as the commands run it.
type host struct {
	*local.Host
	turns, turnBytes atomic.Int64   // of orchestrators
	begun            chan time.Time // the time when an activity ran; one is kept if nobody waits for it
	ended            chan local.Instance
}

func open(b *testing.B, settings map[string]string) *host {
	b.Helper()
	s, err := myclientfunction.ReadSettings(func(name string) string { return settings[name] })
	if err != nil {
		b.Fatal(err)
	}
	h := &host{begun: make(chan time.Time, 1), ended: make(chan local.Instance, 1000)}
	app := handler.New()
	app.Trigger("MyClientFunction", myclientfunction.New(idle{}, s))
	app.Orchestrator("MyOrchestration", durable.Orchestrator(myorchestration.Run))
	app.Activity("ProcessActivity", durable.Activity(processactivity.New(idle{h.begun})))
	functions, err := app.Handler(handler.Options{Root: root, Getenv: func(string) string { return "" }, Environ: []string{}})
	if err != nil {
		b.Fatal(err)
	}
	h.Host, err = local.Open(b.Context(), local.Options{
		Root: root, DataDir: b.TempDir(), Handler: h.count(functions),
		OnInstance: func(i local.Instance) {
			if meta := (api.OrchestrationMetadata{RuntimeStatus: i.Status}); i.Parent == "" && meta.IsComplete() {
				h.ended <- i
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Close(context.Background()) })
	return h
}

// count counts the turns that the handler gets, and the bytes of their requests.
func (h *host) count(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/MyOrchestration" {
			h.turns.Add(1)
			r.Body = counted{r.Body, &h.turnBytes}
		}
		handler.ServeHTTP(w, r)
	})
}

type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// root is the app root.
const root = "../.."

// send enqueues messages that each name this many records.
func (h *host) send(b *testing.B, messages, records int) {
	b.Helper()
	for range messages {
		body := fmt.Appendf(nil, `{"Batch":"%d"}`, records)
		if err := h.Enqueue(b.Context(), "MyClientFunction", local.Message{Body: body}); err != nil {
			b.Fatal(err)
		}
	}
}

// process sends messages and waits until they are done.
func (h *host) process(b *testing.B, messages, records int) {
	b.Helper()
	h.send(b, messages, records)
	h.wait(b, messages, records)
}

// wait waits until the orchestrations have ended, and checks that all of their records were processed.
func (h *host) wait(b *testing.B, messages, records int) {
	b.Helper()
	for range messages {
		i := <-h.ended
		var out myorchestration.Output
		if err := json.Unmarshal([]byte(i.Output), &out); err != nil || out.Succeeded != records {
			b.Fatalf("%s: %.500s", i.Status, i.Output)
		}
	}
}

// BenchmarkRecords measures the cost of a record from its message to the result, with all parts of the local host: binding data,
// HTTP, the handler, SQLite. Batches have the default size.
func BenchmarkRecords(b *testing.B) {
	for _, records := range []int{1000, 10_000, 100_000} {
		b.Run(strconv.Itoa(records), func(b *testing.B) {
			resetPeakMemory()
			h := open(b, nil)
			for b.Loop() {
				h.process(b, 1, records)
			}
			perRecord(b, b.N*records)
			if peak := peakMemory(); peak > 0 {
				report(b, peak, "peak-MiB")
			}
		})
	}
}

// BenchmarkTenAtOnce compares ten messages at once with one that has as many records. They take turns, so that a busy machine
// slows both.
func BenchmarkTenAtOnce(b *testing.B) {
	h := open(b, nil)
	var ten, one time.Duration
	for b.Loop() {
		for range 3 {
			start := time.Now()
			h.process(b, 10, 1000)
			between := time.Now()
			h.process(b, 1, 10_000)
			ten += between.Sub(start)
			one += time.Since(between)
		}
	}
	b.ReportMetric(0, "ns/op")
	report(b, float64(ten)/float64(one), "x-one")
}

var batchSizes = []int{50, 100, 250, 500, 1000, 2000}

// BenchmarkBatchSize measures the cost of the batch size: bytes of history, which make the cost of an orchestration on the real
// host, and turns. The host's bytes are those of one batch in the number of turns that the real host was seen to make: 130 for
// 1,000 activities.
func BenchmarkBatchSize(b *testing.B) {
	for _, size := range batchSizes {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			const records = 2000
			h := open(b, map[string]string{"BATCH_SIZE": strconv.Itoa(size)})
			for b.Loop() {
				h.process(b, 1, records)
			}
			perRecord(b, b.N*records)
			report(b, float64(h.turnBytes.Load())/float64(b.N*records), "bytes/record")
			report(b, float64(h.turns.Load())/float64(b.N*records), "turns/record")
			bytes := 0
			for _, t := range history(b, size, max(2, size*130/1000)) {
				bytes += len(t.Body())
			}
			report(b, float64(bytes)/float64(size), "host-bytes/record")
		})
	}
}

// BenchmarkRawEngine is the baseline: durabletask-go's engine, SQLite backend and executor in one process and without a host, in
// one orchestration, with the same SQLite settings and the same concurrency.
func BenchmarkRawEngine(b *testing.B) {
	const records = 1000
	log := quiet{backend.DefaultLogger()}
	file := url.URL{Scheme: "file", Path: filepath.Join(b.TempDir(), "raw.db")}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file.String()+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"), log)
	registry := task.NewTaskRegistry()
	_ = registry.AddOrchestratorN("Orch", func(ctx *task.OrchestrationContext) (any, error) {
		tasks := make([]task.Task, records)
		for i := range tasks {
			tasks[i] = ctx.CallActivity("Work", task.WithActivityInput(processactivity.Input{RecordId: fmt.Sprintf("C-%06d", i), JobId: string(ctx.ID)}))
		}
		for _, t := range tasks {
			if err := t.Await(nil); err != nil {
				return nil, err
			}
		}
		return records, nil
	})
	_ = registry.AddActivityN("Work", func(task.ActivityContext) (any, error) { return processactivity.Result{Success: true}, nil })
	executor := task.NewTaskExecutor(registry)
	worker := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, executor, log, backend.WithMaxParallelism(10)), // as in host.json
		backend.NewActivityTaskWorker(be, executor, log, backend.WithMaxParallelism(20)), log)
	if err := worker.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = worker.Shutdown(context.Background()) })
	client := backend.NewTaskHubClient(be)
	for b.Loop() {
		id, err := client.ScheduleNewOrchestration(b.Context(), "Orch")
		if err != nil {
			b.Fatal(err)
		}
		m, err := client.WaitForOrchestrationCompletion(b.Context(), id)
		if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
			b.Fatal(m, err)
		}
	}
	perRecord(b, b.N*records)
}

// quiet is the engine's log, and logs nothing.
type quiet struct{ backend.Logger }

func (quiet) Debug(...any)          {}
func (quiet) Info(...any)           {}
func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}

// BenchmarkIdleLatency measures the time from a message's arrival at an idle host to its first activity.
func BenchmarkIdleLatency(b *testing.B) {
	h := open(b, nil)
	var all []time.Duration
	for b.Loop() {
		for range 100 {
			arrived := time.Now()
			h.send(b, 1, 1)
			all = append(all, (<-h.begun).Sub(arrived))
			h.wait(b, 1, 1)
			time.Sleep(10 * time.Millisecond) // now the host is idle again
		}
	}
	slices.Sort(all)
	report(b, milliseconds(all[len(all)/2]), "median-ms")
	report(b, milliseconds(all[len(all)*99/100]), "p99-ms")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// perRecord reports the time for one record.
func perRecord(b *testing.B, records int) {
	report(b, float64(b.Elapsed().Microseconds())/float64(records), "µs/record")
	report(b, float64(records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(0, "ns/op") // hidden, because it means nothing here
}

// resetPeakMemory resets the process's peak of memory, on Linux only.
func resetPeakMemory() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakMemory is the largest resident memory since then, in MiB. It is 0 on a system that does not tell it.
func peakMemory() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
	return kib / 1024
}
