"""The cost of `?probabilities=true`: CPU time of a prediction with and without the probability of each class.

The application answers `POST /predict` in this process, from the ASGI call to the response, without sockets. Each round
sends the same rows once without and once with probabilities. The CPU time of a round is at least what the code needs;
other processes, which share caches and cores, add to it. The cost is therefore the difference of the lowest times.
"""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
from rich.console import Console
from rich.table import Table

from bench.command import make_parser, print_as
from bench.counted.model import Linear, build_model, build_rows
from bench.counted.phases import NEVER
from bench.counted.service import build_app, send_predictions
from modeltrace.inference.predict_fns import make_predict_fns

ROWS = 50
QUERY = b"probabilities=true"


def run(rounds: int) -> dict[str, Any]:
    """Return the CPU time of a prediction in microseconds: without and with probabilities, and the difference."""
    fns = make_predict_fns(Linear(), "classifier")
    model = replace(build_model(), predict_fn=fns.predict, details_fn=fns.with_details)
    bodies = [orjson.dumps({"features": row}) for row in build_rows(ROWS)]
    seconds: dict[bytes, list[float]] = {b"": [], QUERY: []}
    with (
        tempfile.TemporaryDirectory(prefix="modeltrace-") as folder,
        patch("modeltrace.telemetry.export.queue.SEND_INTERVAL", NEVER),
    ):
        app, queue = build_app(Path(folder) / "frames", model)
        for _ in range(rounds):
            for query, measured in seconds.items():
                start = time.thread_time()
                asyncio.run(send_predictions(app, bodies, query))
                measured.append((time.thread_time() - start) / ROWS)
        queue.close(time.monotonic() + NEVER)
    without, with_them = min(seconds[b""]), min(seconds[QUERY])
    return {
        "ratio": round(with_them / without, 4),
        "cost_us": round(1e6 * (with_them - without), 2),
        "without_us": round(1e6 * without, 2),
        "with_us": round(1e6 * with_them, 2),
        "rounds": rounds,
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("without, µs", "with, µs", "ratio", "cost, µs")
    table.add_row(*(str(result[name]) for name in ("without_us", "with_us", "ratio", "cost_us")))
    console = Console()
    console.print(table)
    console.print(f"CPU time of a prediction, lowest of {result['rounds']} rounds of {ROWS}")


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="rounds (default: 300)")
    print_as(run(parser.parse_args().rounds), print_result, as_json=parser.parse_args().json)


if __name__ == "__main__":
    main()
