package local

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/backend/sqlite"
	"github.com/microsoft/durabletask-go/task"
)

// BenchmarkRawEngine1000 is BenchmarkFanOut1000 without a host: durabletask-go's engine, SQLite backend and executor in
// one process, with the same SQLite settings and concurrency.
func BenchmarkRawEngine1000(b *testing.B) {
	log := engineLog{slog.New(slog.DiscardHandler)}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(dataSource(filepath.Join(b.TempDir(), "raw.db"))), log)
	registry := task.NewTaskRegistry()
	if err := registry.AddOrchestratorN("Orch", fanOut); err != nil {
		b.Fatal(err)
	}
	if err := registry.AddActivityN("Echo", func(task.ActivityContext) (any, error) { return 1, nil }); err != nil {
		b.Fatal(err)
	}
	executor := task.NewTaskExecutor(registry)
	parallel := backend.WithMaxParallelism(int32(open(b, plainApp(b)).app.Host.MaxConcurrentActivities))
	worker := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, executor, log, parallel), backend.NewActivityTaskWorker(be, executor, log, parallel), log)
	if err := worker.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	client := backend.NewTaskHubClient(be)
	b.ResetTimer()
	for i := range b.N {
		id, err := client.ScheduleNewOrchestration(b.Context(), "Orch", api.WithInstanceID(api.InstanceID(strconv.Itoa(i))), api.WithInput(1000))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := client.WaitForOrchestrationCompletion(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "activities/s")
}
