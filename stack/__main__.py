"""The command line `./dev stack`."""

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
from stack.components import ComponentTable, Ports, Program, read_components
from stack.errors import StackError
from stack.golang import find_go
from stack.layout import Layout, configured_components
from stack.progress import build_display, start_display
from stack.run import Stack

app = typer.Typer(
    name="./dev stack",
    help="Run Collector, Jaeger, Prometheus, Alertmanager, node_exporter and optionally Loki as plain processes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

StateOption = Annotated[
    Path | None, typer.Option(metavar="DIR", show_default="the user's state folder", help="Folder of data and logs.")
]


def _cache() -> Cache:
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def _state(folder: Path | None) -> Path:
    return (folder or platformdirs.user_state_path("modeltrace") / "stack").resolve()


def _stack(
    state: Path | None, components: ComponentTable | None = None, collector_configs: list[Path] | None = None
) -> Stack:
    """Return a stack of these components.

    The default is the components of the last start, or all components without the optional ones that are absent.
    """
    table, folder, cache = read_components(), _state(state), _cache()
    if components is None:
        configured = configured_components(folder)
        components = (
            table.without(set(table.optional_names()) - configured) if configured else cache.without_absent(table)
        )
    return Stack(Layout(components, Ports.default(table), cache, folder, collector_configs or []))


@app.command()
def build(
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="Also build an optional component, or one program of --many: loki, kafka. Repeatable.",
        ),
    ] = None,
    many: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--many", help="Also build the programs of ./dev test --many.")
    ] = False,
) -> None:
    """Build missing components from pinned packages into the user's cache folder.

    The first build takes about 25 minutes on two cores and up to 14 GB of disk; the binaries take 1 GB. --many takes
    ten minutes and 0.7 GB more: a Kubernetes API server, Kafka, OpenSearch, SeaweedFS, Jaeger's index programs.

    Example: ./dev stack build --with loki
    """
    table, cache, named = read_components(), _cache(), set(with_ or ())
    optional = [*table.optional_names(), *table.many]
    if unknown := named.difference(optional):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))} is no optional component; optional: {', '.join(optional)}"
        )
    absent = cache.missing({name: table.components[name] for name in table.optional_names()})
    for name in sorted(named - absent.keys() - table.many.keys()):
        if not cache.is_built(name, table.components[name]):
            _print_notice(f"{table.components[name].title} is on PATH and is used from there; it is not built.")
    for name, component in absent.items():
        if name in named:
            _print_notice(
                f"{component.title} {component.version} is licensed under {component.licence}. It is downloaded from "
                f"{component.module} and built here; its licence applies to your use of it."
            )
        else:
            _print_notice(
                f"not built: {component.title}, which is optional and licensed under {component.licence}. To build it: "
                f"./dev stack build --with {name}"
            )
    components: dict[str, Program] = {**table.without(absent.keys() - named).components}
    components |= {name: program for name, program in table.many.items() if many or name in named}
    if not cache.to_build(components):
        return
    with build_display(Console(stderr=True), components) as screen:
        build_missing(components, cache, find_go(table.go, cache.root), screen.update)


def _print_notice(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(line, markup=False)


@app.command()
def up(
    collector_config: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, metavar="FILE", help="File to merge with otel/collector.yaml. Repeatable."
        ),
    ] = None,
    state: StateOption = None,
) -> None:
    """Build missing components, start all of them, and return when all are healthy.

    Example: ./dev stack up --collector-config otel/sampling.yaml
    """
    build()
    stack = _stack(state, _cache().without_absent(read_components()), collector_config)
    with start_display(Console(stderr=True), stack.layout.table.components) as screen:
        stack.up(screen.update)
    address, records = stack.layout.address, stack.layout.log_record_file
    logs_line = f"Logs        {records}" if records else f"Loki        http://{address('loki', 'http')}"
    log_file = f" --log-file {shlex.quote(str(records))}" if records else ""
    print(  # noqa: T201  the result of the command
        f"OTLP        http://{address('otelcol', 'http')} (HTTP), {address('otelcol', 'grpc')} (gRPC)\n"
        f"Jaeger      http://{address('jaeger', 'query')}\n"
        f"Prometheus  http://{address('prometheus', 'http')}\n"
        f"{logs_line}\n"
        f"Alerts      http://{address('alertmanager', 'http')}\n"
        "Built from source, Jaeger and Prometheus have no web pages; their APIs are complete.\n"
        "Next:       ./dev up --stack  ·  ./dev stack status | logs | down\n"
        f"Check:      ./dev run modeltrace doctor --backend stack{log_file}"
    )


@app.command()
def down(
    state: StateOption = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Also delete stored data.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Stop all components."""
    stack = _stack(state)
    with Console(stderr=True).status("stopping"):
        stack.down()
        if wipe:
            stack.layout.wipe()


@app.command()
def status(state: StateOption = None) -> None:
    """Show the state of each component. The exit code is 1 unless all are healthy."""
    stack = _stack(state)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("component", "version", "state", "uptime", "PID", "health"):
        table.add_column(title, justify="right" if title in ("uptime", "PID") else "left")
    states = stack.statuses()
    for component in states:
        described = stack.layout.table.components[component.name]
        word = "[green]healthy[/green]" if component.healthy else "[red]not healthy[/red]"
        table.add_row(
            component.name,
            _version(stack, component.name),
            component.state.lower(),
            f"{component.uptime} s" if component.uptime else "",
            str(component.pid or ""),
            (word if component.healthy else f"{word}  {stack.layout.fill(component.name, described.health)}")
            if component.pid
            else "",
        )
    Console(highlight=False).print(table)
    if not all(component.healthy for component in states):
        raise typer.Exit(1)


def _version(stack: Stack, name: str) -> str:
    """Return the version of a component. The version of a program on PATH is not known."""
    component = stack.layout.table.components[name]
    on_path = component.optional and not stack.layout.cache.is_built(name, component)
    return "from PATH" if on_path else component.version


@app.command()
def logs(
    components: Annotated[
        list[str] | None, typer.Argument(show_default="all", help="Names of components.", metavar="[NAME]...")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,  # noqa: FBT002  a flag
    lines: Annotated[int, typer.Option("-n", min=0, help="Lines per component.")] = 20,
    state: StateOption = None,
) -> None:
    """Print the logs of components.

    Example: ./dev stack logs otelcol -f
    """
    layout = _stack(state).layout
    for name in components or ():
        if name not in layout.table.components:
            raise typer.BadParameter(
                f"there is no component {name}; components are {', '.join(layout.table.components)}"
            )
    files = [str(file) for name in components or layout.start_order() if (file := layout.log_file(name)).exists()]
    if not files:
        raise StackError("there are no logs yet; first: ./dev stack up")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606, S607  the system's


def main() -> None:
    """Run a command. A StackError is printed as one line, and the exit code is 1."""
    try:
        app(prog_name="./dev stack")
    except StackError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]stack:[/red] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
