"""The prediction store as the service itself sees it: checked at the start, and written to where nothing else does.

With telemetry from records the exporter process writes; with the stock set-up, a thread of the service.
"""

from opentelemetry.metrics import Meter

from modeltrace.settings import Settings
from modeltrace.store.config import StoreConfig
from modeltrace.store.writer import WriteOutcome, start_writer
from modeltrace.telemetry.metrics.store import StoreHealth
from modeltrace.telemetry.records.trace import RequestTrace


def check_store(settings: Settings) -> None:
    """See at the start that the store can be written to, and make it where there is none.

    Raises:
        StoreError: it cannot; the message names MODELTRACE_STORE.
    """
    if said := settings.store_url():
        # Imported when it is needed: a service without a store goes without the library, too.
        from modeltrace.store.store import open_store  # noqa: PLC0415  see above

        open_store(said).close()


class InProcessWriter:
    """A writer within the service, or none."""

    def __init__(self, config: StoreConfig | None, meter: Meter) -> None:
        """`config`: `None` for no writer."""
        self._health = StoreHealth()
        if config:
            self._health.create_instruments(meter)
        self._writer = start_writer(config, self._on_outcome)

    def _on_outcome(self, what: WriteOutcome) -> None:
        self._health.on_event(what.outcome, what.rows, what.error_type)

    def enqueue(self, request: RequestTrace) -> None:
        """Take a request that is over."""
        if self._writer and request.predictions:
            self._writer.enqueue([request])

    def stop(self) -> None:
        """Take no more."""
        if self._writer:
            self._writer.stop()

    def close(self, deadline: float) -> dict[str, int]:
        """Wait until all is stored or until the monotonic `deadline`; what was lost since the start, by kind."""
        if self._writer:
            self._writer.join(deadline)
        return self._health.lost_items()
