import static java.util.concurrent.TimeUnit.NANOSECONDS;

import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.LoggerProvider;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.context.Context;
import java.util.List;

/** A log record with each body, within the span and outside of any span. */
final class SentLogs {
  private static final List<Value<?>> BODIES =
      List.of(
          Value.of("plain text"),
          Value.of("{\"looks\": \"like JSON\"}"),
          Value.of(""),
          Value.of(false),
          Value.of(Sender.BEYOND_DOUBLE),
          Value.of(0.1),
          Value.of(new byte[] {0, (byte) 255}),
          Value.of(Value.of(1), Value.of("two"), Value.of(List.<Value<?>>of())),
          Value.of(
              KeyValue.of("größe", Value.of(Double.POSITIVE_INFINITY)),
              KeyValue.of("list", Value.of(Value.of(0.5), Value.empty()))),
          Value.of(new KeyValue[0]),
          Value.empty());

  private static final List<Severity> SEVERITIES =
      List.of(Severity.TRACE, Severity.DEBUG, Severity.INFO, Severity.WARN, Severity.ERROR, Severity.FATAL4);

  private SentLogs() {}

  static void send(LoggerProvider provider, Context inside) {
    Logger logger = provider.loggerBuilder("sender/logs").setInstrumentationVersion("1.2.3").build();
    long moment = System.currentTimeMillis() * 1_000_000;
    for (int number = 0; number < BODIES.size(); number++) {
      for (Context context : List.of(inside, Context.root())) {
        moment += 1000;
        send(logger, context, BODIES.get(number), SEVERITIES.get(number % SEVERITIES.size()), moment);
      }
    }
  }

  private static void send(Logger logger, Context context, Value<?> body, Severity severity, long moment) {
    logger
        .logRecordBuilder()
        .setContext(context)
        .setTimestamp(moment, NANOSECONDS)
        .setObservedTimestamp(moment + 1, NANOSECONDS)
        .setSeverity(severity)
        .setSeverityText(severity.name())
        .setEventName("sender.event")
        .setBody(body)
        .setAllAttributes(Sender.EVERY_TYPE)
        .emit();
    SpanContext span = Span.fromContext(context).getSpanContext();
    Json.emit(
        "log",
        Json.map(
            "time_ns", moment, "observed_time_ns", moment + 1,
            "severity_number", severity.getSeverityNumber(), "severity_text", severity.name(),
            "event_name", "sender.event", "body", Json.plain((Object) body),
            "attributes", Json.plain(Sender.EVERY_TYPE), "scope_name", "sender/logs", "scope_version", "1.2.3",
            "trace_id", span.isValid() ? span.getTraceId() : null,
            "span_id", span.isValid() ? span.getSpanId() : null,
            "flags", span.getTraceFlags().asByte()));
  }
}
