"""Predictions as Parquet files by day: readable by DuckDB, and by `modeltrace evaluate` with equal metrics."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bench.prediction_store import is_close
from modeltrace.cli.main import app
from modeltrace.errors import ModeltraceError
from modeltrace.store.day_files import DAY_NS, export_days, open_exported_store, whole_days
from modeltrace.store.export import ExportError, export_predictions
from modeltrace.store.rows import StoredLabel, StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from tests.helpers.factories import stored_row
from tests.helpers.many import running_s3

START = 19_000 * DAY_NS  # 2022-01-08
FILES = [f"date=2022-01-{day:02}/predictions.parquet" for day in (8, 9, 10)]
ODD = {"inputs": '{"x":-0.0,"y":1180591620717411303424,"z":"é\\u0000"}', "label": '"benign"'}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with 2,500 predictions on three days, labels for two thirds of them, and a shadow with its label."""
    with open_store(str(tmp_path / "predictions.db")) as store:
        rows = [
            stored_row(
                f"p{number:05}",
                time=START + number * (3 * DAY_NS // 2500),
                label='"benign"' if number % 5 else '"malignant"',
                confidence=0.5 + number % 50 / 100,
                tags=json.dumps({"country": "DE" if number % 2 else "FR"}),
                probabilities='[["benign",0.75],["malignant",0.25]]',
            )
            for number in range(2500)
        ]
        rows[7] = rows[7]._replace(**ODD)
        shadow = stored_row("shadow", time=rows[0].time + 1)._replace(shadow_of="p00000")
        store.add_predictions([*rows, shadow])
        store.add_labels(
            [
                StoredLabel(row.prediction_id, "benign" if index % 7 else "malignant", row.time + 10**9, row.time)
                for index, row in enumerate(rows)
                if index % 3 == 0
            ]
        )
        yield store


def stored(store: Store, selection: Selection = Selection()) -> list[StoredPrediction]:  # noqa: B008  immutable
    """Return the predictions of a store."""
    return [prediction for page in store.read(selection) for prediction in page]


@contextmanager
def loaded(source: Path | str, since: int | None = None, until: int | None = None) -> Iterator[list[StoredPrediction]]:
    """Return the predictions that are loaded from exported files."""
    with open_exported_store(str(source), since, until) as copy:
        yield stored(copy)


def test_each_day_has_a_file_that_duckdb_reads(store: Store, tmp_path: Path) -> None:
    """The folder is a table with the day as a column, and only the user can read the files."""
    progress: list[int] = []
    number = export_days(store.read(), str(tmp_path / "lake"), replace=False, on_progress=progress.append)

    files = sorted((tmp_path / "lake").rglob("*.*"))
    assert [str(path.relative_to(tmp_path / "lake")) for path in files if path.is_file()] == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()} == {0o600}
    assert (number, progress[-1]) == (2501, 2501)
    query = f"SELECT date::text, count(*), count(received) FROM read_parquet('{tmp_path}/lake/*/*.parquet', hive_partitioning=true) GROUP BY 1 ORDER BY 1"  # noqa: E501, S608  a path of the test
    counted = duckdb.sql(query).fetchall()
    assert [day for day, _, _ in counted] == ["2022-01-08", "2022-01-09", "2022-01-10"]
    assert sum(rows for _, rows, _ in counted) == 2501


@pytest.mark.slow
def test_loaded_predictions_equal_those_of_the_store(store: Store, tmp_path: Path) -> None:
    """All values are equal: inputs of any type, nanoseconds, labels, and the label of a shadow."""
    export_days(store.read(), str(tmp_path / "lake"), replace=False)
    export_predictions(store.read(), tmp_path / "all.parquet", "parquet")

    for source in (tmp_path / "lake", tmp_path / "all.parquet"):
        with loaded(source) as predictions:
            assert predictions == stored(store)


def test_only_days_of_the_range_are_read(store: Store, tmp_path: Path) -> None:
    """A damaged file of another day does no harm."""
    export_days(store.read(), str(tmp_path / "lake"), replace=False)
    (tmp_path / "lake" / FILES[0]).write_bytes(b"damaged")
    since, until = START + DAY_NS + 5, START + 2 * DAY_NS + 7

    with loaded(tmp_path / "lake", since, until) as predictions:
        assert predictions == stored(store, Selection(since, until))
    with pytest.raises(ExportError, match=r"cannot read .*lake"), loaded(tmp_path / "lake"):
        pass


def test_an_existing_file_is_replaced_on_request(store: Store, tmp_path: Path) -> None:
    """Without it the message names the file, which is unchanged. Labels that arrived later are then in the file."""
    target = str(tmp_path / "lake")
    export_days(store.read(), target, replace=False)
    with pytest.raises(ExportError, match=r"date=2022-01-08/predictions\.parquet exists already; --force replaces it"):
        export_days(store.read(), target, replace=False)
    store.add_labels([StoredLabel("p00001", "benign", START, START)])
    export_days(store.read(), target, replace=True)

    with loaded(tmp_path / "lake") as predictions:
        assert predictions == stored(store)
    assert not list((tmp_path / "lake").rglob("*.part"))


def test_a_failure_leaves_whole_files(store: Store, tmp_path: Path) -> None:
    """The days before are complete, and the day of the failure has no file."""

    def fail_on_the_second_day() -> Iterator[list[StoredPrediction]]:
        yield from ([row for row in page if row.time < START + DAY_NS + DAY_NS // 2] for page in store.read())
        raise ExportError("the store is gone")

    with pytest.raises(ExportError, match="the store is gone"):
        export_days(fail_on_the_second_day(), str(tmp_path / "lake"), replace=False)

    assert [path.name for path in sorted((tmp_path / "lake").iterdir())] == ["date=2022-01-08"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "^cannot read .*absent: it does not exist$"),
        ("other.parquet", r"other\.parquet was not written by modeltrace audit export: no column prediction_id$"),
        ("foreign.parquet", r"foreign\.parquet was not written by modeltrace audit export: no column model_name$"),
        ("types.parquet", r"^cannot read .*types\.parquet: [^\n]*$"),
        ("empty.parquet", r"^cannot read .*empty\.parquet: it is not a Parquet file, [^\n]*$"),
        ("rows.csv", r"^cannot read .*rows\.csv: it is not a Parquet file, [^\n]*$"),
        ("ftp://host/lake", "ftp://host/lake: "),
    ],
)
def test_what_is_no_export_is_an_error(tmp_path: Path, source: str, message: str) -> None:
    """The message names the source in one sentence, without internals of Arrow and DuckDB."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"prediction_id": ["p"], "time": [1]}), tmp_path / "foreign.parquet")
    wrong = pa.table({"prediction_id": ["p"], "time": ["never"], "model_name": [[1]]})
    pq.write_table(wrong, tmp_path / "types.parquet")
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    location = source if "://" in source else str(tmp_path / source)

    with pytest.raises(ExportError, match=message) as raised, loaded(location):
        pass
    assert not re.search("Traceback|IOError|Invalid Input|Detail", str(raised.value))


def test_a_folder_that_cannot_be_written_is_an_error(store: Store, tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "lake").write_text("in the way")

    with pytest.raises(ExportError, match=r"cannot write .*date=2022-01-08/predictions\.parquet"):
        export_days(store.read(), str(tmp_path / "lake"), replace=False)


def test_a_range_becomes_whole_days() -> None:
    """A file never holds a part of a day, so today is left out."""
    now = 5 * DAY_NS + 17

    assert whole_days(None, None, now) == (None, 5 * DAY_NS)
    assert whole_days(2 * DAY_NS + 1, None, now) == (2 * DAY_NS, 5 * DAY_NS)
    assert whole_days(2 * DAY_NS, 4 * DAY_NS + 1, now) == (2 * DAY_NS, 4 * DAY_NS)
    assert whole_days(None, 9 * DAY_NS, now) == (None, 5 * DAY_NS)


@pytest.mark.many
def test_files_in_s3_are_written_replaced_and_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real S3 server gives back what the store has; its files are replaced only on request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    (tmp_path / "s3").mkdir()
    with running_s3(tmp_path / "s3") as server:
        uri = f"s3://lake/predictions?endpoint_override={server.address}&scheme=http"
        export_days(store.read(), uri, replace=False)
        with pytest.raises(ExportError, match=r"lake/predictions/date=2022-01-08/predictions\.parquet exists already"):
            export_days(store.read(), uri, replace=False)
        export_days(store.read(), uri, replace=True)

        with loaded(uri) as predictions:
            assert predictions == stored(store)


# ── Commands ──


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> str:
    """Run a command with the store of the test, and return its output.

    Raises:
        ModeltraceError: the error of the command.
    """
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "predictions.db"))
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if isinstance(result.exception, ModeltraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--since", "2022-01-09", "--until", "2022-01-10"),
        ("--by", "country"),
        ("--over", "day"),
        ("--tag", "country=DE"),
        ("--fairness", "country", "--positive", "benign"),
        ("--expected", "--since", "2022-01-10"),
    ],
    ids=" ".join,
)
def test_metrics_of_exported_predictions_are_those_of_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Every figure is equal within 1e-9, for each option."""
    lake = str(tmp_path / "lake")
    output = run(monkeypatch, tmp_path, "audit", "export", lake, "--by-day")
    assert "2,501 predictions written to" in output

    def metrics(*source: str) -> Any:
        return json.loads(run(monkeypatch, tmp_path, "evaluate", *source, *options, "--json"))

    expected = metrics()
    assert expected
    assert is_close(metrics("--from", lake), expected)


def test_a_file_of_rows_cannot_be_combined_with_an_export(tmp_path: Path) -> None:
    """`--from` replaces the store, which a file of rows does not use."""
    arguments = ["evaluate", str(tmp_path / "rows.csv"), "--from", "lake", "--target", "t", "--bundle", "b"]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert "--from" in result.output


@pytest.mark.usefixtures("store")
def test_other_formats_have_no_days(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says which format it is."""
    monkeypatch.setenv("MODELTRACE_STORE", str(tmp_path / "predictions.db"))
    result = CliRunner().invoke(app, ["audit", "export", str(tmp_path / "lake"), "--by-day", "--format", "csv"])

    assert result.exit_code == 2
    assert "--by-day writes Parquet" in result.output


@pytest.mark.usefixtures("store")
def test_today_is_not_exported_by_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the third day, two files are written."""
    monkeypatch.setattr("time.time_ns", lambda: START + 2 * DAY_NS + 3)
    run(monkeypatch, tmp_path, "audit", "export", str(tmp_path / "lake"), "--by-day")

    assert len(list((tmp_path / "lake").iterdir())) == 2


def test_the_command_writes_one_line_for_a_source_that_is_absent(tmp_path: Path) -> None:
    """There is no other output, such as leaks that the binding of DuckDB reports."""
    command = [sys.executable, "-m", "modeltrace", "evaluate", "--from", str(tmp_path / "absent")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [f"modeltrace: cannot read {tmp_path / 'absent'}: it does not exist"]
