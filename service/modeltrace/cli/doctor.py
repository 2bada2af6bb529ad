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
from modeltrace.client.service import normalize_url
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
    diagnose,
    partly_missing_signals,
    send_prediction,
    wait_for_telemetry,
)
from modeltrace.errors import ModeltraceError
from modeltrace.keys import authorization_header
from modeltrace.settings import read_settings

# Seconds that one question to the service or the backend may take.
REQUEST_TIMEOUT = 10.0
# Seconds to wait for everything: where traces are sampled in the Collector, it decides about 15 s after the first span.
DEFAULT_TIMEOUTS = {"hub": 15.0, "stack": 30.0}

_STACK_PANEL = "With --against stack"


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Which backend is asked, and where it is."""

    kind: Literal["hub", "stack"]
    hub_url: str
    hub_key: str | None
    stack: StackAddresses


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check-up found; `advice` is empty when everything arrived."""

    prediction: SentPrediction
    items: list[ExpectedItem]
    advice: list[str]
    links: list[Link]
    unresolved_exemplars: UnresolvedExemplars | None


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
        str, typer.Option(envvar="MODELTRACE_JAEGER_URL", help="Jaeger.", rich_help_panel=_STACK_PANEL)
    ] = JAEGER_URL,
    loki: Annotated[
        str, typer.Option(envvar="MODELTRACE_LOKI_URL", help="Loki.", rich_help_panel=_STACK_PANEL)
    ] = LOKI_URL,
    prometheus: Annotated[
        str, typer.Option(envvar="MODELTRACE_PROMETHEUS_URL", help="Prometheus.", rich_help_panel=_STACK_PANEL)
    ] = PROMETHEUS_URL,
    log_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MODELTRACE_STACK_LOG_FILE",
            metavar="FILE",
            help="The file with log records of a stack without Loki, as ./dev stack up prints it.",
            show_default="that of ./dev stack up, if no Loki answers",
            rich_help_panel=_STACK_PANEL,
        ),
    ] = None,
    grafana: Annotated[
        str | None,
        typer.Option(
            envvar="MODELTRACE_GRAFANA_URL",
            help="Grafana, for links to what has no page.",
            rich_help_panel=_STACK_PANEL,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Send one prediction and see whether all of its telemetry arrives: spans, log records, a metric exemplar.

    Exit code 0 only if all of it did; otherwise the last lines say what to look at first.

    Example: modeltrace doctor http://127.0.0.1:8000 --against stack
    """
    try:
        stack = StackAddresses(
            jaeger=normalize_url(jaeger),
            loki=normalize_url(loki),
            prometheus=normalize_url(prometheus),
            grafana=normalize_url(grafana) if grafana else None,
            log_file=log_file.absolute() if log_file else None,
        )
        where = BackendConfig(against, normalize_url(hub), key, stack)
        with nullcontext() if json else SafeConsole(stderr=True).status("looking for all that one prediction leaves"):
            headers = authorization_header(read_settings())
            finding = asyncio.run(
                _run_check(normalize_url(url), headers, where, timeout=timeout or DEFAULT_TIMEOUTS[against])
            )
    except ModeltraceError as error:
        if not json:
            raise
        echo(orjson.dumps({"ok": False, "error": str(error)}).decode())
        raise typer.Exit(1) from None
    if json:
        echo(orjson.dumps(_to_json(finding)).decode())
    else:
        _print_result(finding)
    if finding.advice:
        raise typer.Exit(1)


async def _run_check(url: str, headers: Mapping[str, str], where: BackendConfig, *, timeout: float) -> CheckResult:  # noqa: ASYNC109  a budget, not one call's limit
    async with (
        httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT, headers=headers) as service,
        _open_backend(where) as backend,
    ):
        await backend.check()
        asked = await send_prediction(service)
        items = await wait_for_telemetry(backend, asked, seconds=timeout)
        advice = diagnose(items, asked, timeout=timeout, receiver=backend.receiver)
        if all(item.arrived_ms is None for item in items):
            advice += await asyncio.to_thread(_check_delivery)
        if missing := partly_missing_signals(items):
            advice += await backend.explain_missing(missing)
        return CheckResult(
            asked, items, advice, await backend.links(asked.trace_id), await backend.unresolved_exemplars()
        )


def _check_delivery() -> list[str]:
    from modeltrace.doctor.delivery_check import check_otlp_delivery  # noqa: PLC0415  only where nothing arrives

    return check_otlp_delivery(read_settings().otel)


@asynccontextmanager
async def _open_backend(where: BackendConfig) -> AsyncIterator[Backend]:
    if where.kind == "stack":
        async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT) as client:
            yield StackBackend(client, await find_log_store(client, where.stack))
        return
    headers = {"authorization": f"Bearer {where.hub_key}"} if where.hub_key else {}
    async with httpx.AsyncClient(base_url=where.hub_url, timeout=REQUEST_TIMEOUT, headers=headers) as page:
        yield HubBackend(page)


def _print_result(finding: CheckResult) -> None:
    model = finding.prediction.model
    console = SafeConsole()
    console.print(f"{model.name} {model.version} · one prediction, trace {finding.prediction.trace_id}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("signal")
    table.add_column("what")
    table.add_column("arrived", justify="right")
    for item in finding.items:
        arrived = Text("missing", style="red") if item.arrived_ms is None else f"{item.arrived_ms:,.0f} ms"
        table.add_row(item.signal, item.name, arrived)
    console.print(table)
    for line in _link_lines(finding.links):
        console.print(line, soft_wrap=True)
    if finding.unresolved_exemplars and finding.unresolved_exemplars.traces_checked:
        console.print(_exemplar_line(finding.unresolved_exemplars), soft_wrap=True)
    problems = SafeConsole(stderr=True)
    for advice in finding.advice:
        problems.print(f"- {advice}", soft_wrap=True)


def _link_lines(links: list[Link]) -> list[Text]:
    width = max(len(link.name) for link in links)
    lines = []
    for link in links:
        lines.append(Text(f"{link.name:<{width}}  ").append(link.url, style=f"link {link.url}"))
        if link.query:
            lines.append(Text(f"{'':<{width}}  {link.query}", style="dim"))
    return lines


def _exemplar_line(dangling: UnresolvedExemplars) -> str:
    if not dangling.traces_missing:
        return f"of the latest exemplars {dangling.traces_checked} looked at, each leads to its trace"
    return (
        f"of the latest exemplars {dangling.traces_checked} looked at, {dangling.traces_missing} lead to traces that "
        "were sampled away or lost"
    )


def _to_json(finding: CheckResult) -> dict[str, object]:
    return {
        "ok": not finding.advice,
        "trace_id": finding.prediction.trace_id,
        "model": {"name": finding.prediction.model.name, "version": finding.prediction.model.version},
        "items": [asdict(item) for item in finding.items],
        "advice": finding.advice,
        "link": finding.links[0].url,
        "links": [asdict(link) for link in finding.links],
        "exemplars": asdict(finding.unresolved_exemplars) if finding.unresolved_exemplars else None,
    }
