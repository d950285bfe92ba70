package telemetry

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// decision is the key in tracestate that says whether the trace is sampled: "1" or "0".
const decision = "godurable"

// sampler is the sampler that OTEL_TRACES_SAMPLER names, except that it ignores the flag of a durable function's parent.
type sampler struct {
	root        sdktrace.Sampler // decides by the trace id alone
	parentBased bool
}

// samplerOf reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. With an error it returns the default sampler, which
// follows the parent's decision and samples every new trace.
func samplerOf(getenv func(string) string) (sdktrace.Sampler, error) {
	name, parentBased := strings.CutPrefix(strings.ToLower(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER"))), "parentbased_")
	byDefault := sampler{sdktrace.AlwaysSample(), true}
	switch name {
	case "":
		return byDefault, nil
	case "always_on":
		return sampler{sdktrace.AlwaysSample(), parentBased}, nil
	case "always_off":
		return sampler{sdktrace.NeverSample(), parentBased}, nil
	case "traceidratio":
		text := strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER_ARG"))
		if text == "" {
			return sampler{sdktrace.AlwaysSample(), parentBased}, nil
		}
		ratio, err := strconv.ParseFloat(text, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return byDefault, fmt.Errorf("setting OTEL_TRACES_SAMPLER_ARG is %q: it must be a number from 0 to 1", text)
		}
		return sampler{sdktrace.TraceIDRatioBased(ratio), parentBased}, nil
	}
	return byDefault, fmt.Errorf("setting OTEL_TRACES_SAMPLER is %q: it must be always_on, always_off or traceidratio, or parentbased_ and one of these",
		getenv("OTEL_TRACES_SAMPLER"))
}

// ShouldSample decides, and writes the decision into the span's tracestate.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	result := s.root.ShouldSample(p)
	if sampled, known := s.byParent(p.ParentContext, parent); known {
		result.Decision = sdktrace.Drop
		if sampled {
			result.Decision = sdktrace.RecordAndSample
		}
	}
	value := "0"
	if result.Decision == sdktrace.RecordAndSample {
		value = "1"
	}
	result.Tracestate = parent.TraceState()
	if marked, err := result.Tracestate.Insert(decision, value); err == nil {
		result.Tracestate = marked
	}
	return result
}

// byParent returns the decision for the trace of the parent, if it is known.
func (s sampler) byParent(ctx context.Context, parent trace.SpanContext) (sampled, known bool) {
	switch {
	case !s.parentBased || !parent.IsValid():
		return false, false
	case !parent.IsRemote() || ctx.Value(flagIsWrong{}) == nil:
		return parent.IsSampled(), true
	}
	made := parent.TraceState().Get(decision)
	return made == "1", made != ""
}

// Description returns the name of the sampler.
func (s sampler) Description() string {
	if s.parentBased {
		return "DurableParentBased{" + s.root.Description() + "}"
	}
	return s.root.Description()
}

// flagIsWrong is the key of a context whose remote span context has the host's wrong flag for durable functions.
type flagIsWrong struct{}

// ids makes random ids. For a span it uses the id in the context, if there is one.
type ids struct{}

// spanID is the context key for the id of the next span.
type spanID struct{}

func (ids) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	_, _ = rand.Read(id[:]) // never fails
	return id, ids{}.NewSpanID(ctx, id)
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) (id trace.SpanID) {
	if chosen, ok := ctx.Value(spanID{}).(trace.SpanID); ok {
		return chosen
	}
	_, _ = rand.Read(id[:])
	return id
}
