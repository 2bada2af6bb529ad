"""`modeltrace audit` exports, shows, erases and prunes predictions in each kind of store."""

import json
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from modeltrace.cli.main import app
from modeltrace.cli.times import parse_time
from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import RowBuilder, StoredLabel, StoredPrediction, from_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.model_info import ModelInfo
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row, stored_row, stored_rows

HOUR = 3600 * 10**9


@dataclass(frozen=True)
class Audit:
    """A store with predictions, and the command."""

    url: str
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> str:
        """Run the command and return its output on both streams.

        Raises:
            ModeltraceError: the error of the command, which the command line prints as one line.
        """
        self.monkeypatch.setenv("MODELTRACE_STORE", self.url)
        result = CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "200"})
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def predictions(self) -> list[StoredPrediction]:
        """Return all predictions in the store."""
        with open_store(self.url) as store:
            return [prediction for chunk in store.read() for prediction in chunk]


@pytest.fixture
def audit(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """A store with more than a chunk of predictions of two models, an erased one, and true labels."""
    regressor = ModelInfo("prices", "2", "b" * 64, ("rooms", "city"), "c" * 64)
    odd = [answered_row("odd", inputs=(-0.0, 2**70, "é\0\n"), time=TIME + HOUR, label=True, confidence=None)]
    with open_store(store_url) as store:
        store.add_predictions(stored_rows(1500))
        store.add_predictions([stored_row("erased", time=TIME + 2 * HOUR)])
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(odd)))
        price = [answered_row("price", value=1e22, label=None, inputs=(3, None), time=TIME + 3 * HOUR)]
        store.add_predictions(
            RowBuilder("0.1.0").build(AnsweredRequest(price, b"\xab" * 16, b"\xcd" * 8, 0, regressor))
        )
        store.erase(["erased"], TIME + 4 * HOUR)
        store.add_labels(
            [
                StoredLabel("odd", label=False, received=TIME + 5 * HOUR, prediction_time=TIME),
                StoredLabel("price", None, TIME + HOUR, TIME),
            ]
        )
    return Audit(store_url, monkeypatch)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as the store has them."""
    table = pq.read_table(path)
    for name in ("time", "erased", "received"):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table.column(name).cast("int64"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{**row, **{name: from_json(row[name]) for name in ("inputs", "label", "true_label")}} for row in rows]


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file. An empty field is a missing value; times have nanoseconds."""
    times = dict.fromkeys(("time", "erased", "received"), pa.timestamp("ns", "UTC"))
    texts = dict.fromkeys(("trace_id", "span_id", "inputs", "label", "shadow_of", "true_label"), pa.string())
    options = pyarrow.csv.ConvertOptions(
        column_types={**times, **texts, "value": pa.float64()},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pyarrow.csv.read_csv(
        path, convert_options=options, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    )
    for name in times:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table.column(name).cast("int64"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{**row, **{name: from_json(row[name]) for name in ("inputs", "label", "true_label")}} for row in rows]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "options", "read_rows"),
    [
        ("all.parquet", (), read_parquet), ("all.jsonl", (), read_json_lines),
        ("all.csv", (), read_csv), ("all.table", ("--format", "csv"), read_csv),
        ("all.data", ("--format", "parquet"), read_parquet),
    ],
)  # fmt: skip
def test_export_is_complete(audit: Audit, tmp_path: Path, name: str, options: Any, read_rows: Any) -> None:
    """The file has every column of every row in order, and is readable only by the user."""
    out = tmp_path / name
    output = audit.run("export", str(out), *options)

    assert f"1,503 predictions written to {out}" in output
    assert repr(read_rows(out)) == repr([prediction._asdict() for prediction in audit.predictions()])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_export_of_a_period_or_a_trace(audit: Audit, tmp_path: Path) -> None:
    """`--since` is inclusive, `--until` exclusive; a file without rows is written, too."""
    at = datetime.fromtimestamp(TIME // 10**9, UTC)
    lines = str(tmp_path / "a.jsonl")
    hours = [at.replace(hour=at.hour - 20 if at.hour > 20 else at.hour).isoformat()]
    audit.run("export", lines, "--since", hours[0], "--until", "2023-11-14T23:13:20+00:00")
    assert len(read_json_lines(Path(lines))) == 1500
    audit.run("export", lines, "--trace", "AB" * 16, "--force")
    assert [row["prediction_id"] for row in read_json_lines(Path(lines))] == ["price"]
    for name in ("none.jsonl", "none.parquet"):
        assert "0 predictions written" in audit.run("export", str(tmp_path / name), "--since", "1h")
    assert read_parquet(tmp_path / "none.parquet") == []


@pytest.mark.parametrize(
    ("options", "name", "number"),
    [
        (("--name", "prices"), "prices", 1),
        (("--name", "prices", "--version", "2"), "prices", 1),
        (("--version", "2"), "prices", 1),
        (("--name", MODEL.name), MODEL.name, 1502),
        (("--name", MODEL.name, "--version", MODEL.version), MODEL.name, 1502),
    ],
)
def test_export_of_a_model(audit: Audit, tmp_path: Path, options: tuple[str, ...], name: str, number: int) -> None:
    """A model is selected by its name, its version or both."""
    out = tmp_path / "some.jsonl"
    assert f"{number:,} predictions written" in audit.run("export", str(out), *options)
    assert {row["model_name"] for row in read_json_lines(out)} == {name}


def test_export_reports_two_models_with_the_same_version(audit: Audit, tmp_path: Path) -> None:
    """The column model_hash distinguishes their predictions."""
    out = tmp_path / "two.jsonl"
    assert "have the name" not in audit.run("export", str(out), "--name", "prices")
    retrained = ModelInfo("prices", "2", "d" * 64, ("rooms", "city"), "c" * 64)
    rows = [answered_row("new", value=1.0, label=None, inputs=(3, None), time=TIME)]
    with open_store(audit.url) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(rows, model=retrained)))
    output = audit.run("export", str(out), "--name", "prices", "--version", "2", "--force")
    assert "2 models have the name prices 2: see model_hash (bbbbbbbbbbbb…, dddddddddddd…)" in output
    assert {row["model_hash"] for row in read_json_lines(out)} == {"b" * 64, "d" * 64}


@pytest.mark.parametrize(
    "options", [("--name", "price"), ("--name", "prices", "--version", "3"), ("--name", ""), ("--version", "prices")]
)
def test_unknown_model_is_an_error(audit: Audit, tmp_path: Path, options: tuple[str, ...]) -> None:
    """The message lists the models in the store; no file is written."""
    with pytest.raises(ModeltraceError, match=r"no predictions of .* in .*; it has these models: .*prices 2"):
        audit.run("export", str(tmp_path / "some.jsonl"), *options)
    assert not list(tmp_path.glob("some*"))


def test_export_rejects_an_unusable_file(audit: Audit, tmp_path: Path) -> None:
    """An existing file, an unknown suffix and a missing folder are errors."""
    existing = tmp_path / "existing.jsonl"
    existing.write_text("mine")

    with pytest.raises(ModeltraceError, match="--force replaces it"):
        audit.run("export", str(existing))
    with pytest.raises(ModeltraceError, match="--format parquet, jsonl or csv"):
        audit.run("export", str(tmp_path / "a.txt"))
    with pytest.raises(ModeltraceError, match="cannot write"):
        audit.run("export", str(tmp_path / "nowhere" / "a.jsonl"))
    assert existing.read_text() == "mine"


def test_prediction_is_shown_by_its_id_or_its_trace(audit: Audit) -> None:
    """The prediction is printed as JSON with readable times."""
    shown = json.loads(audit.run("show", "odd"))
    assert shown["time"] == "2023-11-14T23:13:20.000000000Z"
    assert shown["inputs"] == {"radius": -0.0, "texture": 2**70, "name": "é\0\n"}
    assert (shown["label"], shown["true_label"]) == (True, False)
    assert json.loads(audit.run("show", "AB" * 16))["prediction_id"] == "price"

    with pytest.raises(ModeltraceError, match="no prediction, trace or external ID nothing in"):
        audit.run("show", "nothing")


def test_inputs_are_erased_and_the_rest_stays(audit: Audit) -> None:
    """The output mentions other copies; an unknown prediction is an error after the others are erased."""
    output = audit.run("erase", "p00000", "p00001")
    assert "the inputs of 2 predictions are erased" in output
    assert "Loki" in output

    with pytest.raises(ModeltraceError, match=r"not in .*: unknown"):
        audit.run("erase", "unknown", "p00002")
    predictions = audit.predictions()
    assert [prediction.inputs for prediction in predictions[:4]] == [None, None, None, {"radius": 1.5}]
    assert len(predictions) == 1503


def test_predictions_are_found_and_erased_by_external_id(audit: Audit, tmp_path: Path) -> None:
    """`show`, `export --id` and `erase --id`; an external ID that looks like a trace ID is found, too."""
    with open_store(audit.url) as store:
        for prediction_id, external_id in (("a", "order-17"), ("b", "order-17"), ("c", "ab" * 16), ("d", "order-18")):
            request = AnsweredRequest([answered_row(prediction_id)], external_ids=(external_id,))
            store.add_predictions(RowBuilder("0.1.0").build(request))

    assert json.loads(audit.run("show", "order-18"))["prediction_id"] == "d"
    assert json.loads(audit.run("show", "ab" * 16))["prediction_id"] == "price"  # the trace takes precedence
    audit.run("export", str(tmp_path / "orders.jsonl"), "--id", "order-17")
    exported = [json.loads(line) for line in (tmp_path / "orders.jsonl").read_text().splitlines()]
    assert [(row["prediction_id"], row["external_id"]) for row in exported] == [("a", "order-17"), ("b", "order-17")]

    assert "the inputs of 3 predictions are erased" in audit.run("erase", "d", "--id", "order-17")
    with pytest.raises(ModeltraceError, match=r"not in .*: order-17, order-99"):
        audit.run("erase", "--id", "order-17", "--id", "order-99", "--id", "ab" * 16)
    erased = {
        row.prediction_id: (row.inputs, row.external_id) for row in audit.predictions() if len(row.prediction_id) == 1
    }
    assert erased == dict.fromkeys("abcd", (None, None))


def test_erase_needs_a_prediction(audit: Audit) -> None:
    """Neither a prediction ID nor an external ID is an error, and not the whole store."""
    with pytest.raises(AssertionError, match="name predictions by PREDICTION_ID or --id"):
        audit.run("erase")


def test_old_predictions_are_pruned(audit: Audit) -> None:
    """Predictions before a time are deleted with their labels."""
    assert "1,501 predictions deleted" in audit.run("prune", "--before", "2023-11-14T23:14:00")
    assert [prediction.prediction_id for prediction in audit.predictions()] == ["erased", "price"]


def test_missing_store_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is turned off or does not exist is an error and is not created."""
    with pytest.raises(ModeltraceError, match="MODELTRACE_STORE is none"):
        Audit("none", monkeypatch).run("show", "p")
    with pytest.raises(ModeltraceError, match="there is no prediction store at"):
        Audit(str(tmp_path / "s.db"), monkeypatch).run("show", "p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000001", 1000),
        ("2023-11-14T22:13:20Z", TIME),
    ],
)
def test_time_is_exact(text: str, nanoseconds: int) -> None:
    """A time without an offset is in UTC."""
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0001-01-01T00:00:00+14:00", 0), ("99999999999d", 0), ("9999-12-31", 2**63 - 1), ("2300-01-01", 2**63 - 1)],
)
def test_time_outside_the_limits_is_replaced_by_the_limit(text: str, nanoseconds: int) -> None:
    """Any early or late date may be used to select all predictions."""
    assert parse_time(text) == nanoseconds


def test_time_may_be_relative() -> None:
    """`7d`, `12h` and `30m` mean how long ago; any other text is an error."""
    now = datetime.now(UTC).timestamp() * 1e9
    assert abs(now - parse_time("7d") - 7 * 24 * HOUR) < HOUR
    assert parse_time("30m") > parse_time("12h") > parse_time("2d")
    with pytest.raises(typer.BadParameter, match="7d, 12h"):
        parse_time("yesterday")
    for text in ("7", "1w", "d", "-7d"):
        with pytest.raises(typer.BadParameter, match="7d, 12h"):
            parse_time(text)
