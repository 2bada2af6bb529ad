"""Check that OTLP can be delivered from this process."""

from modeltrace.otel_settings import OtelSettings
from modeltrace.otlp.check import check_delivery


def check_otlp_delivery(otel: OtelSettings) -> list[str]:
    """Send an empty request per signal. Return one line per reason why requests are not accepted."""
    failures: dict[str, list[str]] = {}
    for signal in otel.otlp_signals():
        failure = check_delivery(signal, protocol=otel.protocol_for(signal), timeout_seconds=otel.timeout_for(signal))
        if failure:
            # Remove the path of the signal from the reason, so that signals with the same reason are grouped.
            reason = f"{failure.address}: {failure}".replace(f"/v1/{signal}", "")
            failures.setdefault(reason, []).append(signal)
    return [
        f"with the variables of this terminal, OTLP {', '.join(signals)} cannot be delivered to {reason}"
        for reason, signals in failures.items()
    ]
