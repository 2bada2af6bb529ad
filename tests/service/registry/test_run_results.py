"""`evaluate --mlflow` and `report --mlflow` log to the run of the registered version in a real MLflow registry."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.publish import register
from modeltrace.bundles.registry.run_results import find_number, log_results
from modeltrace.cli import mlflow_results
from modeltrace.cli.main import app
from modeltrace.cli.mlflow_results import log_report
from modeltrace.errors import BundleNotFoundError, ModeltraceError
from modeltrace.store.rows import StoredLabel, to_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.bundles import pack_iris
from tests.helpers.factories import stored_row

pytestmark = pytest.mark.slow
SECOND = 10**9


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, MlflowClient]]:
    """Yield a registry with two versions of the model iris, and its client."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, MlflowClient() as client:
        patch.chdir(folder)  # MLflow stores files in its working folder
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        # Each start of the process takes seconds: the commands use this one.
        patch.setattr(mlflow_results, "MlflowClient", lambda: nullcontext(client))
        for version in ("1.0.0", "2.0.0"):
            register(client, pack_iris(folder / version, version), "flowers", None)
        yield folder, client


def run(folder: Path, *arguments: str) -> str:
    """Run `evaluate` on the store of the folder, and return standard output."""
    env = {"MODELTRACE_STORE": f"sqlite:///{folder}/predictions.db"}
    result = CliRunner().invoke(app, ["evaluate", *arguments], env=env)
    if isinstance(result.exception, ModeltraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def store_predictions(folder: Path, version: str) -> None:
    """Store ten labelled predictions of a version, eight of them right."""
    now = time.time_ns() - 60 * SECOND
    model = ModelInfo("iris", version, version[0] * 64, ())
    rows = [
        stored_row(f"{version}-{n}", time=now + n, model=model, inputs=None, label=to_json("a"), confidence=0.75)
        for n in range(10)
    ]
    with open_store(f"sqlite:///{folder}/predictions.db") as store:
        store.add_predictions(rows)
        store.add_labels(
            [
                StoredLabel(row.prediction_id, "a" if n < 8 else "b c?", row.time + SECOND, row.time)
                for n, row in enumerate(rows)
            ]
        )


def test_an_evaluation_is_logged_to_the_run_of_its_version(registry: tuple[Path, MlflowClient]) -> None:
    """Metrics with the names of the gauges, with a step for each evaluation, and the JSON that is printed."""
    folder, _ = registry
    for version in ("1.0.0", "2.0.0"):
        store_predictions(folder, version)
    printed = json.loads(run(folder, "--json", "--since", "1h", "--mlflow", "flowers"))
    time.sleep(1.1)  # the next step
    run(folder, "--json", "--since", "1h", "--version", "2.0.0", "--mlflow", "flowers")

    histories, files = read_runs(folder)
    assert [len(history) for history in histories] == [1, 2]
    for history in histories:
        for step, timestamp, value in history:
            assert value == pytest.approx(0.8)
            assert step == timestamp // 1000
            assert abs(step - time.time()) < 120
    assert [len(paths) for paths in files] == [1, 2]
    assert json.loads(files[0][0].read_text()) == next(item for item in printed if item["model_version"] == "1.0.0")


def read_runs(folder: Path) -> tuple[list[list[tuple[int, int, float]]], list[list[Path]]]:
    """Return the history of the accuracy and the files of both runs, in the order of the versions."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        runs = database.execute("SELECT run_id FROM model_versions ORDER BY version").fetchall()
        histories = [
            database.execute(
                "SELECT step, timestamp, value FROM metrics WHERE run_uuid = ? AND key = 'ml.evaluation.accuracy'", run
            ).fetchall()
            for run in runs
        ]
        classes = database.execute("SELECT DISTINCT key FROM metrics WHERE key LIKE 'ml.evaluation.recall/%'")
        assert {key for (key,) in classes} == {
            f"ml.evaluation.recall/{name}" for name in ("a", "b c_", "macro", "weighted")
        }
    files = [sorted(folder.glob(f"mlruns/**/{run}/artifacts/modeltrace/evaluations/*.json")) for (run,) in runs]
    return histories, files


def test_a_version_that_is_not_registered_is_an_error(registry: tuple[Path, MlflowClient]) -> None:
    """Nothing is logged for the other versions either; the message says how to register it."""
    folder, client = registry
    store_predictions(folder, "3.0.0")
    before = sorted(folder.glob("mlruns/**/modeltrace/evaluations/*.json"))
    with pytest.raises(BundleNotFoundError, match=r"no version with the tag modeltrace.version=3.0.0.*--register"):
        run(folder, "--since", "1h", "--mlflow", "flowers")
    with pytest.raises(BundleNotFoundError):
        run(folder, "--since", "1h", "--version", "1.0.0", "--mlflow", "unknown")
    assert sorted(folder.glob("mlruns/**/modeltrace/evaluations/*.json")) == before
    assert find_number(client, "flowers", "2.0.0") == "2"


def test_a_report_is_an_artifact_of_the_version(registry: tuple[Path, MlflowClient], tmp_path: Path) -> None:
    """A file, and a folder."""
    folder, _ = registry
    report = tmp_path / "week.html"
    report.write_text("<p>report</p>")
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "summary.json").write_text("{}")
    for out in (report, profiles):
        log_report("flowers", "1.0.0", out)

    assert [path.read_text() for path in folder.glob("mlruns/**/modeltrace/reports/*/week.html")] == ["<p>report</p>"]
    assert len([*folder.glob("mlruns/**/modeltrace/reports/*/profiles/summary.json")]) == 1


def test_many_metrics_are_logged_in_several_requests(registry: tuple[Path, MlflowClient], tmp_path: Path) -> None:
    """MLflow accepts 1,000 metrics in a request."""
    _, client = registry
    metrics = {f"m{number}": float(number) for number in range(1001)}
    log_results(client, "flowers", "1", metrics=metrics, time_ns=10**18, folder=tmp_path, to="x")
