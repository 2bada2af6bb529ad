"""One run of traffic: a traced client, rows, faults and a load, from start to the last flush."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.client.service import ServedModel, fetch_model, is_ready
from modeltrace.telemetry.provider import Telemetry
from modeltrace.telemetry.records.trace import synthetic_baggage
from modeltrace.traffic.fault_injection import SLOW_SECONDS, Misbehaviour, Spoiler, seeded
from modeltrace.traffic.labels import Feedback, Labels
from modeltrace.traffic.load import Load, Plan
from modeltrace.traffic.progress import Progress, watch
from modeltrace.traffic.rows import Drawn, RowsError, Sample, read_file, read_held_out, shuffled
from modeltrace.traffic.tally import Tally
from modeltrace.traffic.telemetry import traced_client

# Seconds that requests in flight may take to end when the run does: those that are sent slowly, too.
DRAIN_TIMEOUT = SLOW_SECONDS + 1.0
# Seconds between two looks at whether the service is ready.
READY_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of traffic is asked to do."""

    url: str
    plan: Plan
    misbehaviour: Misbehaviour
    data: Path | None = None
    bundle: Path | None = None
    seed: int | None = None
    feedback: Feedback | None = None
    wait: float = 0.0  # seconds that the service may take to be ready
    headers: Mapping[str, str] = field(default_factory=dict)  # of every request
    synthetic_token: str = ""  # marks every request; "" marks none


async def run_traffic(run: Run, telemetry: Telemetry, progress: Progress) -> Tally:
    """Send what the run asks for, until it is done or a signal stops it.

    Raises:
        ModeltraceError: the service cannot be reached, or there are no rows to send it.
    """
    tally, stop, ended = Tally(), asyncio.Event(), asyncio.Event()
    rng = seeded(run.seed)
    with _stopped_by_signals(stop):
        await _wait_ready(run.url, run.wait, stop)
        async with traced_client(run.url, telemetry, run.plan.concurrency, run.headers) as client:
            model = await fetch_model(client)
            if marks := synthetic_baggage(run.synthetic_token):
                client.headers["baggage"] = ",".join(marks)
            spoiler = Spoiler(run.misbehaviour, model.features, rng)
            rows = choose_rows(run, model, rng)
            known = asyncio.Event()  # the last answer: no more labels follow
            labels = None
            if run.feedback:
                # By chance of their own: which rows and faults follow from a seed does not hang on when answers come.
                labels = Labels(client, run.feedback, seeded(run.seed), sent=tally.take_labels, failed=tally.fail)
            learn = labels.learn if labels else lambda *_: None
            load = Load(client, rows, spoiler, run.plan, tally, learn)
            watcher = asyncio.create_task(watch(tally, progress, ended))
            teller = asyncio.create_task(labels.run(known)) if labels else None
            try:
                await load.run(stop, drain=DRAIN_TIMEOUT)
                known.set()
                if teller:
                    await teller
            finally:
                ended.set()
                await watcher
    return tally


async def _wait_ready(url: str, seconds: float, stop: asyncio.Event) -> None:
    """Wait until the service is ready, for so many seconds at most, or until `stop`; without a trace of its own."""
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=1.0) as client:
        while time.monotonic() < deadline and not stop.is_set() and not await is_ready(client):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), READY_POLL)


def choose_rows(run: Run, model: ServedModel, rng: random.Random) -> Iterator[Sample]:
    """Rows from the file or the bundle that was named, else drawn from the model's own reference bins.

    Of a bundle these are its held-out rows, again and again, or where it has a generator fresh rows without end.

    Raises:
        RowsError: there are none, or none with the labels that are to be sent.
    """
    if run.feedback and run.bundle is None:
        raise RowsError("--feedback sends the true labels of a bundle's held-out rows: name one with --bundle")
    if run.data is not None:
        return shuffled(read_file(run.data, model.features), rng)
    if run.bundle is not None:
        held_out = read_held_out(run.bundle, model.features)
        if run.feedback and all(sample.label is None for sample in held_out):
            raise RowsError(f"{run.bundle} has no true labels of its held-out rows: --feedback has nothing to send")
        if (run.bundle / GENERATOR_FILE).is_file():
            # Imported when it is needed: only the example has a generator, and scipy takes a tenth of a second.
            from modeltrace.traffic.generated import generated  # noqa: PLC0415  see above

            return generated(run.bundle, model.features, rng)
        return shuffled(held_out, rng)
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
