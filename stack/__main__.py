"""`./dev stack`: the command line of the stack."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.build import build_missing
from stack.cache import Cache
from stack.errors import StackError
from stack.golang import find_go
from stack.layout import Layout, configured_parts
from stack.parts import Parts, Ports, read_parts
from stack.progress import Building, Starting
from stack.run import Stack

app = typer.Typer(
    name="./dev stack",
    help="Collector, Jaeger, Prometheus, Alertmanager, node_exporter and optionally Loki as plain processes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StateOption = Annotated[
    Path | None, typer.Option(metavar="DIR", show_default="the user's state folder", help="Where it stores and logs.")
]


def _cache() -> Cache:
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def _state(folder: Path | None) -> Path:
    return (folder or platformdirs.user_state_path("modeltrace") / "stack").resolve()


def _stack(state: Path | None, parts: Parts | None = None, collector_configs: list[Path] | None = None) -> Stack:
    """Return a stack of these parts, or of the parts that it was last started with."""
    table, folder, cache = read_parts(), _state(state), _cache()
    if parts is None:
        configured = configured_parts(folder)
        parts = table.without(set(table.optional()) - configured) if configured else cache.present(table)
    return Stack(Layout(parts, Ports.usual(table), cache, folder, collector_configs or []))


@app.command()
def build(
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PART", help="Build an optional part, too: loki. Repeatable."),
    ] = None,
) -> None:
    """Build what is not built yet, from pinned Go modules, into the user's cache folder.

    About 25 minutes and 14 GB on the way the first time on two cores; binaries take 1 GB and are built once.

    Example: ./dev stack build --with loki
    """
    table, cache, named = read_parts(), _cache(), set(with_ or ())
    if unknown := named.difference(table.optional()):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))} is no optional part; there are: {', '.join(table.optional())}"
        )
    absent = cache.missing({name: table.parts[name] for name in table.optional()})
    for name in sorted(named - absent.keys()):
        if not cache.is_built(name, table.parts[name]):
            _print_notice(f"{table.parts[name].title} is on PATH and used from there; it is not built.")
    for name, part in absent.items():
        if name in named:
            _print_notice(
                f"{part.title} {part.version} is under the {part.licence}. It is fetched from {part.module} and built "
                "here; its licence applies to what you do with it."
            )
        else:
            _print_notice(
                f"without {part.title}, which is optional and under the {part.licence}. To build it: "
                f"./dev stack build --with {name}"
            )
    parts = table.without(absent.keys() - named).parts
    if not cache.to_build(parts):
        return
    with Building(Console(stderr=True), parts) as screen:
        build_missing(parts, cache, find_go(table.go, cache.root), screen.tell)


def _print_notice(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(line, markup=False)


@app.command()
def up(
    collector_config: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Merged with otel/collector.yaml. Repeatable."),
    ] = None,
    state: StateOption = None,
) -> None:
    """Start everything, building first what is not built, and return when all of it is healthy.

    Example: ./dev stack up --collector-config otel/sampling.yaml
    """
    build()
    stack = _stack(state, _cache().present(read_parts()), collector_config)
    with Starting(Console(stderr=True), stack.layout.parts.parts) as screen:
        stack.up(screen.tell)
    address, records = stack.layout.address, stack.layout.record_file
    logs_line = f"Logs        {records}" if records else f"Loki        http://{address('loki', 'http')}"
    log_file = f" --log-file {shlex.quote(str(records))}" if records else ""
    print(  # noqa: T201  the result of the command
        f"OTLP        http://{address('otelcol', 'http')} (HTTP), {address('otelcol', 'grpc')} (gRPC)\n"
        f"Jaeger      http://{address('jaeger', 'query')}\n"
        f"Prometheus  http://{address('prometheus', 'http')}\n"
        f"{logs_line}\n"
        f"Alerts      http://{address('alertmanager', 'http')}\n"
        "Jaeger and Prometheus have no web pages in builds from source; their APIs are complete.\n"
        "Now: ./dev up --stack  ·  ./dev stack status | logs | down\n"
        f"Did it arrive? ./dev run modeltrace doctor --against stack{log_file}"
    )


@app.command()
def down(
    state: StateOption = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete what it stored, too.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Stop everything."""
    stack = _stack(state)
    with Console(stderr=True).status("stopping"):
        stack.down()
        if wipe:
            stack.layout.wipe()


@app.command()
def status(state: StateOption = None) -> None:
    """How each part stands. Exit code 1 unless all of them are healthy."""
    stack = _stack(state)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("part", "version", "state", "up", "process", "health"):
        table.add_column(title, justify="right" if title in ("up", "process") else "left")
    standings = stack.standings()
    for part in standings:
        described = stack.layout.parts.parts[part.name]
        word = "[green]healthy[/green]" if part.healthy else "[red]not healthy[/red]"
        table.add_row(
            part.name,
            _version(stack, part.name),
            part.state.lower(),
            f"{part.uptime} s" if part.uptime else "",
            str(part.pid or ""),
            (word if part.healthy else f"{word}  {stack.layout.fill(part.name, described.health)}") if part.pid else "",
        )
    Console(highlight=False).print(table)
    if not all(part.healthy for part in standings):
        raise typer.Exit(1)


def _version(stack: Stack, name: str) -> str:
    """The version of a part that is built here; that of an optional part on PATH is not known."""
    part = stack.layout.parts.parts[name]
    on_path = part.optional and not stack.layout.cache.is_built(name, part)
    return "from PATH" if on_path else part.version


@app.command()
def logs(
    parts: Annotated[list[str] | None, typer.Argument(show_default="all", help="Whose.", metavar="[PART]...")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,  # noqa: FBT002  a flag
    lines: Annotated[int, typer.Option("-n", min=0, help="Lines of each.")] = 20,
    state: StateOption = None,
) -> None:
    """What the parts say.

    Example: ./dev stack logs otelcol -f
    """
    layout = _stack(state).layout
    for name in parts or ():
        if name not in layout.parts.parts:
            raise typer.BadParameter(f"there is no part {name}; there are {', '.join(layout.parts.parts)}")
    files = [str(file) for name in parts or layout.order() if (file := layout.log(name)).exists()]
    if not files:
        raise StackError("nothing has been logged yet: ./dev stack up")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606, S607  the system's


def main() -> None:
    """Run a command. What the stack raises on purpose becomes one line and exit code 1."""
    try:
        app(prog_name="./dev stack")
    except StackError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]stack:[/red] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
