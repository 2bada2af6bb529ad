"""OpenTelemetry's environment variables: what they may hold, and what they mean here."""
