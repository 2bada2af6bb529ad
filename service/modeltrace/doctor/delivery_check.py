"""Whether OTLP can be delivered from here, by this environment's variables."""

from modeltrace.otlp.check import check_delivery
from modeltrace.settings import OtelSettings


def check_otlp_delivery(otel: OtelSettings) -> list[str]:
    """Send an empty request of each signal; a line for each reason why they are not taken."""
    failures: dict[str, list[str]] = {}
    for signal in otel.otlp_signals():
        failure = check_delivery(signal, protocol=otel.protocol_for(signal), timeout_seconds=otel.timeout_for(signal))
        if failure:
            why = f"{failure.address}: {failure}".replace(f"/v1/{signal}", "")  # the same for all signals
            failures.setdefault(why, []).append(signal)
    return [
        f"with this terminal's variables, OTLP {', '.join(signals)} cannot be delivered to {why}"
        for why, signals in failures.items()
    ]
