"""Encoders from telemetry records to OTLP protobuf and to JSON lines."""
