"""Publish metrics of models periodically. For each model, one leader among all workers and replicas computes them.

    wait ──► leader of the model? ──no──► publish nothing
     ▲              │ yes
     └── publish ◄──┴── metrics of the window, from the store

The metrics are computed in the database and in a separate thread, so predictions never wait for them. A shutdown waits
at most `STOP_TIMEOUT` for a run.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.metrics import Meter

from modeltrace.evaluation.gauges import register_gauges
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.settings import Settings
from modeltrace.telemetry.metrics.model_catalog import Baseline, ModelCatalog, ModelKey
from modeltrace.telemetry.metrics.outcomes import OutcomeCounter

if TYPE_CHECKING:  # imported on the publisher's thread, see `_Evaluator`
    from modeltrace.evaluation.expected_rows import ExpectedPerformance
    from modeltrace.store.leader_lock import LeaderLock
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.evaluation")

RUNS_METRIC: Final = "modeltrace.evaluation.runs"
# The pause after a run is at least this multiple of its duration, so a leader is active at most 10 % of the time.
REST_FACTOR: Final = 9
# Seconds for which a shutdown waits for a run.
STOP_TIMEOUT: Final = 0.5
# The newest predictions of which the accuracy is estimated. They are read in Python.
MAX_EXPECTED_PREDICTIONS: Final = 20_000
# Further outputs of a model with several outputs have no gauges, and their drift is not monitored either.
MAX_OUTPUTS: Final = 32
_HOUR_NS: Final = 3600 * 10**9


class PublisherConfig(NamedTuple):
    """The configuration of a publisher."""

    store_url: str  # the value of MODELTRACE_STORE; it may contain a password
    models: Callable[[], Mapping[str, tuple[object, ...]]]  # returns the classes of each served model, by its name
    baselines: Callable[[], Mapping[ModelKey, Baseline]]  # returns the errors of each model for held-out rows
    interval: float  # seconds between two runs
    window_ns: int  # the duration of the evaluated window before now, in nanoseconds
    tolerance: float | None  # as in `modeltrace.evaluation.evaluate.evaluate`
    expected_window_ns: int = 0  # the duration before now whose accuracy is estimated without labels; 0: none


class Publisher:
    """A thread that publishes metrics from its construction until `stop`. The first run starts after one interval."""

    def __init__(self, config: PublisherConfig, meter: Meter) -> None:
        self._config = config
        self._metrics: Sequence[ModelMetrics] = ()
        self._failing = False
        self._stopping = threading.Event()
        register_gauges(meter, config.models, lambda: self._metrics)
        self._runs = OutcomeCounter(meter, RUNS_METRIC, "{run}", "Computations of the metrics of models, by outcome.")
        self._thread = threading.Thread(target=self._run, daemon=True, name="evaluation")
        self._thread.start()

    def stop(self) -> None:
        """Start no further run."""
        self._stopping.set()

    def close(self, deadline: float) -> None:
        """Wait for the thread until the monotonic `deadline`, at most for `STOP_TIMEOUT`."""
        self._thread.join(max(0.0, min(STOP_TIMEOUT, deadline - time.monotonic())))

    # The thread.

    def _run(self) -> None:
        evaluator = _Evaluator(self._config)
        pause = self._config.interval
        while not self._stopping.wait(pause):
            started = time.monotonic()
            error: Exception | None = None
            try:
                self._metrics = evaluator.evaluate()
            except Exception as raised:  # noqa: BLE001  any error is logged and counted, and the next run tries again
                self._metrics, error = (), raised
            if error or evaluator.is_leader:
                self._record_run(error)
            pause = max(self._config.interval, REST_FACTOR * (time.monotonic() - started))
        evaluator.close()

    def _record_run(self, error: Exception | None) -> None:
        """Count a run; log the first of consecutive failures, and the first success after them."""
        if error is None:
            self._runs.add("done", 1)
            if self._failing:
                logger.warning("metrics of models are computed again")
        else:
            self._runs.add("failed", 1, type(error).__qualname__)
            if not self._failing:
                logger.warning("no metrics of models for now: %s", error)
        self._failing = error is not None


class _Evaluator:
    """Holds the leader locks and the store.

    Its methods import SQLAlchemy on the publisher's thread, because the import takes a third of a second.
    """

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._locks: dict[str, LeaderLock] = {}
        self._store: Store | None = None
        self.is_leader = False

    def evaluate(self) -> Sequence[ModelMetrics]:
        """Return the metrics of the models that this process is the leader of.

        Raises:
            StoreError: the store cannot be read.
        """
        self.is_leader = False
        names = [name for name in self._config.models() if self._lock(name).try_acquire()]
        self.is_leader = bool(names)
        return [metrics for name in names for metrics in self._evaluate_model(name)]

    def _lock(self, name: str) -> "LeaderLock":
        from modeltrace.store.leader_lock import leader_lock  # noqa: PLC0415  see the class
        from modeltrace.store.store_url import parse_store_url  # noqa: PLC0415  see the class

        if name not in self._locks:
            self._locks[name] = leader_lock(parse_store_url(self._config.store_url), f"evaluation of {name}")
        return self._locks[name]

    def _evaluate_model(self, name: str) -> Sequence[ModelMetrics]:
        from modeltrace.evaluation.evaluate import evaluate  # noqa: PLC0415  see the class
        from modeltrace.store.selection import Selection  # noqa: PLC0415  see the class
        from modeltrace.store.store import open_store  # noqa: PLC0415  see the class

        if self._store is None:
            self._store = open_store(self._config.store_url, create=False)
        now, window = time.time_ns(), self._config.window_ns
        results = evaluate(
            self._store,
            Selection(since=now - window, model_name=name, include_synthetic=False),
            baselines=self._config.baselines(),
            # Keep the start of drift detection for the duration of a window: each new start may raise a false alarm.
            drift_since=now - now % window - window,
            tolerance=self._config.tolerance,
            max_outputs=MAX_OUTPUTS,
        )
        expected = self._expected(self._store, name, now)
        return [
            replace(
                metrics,
                period=(now - window, now),
                # A model without a hash is the only one of its version.
                expected=next(
                    (
                        item
                        for item in expected.get(metrics.model_version, ())
                        if metrics.model_hash in (None, item.model_hash)
                    ),
                    None,
                ),
            )
            for metrics in results
        ]

    def _expected(self, store: "Store", name: str, now: int) -> Mapping[str, Sequence["ExpectedPerformance"]]:
        """Return the accuracy of recent predictions that is estimated without labels, by version."""
        if not self._config.expected_window_ns:
            return {}
        from modeltrace.evaluation.expected_rows import estimate_performance  # noqa: PLC0415  its import takes a second
        from modeltrace.store.selection import Selection  # noqa: PLC0415  see the class

        since = now - self._config.expected_window_ns
        selection = Selection(since=since, model_name=name, include_synthetic=False)
        by_version: dict[str, list[ExpectedPerformance]] = {}
        for item in estimate_performance(store, selection, max_predictions=MAX_EXPECTED_PREDICTIONS):
            by_version.setdefault(item.model_version, []).append(item)
        return by_version

    def close(self) -> None:
        """Close the store and release the locks."""
        if self._store:
            self._store.close()
        for lock in self._locks.values():
            lock.release()


def start_publisher(settings: Settings, catalog: ModelCatalog, meter: Meter) -> Publisher | None:
    """Start a publisher if there is a store and evaluation is enabled."""
    url = settings.store_url()
    if url is None or not settings.evaluation_interval:
        return None
    window = int(settings.evaluation_window_hours * _HOUR_NS)
    config = PublisherConfig(
        url,
        catalog.classes,
        catalog.baselines,
        settings.evaluation_interval,
        window,
        settings.evaluation_tolerance,
        int(settings.evaluation_expected_hours * _HOUR_NS),
    )
    return Publisher(config, meter)
