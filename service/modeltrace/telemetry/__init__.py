"""The only place that builds OpenTelemetry providers."""
