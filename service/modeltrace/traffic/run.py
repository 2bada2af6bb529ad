"""Run generated traffic against a service, from the first request to the last response."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext

import httpx

from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.client.service import ServedModel, fetch_model, is_ready
from modeltrace.client.verification import client_context
from modeltrace.errors import UnknownPredictionError
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.keys import derive_synthetic_token
from modeltrace.os_signals import handle_signals
from modeltrace.telemetry.providers import Telemetry
from modeltrace.telemetry.records.trace import synthetic_baggage
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.fault_injection import SLOW_BODY_SECONDS, FaultConfig, FaultInjector, make_rng
from modeltrace.traffic.labels import FeedbackConfig, LabelSender
from modeltrace.traffic.load import LoadGenerator, LoadPlan
from modeltrace.traffic.progress import ProgressDisplay, show_progress
from modeltrace.traffic.rows import (
    RowSourceError,
    Sample,
    cycle_shuffled,
    load_samples,
    load_test_samples,
    sample_reference,
)
from modeltrace.traffic.telemetry import build_traced_client

# Maximum seconds for requests in flight after the end of the run. This is sufficient for slow requests.
DRAIN_TIMEOUT = SLOW_BODY_SECONDS + 1.0
READY_POLL_INTERVAL = 0.05

OTHER_KEY_WARNING = (
    "the service does not have the key MODELTRACE_ID_KEY that is used here, so it does not recognize this traffic as "
    "synthetic: the predictions count like those of real requests. Set the same key for both, or stop the traffic"
)


@dataclass(frozen=True, slots=True)
class TrafficConfig:
    """Configuration of a run.

    Attributes:
        url: the service.
        plan: how much to send.
        faults: faults to inject.
        data: a file with rows; see `select_row_source`.
        bundle: a bundle with rows; see `select_row_source`.
        seed: seed of the random numbers.
        feedback: which true labels to send.
        ready_timeout: seconds to wait until the service is ready.
        headers: headers of every request.
        synthetic_key: the service's key, which marks every request as synthetic; `None` marks none.
        ca: a file with the CA of the service's certificate, see `client_context`.
    """

    url: str
    plan: LoadPlan
    faults: FaultConfig
    data: Path | None
    bundle: Path | None
    seed: int | None
    feedback: FeedbackConfig
    ready_timeout: float
    headers: Mapping[str, str]
    synthetic_key: bytes | None
    ca: Path | None = None


async def run_traffic(
    config: TrafficConfig, telemetry: Telemetry, display: ProgressDisplay, on_warning: Callable[[str], object]
) -> TrafficCounts:
    """Send requests until the plan is done, or SIGINT or SIGTERM arrives.

    Args:
        config: what to send.
        telemetry: receives the client's spans.
        display: shows the progress.
        on_warning: called once if the service does not recognize the mark of synthetic requests.

    Raises:
        ModeltraceError: the service cannot be reached, or there are no rows to send.
    """
    counts, stop, ended = TrafficCounts(), asyncio.Event(), asyncio.Event()
    rng = make_rng(config.seed)
    with handle_signals(stop.set, "SIGINT", "SIGTERM"):
        verify = client_context(config.ca)
        await _wait_until_ready(config, verify, stop)
        concurrency = config.plan.concurrency
        async with build_traced_client(config.url, telemetry, concurrency, config.headers, verify) as client:
            model = await fetch_model(client)
            signer = None
            if config.synthetic_key is not None:
                client.headers["baggage"] = ",".join(synthetic_baggage(derive_synthetic_token(config.synthetic_key)))
                signer = PredictionIdSigner(config.synthetic_key)
            faults = FaultInjector(config.faults, model.features, rng)
            samples = select_row_source(config, model, rng)
            no_more_labels = asyncio.Event()
            # Use a separate generator of random numbers. Otherwise rows and faults would depend on response times.
            labels = LabelSender(client, config.feedback, make_rng(config.seed), counts)

            def on_prediction(prediction_id: object, true_label: object) -> None:
                if signer and counts.rows == 1:
                    _check_key(signer, prediction_id, on_warning)
                labels.schedule(prediction_id, true_label)

            load = LoadGenerator(client, samples, faults, config.plan, counts, on_prediction)
            progress_task = asyncio.create_task(show_progress(counts, display, ended))
            label_task = asyncio.create_task(labels.run(no_more_labels))
            try:
                await load.run(stop, drain_timeout=DRAIN_TIMEOUT)
                no_more_labels.set()
                await label_task
            finally:
                ended.set()
                await progress_task
    return counts


def _check_key(signer: PredictionIdSigner, prediction_id: object, on_warning: Callable[[str], object]) -> None:
    """Warn if a prediction ID is not signed with the key of this client."""
    try:
        signer.verify(str(prediction_id))
    except UnknownPredictionError:
        on_warning(OTHER_KEY_WARNING)


async def _wait_until_ready(config: TrafficConfig, verify: SSLContext, stop: asyncio.Event) -> None:
    """Wait until the service is ready, `ready_timeout` has passed or `stop` is set. The polls are not traced."""
    deadline = time.monotonic() + config.ready_timeout
    async with httpx.AsyncClient(base_url=config.url, timeout=1.0, verify=verify) as client:
        while time.monotonic() < deadline and not stop.is_set() and not await is_ready(client):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), READY_POLL_INTERVAL)


def select_row_source(config: TrafficConfig, model: ServedModel, rng: random.Random) -> Iterator[Sample]:
    """Return an endless iterator over rows.

    The rows are from the file `data`, or from `bundle`. A bundle with a generator yields new rows without end; for
    other bundles the test rows are repeated. Without `data` and `bundle`, rows are sampled from the reference bins
    of the model.

    Raises:
        RowSourceError: there are no rows, or labels are to be sent and the rows have none.
    """
    if config.feedback.share and config.bundle is None:
        raise RowSourceError("--feedback sends the true labels of a bundle's test rows: name one with --bundle")
    if config.data is not None:
        return cycle_shuffled(load_samples(config.data, model.features), rng)
    if config.bundle is not None:
        held_out = load_test_samples(config.bundle, model.features)
        if config.feedback.share and all(sample.label is None for sample in held_out):
            raise RowSourceError(f"--feedback: the test rows of {config.bundle} have no true labels")
        if (config.bundle / GENERATOR_FILE).is_file():
            # Imported here: only the example has a generator, and importing scipy takes 0.1 s.
            from modeltrace.traffic.generated import generate_samples  # noqa: PLC0415  see above

            return generate_samples(config.bundle, model.features, rng)
        return cycle_shuffled(held_out, rng)
    return sample_reference(model.features, rng)
