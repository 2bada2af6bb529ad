"""Decode OTLP messages into database rows, one module per signal."""
