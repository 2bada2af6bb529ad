"""OpenTelemetry's environment variables: their values, defaults and meaning in this service."""
