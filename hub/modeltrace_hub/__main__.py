"""The command line of the hub."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modeltrace_http.tls_options import TlsCertificate, TlsClientCa, TlsKey
from modeltrace_hub.cli.commands import COMMANDS
from modeltrace_hub.cli.hub_process import open_file, record
from modeltrace_hub.errors import ArgumentError, HubError
from modeltrace_hub.settings import HubSettings, read_settings
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.callback(invoke_without_command=True)
def hub(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(show_default="`hub` in the user's data folder", help="Folder of the database.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Store telemetry in memory only.")] = False,  # noqa: FBT002  how typer declares a flag
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. All but loopback require MODELTRACE_HUB_KEY. [127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the pages and the API. [4319]")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of OTLP over gRPC. [4317]")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port of OTLP over HTTP. [4318]")] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send messages about alerts to the receivers in this file (TOML)."),
    ] = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
) -> None:
    """Receive traces, metrics and logs over OTLP, store them, and show them on web pages.

    Any OpenTelemetry SDK or Collector can send to the hub. For OTLP over HTTP, set
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 and OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf; for gRPC, port 4317
    and grpc. The hub acknowledges data only after it is on disk. It deletes data that is older than seven days, and the
    oldest data above 2 GiB (MODELTRACE_HUB_MAX_AGE, MODELTRACE_HUB_MAX_SIZE).

    The commands below read what a running hub, or a file, has stored.
    """
    if context.invoked_subcommand is not None:
        _reject_options(context)
        return
    settings = read_settings(
        data=data,
        memory=memory or None,
        host=host,
        port=port,
        grpc_port=grpc_port,
        http_port=http_port,
        alerts=alerts,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("modeltrace_hub").setLevel(logging.INFO)
    asyncio.run(_run_until_signal(settings, context.obj))


for _command in (*COMMANDS, record):
    cli.command()(_command)
cli.command("open")(open_file)


def _reject_options(context: typer.Context) -> None:
    """Reject options of the hub in front of a command, which would have no effect.

    Raises:
        ArgumentError: there is one.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise ArgumentError(
                f"{parameter.opts[0]} is an option of the hub. Write options of {context.invoked_subcommand} after "
                "its name."
            )


async def _run_until_signal(settings: HubSettings, environ: Mapping[str, str] | None) -> None:
    """Run until SIGTERM or SIGINT."""
    from modeltrace_hub.app import run_hub  # noqa: PLC0415  after `main` has cleared the environment

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def on_ready(_store: Store, _writer: Writer) -> None:
        # Exclude the objects that exist now from garbage collection, because they live until the process ends.
        gc.collect()
        gc.freeze()
        typer.echo(_banner(settings))

    await run_hub(settings, stop=stop, on_ready=on_ready, environ=environ)
    gc.unfreeze()  # the interpreter never frees frozen objects, and DuckDB's binding then reports leaks


def _banner(settings: HubSettings) -> str:
    """Return the addresses and the data file, as printed at start."""
    base = settings.page_url.rpartition(":")[0]
    lines = (
        ("pages", settings.page_url),
        ("OTLP/HTTP", f"{base}:{settings.http_port}"),
        ("OTLP/gRPC", f"{base}:{settings.grpc_port}"),
        ("data", "in memory, lost when the hub stops" if settings.memory else str(settings.data / FILE_NAME)),
    )
    return "\n".join(f"  {label:<10}{value}" for label, value in lines)


def main() -> None:
    """Run the hub. A `HubError` is printed as one line on stderr, with exit code 1, or 2 if an argument is wrong.

    FastAPI imports OpenTelemetry packages, which fail on unknown values of OpenTelemetry's variables
    (`OTEL_PROPAGATORS=b3`). The variables are therefore removed first, and passed as `context.obj`.
    """
    environ = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    # The files of DuckDB contain inputs of predictions, so only the owner may read them. DuckDB creates files at start
    # and at each checkpoint.
    os.umask(0o077)
    try:
        cli(obj=environ)  # a command that runs another program needs the variables
    except HubError as error:
        typer.echo(f"hub: {error}", err=True)
        sys.exit(2 if isinstance(error, ArgumentError) else 1)
    except OSError as error:
        # Most likely the device of the output is full. What is still buffered would fail again at exit: discard it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        typer.echo(f"hub: {error.strerror or error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
