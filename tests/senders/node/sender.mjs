// Sends all signals with the OpenTelemetry SDK for Node.js and prints what it has sent, one JSON object per line.
// ../README.md describes the lines. Endpoint and protocol come from the OTEL_* variables.
import { diag, DiagConsoleLogger, DiagLogLevel } from '@opentelemetry/api';
import { AggregationType, createAllowListAttributesProcessor } from '@opentelemetry/sdk-metrics';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { sendLogs } from './logs.mjs';
import { sendMetrics } from './metrics.mjs';
import { sendTrace } from './trace.mjs';

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const sdk = new NodeSDK({
  views: [
    { instrumentName: 'histogram.exponential', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } },
    { instrumentName: 'counter.filtered', attributesProcessors: [createAllowListAttributesProcessor(['kept'])] },
  ],
});
sdk.start();
const inside = sendTrace();
sendLogs(inside);
sendMetrics(inside);
await sdk.shutdown();
