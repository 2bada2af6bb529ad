"""The metrics of the hub itself: as Prometheus text, and as OTLP to another receiver."""
