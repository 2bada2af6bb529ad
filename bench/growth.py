"""How the cost of a prediction grows with features, rows per request, workers, connections and a second version.

One of these changes at a time; the others stay at 30 features, 1 row, 1 worker, 16 connections and no challenger. Each
case runs with all telemetry and the prediction store ("all"), and with neither ("none": `OTEL_SDK_DISABLED=true`,
`MODELTRACE_STORE=none`), one after the other, `rounds` times. On a machine with other load, CPU time per prediction is
more reliable than rows/s, so both are reported. `ratio` is rows/s of "all" divided by rows/s of "none"; `cpu_ratio` is
the same for the CPU time of the service per prediction. Both are medians of ratios within a round. `lost` counts
prediction log records that did not fit the export queue, as the service reports when it stops.

A single worker has its own core; the load, a real Collector (or the hub, if no Collector is built) and the sidecar
share the other core. With two workers, all processes share all cores, so only the CPU time of that case is meaningful.
A run in which the other core was saturated is void except for its CPU time.

The challenger is a second version in the same process. It either gets half of the requests, or predicts every row
again as a shadow. Only answered rows count, so the CPU time of a shadow is part of the row that it shadows.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import orjson
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.command import format_load_average, make_parser, print_as
from bench.load import LoadResult, encode_post, run_load
from bench.processes import available_cores
from bench.receiver import Receiver, start_receiver
from bench.subject import CpuSeconds, read_undelivered, run_subject
from modeltrace.bundles.pack import pack

TRAINING_ROWS = 500
VARIANTS = {"all": {}, "none": {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}}
MAX_CORE_USAGE = 0.95
# Seconds in which the export queue and the sidecar finish their work for the load, which counts as its cost.
SETTLE_SECONDS = 1.0
# Distinct rows that are sent, and the maximum number of rows in all prepared requests together.
DISTINCT_ROWS, MAX_ROWS = 64, 10_000


class Case(NamedTuple):
    """One combination of parameters."""

    features: int = 30
    rows: int = 1
    workers: int = 1
    connections: int = 16
    challenger: str = "none"


AXES: dict[str, tuple[Any, ...]] = {
    "features": (10, 30, 300),
    "rows": (1, 100, 10_000),
    "workers": (1, 2),
    "connections": (1, 16, 256),
    "challenger": ("none", "split", "shadow"),
}


@dataclass(frozen=True)
class Run:
    """One run of one case in one variant."""

    load: LoadResult
    rows_per_request: int
    cpu_seconds: CpuSeconds
    other_core_usage: float  # from 0 to 1; 0 if no process is pinned
    lost_records: int  # prediction log records that the service reports as lost

    @property
    def predictions(self) -> int:
        """The number of answered rows."""
        return (self.load.requests - self.load.failed) * self.rows_per_request

    @property
    def rate(self) -> float:
        """Answered rows per second."""
        return self.predictions / self.load.seconds

    @property
    def service_us(self) -> float:
        """CPU time of the service, in microseconds per prediction."""
        return 1e6 * self.cpu_seconds.service / max(self.predictions, 1)

    @property
    def sidecar_us(self) -> float:
        """CPU time of the sidecars, in microseconds per prediction."""
        return 1e6 * self.cpu_seconds.sidecar / max(self.predictions, 1)


def cases(axes: Sequence[str]) -> list[Case]:
    """Return each case of the axes once. All axes contain the default case."""
    return list(dict.fromkeys(Case()._replace(**{axis: value}) for axis in axes for value in AXES[axis]))


def build_bundle(folder: Path, features: int, version: int = 1) -> Path:
    """Build a bundle of a logistic regression with `features` features, fitted on synthetic data."""
    values, labels = make_classification(TRAINING_ROWS, features, n_informative=5, random_state=0)
    table = pd.DataFrame(values, columns=[f"feature_{number}" for number in range(features)])
    target = pd.Series(np.where(labels == 1, "yes", "no"), name="label")
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1 / version, max_iter=1000)).fit(values, target)
    name = f"growth-{features}"
    out = folder / f"{name}-{version}"
    return pack(estimator, table, target, name=name, version=f"{version}.0.0", out=out, traffic=table)


def build_requests(bundle: Path, rows: int) -> list[bytes]:
    """Return the requests to send: single predictions, or batches of `rows` rows with at most `MAX_ROWS` in total."""
    table = pd.read_parquet(bundle / "traffic.parquet")
    all_rows = table.to_dict(orient="records")
    if rows == 1:
        return [encode_post("/predict", orjson.dumps({"features": row})) for row in all_rows[:DISTINCT_ROWS]]
    bodies = max(1, min(DISTINCT_ROWS, MAX_ROWS // rows))
    return [
        encode_post(
            "/predict/batch", orjson.dumps({"rows": [all_rows[(body + i) % len(all_rows)] for i in range(rows)]})
        )
        for body in range(bodies)
    ]


@contextmanager
def pin_cores(workers: int) -> Iterator[tuple[int | None, int | None]]:
    """Pin this process. Yield the core of the service and that of all else, or `None` if they share the cores."""
    available = available_cores()
    if len(available) < 2 or workers > 1:
        yield None, None
        return
    os.sched_setaffinity(0, {available[0]})
    try:
        yield available[-1], available[0]
    finally:
        os.sched_setaffinity(0, set(available))


def measure(case: Case, bundle: Path, challenger: Path, env: dict[str, str], *, seconds: float, folder: Path) -> Run:
    """Run one case; `challenger` is the bundle of the second version."""
    requests = build_requests(bundle, case.rows)
    output = folder / "output"
    env = {
        "MODELTRACE_SPOOL_DIR": str(output.with_suffix(".spool")),
        "MODELTRACE_STORE": str(output.with_suffix(".db")),
        **_challenger_env(case.challenger, challenger),
        **env,
    }
    with (
        pin_cores(case.workers) as (core, other),
        run_subject(bundle, env, workers=case.workers, core=core, other_core=other, output=output) as service,
    ):
        run_load(service.port, requests, connections=case.connections, seconds=min(1.0, seconds))
        time.sleep(SETTLE_SECONDS)
        before = service.cpu()
        psutil.cpu_percent(percpu=True)  # start of the interval that the next call reports
        measured = run_load(service.port, requests, connections=case.connections, seconds=seconds)
        busy = psutil.cpu_percent(percpu=True)[other] / 100 if other is not None else 0.0
        time.sleep(SETTLE_SECONDS)
        after = service.cpu()
    used = CpuSeconds(after.service - before.service, after.sidecar - before.sidecar)
    return Run(measured, case.rows, used, busy, read_undelivered(output).lost["prediction log records"])


def _challenger_env(mode: str, bundle: Path) -> dict[str, str]:
    if mode == "none":
        return {}
    share = {"MODELTRACE_CHALLENGER_SHARE": "0.5"} if mode == "split" else {}
    return {"MODELTRACE_CHALLENGER": str(bundle), "MODELTRACE_CHALLENGER_MODE": mode, **share}


def run(axes: Sequence[str], *, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Run all cases in both variants, `rounds` times."""
    available = available_cores()
    runs: dict[tuple[Case, str], list[Run]] = {key: [] for key in product(cases(axes), VARIANTS)}
    with (
        tempfile.TemporaryDirectory() as name,
        start_receiver(available[0] if len(available) > 1 else None) as receiver,
    ):
        folder = Path(name)
        bundles = {
            features: (build_bundle(folder, features), build_bundle(folder, features, version=2))
            for features in {case.features for case in cases(axes)}
        }
        for number, (case, variant) in product(range(rounds), runs):
            console.print(f"[dim]round {number + 1} of {rounds}: {case}, {variant}[/dim]")
            env = {**_environment(receiver), **VARIANTS[variant]}
            runs[case, variant].append(measure(case, *bundles[case.features], env, seconds=seconds, folder=folder))
        receiver_name = receiver.name
    return {**summarise(axes, runs), "rounds": rounds, "receiver": receiver_name, "load_average": os.getloadavg()}


def _environment(receiver: Receiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "5000"}


def summarise(axes: Sequence[str], runs: dict[tuple[Case, str], list[Run]]) -> dict[str, Any]:
    """Return a table for each axis: medians over the rounds, and medians of the ratios within a round."""
    summaries = {case: _summarise_case(runs[case, "all"], runs[case, "none"]) for case in cases(axes)}
    tables = {axis: {str(value): summaries[Case()._replace(**{axis: value})] for value in AXES[axis]} for axis in axes}
    void = [f"{axis} {value}" for axis in axes for value, line in tables[axis].items() if line["void"]]
    default = summaries[Case()]
    return {
        "ratio": None if default["void"] else default["ratio"],
        "cpu_ratio": default["cpu_ratio"],
        "void": void,
        "axes": tables,
    }


def _summarise_case(all_runs: list[Run], none_runs: list[Run]) -> dict[str, Any]:
    pairs = list(zip(all_runs, none_runs, strict=True))
    return {
        "ratio": round(median(a.rate / b.rate for a, b in pairs), 3),
        "cpu_ratio": round(median(a.service_us / b.service_us for a, b in pairs), 3),
        "void": any(run.other_core_usage > MAX_CORE_USAGE for run in (*all_runs, *none_runs)),
        **{
            variant: {
                "rows_per_second": round(median(run.rate for run in runs)),
                "p50_ms": round(1000 * median(run.load.quantile(0.5) for run in runs), 1),
                "p99_ms": round(1000 * median(run.load.quantile(0.99) for run in runs), 1),
                "service_cpu_us": round(median(run.service_us for run in runs), 1),
                "sidecar_cpu_us": round(median(run.sidecar_us for run in runs), 1),
                "failed": sum(run.load.failed for run in runs),
                "lost": sum(run.lost_records for run in runs),
            }
            for variant, runs in (("all", all_runs), ("none", none_runs))
        },
    }


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    console = Console(width=max(Console().width, 130))
    for axis, lines in result["axes"].items():
        table = Table(
            axis, *("rows/s\nall", "\nnone", "\nratio", "p50 ms\nall", "\nnone", "p99 ms\nall", "\nnone"),
            *("CPU µs/row\nall", "\nnone", "\nratio", "\nsidecar", "failed", "lost"),
        )  # fmt: skip
        for value, line in lines.items():
            with_all, with_none = line["all"], line["none"]
            latencies = [f"{variant[key]}" for key in ("p50_ms", "p99_ms") for variant in (with_all, with_none)]
            table.add_row(
                value, f"{with_all['rows_per_second']:,}", f"{with_none['rows_per_second']:,}", f"{line['ratio']}",
                *latencies,
                *(f"{variant['service_cpu_us']}" for variant in (with_all, with_none)), f"{line['cpu_ratio']}",
                f"{with_all['sidecar_cpu_us']}", f"{with_all['failed'] + with_none['failed']}", f"{with_all['lost']}",
            )  # fmt: skip
        console.print(table)
    if result["void"]:
        console.print(
            f"[red]void except for CPU time, because the other core was saturated:[/red] {', '.join(result['void'])}"
        )
    console.print(
        f"ratio {result['ratio']}, of CPU {result['cpu_ratio']} (all / none at the defaults, median of "
        f"{result['rounds']} rounds; {result['receiver']}; {format_load_average(result)})"
    )


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds (default: 2)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per run (default: 3)")
    parser.add_argument(
        "--only", action="append", choices=list(AXES), metavar="AXIS", help="measure this axis only (repeatable)"
    )
    arguments = parser.parse_args()
    axes = arguments.only or list(AXES)
    result = run(axes, rounds=arguments.rounds, seconds=arguments.seconds, console=Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
