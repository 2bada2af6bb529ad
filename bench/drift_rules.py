"""What the drift rules of Prometheus cost.

A day of the counters of one process, exported every minute, is written into Prometheus' database. Prometheus then
evaluates the rules of deploy/prometheus for some minutes. The counts come from a model with many numeric features; each
minute has as many predictions as the requests of a busy service.

`ratio` is the share of one core that all evaluations of the drift rules take: for each group, the duration of an
evaluation divided by its interval. The bench needs Prometheus' binaries: `./dev stack build`.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import httpx
import numpy as np
import pandas as pd
import platformdirs
import psutil
from rich.console import Console
from rich.table import Table

from bench.command import make_parser, print_as
from bench.processes import free_port, run_process
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.output_reference import build_output_reference
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.telemetry.metrics.instruments import FEATURE_OBSERVATIONS, PREDICTIONS
from stack.cache import Cache
from stack.components import read_components

RULES: Final = Path(__file__).parents[1] / "deploy" / "prometheus" / "rules"
DAY: Final = 24 * 60 * 60
EXPORT_INTERVAL: Final = 60
# Gauges are read over 15 minutes, so older samples of them are not needed.
GAUGE_HISTORY: Final = 20 * 60
TRAINING_ROWS: Final = 2000
PREDICTIONS_PER_MINUTE: Final = 600
CLASSES: Final = ("no", "yes")
# The duration of a group is read after each of its rules has been evaluated at least once.
LONGEST_INTERVAL: Final = 120

Labels = Mapping[str, str]


def make_model(features: int) -> Model:
    """Return a model whose features are normal."""
    rng = np.random.default_rng(0)
    columns = [describe_column(pd.Series(rng.normal(size=TRAINING_ROWS), name=f"feature_{i}")) for i in range(features)]
    outputs = [ModelOutput(CLASSES[row % 2]) for row in range(TRAINING_ROWS)]
    return Model(
        name="bench",
        version="1",
        hash="",
        task="classifier",
        classes=CLASSES,
        schema=Schema(features=tuple(columns)),
        as_frame=False,
        created="",
        predict_fn=lambda _: [],
        output_reference=build_output_reference(outputs, CLASSES),
        confidence_threshold=None,
        held_out=HeldOut(method="held_out", rows=TRAINING_ROWS),
        duplicate_probability=1e-5,
    )


def write_samples(model: Model, end: int, file: TextIO) -> int:
    """Write gauges and counters until `end`, in seconds, in the OpenMetrics format. Return the number of samples."""
    common = {"job": "bench", "instance": "a", "ml_model_name": model.name, "ml_model_version": model.version}
    samples = 0
    for instrument, points in reference_metrics(model).gauges.items():
        name = _metric_name(instrument.name) + ("_ratio" if instrument.unit == "1" else "")
        file.write(f"# TYPE {name} gauge\n")
        times = range(end - GAUGE_HISTORY, end, EXPORT_INTERVAL)
        for value, attributes in points:
            labels = common | {_metric_name(key): text for key, text in attributes.items()}
            samples += _write_series(file, name, labels, ((moment, value) for moment in times))
    times = range(end - DAY, end, EXPORT_INTERVAL)
    rng = np.random.default_rng(1)

    def count(shares: Iterable[float]) -> Iterator[list[tuple[int, float]]]:
        counts = rng.multinomial(PREDICTIONS_PER_MINUTE, list(shares), size=len(times)).cumsum(axis=0)
        yield from ([*zip(times, column.tolist(), strict=True)] for column in counts.T)

    file.write(f"# TYPE {_metric_name(FEATURE_OBSERVATIONS.name)} counter\n")
    for feature in model.schema.features:
        shares = feature.reference.shares
        for bin_name, series in zip(shares, count(shares.values()), strict=True):
            labels = {**common, "ml_feature_name": feature.name, "ml_feature_bin": bin_name}
            samples += _write_series(file, f"{_metric_name(FEATURE_OBSERVATIONS.name)}_total", labels, series)
    file.write(f"# TYPE {_metric_name(PREDICTIONS.name)} counter\n")
    for label, series in zip(CLASSES, count([0.5, 0.5]), strict=True):
        labels = {**common, "ml_prediction_label": label}
        samples += _write_series(file, f"{_metric_name(PREDICTIONS.name)}_total", labels, series)
    file.write("# EOF\n")
    return samples


def _metric_name(name: str) -> str:
    return name.replace(".", "_")


def _write_series(file: TextIO, name: str, labels: Labels, samples: Iterable[tuple[int, float]]) -> int:
    matchers = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = f"{name}{{{matchers}}}"
    lines = [f"{series} {value} {moment}\n" for moment, value in samples]
    file.writelines(lines)
    return len(lines)


def run(features: int, minutes: float, console: Console) -> dict[str, Any]:
    """Fill Prometheus' database and let Prometheus evaluate the rules."""
    component = read_components().components["prometheus"]
    binaries = Cache(platformdirs.user_cache_path("modeltrace") / "stack").folder("prometheus", component)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        metrics, data = folder / "metrics.txt", folder / "data"
        with metrics.open("w") as file:
            samples = write_samples(make_model(features), int(time.time()), file)
        console.print(f"[dim]{samples:,} samples are written[/dim]")
        create_blocks = ["tsdb", "create-blocks-from", "openmetrics", "--quiet", str(metrics), str(data)]
        subprocess.run([str(binaries / "promtool"), *create_blocks], check=True, stdout=subprocess.DEVNULL)
        metrics.unlink()
        config = folder / "prometheus.yml"
        config.write_text(f"global: {{evaluation_interval: 1m}}\nrule_files: ['{RULES}/drift.yml']\n")
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(binaries / "prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={address}",
            "--enable-feature=promql-extended-range-selectors",
        ]
        with run_process(command, ready_url=f"http://{address}/-/ready") as process:
            console.print(f"[dim]Prometheus evaluates the rules for {minutes:g} minutes[/dim]")
            time.sleep(minutes * 60)
            states = _query(address, 'count(job_model_feature:ml_drift:state{ml_drift_statistic="psi",window="24h"})')
            memory = psutil.Process(process.pid).memory_info().rss
            groups = _group_durations(httpx.get(f"http://{address}/metrics").raise_for_status().text)
    return {
        "ratio": round(sum(group["seconds"] / group["interval"] for group in groups.values()), 4),
        "features": features,
        "samples": samples,
        "features_with_state": states,
        "groups": groups,
        "memory_mb": round(memory / 2**20),
    }


def _query(address: str, expression: str) -> int:
    """Return the value of an expression that has one value, or 0 if it has none."""
    response = httpx.get(f"http://{address}/api/v1/query", params={"query": expression}).raise_for_status()
    return sum(int(series["value"][1]) for series in response.json()["data"]["result"])


def _group_durations(exposition: str) -> dict[str, dict[str, float]]:
    """Return interval and duration of the last evaluation of each rule group, in seconds."""
    groups: dict[str, dict[str, float]] = {}
    for metric, key in (("interval", "interval"), ("last_duration", "seconds")):
        pattern = rf'^prometheus_rule_group_{metric}_seconds{{rule_group="[^"]*;([^"]+)"}} (\S+)$'
        for group, value in re.findall(pattern, exposition, flags=re.MULTILINE):
            groups.setdefault(group, {})[key] = round(float(value), 3)
    return groups


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("group", "seconds per evaluation", "interval in seconds")
    for name, group in result["groups"].items():
        table.add_row(name, f"{group['seconds']:.2f}", f"{group['interval']:.0f}")
    console = Console()
    console.print(table)
    console.print(
        f"{result['features']} features, {result['samples']:,} samples: {result['ratio']:.1%} of a core, "
        f"{result['memory_mb']} MB of memory; {result['features_with_state']} features have a state"
    )


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--features", type=int, default=300, help="numeric features of the model (default: 300)")
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes of rule evaluation (default: 6)")
    arguments = parser.parse_args()
    result = run(arguments.features, max(arguments.minutes, 2.5 * LONGEST_INTERVAL / 60), Console(stderr=True))
    print_as(result, print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
