"""`modeltrace traffic`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from modeltrace.cli.durations import parse_seconds
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.client.service import normalize_url
from modeltrace.keys import authorization_header, derive_synthetic_token, load_id_key
from modeltrace.settings import read_settings
from modeltrace.telemetry.provider import log_shutdown_report
from modeltrace.traffic.fault_injection import FaultConfig, parse_shift
from modeltrace.traffic.labels import FeedbackConfig
from modeltrace.traffic.load import LoadPlan
from modeltrace.traffic.progress import JsonDisplay, LiveDisplay, PlainDisplay
from modeltrace.traffic.run import TrafficConfig, run_traffic
from modeltrace.traffic.telemetry import FLUSH_TIMEOUT, build_traffic_telemetry

# Seconds between two plain lines.
PLAIN_INTERVAL = 5.0
# Seconds after which a label is sent.
FEEDBACK_DELAY = 5.0

_LOAD_PANEL = "How much"
_ROWS_PANEL = "Rows"
_FAULTS_PANEL = "Misbehaviour (shares from 0 to 1)"


def _share(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        min=0.0, max=1.0, metavar="SHARE", help=help_text, rich_help_panel=_FAULTS_PANEL
    )
    return option


def traffic(
    url: Annotated[str, typer.Argument(help="The service.")] = "http://127.0.0.1:8000",
    rate: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Requests a second.", rich_help_panel=_LOAD_PANEL)
    ] = 20.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many requests.", rich_help_panel=_LOAD_PANEL)
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds, metavar="TIME", help="Stop after 30s, 5m, 1h, …", rich_help_panel=_LOAD_PANEL
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="TIME",
            show_default="no time",
            help="The service may take so long to be ready.",
            rich_help_panel=_LOAD_PANEL,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Send batches of so many rows.", rich_help_panel=_LOAD_PANEL)
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests in flight at most.", rich_help_panel=_LOAD_PANEL)
    ] = 64,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file.", rich_help_panel=_ROWS_PANEL)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A bundle: its held-out rows; of up's example, fresh ones.", rich_help_panel=_ROWS_PANEL
        ),
    ] = None,
    feedback: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Send true labels for such a share of answers.",
            rich_help_panel=_ROWS_PANEL,
        ),
    ] = 0.0,
    feedback_delay: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds, metavar="TIME", help="So long after.", show_default="5s", rich_help_panel=_ROWS_PANEL
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Send the same rows and faults again.", rich_help_panel=_ROWS_PANEL)
    ] = None,
    missing: Annotated[float, _share("Rows with a missing value.")] = 0.0,
    wrong_type: Annotated[float, _share("Rows with a value of the wrong type.")] = 0.0,
    errors: Annotated[float, _share("Requests that are not JSON or name an unknown feature.")] = 0.0,
    slow: Annotated[float, _share("Requests whose body takes 2 s to send.")] = 0.0,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHIFT",
            help="FEATURE=FACTOR, FEATURE+=X, or FEATURE+=Xsd (standard deviations): move a feature in every row. "
            "Repeatable.",
            rich_help_panel=_FAULTS_PANEL,
        ),
    ] = None,
    shift_after: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="TIME",
            show_default="at once",
            help="Shift from then on.",
            rich_help_panel=_FAULTS_PANEL,
        ),
    ] = None,
    unmarked: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--unmarked", help="Do not mark the requests as synthetic: they count like any other.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,  # noqa: FBT002  a flag
    every: Annotated[
        float | None, typer.Option(parser=parse_seconds, metavar="TIME", help="Print a line so often, terminal or not.")
    ] = None,
) -> None:
    """Send predictions to a service at a steady rate, with spans of their own.

    Rows come from a file, from a bundle's held-out part, or are drawn from the model's reference bins. The rate is
    kept however slow the service is; what could not be sent for too many requests in flight is counted as behind.
    Ends with exit code 1 when a request failed that should not have. Ctrl-C ends it, too.

    The requests are marked as synthetic. A service with the same key (MODELTRACE_ID_KEY, or the one in the user's data
    folder) leaves them out of figures and drift.

    Example: modeltrace traffic --rate 50 --duration 5m --missing 0.05 --shift mean_radius=1.3
    """
    if data is not None and bundle is not None:
        raise typer.BadParameter("give --data or --bundle, not both")
    settings = read_settings()
    run = TrafficConfig(
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
        synthetic_token="" if unmarked else derive_synthetic_token(load_id_key(settings)),
    )
    telemetry = build_traffic_telemetry(settings.otel)
    try:
        with _make_display(json=json, every=every) as progress:
            tally = asyncio.run(run_traffic(run, telemetry, progress))
    finally:
        log_shutdown_report(telemetry.shutdown(FLUSH_TIMEOUT))
    if tally.failed:
        echo(f"{tally.failed:,} requests failed; the last one: {tally.last_failure}", err=True)
        raise typer.Exit(1)


def _make_display(*, json: bool, every: float | None) -> JsonDisplay | LiveDisplay | PlainDisplay:
    if json:
        return JsonDisplay(echo, every)
    console = SafeConsole()
    if console.is_terminal and every is None:
        return LiveDisplay(console)
    return PlainDisplay(console, every or PLAIN_INTERVAL)
