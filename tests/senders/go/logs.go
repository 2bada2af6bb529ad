package main

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

var bodies = []attribute.Value{
	attribute.StringValue("plain text"),
	attribute.StringValue(`{"looks": "like JSON"}`),
	attribute.StringValue(""),
	attribute.BoolValue(false),
	attribute.Int64Value(1<<53 + 1),
	attribute.Float64Value(0.1),
	attribute.ByteSliceValue([]byte{0, 255}),
	attribute.SliceValue(attribute.IntValue(1), attribute.StringValue("two"), attribute.SliceValue()),
	attribute.MapValue(everyType...),
	attribute.MapValue(),
	{},
}

var severities = []log.Severity{
	log.SeverityTrace, log.SeverityDebug, log.SeverityInfo, log.SeverityWarn, log.SeverityError, log.SeverityFatal4,
}

// sendLogs sends a record for each body: within the span of `inside`, and outside of any span.
func sendLogs(inside context.Context, origin *resource.Resource, exporter sdklog.Exporter) {
	provider := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)), sdklog.WithResource(origin))
	logger := provider.Logger("sender/logs", log.WithInstrumentationVersion("1.2.3"))
	start := time.Now()
	for number, body := range bodies {
		for place, ctx := range []context.Context{inside, context.Background()} {
			severity := severities[number%len(severities)]
			moment := start.Add(time.Duration(2*number+place) * time.Microsecond)
			var record log.Record
			record.SetTimestamp(moment)
			record.SetObservedTimestamp(moment.Add(time.Millisecond))
			record.SetSeverity(severity)
			record.SetSeverityText(severity.String())
			record.SetEventName("sender.event")
			record.SetBody(body)
			record.AddAttributes(everyType...)
			logger.Emit(ctx, record)
			emit("log", logFields(ctx, record))
		}
	}
	check(provider.Shutdown(inside))
}

func logFields(ctx context.Context, record log.Record) fields {
	sent := fields{
		"time_ns": record.Timestamp().UnixNano(), "observed_time_ns": record.ObservedTimestamp().UnixNano(),
		"severity_number": record.Severity(), "severity_text": record.SeverityText(),
		"event_name": record.EventName(), "body": plain(record.Body()), "attributes": object(everyType),
		"scope_name": "sender/logs", "scope_version": "1.2.3", "trace_id": nil, "span_id": nil, "flags": 0,
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		sent["trace_id"], sent["span_id"] = span.TraceID().String(), span.SpanID().String()
		sent["flags"] = int(span.TraceFlags())
	}
	return sent
}
