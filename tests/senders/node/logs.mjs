import { ROOT_CONTEXT, trace } from '@opentelemetry/api';
import { logs, SeverityNumber } from '@opentelemetry/api-logs';
import { emit, everyType, hrTime, now } from './values.mjs';

// Each body as it is sent and as the hub's API writes it.
const bodies = [
  ['plain text'],
  ['{"looks": "like JSON"}'],
  [''],
  [false],
  [Number.MAX_SAFE_INTEGER],
  [0.1],
  [new Uint8Array([0, 255]), { bytes: 'AP8=' }],
  [[1, 'two', []]],
  [{ größe: 1, inner: { list: [0.5, null], map: {} } }],
  [{}],
  [undefined, null],
];
const severities = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL4'];
// Attributes of log records may be maps and bytes, which those of spans cannot.
const attributes = { ...everyType, map: { deeper: { leaf: 'x' } }, bytes: new Uint8Array([0, 255]) };
const plainAttributes = { ...attributes, bytes: { bytes: 'AP8=' } };

/** Sends a record with each body, within the span and outside of any span. */
export function sendLogs(inside) {
  const logger = logs.getLogger('sender/logs', '1.2.3');
  let moment = now();
  for (const [number, [body, plain = body]] of bodies.entries()) {
    for (const context of [inside, ROOT_CONTEXT]) {
      moment += 1000n;
      const severityText = severities[number % severities.length];
      const severityNumber = SeverityNumber[severityText];
      logger.emit({
        timestamp: hrTime(moment), observedTimestamp: hrTime(moment + 1n), severityNumber, severityText,
        eventName: 'sender.event', body, attributes, context,
      });
      const span = trace.getSpanContext(context);
      emit('log', {
        time_ns: moment, observed_time_ns: moment + 1n,
        severity_number: severityNumber, severity_text: severityText, event_name: 'sender.event',
        body: plain, attributes: plainAttributes, scope_name: 'sender/logs', scope_version: '1.2.3',
        trace_id: span?.traceId ?? null, span_id: span?.spanId ?? null, flags: span?.traceFlags ?? 0,
      });
    }
  }
}
