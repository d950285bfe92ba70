package telemetry

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

// meters holds the instruments.
type meters struct {
	invocations, failures, putOff metric.Int64Counter
	duration, queueTime           metric.Float64Histogram // seconds
	turnSize                      metric.Int64Histogram   // bytes
	history                       metric.Int64Histogram   // events
}

var (
	seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	waits   = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400}
	sizes   = []float64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
	lengths = []float64{10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000}
)

func newMeters(m metric.Meter) *meters {
	var errs [7]error
	var out meters
	out.invocations, errs[0] = m.Int64Counter("faas.invocations", metric.WithUnit("{invocation}"),
		metric.WithDescription("Invocations of a function by the host: of an orchestrator its turns, of an entity its batches."))
	out.failures, errs[1] = m.Int64Counter("faas.errors", metric.WithUnit("{error}"),
		metric.WithDescription("Invocations that failed: of an orchestrator the turns that fail their orchestration."))
	out.duration, errs[2] = m.Float64Histogram("faas.invoke_duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(seconds...),
		metric.WithDescription("From the arrival of an invocation to its answer."))
	out.putOff, errs[3] = m.Int64Counter("durabletask.put_off", metric.WithUnit("{invocation}"),
		metric.WithDescription("Turns and batches that the handler put off: the host asks for them again."))
	out.queueTime, errs[4] = m.Float64Histogram("durabletask.queue_time", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(waits...),
		metric.WithDescription("How long what an invocation is for has waited: the oldest new event of a turn, or the message."))
	out.turnSize, errs[5] = m.Int64Histogram("durabletask.turn.size", metric.WithUnit("By"), metric.WithExplicitBucketBoundaries(sizes...),
		metric.WithDescription("Size of the request of a turn, which holds the whole history."))
	out.history, errs[6] = m.Int64Histogram("durabletask.turn.history_length", metric.WithUnit("{event}"), metric.WithExplicitBucketBoundaries(lengths...),
		metric.WithDescription("Events in the history of a turn."))
	for _, err := range errs {
		if err != nil {
			otel.Handle(err)
		}
	}
	return &out
}
