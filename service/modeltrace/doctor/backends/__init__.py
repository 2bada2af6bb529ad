"""Where telemetry ends up, asked about one trace: the hub, or Jaeger, Prometheus and Loki or a log file."""
