"""`./dev stack`: the command line of the stack."""

import os
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.build import Cache, build_missing
from stack.errors import StackError
from stack.golang import find_go
from stack.layout import Layout
from stack.parts import Ports, read_parts
from stack.progress import Building, Starting
from stack.run import Stack

app = typer.Typer(
    name="./dev stack",
    help="Collector, Jaeger, Prometheus, Loki, Alertmanager and node_exporter as plain processes on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StateOption = Annotated[
    Path | None, typer.Option(metavar="DIR", show_default="the user's state folder", help="Where it stores and logs.")
]


def _cache() -> Cache:
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def _stack(state: Path | None, collector_configs: list[Path] | None = None) -> Stack:
    parts = read_parts()
    folder = state or platformdirs.user_state_path("modeltrace") / "stack"
    return Stack(Layout(parts, Ports.usual(parts), _cache(), folder.resolve(), collector_configs or []))


@app.command()
def build() -> None:
    """Build what is not built yet, from pinned Go modules, into the user's cache folder.

    About 25 minutes and 14 GB on the way the first time on two cores; binaries take 1 GB and are built once.
    """
    parts, cache = read_parts(), _cache()
    if not cache.missing(parts.parts):
        return
    with Building(Console(stderr=True), parts.parts) as screen:
        build_missing(parts.parts, cache, find_go(parts.go, cache.root), screen.tell)


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
    stack = _stack(state, collector_config)
    with Starting(Console(stderr=True), stack.layout.parts.parts) as screen:
        stack.up(screen.tell)
    address = stack.layout.address
    print(  # noqa: T201  the result of the command
        f"OTLP        http://{address('otelcol', 'http')} (HTTP), {address('otelcol', 'grpc')} (gRPC)\n"
        f"Jaeger      http://{address('jaeger', 'query')}\n"
        f"Prometheus  http://{address('prometheus', 'http')}\n"
        f"Loki        http://{address('loki', 'http')}\n"
        f"Alerts      http://{address('alertmanager', 'http')}\n"
        "Jaeger and Prometheus have no web pages in builds from source; their APIs are complete.\n"
        "Now: ./dev up --stack  ·  ./dev stack status | logs | down"
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
            described.version,
            part.state.lower(),
            f"{part.uptime} s" if part.uptime else "",
            str(part.pid or ""),
            (word if part.healthy else f"{word}  {stack.layout.fill(part.name, described.health)}") if part.pid else "",
        )
    Console(highlight=False).print(table)
    if not all(part.healthy for part in standings):
        raise typer.Exit(1)


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
