"""Whether OTLP can be delivered from here: an empty request of each signal, by this environment's variables."""

from service.exporter.client import Delivered, otlp_client
from service.settings import OtelSettings


def check_delivery(otel: OtelSettings) -> list[str]:
    """Send an empty request of each signal; a line for each reason why they are not taken."""
    failures: dict[str, list[str]] = {}
    for signal in otel.otlp_signals():
        client = otlp_client(signal, protocol=otel.protocol_of(signal), timeout_seconds=otel.timeout_of(signal))
        try:
            outcome = client.send(b"")
        finally:
            client.close()
        if not isinstance(outcome, Delivered):
            where = outcome.failure.where.removesuffix(f"/v1/{signal}")
            failures.setdefault(f"{where}: {outcome.failure}".replace(f"/v1/{signal}", ""), []).append(signal)
    return [
        f"with this terminal's variables, OTLP {', '.join(signals)} cannot be delivered to {why}"
        for why, signals in failures.items()
    ]
