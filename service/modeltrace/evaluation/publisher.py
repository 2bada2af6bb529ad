"""Publishes the figures of models: of all workers and replicas, the one that has the turn of a model computes them.

    wait ──► has it the turn? ──no──► publish nothing
     ▲              │ yes
     └── publish ◄──┴── figures of the window, from the store

All of it happens on a thread of its own, in the database: a prediction never waits for it, and a stop hardly does.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.metrics import Meter

from modeltrace.evaluation.gauges import register_gauges
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.settings import Settings
from modeltrace.telemetry.metrics.outcomes import OutcomeCounter

if TYPE_CHECKING:  # imported on the thread that needs it
    from modeltrace.store.leader_lock import LeaderLock
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.evaluation")

RUNS_METRIC: Final = "modeltrace.evaluation.runs"
# After figures that took long, the database rests so many times as long.
REST_FACTOR: Final = 9
# Seconds that a stop waits for figures that are being computed.
STOP_TIMEOUT: Final = 0.5
_HOUR_NS: Final = 3600 * 10**9


class PublisherConfig(NamedTuple):
    """What is published, and how often."""

    store_url: str  # as MODELTRACE_STORE has it; a password may be in it
    models: Callable[[], Mapping[str, tuple[object, ...]]]  # the classes of each, by its name; they come and go
    interval: float
    window_ns: int  # in nanoseconds
    tolerance: float | None


class Publisher:
    """Publishes from its start until its `end`."""

    def __init__(self, plan: PublisherConfig, meter: Meter) -> None:
        """The first figures are there after `plan.seconds`: a start has enough to do."""
        self._config = plan
        self._metrics: Sequence[ModelMetrics] = ()
        self._failing = False
        self._stopping = threading.Event()
        register_gauges(meter, plan.models, lambda: self._metrics)
        self._runs = OutcomeCounter(
            meter, RUNS_METRIC, "{run}", "How often the figures of models were computed, and how often in vain."
        )
        self._thread = threading.Thread(target=self._run, daemon=True, name="evaluation")
        self._thread.start()

    def stop(self) -> None:
        """Compute no more."""
        self._stopping.set()

    def close(self, deadline: float) -> None:
        """Wait a moment for the thread, at most until the monotonic `deadline`; else it ends with the process."""
        self._thread.join(max(0.0, min(STOP_TIMEOUT, deadline - time.monotonic())))

    # The thread.

    def _run(self) -> None:
        work = _Evaluator(self._config)
        pause = self._config.interval
        while not self._stopping.wait(pause):
            begun = time.monotonic()
            try:
                self._metrics, error = work.evaluate(), None
            except Exception as raised:  # noqa: BLE001  whatever it is, predictions go on, and it is tried again
                self._metrics, error = (), raised
            if error or work.is_leader:
                self._record_run(error)
            pause = max(self._config.interval, REST_FACTOR * (time.monotonic() - begun))
        work.close()

    def _record_run(self, error: Exception | None) -> None:
        """Count a run, and log the first of several that fail, and the first that does not."""
        if error is None:
            self._runs.add("done", 1)
            if self._failing:
                logger.warning("the figures of models are computed again")
        else:
            self._runs.add("failed", 1, type(error).__qualname__)
            if not self._failing:
                logger.warning("no figures of models for now: %s", error)
        self._failing = error is not None


class _Evaluator:
    """The turns and, with one of them, the store."""

    def __init__(self, plan: PublisherConfig) -> None:
        self._config = plan
        self._locks: dict[str, LeaderLock] = {}
        self._store: Store | None = None
        self.is_leader = False

    def evaluate(self) -> Sequence[ModelMetrics]:
        """The figures of those models that nobody else has the turn of.

        Raises:
            StoreError: the store cannot be read.
        """
        self.is_leader = False
        mine = [name for name in self._config.models() if self._lock(name).try_acquire()]
        self.is_leader = bool(mine)
        return [figures for name in mine for figures in self._evaluate_model(name)]

    def _lock(self, name: str) -> "LeaderLock":
        # Imported on the thread that needs it, as what follows: it takes a third of a second.
        from modeltrace.store.leader_lock import leader_lock  # noqa: PLC0415  see above
        from modeltrace.store.store_url import parse_store_url  # noqa: PLC0415  see above

        if name not in self._locks:
            self._locks[name] = leader_lock(parse_store_url(self._config.store_url), f"evaluation of {name}")
        return self._locks[name]

    def _evaluate_model(self, name: str) -> Sequence[ModelMetrics]:
        from modeltrace.evaluation.evaluate import evaluate  # noqa: PLC0415  see above
        from modeltrace.store.selection import Selection  # noqa: PLC0415  see above
        from modeltrace.store.store import open_store  # noqa: PLC0415  see above

        if self._store is None:
            self._store = open_store(self._config.store_url, create=False)
        now, window = time.time_ns(), self._config.window_ns
        return evaluate(
            self._store,
            Selection(since=now - window, model_name=name, include_synthetic=False),
            # One that stays where it is for a whole window: with each other one, chance would be tried anew.
            drift_since=now - now % window - window,
            tolerance=self._config.tolerance,
        )

    def close(self) -> None:
        """Leave the turns to another one."""
        if self._store:
            self._store.close()
        for one in self._locks.values():
            one.release()


def start_publisher(
    settings: Settings, models: Callable[[], Mapping[str, tuple[object, ...]]], meter: Meter
) -> Publisher | None:
    """A publisher, unless there is no store or nothing is to be computed; `models` as in the plan."""
    said = settings.store_url()
    if said is None or not settings.evaluation_interval:
        return None
    window = int(settings.evaluation_window_hours * _HOUR_NS)
    return Publisher(
        PublisherConfig(said, models, settings.evaluation_interval, window, settings.evaluation_tolerance), meter
    )
