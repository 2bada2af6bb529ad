"""Whether OTLP can be delivered: an empty request of a signal, which every receiver takes."""

from service.exporter.client import Delivered, otlp_client
from service.exporter.failures import Failure
from service.exporter.otlp import Protocol
from service.otel.table import Signal


def check_delivery(signal: Signal, *, protocol: Protocol, seconds: float) -> Failure | None:
    """Send an empty request by the environment's variables; why it was not taken, `None` if it was."""
    client = otlp_client(signal, protocol=protocol, timeout_seconds=seconds)
    try:
        outcome = client.send(b"")
    finally:
        client.close()
    return None if isinstance(outcome, Delivered) else outcome.failure
