"""Run the deliveries of all signals with one shared spool and one shutdown deadline."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from modeltrace.otel_env.table import Signal
from modeltrace.sidecar.delivery import Delivery
from modeltrace.sidecar.spool import Spool
from modeltrace.telemetry.export.protocol import DeliveryEvent, EventListener


class DeliveryGroup:
    """The deliveries of all signals, and the spool that they share."""

    def __init__(self, deliveries: Mapping[Signal, Delivery], spool: Spool | None = None) -> None:
        self._deliveries = deliveries
        self._spool = spool

    def __getitem__(self, signal: Signal) -> Delivery:
        return self._deliveries[signal]

    def start(self) -> None:
        """Start to send."""
        for delivery in self._deliveries.values():
            delivery.start()

    def close(self, deadline: float) -> None:
        """Close all deliveries concurrently, so that they share one monotonic deadline."""
        threads = [
            threading.Thread(target=delivery.close, args=(deadline,), daemon=True, name=f"close-{signal}")
            for signal, delivery in self._deliveries.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._spool and not any(thread.is_alive() for thread in threads):
            self._spool.close()


def open_spool(folder: Path, max_bytes: int, on_event: EventListener) -> Spool:
    """Open a spool that reports its losses as delivery events."""

    def on_lost(signal: Signal, items: int, reason: str) -> None:
        on_event(DeliveryEvent("unspooled", signal, items))
        on_event(DeliveryEvent("lost", signal, items, error_type=reason))

    return Spool(folder, max_bytes, on_lost)
