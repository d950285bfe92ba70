package performance

import "testing"

// figures are what the benchmarks measured, by benchmark and unit.
var figures = map[string]float64{}

func report(b *testing.B, value float64, unit string) {
	b.ReportMetric(value, unit)
	figures[b.Name()+" "+unit] = value
}
