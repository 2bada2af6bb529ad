"""Write predictions from the service's own process, and check the store at startup.

With `MODELTRACE_INSTRUMENTATION=sidecar` the sidecar writes predictions; with `sdk`, a thread of the service does.
"""

from opentelemetry.metrics import Meter

from modeltrace.settings import Settings
from modeltrace.store.config import StoreConfig
from modeltrace.store.writer import WriteOutcome, start_writer
from modeltrace.telemetry.metrics.store import StoreHealth
from modeltrace.telemetry.records.trace import RequestTrace


def check_store(settings: Settings) -> None:
    """Check at startup that the store can be opened, and create it if it does not exist.

    Raises:
        StoreError: the store cannot be opened; the message names MODELTRACE_STORE.
    """
    if url := settings.store_url():
        # A service without a store does not import SQLAlchemy, which takes a third of a second.
        from modeltrace.store.store import open_store  # noqa: PLC0415  see above

        open_store(url).close()


class InProcessWriter:
    """A writer thread in the service's process; without a configuration it does nothing."""

    def __init__(self, config: StoreConfig | None, meter: Meter) -> None:
        self._health = StoreHealth()
        if config:
            self._health.create_instruments(meter)
        self._writer = start_writer(config, self._on_outcome)

    def _on_outcome(self, outcome: WriteOutcome) -> None:
        self._health.on_event(outcome.outcome, outcome.rows, outcome.error_type)

    def enqueue(self, request: RequestTrace) -> None:
        """Enqueue the predictions of a completed request."""
        if self._writer and request.predictions:
            self._writer.enqueue([request])

    def stop(self) -> None:
        """Let the thread end after it has written the queue."""
        if self._writer:
            self._writer.stop()

    def close(self, deadline: float) -> dict[str, int]:
        """Wait for the thread until the monotonic `deadline`; return the rows lost since startup, by kind."""
        if self._writer:
            self._writer.join(deadline)
        return self._health.lost_items()
