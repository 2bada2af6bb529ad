"""`modeltrace doctor`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, Literal

import httpx
import orjson
import typer
from rich.table import Table
from rich.text import Text

from modeltrace.cli.options import CaFile
from modeltrace.client.service import normalize_url
from modeltrace.client.verification import client_context
from modeltrace.doctor.backends.backend import Backend, Link, UnresolvedExemplars
from modeltrace.doctor.backends.hub import HubBackend
from modeltrace.doctor.backends.stack import (
    JAEGER_URL,
    LOKI_URL,
    PROMETHEUS_URL,
    StackAddresses,
    StackBackend,
    find_log_store,
)
from modeltrace.doctor.trace_check import (
    ExpectedItem,
    SentPrediction,
    count_spooled_items,
    diagnose,
    partly_missing_signals,
    send_prediction,
    wait_for_telemetry,
)
from modeltrace.errors import ModeltraceError, SettingsError
from modeltrace.keys import authorization_header
from modeltrace.settings import read_settings
from modeltrace.terminal import SafeConsole, echo
from modeltrace_http.bearer import bearer_headers

# Seconds for one request to the service or the backend.
REQUEST_TIMEOUT = 10.0
# Seconds to wait for all items. A Collector that samples traces decides about 15 s after the first span.
DEFAULT_TIMEOUTS = {"hub": 15.0, "stack": 30.0}

_stack_option = partial(typer.Option, rich_help_panel="With --backend stack")
_stack_url = partial(_stack_option, metavar="URL")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a check. `advice` is empty if all items arrived."""

    prediction: SentPrediction
    items: list[ExpectedItem]
    advice: list[str]
    links: list[Link]
    unresolved_exemplars: UnresolvedExemplars | None
    health: list[str]


def doctor(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The address of the service.")] = "http://127.0.0.1:8000",
    backend: Annotated[Literal["hub", "stack"], typer.Option(help="Where the telemetry should arrive.")] = "hub",
    hub: Annotated[str, typer.Option(metavar="URL", help="The address of the hub.")] = "http://127.0.0.1:4319",
    hub_key: Annotated[
        str | None, typer.Option(envvar="MODELTRACE_HUB_KEY", help="The hub's key, if it has one.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3600, metavar="SECONDS", show_default="hub: 15, stack: 30", help="The longest time to wait."
        ),
    ] = None,
    jaeger: Annotated[str, _stack_url(envvar="MODELTRACE_JAEGER_URL", help="Jaeger.")] = JAEGER_URL,
    loki: Annotated[str, _stack_url(envvar="MODELTRACE_LOKI_URL", help="Loki.")] = LOKI_URL,
    prometheus: Annotated[str, _stack_url(envvar="MODELTRACE_PROMETHEUS_URL", help="Prometheus.")] = PROMETHEUS_URL,
    log_file: Annotated[
        Path | None,
        _stack_option(
            envvar="MODELTRACE_STACK_LOG_FILE",
            metavar="FILE",
            help="The file with the log records, if the stack has no Loki. ./dev stack up prints its path.",
            show_default="the file of ./dev stack up, if Loki does not answer",
        ),
    ] = None,
    grafana: Annotated[
        str | None,
        _stack_url(envvar="MODELTRACE_GRAFANA_URL", help="Grafana. Links lead there if a component has no web pages."),
    ] = None,
    ca: CaFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Send one prediction request and check that its spans, its log records and a metric exemplar arrive.

    The exit code is 0 only if everything arrives. Otherwise the last lines suggest what to check first.

    Example: modeltrace doctor http://127.0.0.1:8000 --backend stack
    """
    try:
        stack = StackAddresses(
            jaeger=normalize_url(jaeger),
            loki=normalize_url(loki),
            prometheus=normalize_url(prometheus),
            grafana=normalize_url(grafana) if grafana else None,
            log_file=log_file.absolute() if log_file else None,
        )
        hub_url = normalize_url(hub)
        verify = client_context(ca)
        opened = _open_stack(stack) if backend == "stack" else _open_hub(hub_url, hub_key, verify)
        with nullcontext() if json else SafeConsole(stderr=True).status("waiting for the telemetry of one prediction"):
            service = httpx.AsyncClient(
                base_url=normalize_url(url),
                timeout=REQUEST_TIMEOUT,
                headers=authorization_header(read_settings()),
                verify=verify,
            )
            result = asyncio.run(_run_check(service, opened, seconds=timeout or DEFAULT_TIMEOUTS[backend]))
    except ModeltraceError as error:
        if not json:
            raise
        echo(orjson.dumps({"ok": False, "error": str(error)}).decode())
        raise typer.Exit(1) from None
    if json:
        echo(orjson.dumps(_to_json(result)).decode())
    else:
        _print_result(result)
    if result.advice:
        raise typer.Exit(1)


async def _run_check(
    client: httpx.AsyncClient, opened: AbstractAsyncContextManager[Backend], *, seconds: float
) -> CheckResult:
    async with client as service, opened as backend:
        await backend.check()
        prediction = await send_prediction(service)
        items = await wait_for_telemetry(backend, prediction, seconds=seconds)
        spooled = await count_spooled_items(service)
        advice = diagnose(items, prediction, timeout=seconds, receiver=backend.receiver, spooled=spooled)
        if all(item.arrived_ms is None for item in items):
            advice += await asyncio.to_thread(_check_delivery)
        if missing := partly_missing_signals(items):
            advice += await backend.explain_missing(missing)
        links = await backend.links(prediction.trace_id)
        exemplars = await backend.unresolved_exemplars()
        health = await backend.health_findings(prediction.trace_id)
        return CheckResult(prediction, items, advice, links, exemplars, health)


def _check_delivery() -> list[str]:
    from modeltrace.doctor.delivery_check import check_otlp_delivery  # noqa: PLC0415  needed only if nothing arrives

    return check_otlp_delivery(read_settings().otel)


@asynccontextmanager
async def _open_stack(addresses: StackAddresses) -> AsyncIterator[Backend]:
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT) as client:
        yield StackBackend(client, await find_log_store(client, addresses))


@asynccontextmanager
async def _open_hub(url: str, key: str | None, verify: SSLContext) -> AsyncIterator[Backend]:
    try:
        headers = bearer_headers(key, "MODELTRACE_HUB_KEY")
    except ValueError as error:
        raise SettingsError(str(error)) from None
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT, headers=headers, verify=verify) as client:
        yield HubBackend(client)


def _print_result(result: CheckResult) -> None:
    model = result.prediction.model
    console = SafeConsole()
    console.print(f"{model.name} {model.version} · one prediction, trace {result.prediction.trace_id}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("signal")
    table.add_column("name")
    table.add_column("arrived", justify="right")
    for item in result.items:
        arrived = Text("missing", style="red") if item.arrived_ms is None else f"{item.arrived_ms:,.0f} ms"
        table.add_row(item.signal, item.name, arrived)
    console.print(table)
    for line in _link_lines(result.links):
        console.print(line, soft_wrap=True)
    if result.unresolved_exemplars and result.unresolved_exemplars.traces_checked:
        console.print(_exemplar_line(result.unresolved_exemplars), soft_wrap=True)
    for finding in result.health:
        console.print(f"telemetry health: {finding}", soft_wrap=True)
    problems = SafeConsole(stderr=True)
    for advice in result.advice:
        problems.print(f"- {advice}", soft_wrap=True)


def _link_lines(links: list[Link]) -> list[Text]:
    width = max(len(link.name) for link in links)
    lines = []
    for link in links:
        lines.append(Text(f"{link.name:<{width}}  ").append(link.url, style=f"link {link.url}"))
        if link.query:
            lines.append(Text(f"{'':<{width}}  {link.query}", style="dim"))
    return lines


def _exemplar_line(exemplars: UnresolvedExemplars) -> str:
    if not exemplars.traces_missing:
        return f"the traces of the latest {exemplars.traces_checked} exemplars exist"
    return (
        f"of the traces of the latest {exemplars.traces_checked} exemplars, {exemplars.traces_missing} do not exist: "
        "they were not sampled, or lost"
    )


def _to_json(result: CheckResult) -> dict[str, object]:
    model = result.prediction.model
    return {
        "ok": not result.advice,
        "trace_id": result.prediction.trace_id,
        "model": {"name": model.name, "version": model.version},
        "items": [asdict(item) for item in result.items],
        "advice": result.advice,
        "link": result.links[0].url,
        "links": [asdict(link) for link in result.links],
        "exemplars": asdict(result.unresolved_exemplars) if result.unresolved_exemplars else None,
        "health": result.health,
    }
