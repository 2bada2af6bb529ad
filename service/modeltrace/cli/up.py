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
from modeltrace.cli.durations import parse_seconds
from modeltrace.cli.terminal import SafeConsole
from modeltrace.client.service import ServedModel, UnreachableError, normalize_url
from modeltrace.doctor.backends.jaeger import Jaeger
from modeltrace.doctor.backends.stack import JAEGER_URL
from modeltrace.keys import check_exposure
from modeltrace.local.bundles import build_example, example_is_current
from modeltrace.local.plan import HUB_KEY, StackTarget, UpConfig, collector_endpoint, describe_external_telemetry
from modeltrace.local.supervisor import Supervisor
from modeltrace.settings import OtelSettings, data_dir, read_settings
from modeltrace.traffic.fault_injection import parse_shift
from modeltrace.traffic.progress import Snapshot

# Seconds between two lines where there is no terminal.
PLAIN_INTERVAL = 10.0
# Seconds that Jaeger may take to say whether it has pages.
JAEGER_TIMEOUT = 2.0

_STACK_PANEL = "The real stack instead of the hub"

HINT_LINE = "Ctrl-C stops all of it. Your own model: modeltrace pack --help"


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
        typer.Option(
            parser=parse_seconds, metavar="TIME", show_default="at once", help="Shift from then on: 30s, 5m, 1h."
        ),
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
    stack: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--stack", help="Send to the running stack.", rich_help_panel=_STACK_PANEL)
    ] = False,
    jaeger: Annotated[
        str, typer.Option(envvar="MODELTRACE_JAEGER_URL", help="Where to look.", rich_help_panel=_STACK_PANEL)
    ] = JAEGER_URL,
    grafana: Annotated[
        str | None,
        typer.Option(envvar="MODELTRACE_GRAFANA_URL", help="Where to look, too.", rich_help_panel=_STACK_PANEL),
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
    with _make_screen(SafeConsole()) as screen:
        example = example_folder(data_dir())
        if settings.bundle is None and not example_is_current(example):
            screen.show_waiting("the example's model to be trained")
            build_example(example)
        real = None
        if stack and not settings.otel.sdk_disabled:
            there = (normalize_url(jaeger), normalize_url(grafana) if grafana else None)
            real = asyncio.run(_resolve_stack(settings.otel, *there))
        source = str(example) if settings.bundle is None else settings.bundle
        local = UpConfig(
            source=source,
            bundle=_resolve_bundle(source, screen),
            host=settings.host,
            port=settings.port,
            hub_port=hub_port,
            grpc_port=grpc_port,
            http_port=http_port,
            rate=rate if sending else None,
            external_telemetry=None if real else describe_external_telemetry(settings.otel),
            hub_has_key=bool(os.environ.get(HUB_KEY)),
            log_dir=platformdirs.user_log_path("modeltrace"),
            stack=real,
            is_example=settings.bundle is None,
            shifts=tuple(shift or ()),
            shift_after=shift_after or 0.0,
        )
        asyncio.run(Supervisor(local, settings, os.environ, screen).run())


def _resolve_bundle(source: str, screen: "TerminalScreen | PlainScreen") -> Path:
    """The bundle that a source means now: traffic takes its rows from there. Whether it can be served is not asked."""
    if (Path(source) / "model.json").exists():
        return Path(source)
    screen.show_waiting(f"the bundle that {source} means")
    # Imported when it is needed: scikit-learn takes seconds.
    from modeltrace.bundles.registry.catalog import Catalog  # noqa: PLC0415  see above

    with Catalog(lambda _: None) as catalog:  # the service tells of what is broken
        return catalog.resolve(source).path


async def _resolve_stack(otel: OtelSettings, url: str, grafana: str | None) -> StackTarget:
    """The stack as it is found: a Jaeger built from its sources alone has no pages, only JSON."""
    async with httpx.AsyncClient(timeout=JAEGER_TIMEOUT) as client:
        jaeger = Jaeger(url, client)
        look, trace, note = url, jaeger.trace_page_url(), ""
        try:
            if not await jaeger.has_web_ui():
                # Imported when it is needed: the SDK takes a while.
                from modeltrace.telemetry.resource import build_resource  # noqa: PLC0415  see above

                resource = build_resource(otel.service_name, version("modeltrace"), workers=1)
                look, trace, note = (
                    jaeger.latest_traces_json_url(str(resource.attributes["service.name"])),
                    jaeger.trace_json_url(),
                    "this Jaeger has no pages, only JSON",
                )
        except UnreachableError:
            note = "no Jaeger answers there yet"
    return StackTarget(collector_endpoint(otel), (grafana, look) if grafana else (look,), trace, note)


def _make_screen(console: Console) -> "TerminalScreen | PlainScreen":
    return TerminalScreen(console) if console.is_terminal else PlainScreen(console)


def header_lines(config: UpConfig, model: ServedModel) -> list[Text]:
    """The lines that stay: what is served, where to predict, where to look."""
    if config.stack is not None:
        look = Text("  ").join(_link(page) for page in config.stack.page_urls)
        look = look + Text(f"  ({config.stack.note})") if config.stack.note else look
    else:
        look = Text(config.external_telemetry) if config.external_telemetry else _link(config.hub_url)
    if config.hub_has_key and config.starts_hub:
        look = look + Text(f"  (the first time with ?key= and the value of {HUB_KEY})")
    docs = f"{config.service_url}/docs"
    return [
        Text(f"Modeltrace · {model.name} {model.version} · {len(model.features)} features", style="bold"),
        Text("  predict   ").append(_link(docs)),
        Text("  look      ").append(look),
    ]


def _link(url: str) -> Text:
    return Text(url, style=f"link {url}")


def traffic_line(snapshot: Snapshot | None, config: UpConfig, *, full_trace_id: bool) -> Text:
    """The line about traffic, before its first figures and without any, too."""
    if config.rate is None:
        return Text("  traffic   none; start some: modeltrace traffic ").append(config.service_url)
    if snapshot is None:
        return Text("  traffic   starting")
    if config.stack is not None:
        line = Text("  traffic   ").append(replace(snapshot, last_trace_id=None).to_text(latency=False))
        return (
            line.append(_last_trace_link(snapshot.last_trace_id, config.stack, whole_id=full_trace_id))
            if snapshot.last_trace_id
            else line
        )
    page = config.hub_url if config.starts_hub else None
    return Text("  traffic   ").append(snapshot.to_text(latency=False, full_trace_id=full_trace_id, hub_url=page))


def _last_trace_link(trace_id: str, stack: StackTarget, *, whole_id: bool) -> Text:
    shown = trace_id if whole_id else f"{trace_id[:8]}…"
    return Text(" · last trace ").append(shown, style=f"link {stack.trace_url_prefix}{trace_id}")


class TerminalScreen:
    """The lines stand still and the one about traffic is rewritten in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._config: UpConfig | None = None
        self._status = console.status("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._status.stop()
        self._live.stop()

    def show_waiting(self, what: str) -> None:
        """Show a spinner."""
        self._live.stop()
        self._status.update(Text(f"waiting for {what}"))
        self._status.start()

    def show_started(self, local: UpConfig, model: ServedModel) -> None:
        """Print the lines."""
        self._status.stop()
        self._config = local
        for line in header_lines(local, model):
            self._console.print(line, soft_wrap=True)
        self._live.start()
        self._rewrite(None)

    def show_traffic(self, now: Snapshot) -> None:
        """Rewrite the line about traffic."""
        self._rewrite(now)

    def _rewrite(self, now: Snapshot | None) -> None:
        if self._config is not None:
            line = traffic_line(now, self._config, full_trace_id=False)
            self._live.update(Group(line, Text(HINT_LINE, style="dim")), refresh=True)


class PlainScreen:
    """The same lines, and one about traffic now and then: for a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._config: UpConfig | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show_waiting(self, what: str) -> None:
        """Print a line."""
        self._print(Text(f"waiting for {what}"))

    def show_started(self, local: UpConfig, model: ServedModel) -> None:
        """Print the lines."""
        self._config = local
        for line in header_lines(local, model):
            self._print(line)
        if local.rate is None:
            self._print(traffic_line(None, local, full_trace_id=True))
        self._print(Text(HINT_LINE))

    def show_traffic(self, now: Snapshot) -> None:
        """Print the line about traffic when it is time again."""
        if self._config is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL
            self._print(traffic_line(now, self._config, full_trace_id=True))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
