"""Whether OTLP can be delivered: an empty request of a signal, which every receiver takes."""

from modeltrace.otel_env.table import Signal
from modeltrace.otlp.client import Success, otlp_client
from modeltrace.otlp.exporters import Protocol
from modeltrace.otlp.failures import Failure


def check_delivery(signal: Signal, *, protocol: Protocol, timeout_seconds: float) -> Failure | None:
    """Send an empty request by the environment's variables; why it was not taken, `None` if it was."""
    client = otlp_client(signal, protocol=protocol, timeout_seconds=timeout_seconds)
    try:
        outcome = client.send(b"")
    finally:
        client.close()
    return None if isinstance(outcome, Success) else outcome.failure
