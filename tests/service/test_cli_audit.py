"""`modeltrace audit` against stores of each kind."""

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

from modeltrace.cli.audit import parse_time
from modeltrace.cli.main import app
from modeltrace.errors import ModeltraceError
from modeltrace.store.rows import RowBuilder, StoredLabel, StoredPrediction, from_json
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.prediction import ModelInfo
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row, stored_row, stored_rows

HOUR = 3600 * 10**9


@dataclass(frozen=True)
class Audit:
    """A store with something in it, and the command that reads it."""

    url: str
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> str:
        """Run it; what it prints on both outputs.

        Raises:
            ModeltraceError: it ended with that; the command line makes one line of it.
        """
        self.monkeypatch.setenv("MODELTRACE_STORE", self.url)
        result = CliRunner().invoke(app, ["audit", *arguments], env={"COLUMNS": "200"})
        if isinstance(result.exception, ModeltraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def kept(self) -> list[StoredPrediction]:
        """All that is kept."""
        with open_store(self.url) as store:
            return [one for chunk in store.read() for one in chunk]


@pytest.fixture
def audit(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Predictions of a classifier and of a regressor, an erased one, true labels, more than a chunk of it."""
    regressor = ModelInfo("prices", "2", "b" * 64, ("rooms", "city"), "c" * 64)
    odd = [answered_row("odd", inputs=(-0.0, 2**70, "é\0\n"), time=TIME + HOUR, label=True, confidence=None)]
    with open_store(store_url) as store:
        store.add_predictions(stored_rows(1500))
        store.add_predictions([stored_row("erased", time=TIME + 2 * HOUR)])
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(odd)))
        some = [answered_row("price", value=1e22, label=None, inputs=(3, None), time=TIME + 3 * HOUR)]
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(some, b"\xab" * 16, b"\xcd" * 8, 0, regressor)))
        store.erase(["erased"], TIME + 4 * HOUR)
        store.add_labels(
            [
                StoredLabel("odd", label=False, received=TIME + 5 * HOUR, prediction_time=TIME),
                StoredLabel("price", None, TIME + HOUR, TIME),
            ]
        )
    return Audit(store_url, monkeypatch)


def of_parquet(path: Path) -> list[dict[str, Any]]:
    """What a Parquet file has, as the store gave it."""
    table = pq.read_table(path)
    for name in ("time", "erased", "received"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast("int64"))
    found: list[dict[str, Any]] = table.to_pylist()
    return [{**one, **{name: from_json(one[name]) for name in ("inputs", "label", "true_label")}} for one in found]


def of_csv(path: Path) -> list[dict[str, Any]]:
    """What a CSV file has: an empty field is no value, a time is read to the nanosecond."""
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
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast("int64"))
    found: list[dict[str, Any]] = table.to_pylist()
    return [{**one, **{name: from_json(one[name]) for name in ("inputs", "label", "true_label")}} for one in found]


def of_json_lines(path: Path) -> list[dict[str, Any]]:
    """What a file of JSON Lines has."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "options", "reading"),
    [
        ("all.parquet", (), of_parquet), ("all.jsonl", (), of_json_lines),
        ("all.csv", (), of_csv), ("all.table", ("--format", "csv"), of_csv),
        ("all.data", ("--format", "parquet"), of_parquet),
    ],
)  # fmt: skip
def test_an_export_reads_back_equal(audit: Audit, tmp_path: Path, name: str, options: Any, reading: Any) -> None:
    """Every column of every row, in order; the file is the user's alone."""
    out = tmp_path / name
    said = audit.run("export", str(out), *options)

    assert f"1,503 predictions written to {out}" in said
    assert repr(reading(out)) == repr([one._asdict() for one in audit.kept()])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_an_export_is_of_a_time_or_of_a_trace(audit: Audit, tmp_path: Path) -> None:
    """`--since` is included, `--until` is not; an empty one is a file, too."""
    at = datetime.fromtimestamp(TIME // 10**9, UTC)
    lines = str(tmp_path / "a.jsonl")
    hours = [at.replace(hour=at.hour - 20 if at.hour > 20 else at.hour).isoformat()]
    audit.run("export", lines, "--since", hours[0], "--until", "2023-11-14T23:13:20+00:00")
    assert len(of_json_lines(Path(lines))) == 1500
    audit.run("export", lines, "--trace", "AB" * 16, "--force")
    assert [one["prediction_id"] for one in of_json_lines(Path(lines))] == ["price"]
    for name in ("none.jsonl", "none.parquet"):
        assert "0 predictions written" in audit.run("export", str(tmp_path / name), "--since", "1h")
    assert of_parquet(tmp_path / "none.parquet") == []


@pytest.mark.parametrize(
    ("model", "number"), [("prices", 1), ("prices:2", 1), (MODEL.name, 1502), (f"{MODEL.name}:{MODEL.version}", 1502)]
)
def test_an_export_may_be_of_one_model(audit: Audit, tmp_path: Path, model: str, number: int) -> None:
    """By its name, or by name and version."""
    out = tmp_path / "some.jsonl"
    assert f"{number:,} predictions written" in audit.run("export", str(out), "--model", model)
    assert {one["model_name"] for one in of_json_lines(out)} == {model.partition(":")[0]}


def test_an_export_says_where_two_models_have_one_version(audit: Audit, tmp_path: Path) -> None:
    """Their predictions are told apart by the hash, which is a column."""
    out = tmp_path / "two.jsonl"
    assert "call themselves" not in audit.run("export", str(out), "--model", "prices")
    retrained = ModelInfo("prices", "2", "d" * 64, ("rooms", "city"), "c" * 64)
    one = [answered_row("new", value=1.0, label=None, inputs=(3, None), time=TIME)]
    with open_store(audit.url) as store:
        store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest(one, model=retrained)))
    said = audit.run("export", str(out), "--model", "prices:2", "--force")
    assert "2 models call themselves prices 2: see model_hash (bbbbbbbbbbbb…, dddddddddddd…)" in said
    assert {row["model_hash"] for row in of_json_lines(out)} == {"b" * 64, "d" * 64}


@pytest.mark.parametrize("model", ["price", "prices:3", ":2", "prices:"])
def test_a_model_that_the_store_does_not_have_is_named(audit: Audit, tmp_path: Path, model: str) -> None:
    """With those that it has; no file is written."""
    with pytest.raises(ModeltraceError, match=f"no predictions of {model} in .*; it has those of: .*prices:2"):
        audit.run("export", str(tmp_path / "some.jsonl"), "--model", model)
    assert not list(tmp_path.glob("some*"))


def test_an_export_replaces_nothing_unless_told(audit: Audit, tmp_path: Path) -> None:
    """A file that is there, a suffix that says nothing, a folder that is none: each is an error."""
    there = tmp_path / "there.jsonl"
    there.write_text("mine")

    with pytest.raises(ModeltraceError, match="--force replaces it"):
        audit.run("export", str(there))
    with pytest.raises(ModeltraceError, match="--format parquet, jsonl or csv"):
        audit.run("export", str(tmp_path / "a.txt"))
    with pytest.raises(ModeltraceError, match="cannot write"):
        audit.run("export", str(tmp_path / "nowhere" / "a.jsonl"))
    assert there.read_text() == "mine"


def test_a_prediction_is_shown_by_its_id_or_its_trace(audit: Audit) -> None:
    """As JSON, with times that can be read."""
    shown = json.loads(audit.run("show", "odd"))
    assert shown["time"] == "2023-11-14T23:13:20.000000000Z"
    assert shown["inputs"] == {"radius": -0.0, "texture": 2**70, "name": "é\0\n"}
    assert (shown["label"], shown["true_label"]) == (True, False)
    assert json.loads(audit.run("show", "AB" * 16))["prediction_id"] == "price"

    with pytest.raises(ModeltraceError, match="no prediction or trace nothing in"):
        audit.run("show", "nothing")


def test_inputs_are_erased_and_the_rest_stays(audit: Audit) -> None:
    """It says what it does not reach; what is not there is an error, once the others are erased."""
    said = audit.run("erase", "p00000", "p00001")
    assert "the inputs of 2 predictions are removed" in said
    assert "Loki" in said

    with pytest.raises(ModeltraceError, match=r"not in .*: unknown"):
        audit.run("erase", "unknown", "p00002")
    kept = audit.kept()
    assert [one.inputs for one in kept[:4]] == [None, None, None, {"radius": 1.5}]
    assert len(kept) == 1503


def test_old_predictions_are_pruned(audit: Audit) -> None:
    """Those before a time, with their labels."""
    assert "1,501 predictions deleted" in audit.run("prune", "--before", "2023-11-14T23:14:00")
    assert [one.prediction_id for one in audit.kept()] == ["erased", "price"]


def test_there_must_be_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None by the settings, or none there: neither makes one."""
    with pytest.raises(ModeltraceError, match="MODELTRACE_STORE is none"):
        Audit("none", monkeypatch).run("show", "p")
    with pytest.raises(ModeltraceError, match="there is no prediction store at"):
        Audit(str(tmp_path / "s.db"), monkeypatch).run("show", "p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000001", 1000),
        ("2023-11-14T22:13:20Z", TIME),
    ],
)
def test_a_moment_is_exact(text: str, at: int) -> None:
    """UTC where there is no offset."""
    assert parse_time(text) == at


@pytest.mark.parametrize(
    ("text", "at"),
    [("0001-01-01T00:00:00+14:00", 0), ("99999999999d", 0), ("9999-12-31", 2**63 - 1), ("2300-01-01", 2**63 - 1)],
)
def test_a_moment_that_no_store_can_hold_is_the_limit(text: str, at: int) -> None:
    """Whoever asks for all there is may write any early or late date."""
    assert parse_time(text) == at


def test_a_moment_may_be_some_time_ago() -> None:
    """`7d`, `12h`, `30m`, `10s`; anything else is an error."""
    now = datetime.now(UTC).timestamp() * 1e9
    assert abs(now - parse_time("7d") - 7 * 24 * HOUR) < HOUR
    assert parse_time("30m") > parse_time("12h") > parse_time("2d")
    with pytest.raises(typer.BadParameter, match="7d, 12h"):
        parse_time("yesterday")
