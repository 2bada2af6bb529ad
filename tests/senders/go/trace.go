package main

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sendTrace sends a root span with a child of each kind and returns the root's context.
func sendTrace(ctx context.Context, origin *resource.Resource, exporter sdktrace.SpanExporter) context.Context {
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(origin))
	tracer := provider.Tracer("sender/trace", trace.WithInstrumentationVersion("1.2.3"),
		trace.WithSchemaURL("https://opentelemetry.io/schemas/1.40.0"),
		trace.WithInstrumentationAttributes(attribute.String("scope.attribute", "s")))

	state, err := trace.ParseTraceState("vendor=a1,other=b2")
	check(err)
	config := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true}
	_, err = rand.Read(config.TraceID[:])
	check(err)
	_, err = rand.Read(config.SpanID[:])
	check(err)
	remote := trace.NewSpanContext(config)
	start := time.Now()
	ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
	ctx, root := tracer.Start(ctx, "GET /größe", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(start), trace.WithAttributes(everyType...))
	for number, kind := range []trace.SpanKind{
		trace.SpanKindInternal, trace.SpanKindClient, trace.SpanKindProducer, trace.SpanKindConsumer,
	} {
		sendChild(ctx, tracer, kind, start.Add(time.Duration(number+1)*time.Millisecond), remote)
	}
	end := start.Add(20*time.Millisecond + 1)
	root.SetStatus(codes.Ok, "")
	root.End(trace.WithTimestamp(end))
	emit("span", spanFields(root.SpanContext(), fields{
		"parent_span_id": remote.SpanID().String(), "name": "GET /größe", "kind": "SERVER",
		"start_ns": start.UnixNano(), "end_ns": end.UnixNano(), "duration_ns": end.Sub(start).Nanoseconds(),
		"status_code": "OK", "status_message": "", "attributes": object(everyType),
		"events": []any{}, "links": []any{},
	}))
	check(provider.Shutdown(ctx))
	return ctx
}

// sendChild sends a span with events, a link and an error.
func sendChild(ctx context.Context, tracer trace.Tracer, kind trace.SpanKind, start time.Time, linked trace.SpanContext) {
	parent := trace.SpanFromContext(ctx).SpanContext()
	name := "child " + kind.String()
	_, span := tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(start),
		trace.WithLinks(trace.Link{SpanContext: linked, Attributes: everyType}, trace.Link{SpanContext: parent}))
	moment := start.Add(time.Microsecond)
	span.AddEvent("with attributes", trace.WithTimestamp(moment), trace.WithAttributes(everyType...))
	span.AddEvent("without", trace.WithTimestamp(moment))
	end := start.Add(time.Millisecond)
	span.SetStatus(codes.Error, "it failed: ß")
	span.End(trace.WithTimestamp(end))
	emit("span", spanFields(span.SpanContext(), fields{
		"parent_span_id": parent.SpanID().String(), "name": name, "kind": strings.ToUpper(kind.String()),
		"start_ns": start.UnixNano(), "end_ns": end.UnixNano(), "duration_ns": end.Sub(start).Nanoseconds(),
		"status_code": "ERROR", "status_message": "it failed: ß", "attributes": fields{},
		"events": []fields{
			{"time_ns": moment.UnixNano(), "name": "with attributes", "attributes": object(everyType)},
			{"time_ns": moment.UnixNano(), "name": "without", "attributes": fields{}},
		},
		"links": []fields{linkFields(linked, object(everyType)), linkFields(parent, fields{})},
	}))
}

func spanFields(span trace.SpanContext, sent fields) fields {
	sent["trace_id"], sent["span_id"] = span.TraceID().String(), span.SpanID().String()
	sent["trace_state"] = span.TraceState().String()
	sent["scope_name"], sent["scope_version"] = "sender/trace", "1.2.3"
	sent["scope_attributes"] = fields{"scope.attribute": "s"}
	sent["scope_schema_url"] = "https://opentelemetry.io/schemas/1.40.0"
	return sent
}

// linkFields leaves out the trace state, which the exporter does not send for links.
func linkFields(linked trace.SpanContext, attributes fields) fields {
	return fields{
		"trace_id": linked.TraceID().String(), "span_id": linked.SpanID().String(), "attributes": attributes,
	}
}
