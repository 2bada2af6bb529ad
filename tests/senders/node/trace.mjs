import { createTraceState, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { randomBytes } from 'node:crypto';
import { emit, everyType, hrTime, now } from './values.mjs';

const state = 'vendor=a1,other=b2';
const schemaUrl = 'https://opentelemetry.io/schemas/1.40.0';

/** Sends a root span with a child of each kind and returns the context of the root. */
export function sendTrace() {
  // trace.getTracer does not take a schema URL.
  const tracer = trace.getTracerProvider().getTracer('sender/trace', '1.2.3', { schemaUrl });
  const remote = {
    traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'),
    traceFlags: 1, traceState: createTraceState(state), isRemote: true,
  };
  const start = now() + 1n;
  const root = tracer.startSpan(
    'GET /größe',
    { kind: SpanKind.SERVER, startTime: hrTime(start), attributes: everyType },
    trace.setSpanContext(ROOT_CONTEXT, remote),
  );
  const inside = trace.setSpan(ROOT_CONTEXT, root);
  for (const [number, kind] of ['INTERNAL', 'CLIENT', 'PRODUCER', 'CONSUMER'].entries()) {
    sendChild(tracer, inside, kind, start + BigInt(number + 1) * 1_000_000n, remote);
  }
  const end = start + 20_000_001n;
  root.setStatus({ code: SpanStatusCode.OK });
  root.end(hrTime(end));
  emitSpan(root, {
    parent_span_id: remote.spanId, name: 'GET /größe', kind: 'SERVER',
    start_ns: start, end_ns: end, duration_ns: end - start,
    status_code: 'OK', status_message: '', attributes: everyType, events: [], links: [],
  });
  return inside;
}

/** Sends a span with events, links and an error. */
function sendChild(tracer, inside, kind, start, linked) {
  const parent = trace.getSpanContext(inside);
  const name = `child ${kind}`;
  const links = [{ context: linked, attributes: everyType }, { context: parent }];
  const span = tracer.startSpan(name, { kind: SpanKind[kind], startTime: hrTime(start), links }, inside);
  const moment = start + 1000n;
  span.addEvent('with attributes', everyType, hrTime(moment));
  span.addEvent('without', {}, hrTime(moment));
  span.setStatus({ code: SpanStatusCode.ERROR, message: 'it failed: ß' });
  const end = start + 1_000_000n;
  span.end(hrTime(end));
  emitSpan(span, {
    parent_span_id: parent.spanId, name, kind, start_ns: start, end_ns: end, duration_ns: end - start,
    status_code: 'ERROR', status_message: 'it failed: ß', attributes: {},
    events: [
      { name: 'with attributes', time_ns: moment, attributes: everyType },
      { name: 'without', time_ns: moment, attributes: {} },
    ],
    links: links.map(({ context, attributes = {} }) => (
      { trace_id: context.traceId, span_id: context.spanId, trace_state: state, attributes }
    )),
  });
}

function emitSpan(span, fields) {
  const { traceId, spanId } = span.spanContext();
  emit('span', {
    trace_id: traceId, span_id: spanId, trace_state: state,
    scope_name: 'sender/trace', scope_version: '1.2.3', scope_schema_url: schemaUrl, ...fields,
  });
}
