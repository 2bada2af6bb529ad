"""OTLP over gRPC and HTTP: limits, status codes, acknowledgement after commit."""
