"""`modeltrace traffic`."""

import asyncio
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from modeltrace.cli.times import parse_seconds
from modeltrace.client.service import normalize_url
from modeltrace.keys import authorization_header, load_id_key
from modeltrace.settings import read_settings
from modeltrace.telemetry.provider import log_shutdown_report
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.fault_injection import FaultConfig, parse_shift
from modeltrace.traffic.labels import FeedbackConfig
from modeltrace.traffic.load import LoadPlan
from modeltrace.traffic.progress import LineDisplay, LiveDisplay
from modeltrace.traffic.run import TrafficConfig, run_traffic
from modeltrace.traffic.telemetry import FLUSH_TIMEOUT, build_traffic_telemetry

# Seconds.
PLAIN_INTERVAL = 5.0
FEEDBACK_DELAY = 5.0

_LOAD_PANEL = "Load"
_ROWS_PANEL = "Rows and labels"
_FAULTS_PANEL = "Injected faults"
_OUTPUT_PANEL = "Output"


def _duration(help_text: str, panel: str, show_default: str | bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002  typer's
    return typer.Option(
        parser=parse_seconds, metavar="DURATION", help=help_text, show_default=show_default, rich_help_panel=panel
    )


def _share(help_text: str, panel: str = _FAULTS_PANEL) -> Any:  # noqa: ANN401  typer's
    return typer.Option(min=0.0, max=1.0, metavar="SHARE", help=help_text, rich_help_panel=panel)


def traffic(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The address of the service.")] = "http://127.0.0.1:8000",
    rate: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Requests per second.", rich_help_panel=_LOAD_PANEL)
    ] = 20.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after this number of requests.", rich_help_panel=_LOAD_PANEL)
    ] = None,
    duration: Annotated[float | None, _duration("Stop after this time: 30s, 5m, 1h.", _LOAD_PANEL)] = None,
    wait: Annotated[float | None, _duration("Wait for the service, at most this time.", _LOAD_PANEL, "no wait")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, show_default="single rows", help="Rows per batch request.", rich_help_panel=_LOAD_PANEL),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Maximum number of requests in flight.", rich_help_panel=_LOAD_PANEL)
    ] = 64,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file of rows.", rich_help_panel=_ROWS_PANEL)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A bundle with held-out rows. For the example of `modeltrace up`, new rows are generated.",
            rich_help_panel=_ROWS_PANEL,
        ),
    ] = None,
    feedback: Annotated[
        float, _share("Share of predictions whose true label is sent, from 0 to 1. Requires --bundle.", _ROWS_PANEL)
    ] = 0.0,
    feedback_delay: Annotated[
        float | None, _duration("Time between a prediction and its true label.", _ROWS_PANEL, "5s")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            show_default="random", help="Seed of the random numbers, to repeat a run.", rich_help_panel=_ROWS_PANEL
        ),
    ] = None,
    missing: Annotated[float, _share("Share of rows with a missing value, from 0 to 1.")] = 0.0,
    wrong_type: Annotated[float, _share("Share of rows with a value of the wrong type.")] = 0.0,
    errors: Annotated[float, _share("Share of requests that are not JSON or have an unknown feature.")] = 0.0,
    slow: Annotated[float, _share("Share of requests whose body is sent over 2 s.")] = 0.0,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHIFT",
            help="Shift a feature in every row: FEATURE=FACTOR, FEATURE+=X, or FEATURE+=Xsd (standard deviations). "
            "Repeatable.",
            rich_help_panel=_FAULTS_PANEL,
        ),
    ] = None,
    shift_after: Annotated[float | None, _duration("Start shifting after this time.", _FAULTS_PANEL, "at once")] = None,
    unmarked: Annotated[  # noqa: FBT002  a flag
        bool,
        typer.Option(
            "--unmarked",
            help="Do not mark the requests as synthetic: they count like real requests.",
            rich_help_panel=_LOAD_PANEL,
        ),
    ] = False,
    json: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--json", help="Print the summary as JSON.", rich_help_panel=_OUTPUT_PANEL)
    ] = False,
    interval: Annotated[
        float | None,
        _duration("Print a line at this interval.", _OUTPUT_PANEL, "5s; terminal: one live line; --json: never"),
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
        bundle=bundle,
        seed=seed,
        feedback=FeedbackConfig(feedback, feedback_delay or FEEDBACK_DELAY) if feedback else None,
        ready_timeout=wait or 0.0,
        headers=authorization_header(settings),
        synthetic_key=None if unmarked else load_id_key(settings),
    )
    telemetry = build_traffic_telemetry(settings.otel)
    try:
        with make_display(json=json, interval=interval) as display:
            counts = asyncio.run(run_traffic(config, telemetry, display, on_warning=partial(echo, err=True)))
    finally:
        log_shutdown_report(telemetry.shutdown(FLUSH_TIMEOUT))
    if counts.failed:
        echo(f"{counts.failed:,} requests failed; the last one: {counts.last_failure}", err=True)
        raise typer.Exit(1)


def make_display(*, json: bool, interval: float | None) -> LineDisplay | LiveDisplay:
    """Return a display on stdout: JSON lines, a live line in a terminal, or plain lines."""
    if json:
        return LineDisplay(lambda snapshot: echo(orjson.dumps(asdict(snapshot)).decode()), interval)
    console = SafeConsole()
    if console.is_terminal and interval is None:
        return LiveDisplay(console)
    return LineDisplay(
        lambda snapshot: console.print(snapshot.to_text(full_trace_id=True), soft_wrap=True), interval or PLAIN_INTERVAL
    )
