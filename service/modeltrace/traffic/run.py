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
from modeltrace.traffic.fault_injection import SLOW_BODY_SECONDS, FaultConfig, FaultInjector, make_rng
from modeltrace.traffic.labels import FeedbackConfig, LabelSender
from modeltrace.traffic.load import LoadGenerator, LoadPlan
from modeltrace.traffic.progress import ProgressDisplay, show_progress
from modeltrace.traffic.rows import (
    ReferenceSampler,
    RowSourceError,
    Sample,
    cycle_shuffled,
    load_held_out_samples,
    load_samples,
)
from modeltrace.traffic.tally import TrafficCounts
from modeltrace.traffic.telemetry import build_traced_client

# Seconds that requests in flight may take to end when the run does: those that are sent slowly, too.
DRAIN_TIMEOUT = SLOW_BODY_SECONDS + 1.0
# Seconds between two looks at whether the service is ready.
READY_POLL_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class TrafficConfig:
    """What a run of traffic is asked to do."""

    url: str
    plan: LoadPlan
    faults: FaultConfig
    data: Path | None = None
    bundle: Path | None = None
    seed: int | None = None
    feedback: FeedbackConfig | None = None
    ready_timeout: float = 0.0  # seconds that the service may take to be ready
    headers: Mapping[str, str] = field(default_factory=dict)  # of every request
    synthetic_token: str = ""  # marks every request; "" marks none


async def run_traffic(run: TrafficConfig, telemetry: Telemetry, progress: ProgressDisplay) -> TrafficCounts:
    """Send what the run asks for, until it is done or a signal stops it.

    Raises:
        ModeltraceError: the service cannot be reached, or there are no rows to send it.
    """
    tally, stop, ended = TrafficCounts(), asyncio.Event(), asyncio.Event()
    rng = make_rng(run.seed)
    with _stop_on_signals(stop):
        await _wait_until_ready(run.url, run.ready_timeout, stop)
        async with build_traced_client(run.url, telemetry, run.plan.concurrency, run.headers) as client:
            model = await fetch_model(client)
            if marks := synthetic_baggage(run.synthetic_token):
                client.headers["baggage"] = ",".join(marks)
            spoiler = FaultInjector(run.faults, model.features, rng)
            rows = select_row_source(run, model, rng)
            known = asyncio.Event()  # the last answer: no more labels follow
            labels = None
            if run.feedback:
                # By chance of their own: which rows and faults follow from a seed does not hang on when answers come.
                labels = LabelSender(
                    client,
                    run.feedback,
                    make_rng(run.seed),
                    on_sent=tally.record_labels,
                    on_failed=tally.record_failure,
                )
            learn = labels.schedule if labels else lambda *_: None
            load = LoadGenerator(client, rows, spoiler, run.plan, tally, learn)
            watcher = asyncio.create_task(show_progress(tally, progress, ended))
            teller = asyncio.create_task(labels.run(known)) if labels else None
            try:
                await load.run(stop, drain_timeout=DRAIN_TIMEOUT)
                known.set()
                if teller:
                    await teller
            finally:
                ended.set()
                await watcher
    return tally


async def _wait_until_ready(url: str, seconds: float, stop: asyncio.Event) -> None:
    """Wait until the service is ready, for so many seconds at most, or until `stop`; without a trace of its own."""
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=1.0) as client:
        while time.monotonic() < deadline and not stop.is_set() and not await is_ready(client):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), READY_POLL_INTERVAL)


def select_row_source(run: TrafficConfig, model: ServedModel, rng: random.Random) -> Iterator[Sample]:
    """Rows from the file or the bundle that was named, else drawn from the model's own reference bins.

    Of a bundle these are its held-out rows, again and again, or where it has a generator fresh rows without end.

    Raises:
        RowsError: there are none, or none with the labels that are to be sent.
    """
    if run.feedback and run.bundle is None:
        raise RowSourceError("--feedback sends the true labels of a bundle's held-out rows: name one with --bundle")
    if run.data is not None:
        return cycle_shuffled(load_samples(run.data, model.features), rng)
    if run.bundle is not None:
        held_out = load_held_out_samples(run.bundle, model.features)
        if run.feedback and all(sample.label is None for sample in held_out):
            raise RowSourceError(
                f"{run.bundle} has no true labels of its held-out rows: --feedback has nothing to send"
            )
        if (run.bundle / GENERATOR_FILE).is_file():
            # Imported when it is needed: only the example has a generator, and scipy takes a tenth of a second.
            from modeltrace.traffic.generated import generate_samples  # noqa: PLC0415  see above

            return generate_samples(run.bundle, model.features, rng)
        return cycle_shuffled(held_out, rng)
    return iter(ReferenceSampler(model.features, rng))


@contextmanager
def _stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
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
