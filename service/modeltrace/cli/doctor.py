"""`modeltrace doctor`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import httpx
import orjson
import typer
from rich.table import Table
from rich.text import Text

from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.client.service import base_url
from modeltrace.doctor.backends.backend import Backend, Dangling, Link
from modeltrace.doctor.backends.hub import HubBackend
from modeltrace.doctor.backends.stack import JAEGER, LOKI, PROMETHEUS, Addresses, StackBackend, find_log_store
from modeltrace.doctor.trace_check import Asked, Item, advise, ask, follow, partly_missing
from modeltrace.errors import ModeltraceError
from modeltrace.keys import authorization
from modeltrace.settings import read_settings

# Seconds that one question to the service or the backend may take.
QUESTION_TIMEOUT = 10.0
# Seconds to wait for everything: where traces are sampled in the Collector, it decides about 15 s after the first span.
WAIT = {"hub": 15.0, "stack": 30.0}

_STACK = "With --against stack"


@dataclass(frozen=True, slots=True)
class Where:
    """Which backend is asked, and where it is."""

    against: Literal["hub", "stack"]
    hub: str
    key: str | None
    stack: Addresses


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check-up found; `advice` is empty when everything arrived."""

    asked: Asked
    items: list[Item]
    advice: list[str]
    links: list[Link]
    dangling: Dangling | None


def doctor(
    url: Annotated[str, typer.Argument(help="The service.")] = "http://127.0.0.1:8000",
    against: Annotated[Literal["hub", "stack"], typer.Option(help="Where the telemetry should arrive.")] = "hub",
    hub: Annotated[str, typer.Option(help="The hub's page.")] = "http://127.0.0.1:4319",
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, max=3600, show_default="15; the stack: 30", help="Seconds to wait for everything."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="MODELTRACE_HUB_KEY", help="The hub's key, when it has one.")
    ] = None,
    jaeger: Annotated[
        str, typer.Option(envvar="MODELTRACE_JAEGER_URL", help="Jaeger.", rich_help_panel=_STACK)
    ] = JAEGER,
    loki: Annotated[str, typer.Option(envvar="MODELTRACE_LOKI_URL", help="Loki.", rich_help_panel=_STACK)] = LOKI,
    prometheus: Annotated[
        str, typer.Option(envvar="MODELTRACE_PROMETHEUS_URL", help="Prometheus.", rich_help_panel=_STACK)
    ] = PROMETHEUS,
    log_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MODELTRACE_STACK_LOG_FILE",
            metavar="FILE",
            help="The file with log records of a stack without Loki, as ./dev stack up prints it.",
            show_default="that of ./dev stack up, if no Loki answers",
            rich_help_panel=_STACK,
        ),
    ] = None,
    grafana: Annotated[
        str | None,
        typer.Option(
            envvar="MODELTRACE_GRAFANA_URL", help="Grafana, for links to what has no page.", rich_help_panel=_STACK
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Send one prediction and see whether all of its telemetry arrives: spans, log records, a metric exemplar.

    Exit code 0 only if all of it did; otherwise the last lines say what to look at first.

    Example: modeltrace doctor http://127.0.0.1:8000 --against stack
    """
    try:
        stack = Addresses(
            jaeger=base_url(jaeger),
            loki=base_url(loki),
            prometheus=base_url(prometheus),
            grafana=base_url(grafana) if grafana else None,
            log_file=log_file.absolute() if log_file else None,
        )
        where = Where(against, base_url(hub), key, stack)
        with nullcontext() if json else SafeConsole(stderr=True).status("looking for all that one prediction leaves"):
            headers = authorization(read_settings())
            finding = asyncio.run(_examine(base_url(url), headers, where, timeout=timeout or WAIT[against]))
    except ModeltraceError as error:
        if not json:
            raise
        echo(orjson.dumps({"ok": False, "error": str(error)}).decode())
        raise typer.Exit(1) from None
    if json:
        echo(orjson.dumps(_as_json(finding)).decode())
    else:
        _print(finding)
    if finding.advice:
        raise typer.Exit(1)


async def _examine(url: str, headers: Mapping[str, str], where: Where, *, timeout: float) -> Finding:  # noqa: ASYNC109  a budget, not one call's limit
    async with (
        httpx.AsyncClient(base_url=url, timeout=QUESTION_TIMEOUT, headers=headers) as service,
        _backend(where) as backend,
    ):
        await backend.check()
        asked = await ask(service)
        items = await follow(backend, asked, seconds=timeout)
        advice = advise(items, asked, seconds=timeout, entry=backend.entry)
        if all(item.arrived_ms is None for item in items):
            advice += await asyncio.to_thread(_undelivered)
        if missing := partly_missing(items):
            advice += await backend.explain(missing)
        return Finding(asked, items, advice, await backend.links(asked.trace_id), await backend.dangling())


def _undelivered() -> list[str]:
    from modeltrace.doctor.delivery_check import check_deliveries  # noqa: PLC0415  only where nothing arrives

    return check_deliveries(read_settings().otel)


@asynccontextmanager
async def _backend(where: Where) -> AsyncIterator[Backend]:
    if where.against == "stack":
        async with httpx.AsyncClient(timeout=QUESTION_TIMEOUT) as client:
            yield StackBackend(client, await find_log_store(client, where.stack))
        return
    headers = {"authorization": f"Bearer {where.key}"} if where.key else {}
    async with httpx.AsyncClient(base_url=where.hub, timeout=QUESTION_TIMEOUT, headers=headers) as page:
        yield HubBackend(page)


def _print(finding: Finding) -> None:
    model = finding.asked.model
    console = SafeConsole()
    console.print(f"{model.name} {model.version} · one prediction, trace {finding.asked.trace_id}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("signal")
    table.add_column("what")
    table.add_column("arrived", justify="right")
    for item in finding.items:
        arrived = Text("missing", style="red") if item.arrived_ms is None else f"{item.arrived_ms:,.0f} ms"
        table.add_row(item.signal, item.what, arrived)
    console.print(table)
    for line in _links(finding.links):
        console.print(line, soft_wrap=True)
    if finding.dangling and finding.dangling.looked_at:
        console.print(_counted(finding.dangling), soft_wrap=True)
    problems = SafeConsole(stderr=True)
    for advice in finding.advice:
        problems.print(f"- {advice}", soft_wrap=True)


def _links(links: list[Link]) -> list[Text]:
    width = max(len(link.what) for link in links)
    lines = []
    for link in links:
        lines.append(Text(f"{link.what:<{width}}  ").append(link.url, style=f"link {link.url}"))
        if link.query:
            lines.append(Text(f"{'':<{width}}  {link.query}", style="dim"))
    return lines


def _counted(dangling: Dangling) -> str:
    if not dangling.lead_nowhere:
        return f"of the latest exemplars {dangling.looked_at} looked at, each leads to its trace"
    return (
        f"of the latest exemplars {dangling.looked_at} looked at, {dangling.lead_nowhere} lead to traces that were "
        "sampled away or lost"
    )


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "ok": not finding.advice,
        "trace_id": finding.asked.trace_id,
        "model": {"name": finding.asked.model.name, "version": finding.asked.model.version},
        "items": [asdict(item) for item in finding.items],
        "advice": finding.advice,
        "link": finding.links[0].url,
        "links": [asdict(link) for link in finding.links],
        "exemplars": asdict(finding.dangling) if finding.dangling else None,
    }
