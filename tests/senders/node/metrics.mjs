import { metrics, ROOT_CONTEXT, ValueType } from '@opentelemetry/api';
import { emit, everyType } from './values.mjs';

const of = { route: '/größe', code: 200 };
const int = { valueType: ValueType.INT };
const double = { valueType: ValueType.DOUBLE };
const outside = ROOT_CONTEXT;

/** Records with each instrument inside the span and outside. This SDK does not export exemplars. */
export function sendMetrics(inside) {
  const meter = metrics.getMeter('sender/metrics', '1.2.3');
  counters(meter, inside);
  upDownCountersAndGauges(meter, inside);
  histograms(meter, inside);
  observables(meter);
}

function counters(meter, inside) {
  const whole = meter.createCounter('counter.int', { ...int, unit: '{item}', description: 'counts: ß' });
  whole.add(Number.MAX_SAFE_INTEGER - 1, of, inside);
  whole.add(1, of, outside);
  emitPoint('counter.int', of, sum(true), {
    unit: '{item}', description: 'counts: ß', value_int: Number.MAX_SAFE_INTEGER,
  });

  const decimal = meter.createCounter('counter.double', double);
  decimal.add(0.25, of, inside);
  decimal.add(0.5, of, outside);
  emitPoint('counter.double', of, sum(true), { value: 0.75 });

  const typed = meter.createCounter('counter.every_type', int);
  typed.add(1, everyType, outside);
  typed.add(2, {}, outside);
  emitPoint('counter.every_type', everyType, sum(true), { value_int: 1 });
  emitPoint('counter.every_type', {}, sum(true), { value_int: 2 });

  meter.createCounter('counter.filtered', int).add(1, { kept: 'yes', dropped: 'by the view' }, inside);
  emitPoint('counter.filtered', { kept: 'yes' }, sum(true), { value_int: 1 });
}

function upDownCountersAndGauges(meter, inside) {
  const whole = meter.createUpDownCounter('up_down.int', int);
  whole.add(-8, of, inside);
  whole.add(5, of, outside);
  emitPoint('up_down.int', of, sum(false), { value_int: -3 });

  const decimal = meter.createUpDownCounter('up_down.double', double);
  decimal.add(-1.5, of, inside);
  decimal.add(0.25, of, outside);
  emitPoint('up_down.double', of, sum(false), { value: -1.25 });

  const gauge = meter.createGauge('gauge.int', int);
  gauge.record(7, of, inside);
  gauge.record(-9, of, outside);
  emitPoint('gauge.int', of, gaugeKind, { value_int: -9 });

  meter.createGauge('gauge.double', { ...double, unit: 'Cel' }).record(-0.1, of, inside);
  emitPoint('gauge.double', of, gaugeKind, { unit: 'Cel', value: -0.1 });
}

function histograms(meter, inside) {
  const explicit = meter.createHistogram('histogram.explicit', {
    ...double, unit: 's', advice: { explicitBucketBoundaries: [0.5, 2.5] },
  });
  explicit.record(0.25, of, inside);
  explicit.record(10.75, of, inside);
  explicit.record(1.75, of, outside);
  emitPoint('histogram.explicit', of, histogram('histogram'), {
    unit: 's', count: 3, sum: 12.75, min: 0.25, max: 10.75, explicit_bounds: [0.5, 2.5], bucket_counts: [1, 1, 1],
  });

  const whole = meter.createHistogram('histogram.int', { ...int, advice: { explicitBucketBoundaries: [10] } });
  whole.record(10, of, inside);
  whole.record(11, of, outside);
  emitPoint('histogram.int', of, histogram('histogram'), {
    count: 2, sum: 21, min: 10, max: 11, bucket_counts: [1, 1],
  });

  const exponential = meter.createHistogram('histogram.exponential', double);
  for (const value of [0, 1.5, 6.25]) {
    exponential.record(value, of, inside);
  }
  emitPoint('histogram.exponential', of, histogram('exponential_histogram'), {
    count: 3, sum: 7.75, min: 0, max: 6.25, zero_count: 1, recorded: [0, 1.5, 6.25],
  });
}

function observables(meter) {
  const observe = (instrument, value) => instrument.addCallback((result) => result.observe(value, of));
  observe(meter.createObservableCounter('observable.counter.int', int), 11);
  observe(meter.createObservableCounter('observable.counter.double', double), 11.5);
  observe(meter.createObservableUpDownCounter('observable.up_down.int', int), -12);
  observe(meter.createObservableUpDownCounter('observable.up_down.double', double), -12.5);
  observe(meter.createObservableGauge('observable.gauge.int', int), 13);
  observe(meter.createObservableGauge('observable.gauge.double', double), 13.5);
  emitPoint('observable.counter.int', of, sum(true), { value_int: 11 });
  emitPoint('observable.counter.double', of, sum(true), { value: 11.5 });
  emitPoint('observable.up_down.int', of, sum(false), { value_int: -12 });
  emitPoint('observable.up_down.double', of, sum(false), { value: -12.5 });
  emitPoint('observable.gauge.int', of, gaugeKind, { value_int: 13 });
  emitPoint('observable.gauge.double', of, gaugeKind, { value: 13.5 });
}

const gaugeKind = { type: 'gauge', temporality: null, is_monotonic: null };

function sum(monotonic) {
  return { type: 'sum', temporality: 'CUMULATIVE', is_monotonic: monotonic };
}

function histogram(type) {
  return { type, temporality: 'CUMULATIVE', is_monotonic: null };
}

function emitPoint(name, attributes, kind, measured) {
  emit('point', {
    name, unit: '', description: '', attributes,
    scope_name: 'sender/metrics', scope_version: '1.2.3', ...kind, ...measured,
  });
}
