"""Check whether OTLP can be delivered. Every receiver accepts an empty export request."""

from modeltrace.otel_env.table import OtlpProtocol, Signal
from modeltrace.otlp.client import Success, otlp_client
from modeltrace.otlp.failures import Failure


def check_delivery(signal: Signal, *, protocol: OtlpProtocol, timeout_seconds: float) -> Failure | None:
    """Send an empty request as the environment variables configure it; return the failure, `None` on success."""
    client = otlp_client(signal, protocol=protocol, timeout_seconds=timeout_seconds)
    try:
        outcome = client.send(b"")
    finally:
        client.close()
    return None if isinstance(outcome, Success) else outcome.failure
