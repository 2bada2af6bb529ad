"""`modeltrace traffic`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.live import Live

from modeltrace.cli.options import CaFile, local_bundle
from modeltrace.cli.times import parse_seconds
from modeltrace.client.service import normalize_url
from modeltrace.keys import authorization_header, load_id_key
from modeltrace.settings import read_settings
from modeltrace.telemetry.providers import log_shutdown_report
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.fault_injection import FaultConfig, parse_shift
from modeltrace.traffic.labels import FeedbackConfig
from modeltrace.traffic.load import LoadPlan
from modeltrace.traffic.progress import ProgressDisplay, Snapshot
from modeltrace.traffic.run import TrafficConfig, run_traffic
from modeltrace.traffic.telemetry import FLUSH_TIMEOUT, build_traffic_telemetry

# Seconds.
LIVE_INTERVAL = 0.25
PLAIN_INTERVAL = 5.0
FEEDBACK_DELAY = 5.0

# Options by panel of the help.
_load_option = partial(typer.Option, rich_help_panel="Load")
_rows_option = partial(typer.Option, rich_help_panel="Rows and labels")
_faults_option = partial(typer.Option, rich_help_panel="Injected faults")
_output_option = partial(typer.Option, rich_help_panel="Output")
_DURATION = {"parser": parse_seconds, "metavar": "DURATION"}
_SHARE = {"min": 0.0, "max": 1.0, "metavar": "SHARE"}


def traffic(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The address of the service.")] = "http://127.0.0.1:8000",
    rate: Annotated[float, _load_option(min=0.01, max=10_000, help="Requests per second.")] = 20.0,
    count: Annotated[int | None, _load_option(min=1, help="Stop after this number of requests.")] = None,
    duration: Annotated[
        float | None, _load_option(**_DURATION, show_default=False, help="Stop after this time: 30s, 5m, 1h.")
    ] = None,
    wait: Annotated[
        float | None,
        _load_option(**_DURATION, show_default="no wait", help="Wait for the service, at most this time."),
    ] = None,
    batch: Annotated[
        int | None, _load_option(min=1, show_default="single rows", help="Rows per batch request.")
    ] = None,
    concurrency: Annotated[int, _load_option(min=1, max=10_000, help="Maximum number of requests in flight.")] = 64,
    data: Annotated[
        Path | None,
        _rows_option(metavar="FILE", help="A file of rows: .csv, .tsv, .jsonl (each also with .gz) or .parquet."),
    ] = None,
    bundle: Annotated[
        str | None,
        _rows_option(
            metavar="SOURCE",
            help="A bundle with test rows. For the example of `modeltrace up`, new rows are generated.",
        ),
    ] = None,
    feedback: Annotated[
        float,
        _rows_option(**_SHARE, help="Share of predictions whose true label is sent, from 0 to 1. Requires --bundle."),
    ] = 0.0,
    feedback_delay: Annotated[
        float | None,
        _rows_option(**_DURATION, show_default="5s", help="Time between a prediction and its true label."),
    ] = None,
    seed: Annotated[
        int | None, _rows_option(show_default="random", help="Seed of the random numbers, to repeat a run.")
    ] = None,
    missing: Annotated[float, _faults_option(**_SHARE, help="Share of rows with a missing value, from 0 to 1.")] = 0.0,
    wrong_type: Annotated[float, _faults_option(**_SHARE, help="Share of rows with a value of the wrong type.")] = 0.0,
    errors: Annotated[
        float, _faults_option(**_SHARE, help="Share of requests that are not JSON or have an unknown feature.")
    ] = 0.0,
    slow: Annotated[float, _faults_option(**_SHARE, help="Share of requests whose body is sent over 2 s.")] = 0.0,
    shift: Annotated[
        list[str] | None,
        _faults_option(
            metavar="SHIFT",
            help="Shift a feature in every row: FEATURE=FACTOR, FEATURE+=X, or FEATURE+=Xsd (standard deviations). For "
            "a time or a duration: FEATURE+=P30D (ISO 8601) or FEATURE+=Xsd. Repeatable.",
        ),
    ] = None,
    shift_after: Annotated[
        float | None, _faults_option(**_DURATION, show_default="at once", help="Start shifting after this time.")
    ] = None,
    ca: CaFile = None,
    unmarked: Annotated[  # noqa: FBT002  a flag
        bool,
        _load_option("--unmarked", help="Do not mark the requests as synthetic: they count like real requests."),
    ] = False,
    json: Annotated[bool, _output_option("--json", help="Print the summary as JSON.")] = False,  # noqa: FBT002  a flag
    interval: Annotated[
        float | None,
        _output_option(
            **_DURATION,
            show_default="5s; terminal: one live line; --json: never",
            help="Print a line at this interval.",
        ),
    ] = None,
) -> None:
    """Send prediction requests to a service at a steady rate, each with its own span.

    The rows come from a file (--data) or a bundle (--bundle). By default, they are sampled from the model's reference
    bins. The rate does not depend on the speed of the service. Requests that would exceed --concurrency are not sent,
    but counted as dropped. The exit code is 1 if a request failed and no injected fault was the reason. Ctrl-C stops
    the run.

    The requests are marked as synthetic. A service with the same key (MODELTRACE_ID_KEY, or the key in the user's data
    folder) excludes them from metrics and drift.

    Example: modeltrace traffic --rate 50 --duration 5m --missing 0.05 --shift mean_radius=1.3
    """
    if data is not None and bundle is not None:
        raise typer.BadParameter("give --data or --bundle, not both")
    settings = read_settings()
    config = TrafficConfig(
        url=normalize_url(url),
        plan=LoadPlan(rate=rate, batch=batch, count=count, duration=duration, concurrency=concurrency),
        faults=FaultConfig(
            missing=missing,
            wrong_type=wrong_type,
            errors=errors,
            slow=slow,
            shifts=tuple(parse_shift(text) for text in shift or ()),
            shift_after=shift_after or 0.0,
        ),
        data=data,
        bundle=None if bundle is None else local_bundle(bundle),
        seed=seed,
        feedback=FeedbackConfig(feedback, feedback_delay or FEEDBACK_DELAY),
        ready_timeout=wait or 0.0,
        headers=authorization_header(settings),
        synthetic_key=None if unmarked else load_id_key(settings),
        ca=ca,
    )
    telemetry = build_traffic_telemetry(settings.otel)
    try:
        with open_display(json=json, interval=interval) as display:
            counts = asyncio.run(run_traffic(config, telemetry, display, on_warning=partial(echo, err=True)))
    finally:
        log_shutdown_report(telemetry.shutdown(FLUSH_TIMEOUT))
    if counts.failed:
        echo(f"{counts.failed:,} requests failed; the last one: {counts.last_failure}", err=True)
        raise typer.Exit(1)


@contextmanager
def open_display(*, json: bool, interval: float | None) -> Iterator[ProgressDisplay]:
    """Yield a display on stdout: JSON lines, a line in a terminal that is rewritten in place, or plain lines."""
    console = SafeConsole()

    def print_json(snapshot: Snapshot) -> None:
        echo(orjson.dumps(snapshot).decode())

    def print_line(snapshot: Snapshot) -> None:
        console.print(snapshot.to_text(full_trace_id=True), soft_wrap=True)

    if json:
        yield ProgressDisplay(print_json, print_json, interval)
    elif interval is not None or not console.is_terminal:
        yield ProgressDisplay(print_line, print_line, interval or PLAIN_INTERVAL)
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield ProgressDisplay(
                lambda snapshot: live.update(snapshot.to_text(), refresh=True), print_line, LIVE_INTERVAL
            )
