"""The hub's command line: the only code here that reads argv or exits."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from modeltrace_hub.errors import HubError
from modeltrace_hub.settings import HubSettings, read_settings
from modeltrace_hub.store import FILE_NAME

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def hub(
    data: Annotated[
        Path | None, typer.Option(show_default="`hub` in the user's data folder", help="Folder of the database.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep everything in memory only.")] = False,  # noqa: FBT002  typer's way
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but loopback needs MODELTRACE_HUB_KEY. [127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the pages and their API. [4319]")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for OTLP over gRPC. [4317]")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port for OTLP over HTTP. [4318]")] = None,
) -> None:
    """Receive traces, metrics and logs over OTLP, keep them, and show them on a page.

    Any OpenTelemetry SDK or Collector can send here: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 with
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or port 4317 for grpc. What is acknowledged is on disk. The oldest data
    goes when it is over seven days old or there is more than 2 GiB (MODELTRACE_HUB_MAX_AGE, MODELTRACE_HUB_MAX_SIZE).
    """
    settings = read_settings(
        data=data, memory=memory or None, host=host, port=port, grpc_port=grpc_port, http_port=http_port
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("modeltrace_hub").setLevel(logging.INFO)
    asyncio.run(_until_signal(settings))


async def _until_signal(settings: HubSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    from modeltrace_hub.app import run_hub  # noqa: PLC0415  once `main` has cleared the environment

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_hub(settings, stop=stop, ready=lambda _store, _writer: typer.echo(_banner(settings)))


def _banner(settings: HubSettings) -> str:
    """What a person needs to know, once."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = (
        ("look", f"http://{host}:{settings.port}"),
        ("OTLP/HTTP", f"http://{host}:{settings.http_port}"),
        ("OTLP/gRPC", f"http://{host}:{settings.grpc_port}"),
        ("data", "in memory, gone when the hub stops" if settings.memory else str(settings.data / FILE_NAME)),
    )
    return "\n".join(f"  {label:<10}{value}" for label, value in lines)


def main() -> None:
    """Run the hub. What it raises on purpose becomes one line on stderr and exit code 1.

    The hub sends no telemetry, so OpenTelemetry's variables are for others. FastAPI imports OpenTelemetry's packages,
    which fail on values that they do not know (`OTEL_PROPAGATORS=b3`), so the hub takes the variables out first.
    """
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    # Inputs of predictions are in every file that DuckDB makes, now and at each merge of its log.
    os.umask(0o077)
    try:
        cli()
    except HubError as error:
        typer.echo(f"hub: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
