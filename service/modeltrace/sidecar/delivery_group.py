"""Close the deliveries of all signals, and open the spool that they share."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from modeltrace.otel_env.table import Signal
from modeltrace.sidecar.delivery import Delivery
from modeltrace.sidecar.spool import Spool
from modeltrace.telemetry.export.protocol import DeliveryEvent, EventListener
from modeltrace.threads import run_until


def close_deliveries(deliveries: Iterable[Delivery], spool: Spool | None, deadline: float) -> None:
    """Close all deliveries concurrently, so that they share one monotonic deadline, and then the spool."""
    closed = run_until(deadline, [partial(delivery.close, deadline) for delivery in deliveries], "close-delivery")
    if spool and closed:
        spool.close()


def open_spool(folder: Path, max_bytes: int, on_event: EventListener) -> Spool:
    """Open a spool that reports its losses as delivery events."""

    def on_lost(signal: Signal, items: int, reason: str) -> None:
        on_event(DeliveryEvent("unspooled", signal, items))
        on_event(DeliveryEvent("lost", signal, items, error_type=reason))

    return Spool(folder, max_bytes, on_lost)
