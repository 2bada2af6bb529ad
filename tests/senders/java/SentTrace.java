import static java.util.concurrent.TimeUnit.NANOSECONDS;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.TracerProvider;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.trace.IdGenerator;
import java.util.List;
import java.util.Map;

/** A root span with a child of each kind. */
final class SentTrace {
  private static final String STATE = "vendor=a1,other=b2";
  private static final String SCHEMA = "https://opentelemetry.io/schemas/1.40.0";

  private SentTrace() {}

  /** Sends the trace and returns the context of its root span. */
  static Context send(TracerProvider provider) {
    Tracer tracer =
        provider.tracerBuilder("sender/trace").setInstrumentationVersion("1.2.3").setSchemaUrl(SCHEMA).build();
    SpanContext remote =
        SpanContext.createFromRemoteParent(
            IdGenerator.random().generateTraceId(),
            IdGenerator.random().generateSpanId(),
            TraceFlags.getSampled(),
            // The first of the list is the one that was added last.
            TraceState.builder().put("other", "b2").put("vendor", "a1").build());
    long start = System.currentTimeMillis() * 1_000_000 + 1;
    Span root =
        tracer
            .spanBuilder("GET /größe")
            .setParent(Context.root().with(Span.wrap(remote)))
            .setSpanKind(SpanKind.SERVER)
            .setStartTimestamp(start, NANOSECONDS)
            .setAllAttributes(Sender.EVERY_TYPE)
            .startSpan();
    Context inside = Context.root().with(root);
    long childStart = start;
    for (SpanKind kind : List.of(SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)) {
      childStart += 1_000_000;
      sendChild(tracer, inside, kind, childStart, remote);
    }
    long end = start + 20_000_001;
    root.setStatus(StatusCode.OK);
    root.end(end, NANOSECONDS);
    emit(
        root,
        Json.map(
            "parent_span_id", remote.getSpanId(), "name", "GET /größe", "kind", "SERVER",
            "start_ns", start, "end_ns", end, "duration_ns", end - start,
            "status_code", "OK", "status_message", "", "attributes", Json.plain(Sender.EVERY_TYPE),
            "events", List.of(), "links", List.of()));
    return inside;
  }

  /** Sends a span with events, links and an error. */
  private static void sendChild(Tracer tracer, Context inside, SpanKind kind, long start, SpanContext linked) {
    SpanContext parent = Span.fromContext(inside).getSpanContext();
    String name = "child " + kind;
    Span span =
        tracer
            .spanBuilder(name)
            .setParent(inside)
            .setSpanKind(kind)
            .setStartTimestamp(start, NANOSECONDS)
            .addLink(linked, Sender.EVERY_TYPE)
            .addLink(parent)
            .startSpan();
    long moment = start + 1000;
    span.addEvent("with attributes", Sender.EVERY_TYPE, moment, NANOSECONDS);
    span.addEvent("without", moment, NANOSECONDS);
    span.setStatus(StatusCode.ERROR, "it failed: ß");
    long end = start + 1_000_000;
    span.end(end, NANOSECONDS);
    emit(
        span,
        Json.map(
            "parent_span_id", parent.getSpanId(), "name", name, "kind", kind.name(),
            "start_ns", start, "end_ns", end, "duration_ns", end - start,
            "status_code", "ERROR", "status_message", "it failed: ß", "attributes", Map.of(),
            "events", List.of(
                event("with attributes", moment, Sender.EVERY_TYPE), event("without", moment, Attributes.empty())),
            "links", List.of(link(linked, Sender.EVERY_TYPE), link(parent, Attributes.empty()))));
  }

  private static Map<String, Object> event(String name, long moment, Attributes attributes) {
    return Json.map("name", name, "time_ns", moment, "attributes", Json.plain(attributes));
  }

  private static Map<String, Object> link(SpanContext linked, Attributes attributes) {
    return Json.map(
        "trace_id", linked.getTraceId(), "span_id", linked.getSpanId(), "trace_state", STATE,
        "attributes", Json.plain(attributes));
  }

  private static void emit(Span span, Map<String, Object> fields) {
    fields.putAll(
        Json.map(
            "trace_id", span.getSpanContext().getTraceId(), "span_id", span.getSpanContext().getSpanId(),
            "trace_state", STATE, "scope_name", "sender/trace", "scope_version", "1.2.3",
            "scope_schema_url", SCHEMA));
    Json.emit("span", fields);
  }
}
