"""Telemetry of the service. No other package imports the OpenTelemetry SDK."""
