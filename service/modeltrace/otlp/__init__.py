"""OTLP clients: exporters configured by OpenTelemetry's variables, one delivery attempt, and causes of failure."""
