"""How the cost of a prediction grows with features, rows a request, workers, connections and a second version.

One of them changes at a time, the others stay at 30 features, 1 row, 1 worker, 16 connections, no challenger. Each is
measured with all telemetry and the prediction store, and with none (`OTEL_SDK_DISABLED=true`, `MODELTRACE_STORE=none`),
one after the other, `rounds` times. Rows/s on a machine that others use, too, say little; CPU time a prediction says
more, so both are here. `ratio` is rows/s with all over rows/s with none, `cpu_ratio` the service's CPU time a
prediction with all over that with none; both are medians of ratios taken within a round. `lost` counts rows whose audit
record found no room, as the service says at its stop.

A single worker has a core of its own; the load, a real Collector (the hub, where none is built) and the exporter
process share the other. Two workers, their exporter processes, the load and the Collector share all cores: what that
row shows is the CPU time, which does not depend on how many wait for a core. A run in which the other core was
saturated is void but for its CPU time.

A challenger is a second version in the same process: one that is sent half of the requests, or one that is asked about
every row once more, as a shadow. A row is one that was answered, so a shadow's CPU time counts for the row it shadows.
"""

import argparse
import json
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

from bench.load import LoadResult, encode_post, run_load
from bench.processes import available_cores
from bench.receiver import Receiver, start_receiver
from bench.subject import CpuSeconds, read_undelivered, run_subject
from modeltrace.bundles.pack import pack

TRAINING_ROWS = 500
VARIANTS = {"all": {}, "none": {"OTEL_SDK_DISABLED": "true", "MODELTRACE_STORE": "none"}}
MAX_CORE_USAGE = 0.95
# Seconds: what the outbox and the exporter process still work once the load is over counts for it.
SETTLE_SECONDS = 1.0
# A row differs from the last one, and ten thousand of them in a request are one request.
DISTINCT_ROWS, MAX_ROWS = 64, 10_000


class Case(NamedTuple):
    """What is measured."""

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
    other_core_usage: float  # share of the time that it was busy; 0 where nothing is pinned
    lost_records: int  # rows whose audit record was dropped, by the service's own count

    @property
    def predictions(self) -> int:
        """How many rows were answered."""
        return (self.load.requests - self.load.failed) * self.rows_per_request

    @property
    def rate(self) -> float:
        """Rows answered a second."""
        return self.predictions / self.load.seconds

    @property
    def service_us(self) -> float:
        """CPU time of the service, microseconds a prediction."""
        return 1e6 * self.cpu_seconds.service / max(self.predictions, 1)

    @property
    def sidecar_us(self) -> float:
        """CPU time of the exporter processes, microseconds a prediction."""
        return 1e6 * self.cpu_seconds.sidecar / max(self.predictions, 1)


def cases(axes: Sequence[str]) -> list[Case]:
    """Each case of the axes once: the default one is on all of them."""
    return list(dict.fromkeys(Case()._replace(**{axis: value}) for axis in axes for value in AXES[axis]))


def build_bundle(folder: Path, features: int, version: int = 1) -> Path:
    """A bundle with a logistic regression of so many features, fitted on synthetic data."""
    values, labels = make_classification(TRAINING_ROWS, features, n_informative=5, random_state=0)
    table = pd.DataFrame(values, columns=[f"feature_{number}" for number in range(features)])
    target = pd.Series(np.where(labels == 1, "yes", "no"), name="label")
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1 / version, max_iter=1000)).fit(values, target)
    name = f"growth-{features}"
    out = folder / f"{name}-{version}"
    return pack(estimator, table, target, name=name, version=f"{version}.0.0", out=out, traffic=table)


def build_requests(bundle: Path, rows: int) -> list[bytes]:
    """What is sent: single predictions, or batches of so many rows, no more than `MAX_ROWS` rows in all."""
    table = pd.read_parquet(bundle / "traffic.parquet")
    known = table.to_dict(orient="records")
    if rows == 1:
        return [encode_post("/predict", orjson.dumps({"features": row})) for row in known[:DISTINCT_ROWS]]
    bodies = max(1, min(DISTINCT_ROWS, MAX_ROWS // rows))
    return [
        encode_post("/predict/batch", orjson.dumps({"rows": [known[(body + i) % len(known)] for i in range(rows)]}))
        for body in range(bodies)
    ]


@contextmanager
def pin_cores(workers: int) -> Iterator[tuple[int | None, int | None]]:
    """The core of the service, and that of everything else, this process included; none where they share."""
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
    """One run; `challenger` is the second version, if the case has one."""
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
        psutil.cpu_percent(percpu=True)  # what the next call says is since this one
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
    """All cases in both variants, `rounds` times."""
    available = available_cores()
    runs: dict[tuple[Case, str], list[Run]] = {key: [] for key in product(cases(axes), VARIANTS)}
    with (
        tempfile.TemporaryDirectory() as name,
        start_receiver(available[0] if len(available) > 1 else None) as receiving,
    ):
        folder = Path(name)
        bundles = {
            features: (build_bundle(folder, features), build_bundle(folder, features, version=2))
            for features in {case.features for case in cases(axes)}
        }
        for number, (case, variant) in product(range(rounds), runs):
            console.print(f"[dim]round {number + 1} of {rounds}: {case}, {variant}[/dim]")
            env = {**_environment(receiving), **VARIANTS[variant]}
            runs[case, variant].append(measure(case, *bundles[case.features], env, seconds=seconds, folder=folder))
        receiver_name = receiving.name
    return {**summarise(axes, runs), "rounds": rounds, "receiver": receiver_name, "load_average": os.getloadavg()}


def _environment(receiving: Receiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiving.http_endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "5000"}


def summarise(axes: Sequence[str], runs: dict[tuple[Case, str], list[Run]]) -> dict[str, Any]:
    """A table an axis; medians over the rounds, ratios taken round by round."""
    found = {case: _summarise_case(runs[case, "all"], runs[case, "none"]) for case in cases(axes)}
    tables = {axis: {str(value): found[Case()._replace(**{axis: value})] for value in AXES[axis]} for axis in axes}
    void = [f"{axis} {value}" for axis in axes for value, line in tables[axis].items() if line["void"]]
    usual = found[Case()]
    return {
        "ratio": None if usual["void"] else usual["ratio"],
        "cpu_ratio": usual["cpu_ratio"],
        "void": void,
        "axes": tables,
    }


def _summarise_case(all_runs: list[Run], none_runs: list[Run]) -> dict[str, Any]:
    pairs = list(zip(all_runs, none_runs, strict=True))
    return {
        "ratio": round(median(a.rate / b.rate for a, b in pairs), 3),
        "cpu_ratio": round(median(a.service_us / b.service_us for a, b in pairs), 3),
        "void": any(one.other_core_usage > MAX_CORE_USAGE for one in (*all_runs, *none_runs)),
        **{
            variant: {
                "rows_per_second": round(median(one.rate for one in runs)),
                "p50_ms": round(1000 * median(one.load.quantile(0.5) for one in runs), 1),
                "p99_ms": round(1000 * median(one.load.quantile(0.99) for one in runs), 1),
                "service_cpu_us": round(median(one.service_us for one in runs), 1),
                "exporter_cpu_us": round(median(one.sidecar_us for one in runs), 1),
                "failed": sum(one.load.failed for one in runs),
                "lost": sum(one.lost_records for one in runs),
            }
            for variant, runs in (("all", all_runs), ("none", none_runs))
        },
    }


def print_result(result: dict[str, Any]) -> None:
    """The result for people."""
    console = Console(width=max(Console().width, 130))
    for axis, lines in result["axes"].items():
        table = Table(
            axis, *("rows/s\nall", "\nnone", "\nratio", "p50 ms\nall", "\nnone", "p99 ms\nall", "\nnone"),
            *("CPU µs/row\nall", "\nnone", "\nratio", "\nexporter", "failed", "lost"),
        )  # fmt: skip
        for value, line in lines.items():
            every, none = line["all"], line["none"]
            pairs = [f"{one[key]}" for key in ("p50_ms", "p99_ms") for one in (every, none)]
            table.add_row(
                value, f"{every['rows_per_second']:,}", f"{none['rows_per_second']:,}", f"{line['ratio']}", *pairs,
                *(f"{one['service_cpu_us']}" for one in (every, none)), f"{line['cpu_ratio']}",
                f"{every['exporter_cpu_us']}", f"{every['failed'] + none['failed']}", f"{every['lost']}",
            )  # fmt: skip
        console.print(table)
    if result["void"]:
        console.print(f"[red]void but for CPU time, the other core was saturated:[/red] {', '.join(result['void'])}")
    average = " ".join(f"{number:.1f}" for number in result["load_average"])
    console.print(
        f"ratio {result['ratio']}, of CPU {result['cpu_ratio']} (all / none at the defaults, median of "
        f"{result['rounds']} rounds; {result['receiver']}; load average {average})"
    )


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds (default: 2)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds a run (default: 3)")
    parser.add_argument("--only", action="append", choices=list(AXES), metavar="AXIS", help="one of the axes")
    arguments = parser.parse_args()
    axes = arguments.only or list(AXES)
    result = run(axes, rounds=arguments.rounds, seconds=arguments.seconds, console=Console(stderr=True))
    print(json.dumps(result)) if arguments.json else print_result(result)


if __name__ == "__main__":
    main()
