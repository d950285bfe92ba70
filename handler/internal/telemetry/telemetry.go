// Package telemetry is OpenTelemetry in the handler: spans and metrics of the host's invocations, sent over OTLP.
//
//	t := telemetry.Start(os.Getenv, logger) // nil unless the environment turns it on
//	defer t.Stop(ctx)
//	ctx, invocation := t.Begin(ctx, telemetry.Call{Function: "MyOrchestration", …})
//	defer invocation.End()
//
// A nil *Telemetry, and the nil *Invocation that it returns, do nothing: without the variables there is no SDK, no goroutine
// and no connection.
//
// # Spans
//
// A trigger function, an activity and a batch of entity operations each have a span while they run, and their context carries
// it. An orchestration is one span. The turn that ends the execution makes it, with the times in the history, so a replay
// makes no span. Its id is derived from the execution's id: if the host asks for a turn again, the turn makes the same span,
// and children can name it as their parent before it exists.
//
// The parent is the one that the host names: in the header traceparent or, for an orchestration, in the trace context of its
// history.
//
// # Sampling
//
// The host's sampled flag is wrong on durable functions: it is always off. So the decision for the trace travels in
// tracestate, which the host passes on from the client's start to everything that follows. Where that is missing too, the
// sampler decides by the trace id, as for a new trace, so all workers decide alike.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Scope is the name of the instrumentation scope in the exported telemetry.
const Scope = "example.com/durablefunctions/handler"

// Telemetry sends spans and metrics about the handler's invocations.
type Telemetry struct {
	tracer  trace.Tracer
	meters  *meters
	traces  *sdktrace.TracerProvider // nil: no spans are sent
	metrics *sdkmetric.MeterProvider // nil: no metrics are sent
	ended   recent                   // executions whose spans were made
}

// Start turns telemetry on if OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
// OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set. It does so for the whole process: it also sets the API's global providers.
// getenv must read the real environment, because the SDK reads other variables from there itself. A wrong setting is logged
// and its feature left out, so that telemetry never stops an app.
func Start(getenv func(string) string, log *slog.Logger) *Telemetry {
	spans, metrics := endpoint(getenv, "TRACES"), endpoint(getenv, "METRICS")
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || spans == "" && metrics == "" {
		return nil
	}
	otel.SetErrorHandler(&errorLog{log: log})
	ctx := context.Background()
	from := describe(ctx, getenv, log)
	t := &Telemetry{}
	if spans != "" {
		if exporter, err := spanExporter(ctx, getenv, spans); err != nil {
			log.Warn("no spans are sent", "error", err)
		} else {
			sampler, err := samplerOf(getenv)
			if err != nil {
				log.Warn("all traces are sent", "error", err)
			}
			t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(from), sdktrace.WithSampler(sampler),
				sdktrace.WithIDGenerator(ids{}), sdktrace.WithBatcher(exporter))
		}
	}
	if metrics != "" {
		if exporter, err := metricExporter(ctx, getenv, metrics); err != nil {
			log.Warn("no metrics are sent", "error", err)
		} else {
			t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithResource(from), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
		}
	}
	if t.traces == nil && t.metrics == nil {
		return nil
	}
	t.use()
	return t
}

// use makes the instruments, and makes the providers the global ones.
func (t *Telemetry) use() {
	traces, metrics := trace.TracerProvider(tracenoop.NewTracerProvider()), metric.MeterProvider(noop.NewMeterProvider())
	if t.traces != nil {
		traces = t.traces
		otel.SetTracerProvider(withoutEngine{TracerProvider: t.traces})
		otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	}
	if t.metrics != nil {
		metrics = t.metrics
		otel.SetMeterProvider(t.metrics)
	}
	t.tracer = traces.Tracer(Scope)
	t.meters = newMeters(metrics.Meter(Scope))
}

// withoutEngine hides the spans of durabletask-go's engine on the local host and of its client: ours contain the same and
// more.
type withoutEngine struct{ trace.TracerProvider }

func (p withoutEngine) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	if name == "durabletask" {
		return tracenoop.NewTracerProvider().Tracer(name)
	}
	return p.TracerProvider.Tracer(name, options...)
}

// Flush sends what is collected, as far as the time allows.
func (t *Telemetry) Flush(ctx context.Context) {
	if t == nil {
		return
	}
	var sending sync.WaitGroup
	if t.traces != nil {
		sending.Go(func() { report(t.traces.ForceFlush(ctx)) })
	}
	if t.metrics != nil {
		sending.Go(func() { report(t.metrics.ForceFlush(ctx)) })
	}
	sending.Wait()
}

// FlushEvery flushes again and again until the process ends, because the host ends it without notice.
func (t *Telemetry) FlushEvery(interval time.Duration) {
	if t == nil {
		return
	}
	for range time.Tick(interval) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		t.Flush(ctx)
		cancel()
	}
}

// Stop sends what is collected, as far as the time allows, and shuts down.
func (t *Telemetry) Stop(ctx context.Context) {
	if t == nil {
		return
	}
	var ending sync.WaitGroup
	if t.traces != nil {
		ending.Go(func() { report(t.traces.Shutdown(ctx)) })
	}
	if t.metrics != nil {
		ending.Go(func() { report(t.metrics.Shutdown(ctx)) })
	}
	ending.Wait()
}

func report(err error) {
	if err != nil {
		otel.Handle(err)
	}
}

// errorLog logs the SDK's errors, at most one per minute, because the receiver may be away for a long time.
type errorLog struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	dropped int
}

func (l *errorLog) Handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && time.Since(l.last) < time.Minute {
		l.dropped++
		return
	}
	l.log.Warn("telemetry could not be sent", "error", withoutURL(err), "others", l.dropped)
	l.last, l.dropped = time.Now(), 0
}

var addresses = regexp.MustCompile(`https?://[^\s"]+`)

// withoutURL removes the address from an error's text, because it may contain a key.
func withoutURL(err error) string { return addresses.ReplaceAllString(err.Error(), "(address)") }

// endpoint returns the name of the variable that sets the signal's endpoint, empty if the signal is not sent.
func endpoint(getenv func(string) string, signal string) (variable string) {
	if exporter := getenv("OTEL_" + signal + "_EXPORTER"); exporter != "" && !strings.Contains(exporter, "otlp") {
		return ""
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if getenv(variable) != "" {
			return variable
		}
	}
	return ""
}

// isGRPC says whether the protocol is gRPC. It also checks the endpoint's address, because the SDK would silently replace a wrong
// one by its default. The error does not quote the address: it may contain a key.
func isGRPC(getenv func(string) string, signal, variable string) (bool, error) {
	u, err := url.Parse(getenv(variable))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false, fmt.Errorf("setting %s is no URL: it must be one such as http://localhost:4318", variable)
	}
	name := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	protocol := getenv(name)
	if protocol == "" {
		name = "OTEL_EXPORTER_OTLP_PROTOCOL"
		protocol = getenv(name)
	}
	switch protocol {
	case "", "http/protobuf":
		return false, nil
	case "grpc":
		return true, nil
	}
	return false, fmt.Errorf("setting %s is %q: it must be http/protobuf or grpc", name, protocol)
}

func spanExporter(ctx context.Context, getenv func(string) string, variable string) (sdktrace.SpanExporter, error) {
	switch grpc, err := isGRPC(getenv, "TRACES", variable); {
	case err != nil:
		return nil, err
	case grpc:
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func metricExporter(ctx context.Context, getenv func(string) string, variable string) (sdkmetric.Exporter, error) {
	switch grpc, err := isGRPC(getenv, "METRICS", variable); {
	case err != nil:
		return nil, err
	case grpc:
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}

// describe describes the app as the resource: what Azure says about it, overridden by OTEL_RESOURCE_ATTRIBUTES and
// OTEL_SERVICE_NAME.
func describe(ctx context.Context, getenv func(string) string, log *slog.Logger) *resource.Resource {
	var attributes []attribute.KeyValue
	if site := getenv("WEBSITE_SITE_NAME"); site != "" {
		attributes = append(attributes, attribute.String("service.name", site),
			attribute.String("cloud.provider", "azure"), attribute.String("cloud.platform", "azure.functions"))
	}
	for key, variable := range map[string]string{"cloud.region": "REGION_NAME", "service.instance.id": "WEBSITE_INSTANCE_ID"} {
		if value := getenv(variable); value != "" {
			attributes = append(attributes, attribute.String(key, value))
		}
	}
	own, err := resource.New(ctx, resource.WithAttributes(attributes...), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		log.Warn("telemetry: not all attributes are understood", "error", err)
	}
	merged, err := resource.Merge(resource.Default(), own)
	if err != nil {
		return own
	}
	return merged
}
