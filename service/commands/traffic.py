"""`modeltrace traffic`."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from service.client.faults import Misbehaviour, parse_shift
from service.client.labels import Feedback
from service.client.load import Plan
from service.client.progress import JsonLines, LiveLine, PlainLines
from service.client.run import Run, run_traffic
from service.client.service import base_url
from service.client.telemetry import FLUSH_TIMEOUT, traffic_telemetry
from service.settings import read_settings
from service.telemetry.setup import report_rest
from service.terminal import SafeConsole, echo

# Seconds between two plain lines.
PLAIN_INTERVAL = 5.0
# Seconds after which a label is sent.
FEEDBACK_DELAY = 5.0

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_HOW_MUCH = "How much"
_ROWS = "Rows"
_MISBEHAVIOUR = "Misbehaviour (shares from 0 to 1)"


def seconds(text: str) -> float:
    """Read a time like `30s`, `500ms`, `5m` or `1h`; a bare number is seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not (value := float(match[1]) * _UNITS[match[2]]):
        raise typer.BadParameter("write a time above 0 like 30s, 500ms, 5m or 1h")
    return value


def _share(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        min=0.0, max=1.0, metavar="SHARE", help=help_text, rich_help_panel=_MISBEHAVIOUR
    )
    return option


def traffic(
    url: Annotated[str, typer.Argument(help="The service.")] = "http://127.0.0.1:8000",
    rate: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Requests a second.", rich_help_panel=_HOW_MUCH)
    ] = 20.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many requests.", rich_help_panel=_HOW_MUCH)
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Stop after 30s, 5m, 1h, …", rich_help_panel=_HOW_MUCH),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="TIME",
            show_default="no time",
            help="The service may take so long to be ready.",
            rich_help_panel=_HOW_MUCH,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Send batches of so many rows.", rich_help_panel=_HOW_MUCH)
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Requests in flight at most.", rich_help_panel=_HOW_MUCH)
    ] = 64,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file.", rich_help_panel=_ROWS)
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A bundle: its held-out rows.", rich_help_panel=_ROWS)
    ] = None,
    feedback: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Send true labels for such a share of answers.",
            rich_help_panel=_ROWS,
        ),
    ] = 0.0,
    feedback_delay: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="So long after.", show_default="5s", rich_help_panel=_ROWS),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Send the same rows and faults again.", rich_help_panel=_ROWS)
    ] = None,
    missing: Annotated[float, _share("Rows with a missing value.")] = 0.0,
    wrong_type: Annotated[float, _share("Rows with a value of the wrong type.")] = 0.0,
    errors: Annotated[float, _share("Requests that are not JSON or name an unknown feature.")] = 0.0,
    slow: Annotated[float, _share("Requests whose body takes 2 s to send.")] = 0.0,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHIFT",
            help="FEATURE=FACTOR or FEATURE+=X: move a feature in every row. Repeatable.",
            rich_help_panel=_MISBEHAVIOUR,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,  # noqa: FBT002  a flag
    every: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Print a line so often, terminal or not.")
    ] = None,
) -> None:
    """Send predictions to a service at a steady rate, with spans of their own.

    Rows come from a file, from a bundle's held-out part, or are drawn from the model's reference bins. The rate is
    kept however slow the service is; what could not be sent for too many requests in flight is counted as behind.
    Ends with exit code 1 when a request failed that should not have. Ctrl-C ends it, too.

    Example: modeltrace traffic --rate 50 --duration 5m --missing 0.05 --shift mean_radius=1.3
    """
    if data is not None and bundle is not None:
        raise typer.BadParameter("give --data or --bundle, not both")
    run = Run(
        url=base_url(url),
        plan=Plan(rate=rate, batch=batch, count=count, duration=duration, concurrency=concurrency),
        misbehaviour=Misbehaviour(
            missing=missing,
            wrong_type=wrong_type,
            errors=errors,
            slow=slow,
            shifts=tuple(parse_shift(text) for text in shift or ()),
        ),
        data=data,
        bundle=bundle,
        seed=seed,
        feedback=Feedback(feedback, feedback_delay or FEEDBACK_DELAY) if feedback else None,
        wait=wait or 0.0,
    )
    telemetry = traffic_telemetry(read_settings().otel)
    try:
        with _progress(json=json, every=every) as progress:
            tally = asyncio.run(run_traffic(run, telemetry, progress))
    finally:
        report_rest(telemetry.shutdown(FLUSH_TIMEOUT))
    if tally.failed:
        echo(f"{tally.failed:,} requests failed; the last one: {tally.last_failure}", err=True)
        raise typer.Exit(1)


def _progress(*, json: bool, every: float | None) -> JsonLines | LiveLine | PlainLines:
    if json:
        return JsonLines(echo, every)
    console = SafeConsole(highlight=False)
    if console.is_terminal and every is None:
        return LiveLine(console)
    return PlainLines(console, every or PLAIN_INTERVAL)
