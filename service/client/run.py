"""One run of traffic: a traced client, rows, faults and a load, from start to the last flush."""

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.client.faults import SLOW_SECONDS, Misbehaviour, Spoiler, check_shifts, seeded
from service.client.load import Load, Plan, Tally
from service.client.progress import Progress, watch
from service.client.rows import Drawn, Sample, read_file, read_held_out, shuffled
from service.client.service import ServedModel, fetch_model
from service.client.telemetry import traced_client
from service.telemetry.setup import Telemetry

# Seconds that requests in flight may take to end when the run does: those that are sent slowly, too.
DRAIN_TIMEOUT = SLOW_SECONDS + 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of traffic is asked to do."""

    url: str
    plan: Plan
    misbehaviour: Misbehaviour
    data: Path | None = None
    bundle: Path | None = None
    seed: int | None = None


async def run_traffic(run: Run, telemetry: Telemetry, progress: Progress) -> Tally:
    """Send what the run asks for, until it is done or a signal stops it.

    Raises:
        ModeltraceError: the service cannot be reached, or there are no rows to send it.
    """
    tally, stop, ended = Tally(), asyncio.Event(), asyncio.Event()
    rng = seeded(run.seed)
    with _stopped_by_signals(stop):
        async with traced_client(run.url, telemetry, run.plan.concurrency) as client:
            model = await fetch_model(client)
            check_shifts(run.misbehaviour.shifts, model.features)
            spoiler = Spoiler(run.misbehaviour, model.features, rng)
            load = Load(client, choose_rows(run, model, rng), spoiler, run.plan, tally)
            watcher = asyncio.create_task(watch(tally, progress, ended))
            try:
                await load.run(stop, drain=DRAIN_TIMEOUT)
            finally:
                ended.set()
                await watcher
    return tally


def choose_rows(run: Run, model: ServedModel, rng: random.Random) -> Iterator[Sample]:
    """Rows from the file or the bundle that was named, else drawn from the model's own reference bins.

    Raises:
        RowsError: there are none.
    """
    if run.data is not None:
        return shuffled(read_file(run.data, model.features), rng)
    if run.bundle is not None:
        return shuffled(read_held_out(run.bundle, model.features), rng)
    return iter(Drawn(model.features, rng))


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at SIGINT or SIGTERM, for as long as the context lasts."""
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
