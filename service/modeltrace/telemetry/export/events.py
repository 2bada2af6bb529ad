"""Events that the sidecar reports about the delivery of telemetry and the prediction store."""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from modeltrace.otel_env.table import Signal

STORE: Final = "store"  # counts rows of the prediction store where signals are counted


class DeliveryEvent(NamedTuple):
    """An event about items of a signal, or about rows of the prediction store. Its values can cross the pipe."""

    kind: Literal["exported", "failed", "lost", "spooled", "unspooled", "stored"]
    signal: Signal | Literal["store"]
    items: int
    seconds: float = 0.0  # the duration of an attempt
    error_type: str = ""


EventListener = Callable[[DeliveryEvent], object]
