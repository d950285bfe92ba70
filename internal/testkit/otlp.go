package testkit

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// OTLP receives telemetry over HTTP, as an OpenTelemetry collector does.
type OTLP struct {
	URL string

	mu       sync.Mutex
	spans    []Span
	metrics  map[string]*metrics.Metric // the newest metric of each name
	resource map[string]string
	headers  http.Header // of the newest request
	requests int
	status   int // the status to answer with; 0 means 200
}

// Span is a span that was received. Its ids are hexadecimal.
type Span struct {
	Name, Trace, ID, Parent string
	Kind                    string // "SERVER", "CLIENT" …
	State                   string // tracestate
	Status, Message         string // "OK", "ERROR" or "UNSET"
	Start, End              time.Time
	Attributes              map[string]string
	Scope                   string
}

// StartOTLP starts a receiver.
func StartOTLP(t testing.TB) *OTLP {
	o := &OTLP{metrics: map[string]*metrics.Metric{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.URL = server.URL
	return o
}

// Env returns the environment variables with which a process sends its telemetry to this receiver.
func (o *OTLP) Env(more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + o.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRIC_EXPORT_INTERVAL=200"}, more...)
}

// Fail makes the receiver answer with this status from now on.
func (o *OTLP) Fail(status int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status = status
}

// ServeHTTP stores what an exporter sends.
func (o *OTLP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readOTLP(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	o.headers = r.Header.Clone()
	if o.status != 0 {
		w.WriteHeader(o.status)
		return
	}
	switch r.URL.Path {
	case "/v1/traces":
		err = o.takeSpans(body)
	case "/v1/metrics":
		err = o.takeMetrics(body)
	default:
		err = fmt.Errorf("no such path: %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func readOTLP(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	return io.ReadAll(body)
}

func (o *OTLP) takeSpans(body []byte) error {
	var request collectortrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	for _, r := range request.ResourceSpans {
		o.resource = attributesOf(r.Resource.GetAttributes())
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				o.spans = append(o.spans, Span{
					Name: span.Name, Trace: hex.EncodeToString(span.TraceId), ID: hex.EncodeToString(span.SpanId), Parent: hex.EncodeToString(span.ParentSpanId),
					Kind: span.Kind.String()[len("SPAN_KIND_"):], State: span.TraceState, Message: span.Status.GetMessage(),
					Status: span.Status.GetCode().String()[len("STATUS_CODE_"):], Scope: s.Scope.GetName(), Attributes: attributesOf(span.Attributes),
					Start: time.Unix(0, int64(span.StartTimeUnixNano)), End: time.Unix(0, int64(span.EndTimeUnixNano)),
				})
			}
		}
	}
	return nil
}

func (o *OTLP) takeMetrics(body []byte) error {
	var request collectormetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	for _, r := range request.ResourceMetrics {
		o.resource = attributesOf(r.Resource.GetAttributes())
		for _, s := range r.ScopeMetrics {
			for _, m := range s.Metrics {
				o.metrics[m.Name] = m
			}
		}
	}
	return nil
}

func attributesOf(list []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		switch v := a.Value.GetValue().(type) {
		case *common.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			all[a.Key] = fmt.Sprint(v.IntValue)
		default:
			all[a.Key] = fmt.Sprint(v)
		}
	}
	return all
}

// Spans returns the spans so far, ordered by their start.
func (o *OTLP) Spans() []Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := slices.Clone(o.spans)
	slices.SortStableFunc(all, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return all
}

// Requests returns how many requests came.
func (o *OTLP) Requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests
}

// Header returns a header of the newest request.
func (o *OTLP) Header(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.headers.Get(name)
}

// Resource returns the attributes of the process that sends the telemetry.
func (o *OTLP) Resource() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.resource
}

// Point is the value of a metric for one set of attributes: a sum, or a histogram's count and sum.
type Point struct {
	Attributes map[string]string
	Count      int64
	Sum        float64
}

// Points returns the points of a metric whose attribute has this value.
func (o *OTLP) Points(metric, attribute, value string) (points []Point) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.metrics[metric]
	for _, p := range m.GetSum().GetDataPoints() {
		points = append(points, Point{attributesOf(p.Attributes), p.GetAsInt(), float64(p.GetAsInt())})
	}
	for _, p := range m.GetHistogram().GetDataPoints() {
		points = append(points, Point{attributesOf(p.Attributes), int64(p.Count), p.GetSum()})
	}
	return slices.DeleteFunc(points, func(p Point) bool { return p.Attributes[attribute] != value })
}

// WaitFor waits until there returns true. After a minute the test fails with a message that names what.
func (o *OTLP) WaitFor(t testing.TB, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in a minute; spans %+v", what, o.Spans())
		}
	}
}
