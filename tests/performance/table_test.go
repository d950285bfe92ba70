// Package performance measures the cost of the app and of its library, each compared with a baseline, and prints the tables of
// docs/performance.md:
//
//	go test -run '^$' -bench . -timeout 30m ./tests/performance
package performance

import (
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
)

func TestMain(m *testing.M) {
	code := m.Run()
	printTable()
	os.Exit(code)
}

// figures are the results of the benchmarks, by benchmark and unit.
var figures = map[string]float64{}

func report(b *testing.B, value float64, unit string) {
	b.ReportMetric(value, unit)
	figures[b.Name()+" "+unit] = value
}

// row is a line of the table: a figure, or the ratio of two.
type row struct {
	measure, target string
	figure, base    string // without base: the figure itself
	format          string
}

var rows = []row{
	{"1,000 records through the local host against the raw engine, activities per second", "at least 0.7",
		"BenchmarkRecords/1000 records/s", "BenchmarkRawEngine records/s", "%.2f"},
	{"10,000 records against 1,000, time per record", "at most 1.2",
		"BenchmarkRecords/10000 µs/record", "BenchmarkRecords/1000 µs/record", "%.2f"},
	{"100,000 records against 1,000, time per record", "at most 1.5",
		"BenchmarkRecords/100000 µs/record", "BenchmarkRecords/1000 µs/record", "%.2f"},
	{"peak memory at 100,000 records", "at most 300 MiB", "BenchmarkRecords/100000 peak-MiB", "", "%.0f MiB"},
	{"ten messages at once of 1,000 records against one of 10,000, time per record", "at most 1",
		"BenchmarkTenAtOnce x-one", "", "%.2f"},
	{"idle host, message in to first activity, median of 100", "at most 10 ms", "BenchmarkIdleLatency median-ms", "", "%.1f ms"},
	{"the same, 99th percentile", "at most 50 ms", "BenchmarkIdleLatency p99-ms", "", "%.1f ms"},
	{"orchestrator turn of 1,000 past activities through ServeHTTP against the bare one, time (tasks of the SDK)", "at most 1.3",
		"BenchmarkTurn/sdk-against-bare x-bare", "", "%.2f"},
	{"the same with FanOut", "", "BenchmarkTurn/toolkit-against-bare x-bare", "", "%.2f"},
	{"the same with FanOut and a retry policy", "", "BenchmarkTurn/toolkit-with-retry-against-bare x-bare", "", "%.2f"},
	{"activity through ServeHTTP", "at most 20 µs", "BenchmarkActivity µs/op", "", "%.1f µs"},
	{"its allocations, the activity's own among them", "at most 60", "BenchmarkActivity allocs", "", "%.0f"},
	{"orchestration of 1,000 activities in 130 turns, CPU time", "at most 0.6 s", "BenchmarkOrchestration130 cpu-s/orchestration", "", "%.2f s"},
	{"the same turns only unmarshalled, executed and marshalled, each from the start", "", "BenchmarkOrchestration130 bare-cpu-s/orchestration", "", "%.2f s"},
	{"process start to first answer under the host", "aim for 30 ms", "BenchmarkStart ms-to-answer", "", "%.0f ms"},
	{"binary, stripped", "aim for 25 MB", "BenchmarkStart binary-MB", "", "%.1f MB"},
	{"idle memory under the host", "aim for 25 MB", "BenchmarkStart idle-MB", "", "%.1f MB"},
}

// printTable prints the results as Markdown.
func printTable() {
	if len(figures) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "\n| measure\t| target\t| measured\t|\n|---\t|---\t|---\t|")
	for _, r := range rows {
		value, ok := figures[r.figure]
		if base, found := figures[r.base]; r.base != "" {
			value, ok = value/base, ok && found
		}
		if ok {
			fmt.Fprintf(w, "| %s\t| %s\t| "+r.format+"\t|\n", r.measure, r.target, value)
		}
	}
	fmt.Fprintln(w, "\n| batch size\t| bytes of history per record, the host's turns\t| the local host's turns\t| turns per 1,000 records\t| records per second\t|\n|---\t|---\t|---\t|---\t|---\t|")
	for _, size := range batchSizes {
		name := fmt.Sprint("BenchmarkBatchSize/", size)
		if bytes, ok := figures[name+" bytes/record"]; ok {
			fmt.Fprintf(w, "| %d\t| %.0f\t| %.0f\t| %.0f\t| %.0f\t|\n", size, figures[name+" host-bytes/record"], bytes, 1000*figures[name+" turns/record"], figures[name+" records/s"])
		}
	}
	w.Flush()
}
