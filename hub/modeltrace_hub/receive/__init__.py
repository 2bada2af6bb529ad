"""Receive OTLP over gRPC and HTTP. A request is acknowledged after its rows are committed."""
