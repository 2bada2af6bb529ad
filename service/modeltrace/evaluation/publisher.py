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
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from modeltrace.evaluation.gauges import observe
from modeltrace.evaluation.metrics import Figures
from modeltrace.settings import Settings
from modeltrace.telemetry.metrics.store import OUTCOME

if TYPE_CHECKING:  # imported on the thread that needs it
    from modeltrace.store.leader_lock import Turn
    from modeltrace.store.store import Store

logger = logging.getLogger("modeltrace.evaluation")

RUNS: Final = "modeltrace.evaluation.runs"
# After figures that took long, the database rests so many times as long.
REST: Final = 9
# Seconds that a stop waits for figures that are being computed.
PATIENCE: Final = 0.5
_HOUR: Final = 3600 * 10**9


class Plan(NamedTuple):
    """What is published, and how often."""

    store: str  # as MODELTRACE_STORE has it; a password may be in it
    models: Callable[[], Mapping[str, tuple[object, ...]]]  # the classes of each, by its name; they come and go
    seconds: float
    window: int  # in nanoseconds
    tolerance: float | None


class Publisher:
    """Publishes from its start until its `end`."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        """The first figures are there after `plan.seconds`: a start has enough to do."""
        self._plan = plan
        self._figures: Sequence[Figures] = ()
        self._failing = False
        self._ending = threading.Event()
        observe(meter, plan.models, lambda: self._figures)
        self._runs = meter.create_counter(
            RUNS, unit="{run}", description="How often the figures of models were computed, and how often in vain."
        )
        self._thread = threading.Thread(target=self._run, daemon=True, name="evaluation")
        self._thread.start()

    def end(self) -> None:
        """Compute no more."""
        self._ending.set()

    def close(self, deadline: float) -> None:
        """Wait a moment for the thread, at most until the monotonic `deadline`; else it ends with the process."""
        self._thread.join(max(0.0, min(PATIENCE, deadline - time.monotonic())))

    # The thread.

    def _run(self) -> None:
        work = _Work(self._plan)
        pause = self._plan.seconds
        while not self._ending.wait(pause):
            begun = time.monotonic()
            try:
                self._figures, error = work.figures(), None
            except Exception as raised:  # noqa: BLE001  whatever it is, predictions go on, and it is tried again
                self._figures, error = (), raised
            if error or work.has_turn:
                self._tell(error)
            pause = max(self._plan.seconds, REST * (time.monotonic() - begun))
        work.close()

    def _tell(self, error: Exception | None) -> None:
        """Count a run, and log the first of several that fail, and the first that does not."""
        if error is None:
            self._runs.add(1, {OUTCOME: "done"})
            if self._failing:
                logger.warning("the figures of models are computed again")
        else:
            self._runs.add(1, {OUTCOME: "failed", ERROR_TYPE: type(error).__qualname__})
            if not self._failing:
                logger.warning("no figures of models for now: %s", error)
        self._failing = error is not None


class _Work:
    """The turns and, with one of them, the store."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._turns: dict[str, Turn] = {}
        self._store: Store | None = None
        self.has_turn = False

    def figures(self) -> Sequence[Figures]:
        """The figures of those models that nobody else has the turn of.

        Raises:
            StoreError: the store cannot be read.
        """
        self.has_turn = False
        mine = [name for name in self._plan.models() if self._turn(name).hold()]
        self.has_turn = bool(mine)
        return [figures for name in mine for figures in self._of(name)]

    def _turn(self, name: str) -> "Turn":
        # Imported on the thread that needs it, as what follows: it takes a third of a second.
        from modeltrace.store.leader_lock import turn  # noqa: PLC0415  see above
        from modeltrace.store.store_url import locate  # noqa: PLC0415  see above

        if name not in self._turns:
            self._turns[name] = turn(locate(self._plan.store), f"evaluation of {name}")
        return self._turns[name]

    def _of(self, name: str) -> Sequence[Figures]:
        from modeltrace.evaluation.evaluate import evaluate  # noqa: PLC0415  see above
        from modeltrace.store.selection import Selection  # noqa: PLC0415  see above
        from modeltrace.store.store import open_store  # noqa: PLC0415  see above

        if self._store is None:
            self._store = open_store(self._plan.store, create=False)
        now, window = time.time_ns(), self._plan.window
        return evaluate(
            self._store,
            Selection(since=now - window, model_name=name, include_synthetic=False),
            # One that stays where it is for a whole window: with each other one, chance would be tried anew.
            drift_since=now - now % window - window,
            tolerance=self._plan.tolerance,
        )

    def close(self) -> None:
        """Leave the turns to another one."""
        if self._store:
            self._store.close()
        for one in self._turns.values():
            one.release()


def start_publisher(
    settings: Settings, models: Callable[[], Mapping[str, tuple[object, ...]]], meter: Meter
) -> Publisher | None:
    """A publisher, unless there is no store or nothing is to be computed; `models` as in the plan."""
    said = settings.store_location()
    if said is None or not settings.evaluation_interval:
        return None
    window = int(settings.evaluation_window_hours * _HOUR)
    return Publisher(Plan(said, models, settings.evaluation_interval, window, settings.evaluation_tolerance), meter)
