"""`modeltrace doctor`."""

import asyncio
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Annotated

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.client.checkup import Asked, Item, advise, ask, follow
from service.client.hub import HubBackend
from service.client.service import base_url
from service.errors import ModeltraceError

# Seconds that one question to the service or the backend may take.
QUESTION_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check-up found; `advice` is empty when everything arrived."""

    asked: Asked
    items: list[Item]
    advice: list[str]
    link: str


def doctor(
    url: Annotated[str, typer.Argument(help="The service.")] = "http://127.0.0.1:8000",
    hub: Annotated[str, typer.Option(help="The hub's page, where the telemetry should arrive.")] = (
        "http://127.0.0.1:4319"
    ),
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds to wait for everything.")] = 15.0,
    key: Annotated[
        str | None, typer.Option(envvar="MODELTRACE_HUB_KEY", help="The hub's key, when it has one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Send one prediction and see whether all of its telemetry arrives: spans, log records, a metric exemplar.

    Exit code 0 only if all of it did; otherwise the last lines say what to look at first.

    Example: modeltrace doctor http://127.0.0.1:8000 --hub http://127.0.0.1:4319
    """
    try:
        with (
            nullcontext() if json else Console(stderr=True).status("looking for everything that one prediction leaves")
        ):
            finding = asyncio.run(_examine(base_url(url), base_url(hub), timeout=timeout, key=key))
    except ModeltraceError as error:
        if not json:
            raise
        typer.echo(orjson.dumps({"ok": False, "error": str(error)}).decode())
        raise typer.Exit(1) from None
    if json:
        typer.echo(orjson.dumps(_as_json(finding)).decode())
    else:
        _print(finding)
    if finding.advice:
        raise typer.Exit(1)


async def _examine(url: str, hub: str, *, timeout: float, key: str | None) -> Finding:  # noqa: ASYNC109  a budget, not one call's limit
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx.AsyncClient(base_url=url, timeout=QUESTION_TIMEOUT) as service,
        httpx.AsyncClient(base_url=hub, timeout=QUESTION_TIMEOUT, headers=headers) as page,
    ):
        backend = HubBackend(page)
        await backend.check()
        asked = await ask(service)
        items = await follow(backend, asked, seconds=timeout)
        return Finding(asked, items, advise(items, asked, seconds=timeout), backend.link(asked.trace_id))


def _print(finding: Finding) -> None:
    model = finding.asked.model
    console = Console(highlight=False)
    console.print(f"{model.name} {model.version} · one prediction, trace {finding.asked.trace_id}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("signal")
    table.add_column("what")
    table.add_column("arrived", justify="right")
    for item in finding.items:
        arrived = "[red]missing[/red]" if item.arrived_ms is None else f"{item.arrived_ms:,.0f} ms"
        table.add_row(item.signal, item.what, arrived)
    console.print(table)
    console.print(f"look  {finding.link}", soft_wrap=True)
    problems = Console(stderr=True, highlight=False)
    for line in finding.advice:
        problems.print(f"- {line}", markup=False, soft_wrap=True)


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "ok": not finding.advice,
        "trace_id": finding.asked.trace_id,
        "model": {"name": finding.asked.model.name, "version": finding.asked.model.version},
        "items": [asdict(item) for item in finding.items],
        "advice": finding.advice,
        "link": finding.link,
    }
