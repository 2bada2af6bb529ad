"""The SDK path: spans, log records and metrics through the OpenTelemetry SDK in this process."""
