"""From OTLP messages to rows, one module a signal."""
