"""`modeltrace report fiddler` writes events and a model description that Fiddler's client accepts."""

import json
import stat
import subprocess
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modeltrace.cli import mlflow_results
from modeltrace.errors import ModeltraceError
from modeltrace.report.venvs import Library, ensure_venv
from modeltrace.store.store import open_store
from tests.helpers.factories import TIME
from tests.helpers.report_cases import FEATURE_NAMES, HOSTILE_NAME, ReportCase, person_table, store_answers

pytestmark = pytest.mark.slow


def test_every_prediction_is_an_event(two: ReportCase, tmp_path: Path) -> None:
    """An event has inputs, the probability of the second class, the true label if there is one, an ID and a time."""
    out = tmp_path / "week.parquet"
    output = two.run("fiddler", str(out))
    events = pq.read_table(out).to_pylist()
    model = json.loads((tmp_path / "week.model.json").read_text())

    assert "429 predictions of people 1.0.0, 2.0.0" in output
    assert "299 with a true label" in output
    assert "1 prediction whose inputs were erased" in output
    assert "20 predictions of shadows" in output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert len(events) == 429
    with open_store(two.store) as store:
        stored = {row.prediction_id: row for page in store.read() for row in page}
    for event in events:
        row = stored[event["prediction_id"]]
        assert row.inputs is not None
        assert row.confidence is not None
        assert {name: event[name] for name in FEATURE_NAMES} == row.inputs
        assert event["timestamp"].timestamp() == pytest.approx(row.time / 10**9)
        assert (event["prediction_"], event["true label_"]) == (row.label, row.true_label)
        assert event["probability of yes"] == (row.confidence if row.label == "yes" else 1 - row.confidence)
    assert model["spec"]["inputs"] == list(FEATURE_NAMES)
    assert model["spec"]["outputs"] == ["probability of yes"]
    assert model["spec"]["targets"] == ["true label_"]
    assert {column["name"] for column in model["schema"]["columns"]} == set(events[0])


def test_json_lines_hold_the_same_events(two: ReportCase, tmp_path: Path) -> None:
    """Times are in ISO 8601; `--version` and `--until` select predictions."""
    options = ("--version", "1.0.0", "--until", datetime.fromtimestamp(TIME // 10**9 + 100).astimezone().isoformat())
    two.run("fiddler", str(tmp_path / "a.jsonl"), *options)
    two.run("fiddler", str(tmp_path / "a.parquet"), *options, "--force")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    events = pq.read_table(tmp_path / "a.parquet").to_pylist()

    assert len(lines) == 99
    assert [{**row, "timestamp": datetime.fromisoformat(row["timestamp"])} for row in lines] == events


def test_the_events_and_their_model_are_logged_to_mlflow(
    two: ReportCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files are artifacts of the run of the version."""
    logged: list[list[str]] = []

    def log(_: object, name: str, number: str, *, folder: Path, to: str, **__: object) -> str:
        logged.append([name, number, to, *sorted(path.name for path in folder.rglob("*.*") if path.is_file())])
        return "run"

    monkeypatch.setattr(mlflow_results, "MlflowClient", lambda: nullcontext(None))
    monkeypatch.setattr(mlflow_results, "find_number", lambda _, name, version: f"number of {name} {version}")
    monkeypatch.setattr(mlflow_results, "log_results", log)
    output = two.run("fiddler", str(tmp_path / "week.parquet"), "--version", "1.0.0", "--mlflow", "people")

    assert logged == [["people", "number of people 1.0.0", "modeltrace/reports", "week.model.json", "week.parquet"]]
    assert "logged to models:/people/number of people 1.0.0, run run" in output


def test_more_than_two_classes_and_a_regressor(packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is not set for three classes, because Fiddler requires the probability of each class."""
    for kind, task, outputs in (
        ("three", "not_set", ["prediction_", "confidence"]),
        ("regressor", "regression", ["prediction"]),
    ):
        bundle, training = packed(kind)
        store = str(tmp_path / f"{kind}.db")
        frame = person_table(20, 9)
        store_answers(
            store, bundle, frame if kind == "three" else frame[[FEATURE_NAMES[2], FEATURE_NAMES[4]]], [1] * 20
        )
        report = ReportCase(bundle, training, store, monkeypatch)
        report.run("fiddler", str(tmp_path / f"{kind}.parquet"))
        model = json.loads((tmp_path / f"{kind}.model.json").read_text())
        events = pq.read_table(tmp_path / f"{kind}.parquet").to_pylist()
        assert (model["task"], model["spec"]["outputs"]) == (task, outputs)
        assert {event["true label_"] for event in events} == ({"1"} if kind == "three" else {1.0})


def test_an_existing_file_or_an_empty_window_is_an_error(two: ReportCase, tmp_path: Path) -> None:
    """An existing file, a wrong suffix and an empty window are errors with a solution; no file is written."""
    existing = tmp_path / "existing.model.json"
    existing.write_text("mine")
    for name, options, message in (
        ("existing.parquet", (), "existing.model.json exists already; --force"),
        ("a.parquet", ("--since", "1h"), "no prediction of people since .* --since"),
        (
            "a.parquet",
            ("--version", "9"),
            r"no prediction of people 9 .*there are some of people 1.0.0, people 2.0.0",
        ),
        ("a.parquet", ("--bundle", str(tmp_path)), "bundle"),
    ):
        with pytest.raises(ModeltraceError, match=message):
            two.run("fiddler", str(tmp_path / name), *options)
    with pytest.raises(AssertionError, match=r"must end in \.parquet or \.jsonl"):  # a usage error
        two.run("fiddler", str(tmp_path / "a.csv"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".db" and path.is_file()] == [existing.name]


PROGRAM = f"""
import json, sys
import pandas as pd
from fiddler import Model, ModelSchema, ModelSpec, ModelTask, ModelTaskParams

for path in sys.argv[1:]:
    output = json.load(open(path.replace(".parquet", ".model.json")))
    schema, spec = ModelSchema(**output["schema"]), ModelSpec(**output["spec"])
    params = ModelTaskParams(**output["task_params"])
    model = Model(
        project_id="00000000-0000-0000-0000-000000000000", schema=schema, spec=spec, task=ModelTask(output["task"]),
        task_params=params, **{{k: output[k] for k in ("name", "version", "event_id_col", "event_ts_col")}},
    )
    frame = pd.read_parquet(path)
    kinds = {{column.name: column.data_type.value for column in model.schema.columns}}
    used = [*spec.inputs, *spec.outputs, *spec.targets, *spec.metadata]
    assert sorted(used) == sorted(kinds) == sorted(frame.columns), (used, kinds)
    for name, kind in kinds.items():
        dtype = frame[name].dtype.kind
        assert dtype in {{"float": "f", "int": "if", "timestamp": "M"}}.get(kind, "Ob"), (name, kind, dtype)
    print(len(frame), kinds[{HOSTILE_NAME!r}])
"""


@pytest.mark.extended
def test_the_fiddler_client_accepts_the_files(two: ReportCase, packed: Any, tmp_path: Path) -> None:
    """`fiddler.Model` is built from the description, and each column of the file has the described type."""
    python = ensure_venv(Library("fiddler", "Fiddler's client", "200 MB"), lambda _: None)
    bundle, training = packed("regressor")
    store_answers(str(tmp_path / "r.db"), bundle, person_table(20, 9)[[FEATURE_NAMES[2], FEATURE_NAMES[4]]])
    two.run("fiddler", str(tmp_path / "two.parquet"))
    ReportCase(bundle, training, str(tmp_path / "r.db"), two.monkeypatch).run("fiddler", str(tmp_path / "r.parquet"))
    files = [str(tmp_path / name) for name in ("two.parquet", "r.parquet")]
    done = subprocess.run([str(python), "-I", "-c", PROGRAM, *files], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["429 int", "20 int"]
