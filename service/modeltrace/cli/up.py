"""`modeltrace up`."""

import asyncio
import os
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import httpx
import platformdirs
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from modeltrace.bundles.registry.search_paths import example_folder
from modeltrace.cli.durations import seconds
from modeltrace.cli.terminal import SafeConsole
from modeltrace.client.service import ServedModel, UnreachableError, base_url
from modeltrace.doctor.backends.jaeger import Jaeger
from modeltrace.doctor.backends.stack import JAEGER
from modeltrace.keys import check_exposure
from modeltrace.local.bundles import build_example, is_current
from modeltrace.local.plan import HUB_KEY, Local, Stack, collector_endpoint, telemetry_elsewhere
from modeltrace.local.supervisor import Laptop
from modeltrace.settings import OtelSettings, data_dir, read_settings
from modeltrace.traffic.fault_injection import parse_shift
from modeltrace.traffic.progress import Snapshot

# Seconds between two lines where there is no terminal.
PLAIN_INTERVAL = 10.0
# Seconds that Jaeger may take to say whether it has pages.
QUESTION_TIMEOUT = 2.0

_STACK = "The real stack instead of the hub"

LAST_LINE = "Ctrl-C stops all of it. Your own model: modeltrace pack --help"


def up(
    bundle: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", show_default="an example", help="The bundle to serve, as for serve."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="Requests a second.")] = 20.0,
    traffic: Annotated[
        bool | None,
        typer.Option(
            "--traffic/--no-traffic",
            show_default="on for the example, off for a bundle of yours",
            help="Send requests; to a bundle of yours they are marked as synthetic, and in no figure.",
        ),
    ] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(metavar="SHIFT", help="Move a feature, as for traffic: mean_radius+=1sd. Repeatable."),
    ] = None,
    shift_after: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", show_default="at once", help="Shift from then on: 30s, 5m, 1h."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="8000", help="The service's port.")] = None,
    hub_port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="MODELTRACE_HUB_PORT", help="The hub's page.")
    ] = 4319,
    grpc_port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="MODELTRACE_HUB_GRPC_PORT", help="The hub's OTLP over gRPC.")
    ] = 4317,
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="MODELTRACE_HUB_HTTP_PORT", help="The hub's OTLP over HTTP.")
    ] = 4318,
    stack: Annotated[bool, typer.Option("--stack", help="Send to the running stack.", rich_help_panel=_STACK)] = False,  # noqa: FBT002  a flag
    jaeger: Annotated[
        str, typer.Option(envvar="MODELTRACE_JAEGER_URL", help="Where to look.", rich_help_panel=_STACK)
    ] = JAEGER,
    grafana: Annotated[
        str | None,
        typer.Option(envvar="MODELTRACE_GRAFANA_URL", help="Where to look, too.", rich_help_panel=_STACK),
    ] = None,
) -> None:
    """Start service, hub and traffic on this machine, and stop them together.

    With --stack there is no hub: telemetry goes to the stack that ./dev stack up or docker compose up has started.
    With OTEL_EXPORTER_OTLP_ENDPOINT set, it goes there.

    Without a SOURCE an example is served, and gets traffic: fresh independent rows, without drift until --shift.

    Examples: modeltrace up my-bundle
              modeltrace up --shift mean_radius+=1sd --shift-after 5m
    """
    os.umask(0o077)  # what children say may be about inputs of predictions
    settings = read_settings(bundle=bundle, port=port)
    check_exposure(settings)
    sending = traffic if traffic is not None else settings.bundle is None
    if shift and not sending:
        raise typer.BadParameter("it moves the rows of traffic, and there is none: add --traffic", param_hint="--shift")
    for text in shift or ():
        parse_shift(text)
    with _screen(SafeConsole()) as screen:
        example = example_folder(data_dir())
        if settings.bundle is None and not is_current(example):
            screen.waiting("the example's model to be trained")
            build_example(example)
        real = None
        if stack and not settings.otel.sdk_disabled:
            there = (base_url(jaeger), base_url(grafana) if grafana else None)
            real = asyncio.run(_stack(settings.otel, *there))
        source = str(example) if settings.bundle is None else settings.bundle
        local = Local(
            source=source,
            bundle=_bundle(source, screen),
            host=settings.host,
            port=settings.port,
            hub_port=hub_port,
            grpc_port=grpc_port,
            http_port=http_port,
            rate=rate if sending else None,
            elsewhere=None if real else telemetry_elsewhere(settings.otel),
            keyed=bool(os.environ.get(HUB_KEY)),
            logs=platformdirs.user_log_path("modeltrace"),
            stack=real,
            example=settings.bundle is None,
            shifts=tuple(shift or ()),
            shift_after=shift_after or 0.0,
        )
        asyncio.run(Laptop(local, settings, os.environ, screen).run())


def _bundle(source: str, screen: "TerminalScreen | PlainScreen") -> Path:
    """The bundle that a source means now: traffic takes its rows from there. Whether it can be served is not asked."""
    if (Path(source) / "model.json").exists():
        return Path(source)
    screen.waiting(f"the bundle that {source} means")
    # Imported when it is needed: scikit-learn takes seconds.
    from modeltrace.bundles.registry.catalog import Catalog  # noqa: PLC0415  see above

    with Catalog(lambda _: None) as catalog:  # the service tells of what is broken
        return catalog.locate(source).path


async def _stack(otel: OtelSettings, url: str, grafana: str | None) -> Stack:
    """The stack as it is found: a Jaeger built from its sources alone has no pages, only JSON."""
    async with httpx.AsyncClient(timeout=QUESTION_TIMEOUT) as client:
        jaeger = Jaeger(url, client)
        look, trace, note = url, jaeger.page(), ""
        try:
            if not await jaeger.has_pages():
                # Imported when it is needed: the SDK takes a while.
                from modeltrace.telemetry.resource import build_resource  # noqa: PLC0415  see above

                resource = build_resource(otel.service_name, version("modeltrace"), workers=1)
                look, trace, note = (
                    jaeger.latest(str(resource.attributes["service.name"])),
                    jaeger.answer(),
                    "this Jaeger has no pages, only JSON",
                )
        except UnreachableError:
            note = "no Jaeger answers there yet"
    return Stack(collector_endpoint(otel), (grafana, look) if grafana else (look,), trace, note)


def _screen(console: Console) -> "TerminalScreen | PlainScreen":
    return TerminalScreen(console) if console.is_terminal else PlainScreen(console)


def header(local: Local, model: ServedModel) -> list[Text]:
    """The lines that stay: what is served, where to predict, where to look."""
    if local.stack is not None:
        look = Text("  ").join(_link(page) for page in local.stack.look)
        look = look + Text(f"  ({local.stack.note})") if local.stack.note else look
    else:
        look = Text(local.elsewhere) if local.elsewhere else _link(local.hub_url)
    if local.keyed and local.with_hub:
        look = look + Text(f"  (the first time with ?key= and the value of {HUB_KEY})")
    docs = f"{local.service_url}/docs"
    return [
        Text(f"Modeltrace · {model.name} {model.version} · {len(model.features)} features", style="bold"),
        Text("  predict   ").append(_link(docs)),
        Text("  look      ").append(look),
    ]


def _link(url: str) -> Text:
    return Text(url, style=f"link {url}")


def traffic_line(now: Snapshot | None, local: Local, *, whole_id: bool) -> Text:
    """The line about traffic, before its first figures and without any, too."""
    if local.rate is None:
        return Text("  traffic   none; start some: modeltrace traffic ").append(local.service_url)
    if now is None:
        return Text("  traffic   starting")
    if local.stack is not None:
        line = Text("  traffic   ").append(replace(now, last_trace=None).line(latency=False))
        return line.append(_last_trace(now.last_trace, local.stack, whole_id=whole_id)) if now.last_trace else line
    page = local.hub_url if local.with_hub else None
    return Text("  traffic   ").append(now.line(latency=False, whole_id=whole_id, page=page))


def _last_trace(trace_id: str, stack: Stack, *, whole_id: bool) -> Text:
    shown = trace_id if whole_id else f"{trace_id[:8]}…"
    return Text(" · last trace ").append(shown, style=f"link {stack.trace}{trace_id}")


class TerminalScreen:
    """The lines stand still and the one about traffic is rewritten in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._local: Local | None = None
        self._status = console.status("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._status.stop()
        self._live.stop()

    def waiting(self, what: str) -> None:
        """Show a spinner."""
        self._live.stop()
        self._status.update(Text(f"waiting for {what}"))
        self._status.start()

    def started(self, local: Local, model: ServedModel) -> None:
        """Print the lines."""
        self._status.stop()
        self._local = local
        for line in header(local, model):
            self._console.print(line, soft_wrap=True)
        self._live.start()
        self._rewrite(None)

    def traffic(self, now: Snapshot) -> None:
        """Rewrite the line about traffic."""
        self._rewrite(now)

    def _rewrite(self, now: Snapshot | None) -> None:
        if self._local is not None:
            line = traffic_line(now, self._local, whole_id=False)
            self._live.update(Group(line, Text(LAST_LINE, style="dim")), refresh=True)


class PlainScreen:
    """The same lines, and one about traffic now and then: for a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._local: Local | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def waiting(self, what: str) -> None:
        """Print a line."""
        self._print(Text(f"waiting for {what}"))

    def started(self, local: Local, model: ServedModel) -> None:
        """Print the lines."""
        self._local = local
        for line in header(local, model):
            self._print(line)
        if local.rate is None:
            self._print(traffic_line(None, local, whole_id=True))
        self._print(Text(LAST_LINE))

    def traffic(self, now: Snapshot) -> None:
        """Print the line about traffic when it is time again."""
        if self._local is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL
            self._print(traffic_line(now, self._local, whole_id=True))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
