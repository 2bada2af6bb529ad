"""The option `--mlflow` of `evaluate` and `report`: log results to the runs of registered versions."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final
from urllib.parse import quote

import typer

from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.run_results import find_number, log_results
from modeltrace.evaluation.gauges import metric_points
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.render import to_json
from modeltrace.store.rows import label_key
from modeltrace.terminal import echo

MlflowName = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="NAME",
        help="Also log the results to the MLflow run of the version of this registered model (MLFLOW_TRACKING_URI).",
    ),
]
_SECOND: Final = 10**9
# The longest part of a file name that an output's name has.
MAX_NAME_LENGTH: Final = 100


def metric_values(metrics: ModelMetrics) -> Mapping[str, float]:
    """Return the metrics by the names of the gauges; `/` precedes the class, the mean or the quantile."""
    classes = metrics.classification.classes if metrics.classification else ()
    points = metric_points(metrics, {label_key(entry.label) for entry in classes})
    return {"/".join([point.instrument.name, *point.attributes.values()]): point.value for point in points}


def log_evaluation(name: str, results: Iterable[ModelMetrics]) -> None:
    """Log the metrics of each version, and their JSON as an artifact.

    Raises:
        SettingsError: MLflow is not installed.
        BundleNotFoundError: a version is not registered.
        RegistryUnavailableError: the registry cannot be reached.
    """
    now = time.time_ns()
    with MlflowClient() as client:
        # All versions are found before anything is logged.
        found = [(metrics, find_number(client, name, metrics.model_version)) for metrics in results]
        for metrics, number in found:
            with TemporaryDirectory() as folder:
                text = json.dumps(to_json(metrics), indent=2, ensure_ascii=False)
                output = "" if metrics.output is None else f"-{quote(metrics.output, safe='')[:MAX_NAME_LENGTH]}"
                Path(folder, f"{_timestamp(now)}{output}.json").write_text(text + "\n", encoding="utf-8")
                values = metric_values(metrics)
                _log(client, name, number, values, now, Path(folder), "modeltrace/evaluations")


def log_report(name: str, version: str, *outputs: Path) -> None:
    """Log a report, one or several files or folders, as artifacts of a version.

    Raises:
        SettingsError: MLflow is not installed.
        BundleNotFoundError: the version is not registered.
        RegistryUnavailableError: the registry cannot be reached.
    """
    now = time.time_ns()
    with MlflowClient() as client, TemporaryDirectory() as folder:
        parent = Path(folder, _timestamp(now))
        parent.mkdir()
        for out in outputs:
            copy = parent / out.name
            shutil.copytree(out, copy) if out.is_dir() else shutil.copyfile(out, copy)
        number = find_number(client, name, version)
        _log(client, name, number, {}, now, Path(folder), "modeltrace/reports")


def _log(
    client: MlflowClient, name: str, number: str, metrics: Mapping[str, float], now: int, folder: Path, to: str
) -> None:
    run_id = log_results(client, name, number, metrics=metrics, time_ns=now, folder=folder, to=to)
    echo(f"logged to models:/{name}/{number}, run {run_id}: {len(metrics)} metrics, artifacts in {to}", err=True)


def _timestamp(now: int) -> str:
    return datetime.fromtimestamp(now // _SECOND, UTC).strftime("%Y-%m-%dT%H%M%SZ")
