"""Scoring a file: the results are those of the estimator and of the service, whatever the formats."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
from sklearn.linear_model import LinearRegression

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.errors import InferenceError
from modeltrace.inference.schema import OnViolation
from modeltrace.scoring.config import Progress, ScoreConfig
from modeltrace.scoring.results import ResultError, Summary
from modeltrace.scoring.run import score_file
from modeltrace.scoring.scorer import InputRow, Outcome, model_scorer, score_rows
from modeltrace.tables.reader import TableError
from tests.helpers.in_process_services import records_service
from tests.helpers.mixed_model import FEATURES, MixedModel

FORMATS = ("csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "parquet")


def read(path: Path) -> pd.DataFrame:
    """Return the results in a file."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path, lines=True, precise_float=True)


def write(mixed: MixedModel, path: Path) -> Path:
    """Write the rows in the format of the name."""
    if path.suffix != ".gz":
        return mixed.write(path)
    plain = mixed.write(path.with_suffix(""))
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def score(mixed: MixedModel, file: Path, out: Path, **options: Any) -> Summary:
    """Score a file with the classifier, 64 rows at a time."""
    config = ScoreConfig(file=file, out=out, **{"chunk_rows": 64, **options})
    return score_file(config, mixed.model, model_scorer(mixed.model))


@pytest.mark.parametrize("file_format", FORMATS)
def test_results_are_those_of_the_estimator(mixed: MixedModel, tmp_path: Path, file_format: str) -> None:
    """Every format of the input gives the estimator's label and probability for each row, in order."""
    out = tmp_path / "out.parquet"

    summary = score(mixed, write(mixed, tmp_path / f"rows.{file_format}"), out, keep=("id",))

    results = read(out)
    assert (summary.rows, summary.predicted, summary.rejected) == (300, 300, {})
    assert results.row.tolist() == list(range(1, 301))
    assert results.id.tolist() == mixed.table.id.tolist()
    assert results.label.tolist() == mixed.labels
    assert results.confidence.tolist() == pytest.approx(mixed.confidences, abs=1e-12)
    assert results.error.isna().all()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_results_are_those_of_the_service(mixed: MixedModel, tmp_path: Path, suffix: str) -> None:
    """Every format of the output contains exactly what POST /predict/batch answers."""
    out = tmp_path / f"out.{suffix}"
    rows = mixed.table[FEATURES].astype(object).where(mixed.table[FEATURES].notna(), None).to_dict("records")
    with records_service(mixed.model) as service:
        body = json.dumps({"rows": rows}, default=lambda value: value.item())
        answers = service.client.post("/predict/batch", content=body).json()["predictions"]

    score(mixed, mixed.write(tmp_path / "rows.parquet"), out)

    results = read(out)
    assert results.label.tolist() == [answer["label"] for answer in answers]
    assert results.confidence.tolist() == [answer["confidence"] for answer in answers]


def test_values_of_a_regressor(tmp_path: Path) -> None:
    """The results of a regressor have the column `value`."""
    table = pd.DataFrame({"a": [float(n) for n in range(60)]}).assign(b=lambda t: t.a % 7)
    estimator = LinearRegression().fit(table, 3 * table.a + table.b)
    model = load_bundle(pack(estimator, table, name="price", out=tmp_path / "price"))
    table.to_csv(tmp_path / "rows.csv", index=False)

    score_file(ScoreConfig(file=tmp_path / "rows.csv", out=tmp_path / "out.parquet"), model, model_scorer(model))

    results = read(tmp_path / "out.parquet")
    assert list(results.columns) == ["row", "value", "error", "error_column", "error_reason"]
    assert results.value.tolist() == pytest.approx(estimator.predict(table).tolist(), rel=1e-12)


@pytest.mark.parametrize("keep", [(), ("id",)])
def test_probabilities(mixed: MixedModel, tmp_path: Path, keep: tuple[str, ...]) -> None:
    """On request, there is a column for the probability of each class; it is empty for a rejected row."""
    file = mixed.write(tmp_path / "rows.csv", mixed.table.assign(age=mixed.table.age.where(mixed.table.index != 5)))
    config = ScoreConfig(file=file, out=tmp_path / "out.parquet", keep=keep, probabilities=True)

    score_file(config, mixed.model, model_scorer(mixed.model, details=True))

    results, expected = read(config.out), mixed.estimator.predict_proba(mixed.table[FEATURES])
    names = ["row", *keep, "label", "confidence", "probability_no", "probability_yes"]
    assert list(results.columns)[: len(names)] == names
    predicted = results.error.isna()
    assert (~predicted).to_numpy().nonzero()[0].tolist() == [5]
    assert results.probability_no[~predicted].isna().all()
    assert results[["probability_no", "probability_yes"]][predicted].to_numpy() == pytest.approx(
        expected[predicted.to_numpy()], abs=1e-12
    )


def test_probabilities_of_a_regressor(tmp_path: Path) -> None:
    """The error names the option."""
    table = pd.DataFrame({"a": [float(n) for n in range(60)]})
    model = load_bundle(pack(LinearRegression().fit(table, table.a), table, name="price", out=tmp_path / "price"))
    table.to_csv(tmp_path / "rows.csv", index=False)
    config = ScoreConfig(file=tmp_path / "rows.csv", out=tmp_path / "out.csv", probabilities=True)

    with pytest.raises(ResultError, match=r"--probabilities: price 1\.0\.0 has no probabilities"):
        score_file(config, model, model_scorer(model, details=True))


def test_integer_and_boolean_labels_keep_their_type(tmp_path: Path) -> None:
    """Labels of one type have a column of that type."""
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415  only this test needs it

    table = pd.DataFrame({"a": [float(n) for n in range(40)]})
    for labels in (table.a.astype(int) % 2, table.a > 20):
        model = load_bundle(
            pack(DecisionTreeClassifier().fit(table, labels), table, name="t", out=tmp_path / "t", force=True)
        )
        table.to_parquet(tmp_path / "rows.parquet")
        config = ScoreConfig(file=tmp_path / "rows.parquet", out=tmp_path / "out.parquet", force=True)
        score_file(config, model, model_scorer(model))
        assert read(tmp_path / "out.parquet").label.tolist() == labels.tolist()


BAD_CSV = """id,age,income,größe,plan,tier,member
a,30,1.5,1.7,basic,1,true
b,thirty,1.5,1.7,basic,1,true
c,30,1.5,1.7
d,30,,1.7,basic,1,False
e,30,1e400,1.7,basic,9,1
f,30,1.5,,basic,1,maybe

g,30,1.5,"1.7,basic,1,true
"""


def test_bad_rows_are_reported_and_not_fatal(mixed: MixedModel, tmp_path: Path) -> None:
    """Each bad row has its number, column, reason and message; the others are predicted. A row is never left out."""
    file = tmp_path / "rows.csv"
    file.write_bytes(BAD_CSV.encode() + b"h,30,1.5,1.7,b\xff,1,true\ni,30,1.5,1.7,basic,1,true\n")

    summary = score(mixed, file, tmp_path / "out.jsonl", keep=("id",))

    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    outcomes = {row["row"]: (row["id"], row["error_column"], row["error_reason"]) for row in results}
    assert outcomes == {
        1: ("a", None, None),
        2: ("b", "age", "type"),
        3: (None, None, "unreadable"),
        4: ("d", None, None),
        5: ("e", "income", "type"),
        6: ("f", "größe", "missing"),
        7: (None, None, "unreadable"),
    }
    assert results[1]["error"] == "age: expected an integer, got a string"
    assert results[2]["error"] == "4 fields, the header has 7"
    assert "member: expected true or false" in results[5]["error"]
    assert [row["label"] is None for row in results] == [False, True, True, False, True, True, True]
    assert (summary.rows, summary.predicted, summary.rejected[None, "unreadable"]) == (7, 2, 2)


def test_text_that_is_not_utf8_rejects_its_row_only(mixed: MixedModel, tmp_path: Path) -> None:
    """The rows after it are predicted."""
    file = tmp_path / "rows.csv"
    header, first = BAD_CSV.encode().splitlines()[:2]
    file.write_bytes(b"\n".join([header, first.replace(b"basic", b"b\xff"), first]))

    score(mixed, file, tmp_path / "out.parquet")

    assert read(tmp_path / "out.parquet").error.tolist()[0] == "the text is not UTF-8"
    assert read(tmp_path / "out.parquet").error.isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not JSON", "not JSON: "),
        ("[1, 2]", "not a JSON object"),
        ('{"age": [[[', "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
)
def test_lines_that_are_not_objects(mixed: MixedModel, tmp_path: Path, line: str, message: str) -> None:
    """A line that is not a JSON object is a rejected row; so is an absent feature."""
    file = mixed.write(tmp_path / "rows.jsonl", mixed.table.head(2))
    file.write_text(f"{line}\n\n{file.read_text()}{{}}\n")

    score(mixed, file, tmp_path / "out.parquet")

    errors = read(tmp_path / "out.parquet").error.tolist()
    assert errors[0].startswith(message)
    assert errors[3].startswith("age: missing")
    assert read(tmp_path / "out.parquet").error.isna().tolist() == [False, True, True, False]


@pytest.mark.parametrize("failing", [set(), {0}, {63, 64}, {5, 6, 7, 150, 299}, set(range(300))], ids=len)
def test_only_rows_on_which_the_model_fails_are_rejected(mixed: MixedModel, failing: set[int]) -> None:
    """If the model fails on a chunk, every row that does not cause it is predicted."""
    sizes = []

    def fails(rows: Sequence[InputRow]) -> list[Outcome]:
        sizes.append(len(rows))
        if failing & {row.number for row in rows}:
            raise InferenceError("the model failed with ValueError") from ValueError("first line\nsecond line")
        return [Outcome(trace_id=str(row.number)) for row in rows]

    rows = [InputRow(number, row) for number, row in enumerate(mixed.table.to_dict("records"))]
    outcomes = score_rows(fails, rows, private=False)

    assert {number for number, outcome in enumerate(outcomes) if outcome.error} == failing
    assert all(outcome.trace_id == str(number) for number, outcome in enumerate(outcomes) if not outcome.error)
    assert {outcome.error for outcome in outcomes if outcome.error} <= {
        (None, "inference_failed", "the model failed with ValueError: first line")
    }
    assert len(sizes) <= 1 + 2 * 9 * len(failing)  # log2(300) < 9


def test_message_of_the_model_is_omitted_for_private_features() -> None:
    """It may contain a value."""

    def fails(_: Sequence[InputRow]) -> list[Outcome]:
        raise InferenceError("the model failed with ValueError") from ValueError("income 1234")

    (outcome,) = score_rows(fails, [InputRow(1, {})], private=True)

    assert outcome.error == (None, "inference_failed", "the model failed with ValueError")


def test_allowed_violations_are_predicted(mixed: MixedModel, tmp_path: Path) -> None:
    """A row with a violation that the schema allows is predicted, as the service does."""
    features = tuple(
        feature.model_copy(update={"on_violation": OnViolation(missing="count")})
        if feature.name == "größe"
        else feature
        for feature in mixed.model.features
    )
    model = replace(mixed.model, schema=mixed.model.schema.model_copy(update={"features": features}))
    file = mixed.write(tmp_path / "rows.csv", mixed.table.head(3).assign(größe=[1.7, None, 1.7]))

    summary = score_file(ScoreConfig(file=file, out=tmp_path / "o.csv"), model, model_scorer(model))

    assert summary.predicted == 3


def test_rows_are_read_and_written_chunk_by_chunk(mixed: MixedModel, tmp_path: Path) -> None:
    """When a chunk is predicted, the rows before it are on disk, and most of the file has not been read."""
    file = mixed.write(tmp_path / "rows.csv", pd.concat([mixed.table] * 40))
    parts, shares = [], []
    chunks = count(1)

    def predict(rows: Sequence[InputRow]) -> list[Outcome]:
        parts.append(len([*tmp_path.glob(".out.csv.parts/part-*.parquet")]))
        assert len(rows) == 1000
        next(chunks)
        return model_scorer(mixed.model)(rows)

    def on_progress(progress: Progress) -> None:
        shares.append(progress.share)

    config = ScoreConfig(file=file, out=tmp_path / "out.csv", chunk_rows=1000)
    score_file(config, mixed.model, predict, on_progress=on_progress)

    assert parts == list(range(12))
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1.0


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_file_without_rows(mixed: MixedModel, tmp_path: Path, suffix: str) -> None:
    """The results have columns and no rows."""
    file = mixed.write(tmp_path / "rows.csv", mixed.table.head(0))

    summary = score(mixed, file, tmp_path / f"out.{suffix}")

    assert summary == Summary()
    assert (tmp_path / f"out.{suffix}").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"id,age\n1,2\n", "rows.csv lacks the features income, größe, plan, tier, member"),
        ("rows.csv", b"", "rows.csv cannot be read: it is empty"),
        ("rows.csv", b"age,age\n", "two columns have the name age"),
        ("rows.csv", None, "rows.csv cannot be read: No such file"),
        ("rows.csv.gz", b"not gzip", "rows.csv.gz cannot be read: Not a gzipped file"),
        ("rows.parquet", b"not parquet", "rows.parquet cannot be read: "),
        ("rows.xlsx", b"", r"the name must end in .csv, .tsv, .jsonl \(or one of these and .gz\), or .parquet"),
        ("rows.gz", b"", "the name must end in"),
        ("rows.parquet.gz", b"", "the name must end in"),
    ],
)
def test_unusable_files(mixed: MixedModel, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """A file without usable rows is one error that says why, and leaves nothing behind."""
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(TableError, match=message):
        score(mixed, tmp_path / name, tmp_path / "out.csv")

    assert {path.name for path in tmp_path.iterdir()} <= {name}


def test_truncated_gzip_is_an_error(mixed: MixedModel, tmp_path: Path) -> None:
    """A file that ends too early is not taken for a shorter file."""
    file = write(mixed, tmp_path / "rows.csv.gz")
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(TableError, match=r"rows.csv.gz cannot be read: Compressed file ended"):
        score(mixed, file, tmp_path / "out.csv")

    assert not (tmp_path / "out.csv").exists()


def test_copied_columns_keep_their_type(mixed: MixedModel, tmp_path: Path) -> None:
    """Of Parquet, times, decimals and lists are copied unchanged; of JSON Lines, other values than text are JSON."""
    table = mixed.table.head(2).assign(when=pd.to_datetime(["2026-01-01", None]), tags=[["a"], []], number=[1, 2])
    file = mixed.write(tmp_path / "rows.parquet", table)
    score(mixed, file, tmp_path / "out.parquet", keep=("when", "tags", "number"))
    before, after = (pyarrow.parquet.read_table(path) for path in (file, tmp_path / "out.parquet"))
    for name in ("when", "tags", "number"):
        assert after[name].equals(before[name]), name

    lines = mixed.write(tmp_path / "rows.jsonl", table.drop(columns="when"))
    score(mixed, lines, tmp_path / "out.csv", keep=("tags", "number", "id"))
    results = read(tmp_path / "out.csv")
    assert results.tags.tolist() == ['["a"]', "[]"]
    assert results.id.tolist() == table.id.tolist()

    with pytest.raises(TableError, match=r"the column tags has the type list<.*>: write it to a .parquet file"):
        score(mixed, file, tmp_path / "other.csv", keep=("tags",))


@pytest.mark.parametrize(
    ("keep", "message"),
    [(("label",), "the results have a column of this name"), (("nothing",), "lacks the column nothing")],
)
def test_columns_that_cannot_be_copied(mixed: MixedModel, tmp_path: Path, keep: tuple[str, ...], message: str) -> None:
    """A copied column must exist, and must not have the name of a column of the results."""
    file = mixed.write(tmp_path / "rows.csv", mixed.table.assign(label="x"))

    with pytest.raises((TableError, ResultError), match=message):
        score(mixed, file, tmp_path / "out.csv", keep=keep)


def test_unknown_format_of_the_results(mixed: MixedModel, tmp_path: Path) -> None:
    """The message lists the formats."""
    with pytest.raises(TableError, match=r"out.xlsx: the name must end in .parquet, .csv or .jsonl"):
        score(mixed, mixed.write(tmp_path / "rows.csv"), tmp_path / "out.xlsx")
