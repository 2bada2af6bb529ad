import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.metrics.DoubleCounter;
import io.opentelemetry.api.metrics.DoubleGauge;
import io.opentelemetry.api.metrics.DoubleHistogram;
import io.opentelemetry.api.metrics.DoubleUpDownCounter;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.metrics.LongGauge;
import io.opentelemetry.api.metrics.LongHistogram;
import io.opentelemetry.api.metrics.LongUpDownCounter;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.metrics.MeterProvider;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProviderBuilder;
import io.opentelemetry.sdk.metrics.View;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Each instrument records inside the span, which gives an exemplar, and outside of any span. */
final class SentMetrics {
  private static final Context OUTSIDE = Context.root();
  private static final Attributes OF = Attributes.builder().put("route", "/größe").put("code", 200).build();

  private final Meter meter;
  private final Context inside;

  private SentMetrics(Meter meter, Context inside) {
    this.meter = meter;
    this.inside = inside;
  }

  static SdkMeterProviderBuilder registerViews(SdkMeterProviderBuilder provider) {
    return provider
        .registerView(
            InstrumentSelector.builder().setName("histogram.exponential").build(),
            View.builder().setAggregation(Aggregation.base2ExponentialBucketHistogram()).build())
        .registerView(
            InstrumentSelector.builder().setName("counter.filtered").build(),
            View.builder().setAttributeFilter(Set.of("kept")).build());
  }

  static void send(MeterProvider provider, Context inside) {
    Meter meter = provider.meterBuilder("sender/metrics").setInstrumentationVersion("1.2.3").build();
    SentMetrics metrics = new SentMetrics(meter, inside);
    metrics.counters();
    metrics.upDownCounters();
    metrics.gauges();
    metrics.histograms();
    metrics.observables();
  }

  private void counters() {
    LongCounter whole = meter.counterBuilder("counter.int").setUnit("{item}").setDescription("counts: ß").build();
    whole.add(1L << 53, OF, inside);
    whole.add(1, OF, OUTSIDE);
    emitPoint("counter.int", OF, sum(true), "unit", "{item}", "description", "counts: ß", "value_int", Sender.BEYOND_DOUBLE);
    emitExemplar("counter.int", "value_int", 1L << 53);

    DoubleCounter decimal = meter.counterBuilder("counter.double").ofDoubles().build();
    decimal.add(0.25, OF, inside);
    decimal.add(0.5, OF, OUTSIDE);
    emitPoint("counter.double", OF, sum(true), "value", 0.75);
    emitExemplar("counter.double", "value", 0.25);

    LongCounter typed = meter.counterBuilder("counter.every_type").build();
    typed.add(1, Sender.EVERY_TYPE, OUTSIDE);
    typed.add(2, Attributes.empty(), OUTSIDE);
    emitPoint("counter.every_type", Sender.EVERY_TYPE, sum(true), "value_int", 1);
    emitPoint("counter.every_type", Attributes.empty(), sum(true), "value_int", 2);

    LongCounter filtered = meter.counterBuilder("counter.filtered").build();
    filtered.add(1, Attributes.builder().put("kept", "yes").put("dropped", "by the view").build(), inside);
    emitPoint("counter.filtered", Attributes.builder().put("kept", "yes").build(), sum(true), "value_int", 1);
    emitExemplar("counter.filtered", "value_int", 1, "filtered_attributes", Map.of("dropped", "by the view"));
  }

  private void upDownCounters() {
    LongUpDownCounter whole = meter.upDownCounterBuilder("up_down.int").build();
    whole.add(-8, OF, inside);
    whole.add(5, OF, OUTSIDE);
    emitPoint("up_down.int", OF, sum(false), "value_int", -3);
    emitExemplar("up_down.int", "value_int", -8);

    DoubleUpDownCounter decimal = meter.upDownCounterBuilder("up_down.double").ofDoubles().build();
    decimal.add(-1.5, OF, inside);
    decimal.add(0.25, OF, OUTSIDE);
    emitPoint("up_down.double", OF, sum(false), "value", -1.25);
    emitExemplar("up_down.double", "value", -1.5);
  }

  private void gauges() {
    LongGauge whole = meter.gaugeBuilder("gauge.int").ofLongs().build();
    whole.set(7, OF, inside);
    whole.set(-9, OF, OUTSIDE);
    emitPoint("gauge.int", OF, kind("gauge", null, null), "value_int", -9);
    emitExemplar("gauge.int", "value_int", 7);

    DoubleGauge decimal = meter.gaugeBuilder("gauge.double").setUnit("Cel").build();
    decimal.set(36.6, OF, inside);
    decimal.set(-0.1, OF, OUTSIDE);
    emitPoint("gauge.double", OF, kind("gauge", null, null), "unit", "Cel", "value", -0.1);
    emitExemplar("gauge.double", "value", 36.6);

    // The SDK ignores measurements of NaN.
    Map.of("gauge.infinite", Double.POSITIVE_INFINITY, "gauge.negative_infinite", Double.NEGATIVE_INFINITY).forEach(
        (name, value) -> {
          meter.gaugeBuilder(name).build().set(value, OF, OUTSIDE);
          emitPoint(name, OF, kind("gauge", null, null), "value", Json.plain(value));
        });
  }

  private void histograms() {
    DoubleHistogram explicit =
        meter.histogramBuilder("histogram.explicit").setUnit("s")
            .setExplicitBucketBoundariesAdvice(List.of(0.5, 2.5)).build();
    explicit.record(0.25, OF, inside);
    explicit.record(10.75, OF, inside);
    explicit.record(1.75, OF, OUTSIDE);
    emitPoint(
        "histogram.explicit", OF, kind("histogram", "CUMULATIVE", null), "unit", "s", "count", 3, "sum", 12.75,
        "min", 0.25, "max", 10.75, "explicit_bounds", List.of(0.5, 2.5), "bucket_counts", List.of(1, 1, 1));
    emitExemplar("histogram.explicit", "value", 0.25);
    emitExemplar("histogram.explicit", "value", 10.75);

    LongHistogram whole =
        meter.histogramBuilder("histogram.int").ofLongs().setExplicitBucketBoundariesAdvice(List.of(10L)).build();
    whole.record(10, OF, inside);
    whole.record(11, OF, OUTSIDE);
    emitPoint(
        "histogram.int", OF, kind("histogram", "CUMULATIVE", null), "count", 2, "sum", 21, "min", 10, "max", 11,
        "explicit_bounds", List.of(10.0), "bucket_counts", List.of(1, 1));
    emitExemplar("histogram.int", "value", 10.0);

    DoubleHistogram exponential = meter.histogramBuilder("histogram.exponential").build();
    exponential.record(1.5, OF, inside);
    exponential.record(6.25, OF, OUTSIDE);
    exponential.record(0, OF, OUTSIDE);
    emitPoint(
        "histogram.exponential", OF, kind("exponential_histogram", "CUMULATIVE", null), "count", 3, "sum", 7.75,
        "min", 0, "max", 6.25, "zero_count", 1, "recorded", List.of(0, 1.5, 6.25));
    emitExemplar("histogram.exponential", "value", 1.5);
  }

  private void observables() {
    meter.counterBuilder("observable.counter.int").buildWithCallback(observer -> observer.record(11, OF));
    meter.counterBuilder("observable.counter.double").ofDoubles()
        .buildWithCallback(observer -> observer.record(11.5, OF));
    meter.upDownCounterBuilder("observable.up_down.int").buildWithCallback(observer -> observer.record(-12, OF));
    meter.upDownCounterBuilder("observable.up_down.double").ofDoubles()
        .buildWithCallback(observer -> observer.record(-12.5, OF));
    meter.gaugeBuilder("observable.gauge.int").ofLongs().buildWithCallback(observer -> observer.record(13, OF));
    meter.gaugeBuilder("observable.gauge.double").buildWithCallback(observer -> observer.record(13.5, OF));
    emitPoint("observable.counter.int", OF, sum(true), "value_int", 11);
    emitPoint("observable.counter.double", OF, sum(true), "value", 11.5);
    emitPoint("observable.up_down.int", OF, sum(false), "value_int", -12);
    emitPoint("observable.up_down.double", OF, sum(false), "value", -12.5);
    emitPoint("observable.gauge.int", OF, kind("gauge", null, null), "value_int", 13);
    emitPoint("observable.gauge.double", OF, kind("gauge", null, null), "value", 13.5);
  }

  private static Map<String, Object> sum(boolean monotonic) {
    return kind("sum", "CUMULATIVE", monotonic);
  }

  private static Map<String, Object> kind(String type, String temporality, Boolean monotonic) {
    return Json.map("type", type, "temporality", temporality, "is_monotonic", monotonic);
  }

  private static void emitPoint(
      String name, Attributes attributes, Map<String, Object> kind, Object... measured) {
    Map<String, Object> fields =
        Json.map(
            "name", name, "unit", "", "description", "", "attributes", Json.plain(attributes),
            "scope_name", "sender/metrics", "scope_version", "1.2.3");
    fields.putAll(kind);
    fields.putAll(Json.map(measured));
    Json.emit("point", fields);
  }

  private void emitExemplar(String name, Object... measured) {
    SpanContext span = Span.fromContext(inside).getSpanContext();
    Map<String, Object> fields =
        Json.map(
            "metric_name", name, "trace_id", span.getTraceId(), "span_id", span.getSpanId(),
            "filtered_attributes", Map.of());
    fields.putAll(Json.map(measured));
    Json.emit("exemplar", fields);
  }
}
