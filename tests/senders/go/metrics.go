package main

import (
	"context"
	"math"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

var (
	of      = []attribute.KeyValue{attribute.String("route", "/größe"), attribute.Int64("code", 200)}
	kept    = attribute.String("kept", "yes")
	dropped = attribute.String("dropped", "by the view")
)

// sendMetrics records with each instrument once inside the span of `inside`, which gives an exemplar, and once outside.
func sendMetrics(inside context.Context, origin *resource.Resource, reader sdkmetric.Reader) {
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(origin),
		sdkmetric.WithView(
			sdkmetric.NewView(sdkmetric.Instrument{Name: "histogram.exponential"},
				sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}}),
			sdkmetric.NewView(sdkmetric.Instrument{Name: "counter.filtered"},
				sdkmetric.Stream{AttributeFilter: attribute.NewAllowKeysFilter(kept.Key)}),
		))
	meter := provider.Meter("sender/metrics", metric.WithInstrumentationVersion("1.2.3"))
	counters(inside, meter)
	upDownCounters(inside, meter)
	gauges(inside, meter)
	histograms(inside, meter)
	observables(meter)
	check(provider.Shutdown(inside))
}

func counters(inside context.Context, meter metric.Meter) {
	outside, about := context.Background(), metric.WithAttributes(of...)
	whole, err := meter.Int64Counter("counter.int", metric.WithUnit("{item}"), metric.WithDescription("counts: ß"))
	check(err)
	whole.Add(inside, 1<<53, about)
	whole.Add(outside, 1, about)
	emitPoint("counter.int", "{item}", "counts: ß", of, sum(true), fields{"value_int": int64(1<<53 + 1)})
	emitExemplar(inside, "counter.int", fields{"value_int": int64(1 << 53)})

	double, err := meter.Float64Counter("counter.double", metric.WithUnit("By"))
	check(err)
	double.Add(inside, 0.25, about)
	double.Add(outside, 0.5, about)
	emitPoint("counter.double", "By", "", of, sum(true), fields{"value": 0.75})
	emitExemplar(inside, "counter.double", fields{"value": 0.25})

	typed, err := meter.Int64Counter("counter.every_type")
	check(err)
	typed.Add(outside, 1, metric.WithAttributes(everyType...))
	typed.Add(outside, 2)
	emitPoint("counter.every_type", "", "", everyType, sum(true), fields{"value_int": 1})
	emitPoint("counter.every_type", "", "", nil, sum(true), fields{"value_int": 2})

	filtered, err := meter.Int64Counter("counter.filtered")
	check(err)
	filtered.Add(inside, 1, metric.WithAttributes(kept, dropped))
	emitPoint("counter.filtered", "", "", []attribute.KeyValue{kept}, sum(true), fields{"value_int": 1})
	emitExemplar(inside, "counter.filtered", fields{
		"value_int": 1, "filtered_attributes": object([]attribute.KeyValue{dropped}),
	})
}

func upDownCounters(inside context.Context, meter metric.Meter) {
	outside, about := context.Background(), metric.WithAttributes(of...)
	whole, err := meter.Int64UpDownCounter("up_down.int")
	check(err)
	whole.Add(inside, -8, about)
	whole.Add(outside, 5, about)
	emitPoint("up_down.int", "", "", of, sum(false), fields{"value_int": -3})
	emitExemplar(inside, "up_down.int", fields{"value_int": -8})

	double, err := meter.Float64UpDownCounter("up_down.double")
	check(err)
	double.Add(inside, -1.5, about)
	double.Add(outside, 0.25, about)
	emitPoint("up_down.double", "", "", of, sum(false), fields{"value": -1.25})
	emitExemplar(inside, "up_down.double", fields{"value": -1.5})
}

func gauges(inside context.Context, meter metric.Meter) {
	outside, about := context.Background(), metric.WithAttributes(of...)
	whole, err := meter.Int64Gauge("gauge.int")
	check(err)
	whole.Record(inside, 7, about)
	whole.Record(outside, -9, about)
	emitPoint("gauge.int", "", "", of, gauge(), fields{"value_int": -9})
	emitExemplar(inside, "gauge.int", fields{"value_int": 7})

	double, err := meter.Float64Gauge("gauge.double", metric.WithUnit("Cel"))
	check(err)
	double.Record(inside, 36.6, about)
	double.Record(outside, -0.1, about)
	emitPoint("gauge.double", "Cel", "", of, gauge(), fields{"value": -0.1})
	emitExemplar(inside, "gauge.double", fields{"value": 36.6})

	for name, value := range map[string]float64{
		"gauge.nan": math.NaN(), "gauge.infinite": math.Inf(1), "gauge.negative_infinite": math.Inf(-1),
	} {
		special, err := meter.Float64Gauge(name)
		check(err)
		special.Record(outside, value, about)
		emitPoint(name, "", "", of, gauge(), fields{"value": plain(attribute.Float64Value(value))})
	}
}

func histograms(inside context.Context, meter metric.Meter) {
	outside, about := context.Background(), metric.WithAttributes(of...)
	explicit, err := meter.Float64Histogram("histogram.explicit", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(0.5, 2.5))
	check(err)
	explicit.Record(inside, 0.25, about)
	explicit.Record(inside, 10.75, about)
	explicit.Record(outside, 1.75, about)
	emitPoint("histogram.explicit", "s", "", of, histogram("histogram"), fields{
		"count": 3, "sum": 12.75, "min": 0.25, "max": 10.75,
		"explicit_bounds": []float64{0.5, 2.5}, "bucket_counts": []int{1, 1, 1},
	})
	emitExemplar(inside, "histogram.explicit", fields{"value": 0.25})
	emitExemplar(inside, "histogram.explicit", fields{"value": 10.75})

	whole, err := meter.Int64Histogram("histogram.int", metric.WithExplicitBucketBoundaries(10))
	check(err)
	whole.Record(inside, 10, about)
	whole.Record(outside, 11, about)
	emitPoint("histogram.int", "", "", of, histogram("histogram"), fields{
		"count": 2, "sum": 21, "min": 10, "max": 11, "bucket_counts": []int{1, 1},
	})
	emitExemplar(inside, "histogram.int", fields{"value_int": 10})

	exponential, err := meter.Float64Histogram("histogram.exponential")
	check(err)
	exponential.Record(inside, 1.5, about)
	exponential.Record(outside, 6.25, about)
	exponential.Record(outside, 0, about)
	emitPoint("histogram.exponential", "", "", of, histogram("exponential_histogram"), fields{
		"count": 3, "sum": 7.75, "min": 0, "max": 6.25, "zero_count": 1, "recorded": []float64{0, 1.5, 6.25},
	})
	emitExemplar(inside, "histogram.exponential", fields{"value": 1.5})
}

func observables(meter metric.Meter) {
	about := metric.WithAttributes(of...)
	observeInt := func(value int64) metric.Int64Callback {
		return func(_ context.Context, observer metric.Int64Observer) error {
			observer.Observe(value, about)
			return nil
		}
	}
	observeDouble := func(value float64) metric.Float64Callback {
		return func(_ context.Context, observer metric.Float64Observer) error {
			observer.Observe(value, about)
			return nil
		}
	}
	_, err := meter.Int64ObservableCounter("observable.counter.int", metric.WithInt64Callback(observeInt(11)))
	check(err)
	_, err = meter.Float64ObservableCounter("observable.counter.double", metric.WithFloat64Callback(observeDouble(11.5)))
	check(err)
	_, err = meter.Int64ObservableUpDownCounter("observable.up_down.int", metric.WithInt64Callback(observeInt(-12)))
	check(err)
	_, err = meter.Float64ObservableUpDownCounter("observable.up_down.double", metric.WithFloat64Callback(observeDouble(-12.5)))
	check(err)
	_, err = meter.Int64ObservableGauge("observable.gauge.int", metric.WithInt64Callback(observeInt(13)))
	check(err)
	_, err = meter.Float64ObservableGauge("observable.gauge.double", metric.WithFloat64Callback(observeDouble(13.5)))
	check(err)
	emitPoint("observable.counter.int", "", "", of, sum(true), fields{"value_int": 11})
	emitPoint("observable.counter.double", "", "", of, sum(true), fields{"value": 11.5})
	emitPoint("observable.up_down.int", "", "", of, sum(false), fields{"value_int": -12})
	emitPoint("observable.up_down.double", "", "", of, sum(false), fields{"value": -12.5})
	emitPoint("observable.gauge.int", "", "", of, gauge(), fields{"value_int": 13})
	emitPoint("observable.gauge.double", "", "", of, gauge(), fields{"value": 13.5})
}

func sum(monotonic bool) fields {
	return fields{"type": "sum", "temporality": "CUMULATIVE", "is_monotonic": monotonic}
}

func gauge() fields {
	return fields{"type": "gauge", "temporality": nil, "is_monotonic": nil}
}

func histogram(name string) fields {
	return fields{"type": name, "temporality": "CUMULATIVE", "is_monotonic": nil}
}

func emitPoint(name, unit, description string, attributes []attribute.KeyValue, kind, measured fields) {
	sent := fields{
		"name": name, "unit": unit, "description": description, "attributes": object(attributes),
		"scope_name": "sender/metrics", "scope_version": "1.2.3",
	}
	for _, more := range []fields{kind, measured} {
		for key, value := range more {
			sent[key] = value
		}
	}
	emit("point", sent)
}

func emitExemplar(inside context.Context, name string, measured fields) {
	span := trace.SpanContextFromContext(inside)
	sent := fields{
		"metric_name": name, "trace_id": span.TraceID().String(), "span_id": span.SpanID().String(),
		"filtered_attributes": fields{},
	}
	for key, value := range measured {
		sent[key] = value
	}
	emit("exemplar", sent)
}
