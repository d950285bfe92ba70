package durable

import (
	"context"
	"errors"
	"path"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/sidecar"
)

// begin begins the span of a call, in the trace of its context, and makes an instance that the call starts a part of that
// trace. Without telemetry the span is none.
func begin(ctx context.Context, method string, request any) (context.Context, trace.Span) {
	method = path.Base(method)
	name := method
	attributes := []attribute.KeyValue{attribute.String("rpc.system", "grpc"), attribute.String("rpc.method", method)}
	if r, ok := request.(interface{ GetInstanceId() string }); ok && r.GetInstanceId() != "" {
		attributes = append(attributes, attribute.String("durabletask.task.instance_id", r.GetInstanceId()))
	}
	if r, ok := request.(interface{ GetName() string }); ok && r.GetName() != "" {
		name += ":" + r.GetName()
	}
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("example.com/durablefunctions/handler/durable")
	ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	if start, ok := request.(*sidecar.CreateInstanceRequest); ok && start.ParentTraceContext == nil {
		start.ParentTraceContext = traceContext(ctx)
	}
	return ctx, span
}

// traceContext is the span of ctx in the words of the protocol; nil if there is none.
func traceContext(ctx context.Context) *sidecar.TraceContext {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	headers := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, headers)
	c := &sidecar.TraceContext{TraceParent: headers["traceparent"]}
	if state := headers["tracestate"]; state != "" {
		c.TraceState = wrapperspb.String(state)
	}
	return c
}

// end ends the span of a call. An instance that is there already, or is not there, is an answer as any other.
func end(span trace.Span, err error) {
	code := status.Code(err)
	if errors.Is(err, ErrNotFound) {
		code = codes.NotFound
	}
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
	switch code {
	case codes.OK, codes.AlreadyExists, codes.NotFound:
	default:
		span.SetStatus(otelcodes.Error, code.String())
	}
	span.End()
}

// untraced is ctx without its span: no call with it makes one.
func untraced(ctx context.Context) context.Context { return trace.ContextWithSpan(ctx, nil) }
