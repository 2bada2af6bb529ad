"""Modeltrace compared with other Python model servers: the same model, the same load, the same run.

Each peer is installed once into its own environment. A server and its processes have one core; the load and a real
Collector (or the hub, if no Collector is built), which receives the telemetry, share the other core. Rounds are
interleaved. Throughput ratios are taken within a round, to bare: a FastAPI application of thirty lines around the same
model. `ratio` is requests/s of Modeltrace with all telemetry divided by that of the fastest peer without telemetry;
both may batch, and both run scikit-learn. Peers are installed as their documentation says. `ratio_to_tuned` also
admits peers that are installed with additional packages for speed.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.command import make_parser, print_as
from bench.example import prepare_example
from bench.peers.environments import InstallError, create_environment
from bench.peers.run import PeerBench, measure_with_retry
from bench.peers.servers import SERVERS, Server
from bench.peers.summary import Entry, summarise
from bench.processes import CoreAssignment
from bench.receiver import start_receiver


def install(servers: Sequence[Server]) -> tuple[dict[str, Path], dict[str, str]]:
    """Install the servers. Return the Python of each, and the error of each that cannot be installed."""
    pythons, problems = {}, {}
    for server in servers:
        try:
            pythons[server.name] = (
                create_environment(server.name, server.requirements, print_progress) if server.requirements else None
            )
        except InstallError as error:
            problems[server.name] = str(error)
            print_progress(str(error))
    return {name: python or Path(sys.executable) for name, python in pythons.items()}, problems


def run(servers: Sequence[Server], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Run all servers in all their variants, `rounds` times."""
    pythons, problems = install(servers)
    pins = CoreAssignment.assign()
    entries = [Entry(server, variant) for server in servers for variant in server.variants]
    for entry in entries:
        if entry.server.name in problems:
            entry.problems.append(problems[entry.server.name])
    with tempfile.TemporaryDirectory() as folder, start_receiver(pins.other) as receiver:
        bench = PeerBench(prepare_example(Path(folder)), receiver, pins, seconds)
        for number in range(rounds):
            for entry in entries:
                if entry.problems:
                    continue
                print_progress(f"round {number + 1}: {entry.name}")
                try:
                    entry.runs.append(
                        measure_with_retry(bench, entry.server, entry.variant, pythons[entry.server.name])
                    )
                except Exception as error:  # noqa: BLE001  an error of one server must not stop the others
                    entry.problems.append(f"{type(error).__name__}: {error}"[:400])
                    print_progress(f"{entry.name}: {entry.problems[0]}")
        result = summarise(entries, pinned=pins.service is not None, rounds=rounds)
        return {**result, "receiver": receiver.name}


def print_progress(line: str) -> None:
    """Print a progress message to stderr."""
    print(line, file=sys.stderr, flush=True)


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    lines = result["variants"]
    table = Table(
        *("server", "batching", "telemetry", "requests/s", "of bare", "p50 ms", "p99 ms"), "CPU s/1000", "spans", "logs"
    )
    for line in lines.values():
        figures = ("requests_per_second", "of_bare", "p50_ms", "p99_ms")
        others = ("cpu_seconds_per_1000", "spans_per_request", "log_records_per_request")
        table.add_row(
            " · ".join(text for text in (line["server"], line["note"]) if text),
            "yes" if line["batching"] else "",
            "on" if line["telemetry"] else "off",
            *("void" if line["void"] else "n/a" if line[key] is None else f"{line[key]}" for key in figures),
            *(f"{line[key]}" for key in others),
        )
    console = Console(width=max(Console().width, 120))
    console.print(table)
    for server, content in {x["server"]: x["telemetry_content"] for x in lines.values() if x["telemetry"]}.items():
        console.print(f"{server}, telemetry on: {content}.")
    for name, line in lines.items():
        for helper, where in line["helpers"].items():
            console.print(
                f"{name}: {helper} ran on the {where}, {line['other_core_cpu_seconds_per_1000']} CPU s / 1000 there."
            )
        if line["failed"]:
            console.print(f"[red]{name}:[/red] {line['failed']} requests failed.")
    for name, reason in result["not_measured"].items():
        console.print(f"[red]{name}, not measured:[/red] {reason}")
    if result["void"]:
        console.print("[red]void:[/red] other processes used the cores in every run of these variants.")
    for ratio, peer in (("ratio", "best_peer"), ("ratio_to_tuned", "best_peer_tuned")):
        console.print(
            f"{ratio} {result[ratio]} (modeltrace, on, batching / {result[peer]}; {result['rounds']} rounds; "
            f"{result['receiver']})"
        )


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    names = [server.name for server in SERVERS]
    parser = make_parser(__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"measure this server and bare only (repeatable): {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per run (default: 5)")
    arguments = parser.parse_args()
    selected = {"bare", *(arguments.only or names)}
    result = run(
        [server for server in SERVERS if server.name in selected], rounds=arguments.rounds, seconds=arguments.seconds
    )
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
