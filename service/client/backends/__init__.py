"""Where telemetry ends up, asked about one trace: the hub, or Jaeger, Loki and Prometheus."""
