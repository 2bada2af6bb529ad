"""The commands that run a hub of their own: `open` a file, and `record` a command."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from modeltrace_hub.errors import HubError, SettingsError
from modeltrace_hub.settings import HubSettings, read_settings
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer

QUIET_SECONDS: Final = 1.0
# The variables of exporters. The command under `record` exports to its hub whatever they say.
_EXPORTER_VARIABLE: Final = "OTEL_EXPORTER_OTLP_"
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_EXPORTERS: Final = {f"OTEL_{signal_name}_EXPORTER": "otlp" for signal_name in ("TRACES", "METRICS", "LOGS")}
NOT_FOUND_CODE: Final = 127


def open_file(
    file: Annotated[
        Path, typer.Argument(help="An archive, OTLP/JSON lines (the Collector's file exporter), or JSON of Jaeger.")
    ],
    port: Annotated[int | None, typer.Option(help="Port of the pages.", show_default="a free one")] = None,
) -> None:
    """Show the telemetry of a file: start a hub in memory, and print the address of the page."""
    from modeltrace_hub.archive.reader import import_file  # noqa: PLC0415  not needed for other commands
    from modeltrace_hub.archive.routes import page_of  # noqa: PLC0415  see above

    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from None
    settings = _own_settings(port)

    def on_ready(_store: Store, writer: Writer) -> None:
        imported = import_file(content, writer, settings.max_request_bytes)
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(imported.counts.items()))
        if imported.rejected:
            counts += f" ({imported.rejection_text})"
        typer.echo(f"{counts}\nhttp://127.0.0.1:{settings.port}/{page_of(imported).removeprefix('.')}")

    asyncio.run(_run_until_signal(settings, on_ready))


def record(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
    output: Annotated[Path | None, typer.Option(help="The archive.", show_default="modeltrace-record-TIME.zip")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for telemetry after the command ends.")] = 5.0,
) -> None:
    """Run a command, and write the telemetry that it sends to an archive.

    The command gets OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_PROTOCOL of a hub of its own. The exit code is
    that of the command; 128 plus the number of the signal that ended it; or 127 if it cannot be started.
    """
    environ: Mapping[str, str] = context.obj if context.obj is not None else os.environ
    output = output or Path(f"modeltrace-record-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
    _check_output(output)
    raise typer.Exit(asyncio.run(_record(command, output, wait, environ)))


def _check_output(output: Path) -> None:
    """Check that the archive can be written, before the command runs.

    Raises:
        SettingsError: it cannot.
    """
    if output.is_dir():
        raise SettingsError(f"{output} cannot be written: it is a folder.")
    if not output.absolute().parent.is_dir():
        raise SettingsError(f"{output} cannot be written: its folder does not exist.")
    if not os.access(output if output.exists() else output.absolute().parent, os.W_OK):
        raise SettingsError(f"{output} cannot be written: permission denied.")


async def _run_until_signal(settings: HubSettings, on_ready: Callable[[Store, Writer], None]) -> None:
    from modeltrace_hub.app import run_hub  # noqa: PLC0415  after `main` has cleared the environment

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_hub(settings, stop=stop, on_ready=on_ready)


async def _record(command: Sequence[str], output: Path, wait: float, environ: Mapping[str, str]) -> int:
    """Run the hub and the command, write the archive, and return the exit code."""
    from modeltrace_hub.app import run_hub  # noqa: PLC0415  after `main` has cleared the environment

    settings = _own_settings(None)
    stop = asyncio.Event()
    ready: asyncio.Future[tuple[Store, Writer]] = asyncio.get_running_loop().create_future()
    hub = asyncio.create_task(
        run_hub(settings, stop=stop, on_ready=lambda store, writer: ready.set_result((store, writer)))
    )
    hub.add_done_callback(lambda _: ready.done() or ready.cancel())
    with suppress(asyncio.CancelledError):
        await ready
    if ready.cancelled():
        await hub  # raises the error
    try:
        store, writer = ready.result()
        code = await _run_command(command, _command_environment(environ, settings))
        if code is None:
            return NOT_FOUND_CODE
        await _wait_until_quiet(writer, wait)
        await asyncio.to_thread(_write_archive, store, output)
    finally:
        stop.set()
        await hub
    return code


async def _run_command(command: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run the command, and return its exit code as a shell does; None if it cannot be started.

    SIGTERM is passed on to the command. A terminal sends SIGINT to both.
    """
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environ)
    except OSError as error:
        typer.echo(f"hub: {command[0]} cannot be started: {error.strerror}.", err=True)
        return None

    def terminate() -> None:
        with suppress(ProcessLookupError):
            process.terminate()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    code = await process.wait()
    return code if code >= 0 else 128 - code


async def _wait_until_quiet(writer: Writer, seconds: float) -> None:
    """Wait until nothing has arrived for a second, but not longer than `seconds`."""
    deadline = time.monotonic() + seconds
    generation, since = writer.generation, time.monotonic()
    while time.monotonic() < min(deadline, since + QUIET_SECONDS):
        await asyncio.sleep(0.05)
        if writer.generation != generation:
            generation, since = writer.generation, time.monotonic()


def _write_archive(store: Store, output: Path) -> None:
    from modeltrace_hub.archive.selection import ArchiveFilter, select_telemetry  # noqa: PLC0415  for this command only
    from modeltrace_hub.archive.writer import build_archive  # noqa: PLC0415  see above
    from modeltrace_hub.queries.reader import Queries  # noqa: PLC0415  see above
    from modeltrace_hub.web.format import plural  # noqa: PLC0415  see above

    with Queries(store).open_reader() as reader:
        selection = select_telemetry(reader, ArchiveFilter(since=0))
    try:
        output.write_bytes(build_archive(selection))
    except OSError as error:
        raise HubError(f"{output} cannot be written: {error.strerror}.") from None
    counts = (
        plural(len(selection.spans), "span"),
        plural(len(selection.logs), "log record"),
        plural(len(selection.points), "data point"),
    )
    typer.echo(f"hub: {', '.join(counts)} in {output}", err=True)
    if not (selection.spans or selection.logs or selection.points):
        variables = ", ".join((*_EXPORTERS, _ENDPOINT, _PROTOCOL))
        typer.echo(
            "hub: warning: the command has sent nothing. It must read these variables and send before it ends: "
            f"{variables}. A program with the OpenTelemetry SDK for Python does so under opentelemetry-instrument",
            err=True,
        )


def _command_environment(environ: Mapping[str, str], settings: HubSettings) -> dict[str, str]:
    """Return the environment of the command: all of it, but the exporters send to the hub."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_EXPORTER_VARIABLE)}
    return {
        **kept,
        **_EXPORTERS,
        _ENDPOINT: f"http://127.0.0.1:{settings.http_port}",
        _PROTOCOL: "http/protobuf",
    }


def _own_settings(port: int | None) -> HubSettings:
    """Return the settings of a hub in memory on loopback, without a key and TLS, on free ports."""
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        ports = []
        for listener in (first, second, third):
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    settings = read_settings(
        memory=True, host="127.0.0.1", port=port or ports[0], http_port=ports[1], grpc_port=ports[2]
    )
    return settings.model_copy(update=dict.fromkeys(("key", "tls_certificate", "tls_key", "tls_client_ca")))
