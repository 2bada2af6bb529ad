"""Telemetry backends, queried for one trace: the hub, or Jaeger, Prometheus and Loki (or a log file)."""
