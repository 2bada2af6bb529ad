"""`modeltrace up`."""

import asyncio
import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import httpx
import platformdirs
import typer

from modeltrace.bundles.registry.search_paths import example_folder
from modeltrace.cli.options import CaFile, local_bundle
from modeltrace.cli.times import parse_seconds
from modeltrace.cli.up_screen import open_screen
from modeltrace.client.service import UnreachableError, normalize_url
from modeltrace.doctor.backends.jaeger import Jaeger
from modeltrace.doctor.backends.stack import JAEGER_URL
from modeltrace.keys import check_exposure
from modeltrace.local.bundles import build_example, example_is_current
from modeltrace.local.plan import HUB_KEY, StackTarget, UpConfig, collector_endpoint, describe_external_telemetry
from modeltrace.local.supervisor import Supervisor
from modeltrace.local.tls import read_tls
from modeltrace.otel_settings import OtelSettings
from modeltrace.settings import data_dir, read_settings
from modeltrace.terminal import SafeConsole
from modeltrace.traffic.fault_injection import parse_shift
from modeltrace_http.tls_options import TlsKey

# Seconds.
JAEGER_TIMEOUT = 2.0

_port_option = partial(typer.Option, min=1, max=65535)
_stack_option = partial(typer.Option, rich_help_panel="A stack instead of the hub")


def up(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default="MODELTRACE_BUNDLE, or an example",
            help="The bundle to serve, as for `modeltrace serve`.",
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="Generated requests per second.")] = 20.0,
    traffic: Annotated[
        bool | None,
        typer.Option(
            "--traffic/--no-traffic",
            show_default="on for the example, off for other bundles",
            help="Send generated requests. For bundles other than the example they are marked as synthetic.",
        ),
    ] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHIFT",
            help="Shift a feature in the traffic, as for `modeltrace traffic`: mean_radius+=1sd. Repeatable.",
        ),
    ] = None,
    shift_after: Annotated[
        float | None,
        typer.Option(
            parser=parse_seconds,
            metavar="DURATION",
            show_default="at once",
            help="Start shifting after this time: 30s, 5m, 1h.",
        ),
    ] = None,
    port: Annotated[int | None, _port_option(help="Port of the service.", show_default="8000")] = None,
    hub_port: Annotated[int, _port_option(help="Port of the hub's pages.", envvar="MODELTRACE_HUB_PORT")] = 4319,
    grpc_port: Annotated[
        int, _port_option(help="Port of the hub for OTLP over gRPC.", envvar="MODELTRACE_HUB_GRPC_PORT")
    ] = 4317,
    http_port: Annotated[
        int, _port_option(help="Port of the hub for OTLP over HTTP.", envvar="MODELTRACE_HUB_HTTP_PORT")
    ] = 4318,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use TLS for the service, with this certificate in PEM format.")
    ] = None,
    tls_key: TlsKey = None,
    ca: CaFile = None,
    alerts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="MODELTRACE_HUB_ALERTS",
            exists=True,
            help="Let the hub send messages about alerts to the receivers in this file (TOML).",
        ),
    ] = None,
    stack: Annotated[bool, _stack_option("--stack", help="Send telemetry to the running stack.")] = False,  # noqa: FBT002  a flag
    jaeger: Annotated[
        str, _stack_option(envvar="MODELTRACE_JAEGER_URL", metavar="URL", help="Jaeger, for links.")
    ] = JAEGER_URL,
    grafana: Annotated[
        str | None, _stack_option(envvar="MODELTRACE_GRAFANA_URL", metavar="URL", help="Grafana, for a link.")
    ] = None,
) -> None:
    """Start service, hub and traffic on this machine, and stop them together.

    Without SOURCE, an example is served, and requests with new rows are sent to it. They have no drift unless --shift
    is given.

    With --stack, telemetry is sent to the stack that ./dev stack up or docker compose up started. If
    OTEL_EXPORTER_OTLP_ENDPOINT is set, telemetry is sent there. In both cases, no hub is started.

    With --tls-certificate, the service uses TLS, and traffic verifies its certificate with --ca, or trusts this
    certificate. MODELTRACE_HUB_TLS_CERTIFICATE does the same for the hub.

    Examples: modeltrace up my-bundle
              modeltrace up --shift mean_radius+=1sd --shift-after 5m
    """
    os.umask(0o077)  # the log files of the children may contain inputs of predictions
    settings = read_settings(bundle=bundle, port=port, tls_certificate=tls_certificate, tls_key=tls_key)
    check_exposure(settings)
    tls = read_tls(settings, ca)
    sends_traffic = traffic if traffic is not None else settings.bundle is None
    if shift and not sends_traffic:
        raise typer.BadParameter(
            "it shifts the rows of traffic, and there is none: add --traffic", param_hint="--shift"
        )
    for text in shift or ():
        parse_shift(text)
    with open_screen(SafeConsole()) as screen:
        example = example_folder(data_dir())
        if settings.bundle is None and not example_is_current(example):
            screen.show_waiting("the model of the example to be trained")
            build_example(example)
        stack_target = None
        if stack and not settings.otel.sdk_disabled:
            grafana_url = normalize_url(grafana) if grafana else None
            stack_target = asyncio.run(_resolve_stack(settings.otel, normalize_url(jaeger), grafana_url))
        source = str(example) if settings.bundle is None else settings.bundle
        config = UpConfig(
            source=source,
            bundle=local_bundle(source, lambda: screen.show_waiting(f"the bundle {source}")),
            host=settings.host,
            port=settings.port,
            hub_port=hub_port,
            grpc_port=grpc_port,
            http_port=http_port,
            rate=rate if sends_traffic else None,
            external_telemetry=None if stack_target else describe_external_telemetry(settings.otel),
            hub_has_key=bool(os.environ.get(HUB_KEY)),
            log_dir=platformdirs.user_log_path("modeltrace"),
            stack=stack_target,
            is_example=settings.bundle is None,
            shifts=tuple(shift or ()),
            shift_after=shift_after or 0.0,
            tls=tls,
            alerts=alerts,
        )
        asyncio.run(Supervisor(config, settings, os.environ, screen).run())


async def _resolve_stack(otel: OtelSettings, jaeger_url: str, grafana_url: str | None) -> StackTarget:
    """Return the stack's endpoint and pages. If Jaeger was built without web pages, it has only JSON."""
    async with httpx.AsyncClient(timeout=JAEGER_TIMEOUT) as client:
        jaeger = Jaeger(jaeger_url, client)
        page, trace_url_prefix, note = jaeger_url, jaeger.trace_page_url(), ""
        try:
            if not await jaeger.has_web_ui():
                # Imported here: importing the SDK takes time.
                from modeltrace.telemetry.resource import build_resource  # noqa: PLC0415  see above

                resource = build_resource(otel.service_name, version("modeltrace"), workers=1)
                page = jaeger.latest_traces_json_url(str(resource.attributes["service.name"]))
                trace_url_prefix, note = jaeger.trace_json_url(), "this Jaeger has no pages, only JSON"
        except UnreachableError:
            note = "Jaeger does not answer yet"
    return StackTarget(
        collector_endpoint(otel), (grafana_url, page) if grafana_url else (page,), trace_url_prefix, note
    )
