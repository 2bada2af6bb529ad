"""Columns of dtype `category`: the levels have the order and the types of the estimator."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from modeltrace.api.openapi import describe_predict
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.bundles.verify_outputs import to_rows
from modeltrace.errors import InvalidFeaturesError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model
from modeltrace.inference.privacy import Redactor
from modeltrace.inference.schema import Schema
from modeltrace.inference.validate import RowValidator
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.rows import load_samples, sample_reference
from tests.helpers.tables import predict_row

pytestmark = pytest.mark.slow

LEVELS: dict[str, list[Any]] = {
    "integers": [30, 7, -1, 100],
    "booleans": [True, False],
    "numbers": [2.5, 0.5, 1.0],
    "texts": ["low", "mid", "high"],
}


def boosting() -> Any:
    """Return an estimator that reads the levels from the dtype."""
    return HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=2, categorical_features="from_dtype")


def codes(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the column by its codes, which follow the order of the levels."""
    return frame.assign(c=frame["c"].cat.codes)


def table_of(levels: list[Any], *, ordered: bool = False, rows: int = 120) -> pd.DataFrame:
    """Return a table with a column `c` of these levels in this order, and a number."""
    level_codes = np.arange(rows) % len(levels)
    return pd.DataFrame(
        {"c": pd.Categorical.from_codes(level_codes, levels, ordered=ordered), "z": np.arange(rows) * 0.5}
    )


def packed(table: pd.DataFrame, folder: Path, estimator: Any = None, **options: Any) -> Model:
    """Pack and load a model that distinguishes the first level from the others."""
    label = np.where(table["c"].cat.codes == 0, "yes", "no")
    fitted = (estimator or boosting()).fit(table, label)
    model = load_bundle(pack(fitted, table, name="x", out=folder / "b", **options), trust_pickle=True)
    outputs = [output.label for output in model.predict(to_matrix(to_rows(table), model.schema, as_frame=True))]
    assert outputs == fitted.predict(table).tolist()
    return model


def test_more_than_a_thousand_levels_are_kept(tmp_path: Path) -> None:
    """Rows with rare levels are predicted as by the estimator."""
    level = np.array([f"p{i:04d}" for i in range(1000)] * 2 + [f"p{i:04d}" for i in range(1000, 1200)])
    label = np.where(pd.Series(level).str[-1].astype(int) > 4, "yes", "no")
    table = pd.DataFrame({"product": pd.Categorical(level)})
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=100)).fit(table, label)

    model = load_bundle(pack(estimator, table, name="x", out=tmp_path / "b"))

    outputs = model.predict(to_matrix([(text,) for text in level], model.schema, as_frame=True))
    assert [output.label for output in outputs] == estimator.predict(table).tolist() == label.tolist()
    assert model.features[0].categories == tuple(table["product"].cat.categories)
    assert set(model.features[0].reference.shares) == {"missing", "other", "unseen"}  # no level is frequent


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", LEVELS)
def test_levels_keep_type_and_order(kind: str, ordered: bool, tmp_path: Path) -> None:
    """A level without rows is kept as well, since it has a code."""
    levels = LEVELS[kind]
    table = table_of(levels, ordered=ordered)
    more = {"integers": [5], "numbers": [9.5], "texts": ["none"], "booleans": []}[kind]
    table["c"] = table["c"].cat.set_categories([*more, *levels], ordered=ordered)

    feature = packed(table, tmp_path).features[0]

    assert (feature.type, feature.dtype, feature.ordered) == ("category", "category", ordered)
    assert feature.categories == (*more, *levels)
    assert [type(level) for level in feature.categories or ()] == [type(level) for level in [*more, *levels]]


@pytest.mark.parametrize("kind", LEVELS)
def test_codes_follow_the_order_of_the_levels(kind: str, tmp_path: Path) -> None:
    """An estimator that uses the codes receives those of training."""
    estimator = make_pipeline(FunctionTransformer(codes), HistGradientBoostingClassifier(max_iter=10))

    model = packed(table_of(LEVELS[kind], ordered=True), tmp_path, estimator, artifact_format="joblib")

    first, other = (predict_row(model, c=level, z=1.0).label for level in LEVELS[kind][:2])
    assert (first, other) == ("yes", "no")


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        ("integers", [30, 30.0, 8], ["30", True, 7.5, [7], 2**70]),
        ("booleans", [True, False], ["true", 1, 0.0]),
        ("numbers", [2.5, 1, 1.0, 77.5], ["2.5", True, float("inf")]),
        ("texts", ["low", "unseen"], [1, True, {"low": 1}]),
    ],
)
def test_a_level_is_sent_as_its_json_type(kind: str, accepted: list[Any], refused: list[Any], tmp_path: Path) -> None:
    """3 and 3.0 are one level; a text is not a number, and a number is not a boolean."""
    schema = packed(table_of(LEVELS[kind]), tmp_path).schema
    reader = RowValidator(schema)

    for value in accepted:
        assert reader.validate({"c": value, "z": 1.0}) == (value, 1.0)
    for value in refused:
        with pytest.raises(InvalidFeaturesError, match=r"^c: "):
            reader.validate({"c": value, "z": 1.0})


@pytest.mark.parametrize("kind", LEVELS)
def test_strict_categories_refuse_other_levels(kind: str) -> None:
    """Other values are violations with the reason `category`."""
    column = pd.Series(pd.Categorical(LEVELS[kind][:1] * 3), name="c")
    schema = Schema(features=(describe_column(column, strict_categories=True),))
    reader = RowValidator(schema)

    assert reader.validate({"c": LEVELS[kind][0]}) == (LEVELS[kind][0],)
    with pytest.raises(InvalidFeaturesError, match="not one of the known categories"):
        reader.validate({"c": LEVELS[kind][1]})


@pytest.mark.parametrize("kind", LEVELS)
def test_a_level_has_one_name_everywhere(kind: str) -> None:
    """Bins, `bucket` and sampled rows use the same name for a level."""
    levels = LEVELS[kind]
    feature = describe_column(pd.Series(pd.Categorical(levels * 3, levels), name="c"))
    schema = Schema(features=(feature,))
    bins = FeatureBins(schema)
    rows = [(level,) for level in levels]
    bin_numbers = bins.digitize(rows, bins.numeric_values(rows))[:, 0]
    bucket = feature.model_copy(update={"privacy": "bucket"})
    redacted = [Redactor(Schema(features=(bucket,)), b"key").redact_inputs(row)[0] for row in rows]

    assert [bins.bin_names[index][1] for index in bin_numbers] == redacted
    assert set(redacted) <= set(feature.reference.shares) - {"missing", "other"}
    drawn = [sample.row["c"] for sample in islice(sample_reference(schema.features, make_rng(0)), 50)]
    assert {(type(value), value) for value in drawn} == {(type(level), level) for level in levels}


@pytest.mark.parametrize(("kind", "json_type"), [("integers", "integer"), ("booleans", "boolean"), ("texts", "string")])
def test_openapi_names_the_type_of_the_levels(kind: str, json_type: str) -> None:
    """A generated client sends values that the service accepts."""
    feature = describe_column(pd.Series(pd.Categorical(LEVELS[kind] * 3), name="c"), strict_categories=True)

    described = json.dumps(describe_predict(Schema(features=(feature,))))

    properties = json.loads(described)["openapi_extra"]["requestBody"]
    (value,) = _find(properties, "c")
    assert value["type"] == json_type
    assert value["enum"] == list(feature.categories or ())


def _find(tree: Any, name: str) -> list[Any]:
    if isinstance(tree, list):
        return [schema for part in tree for schema in _find(part, name)]
    if not isinstance(tree, dict):
        return []
    own = [tree["properties"][name]] if name in tree.get("properties", {}) else []
    return own + [schema for key, part in tree.items() if key != "example" for schema in _find(part, name)]


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_of_files_have_the_type_of_the_levels(kind: str, suffix: str, tmp_path: Path) -> None:
    """Rows from a file have values that the schema accepts."""
    table = table_of(LEVELS[kind], rows=12)
    schema = Schema(features=tuple(describe_column(table[name]) for name in table))
    path = tmp_path / f"rows.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)

    reader = RowValidator(schema)

    assert [reader.validate(sample.row)[0] for sample in load_samples(path, schema.features)] == table["c"].tolist()


@given(st.lists(st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.booleans() | st.text(max_size=2), min_size=1))
def test_levels_of_several_types_are_refused_and_of_one_are_kept(values: list[Any]) -> None:
    """A category has one JSON type, and survives a round trip through JSON."""
    column = pd.Series(pd.Categorical(values), name="c")
    levels = [level.item() if isinstance(level, np.generic) else level for level in column.cat.categories]
    if len({type(level) for level in levels}) > 1:
        with pytest.raises(PackError, match=r"column c .*several types"):
            describe_column(column)
        return

    feature = describe_column(column)
    again = type(feature).model_validate_json(feature.model_dump_json())

    assert list(again.categories or ()) == levels
    assert again == feature
    matrix = to_matrix([(level,) for level in levels], Schema(features=(again,)), as_frame=True)
    assert isinstance(matrix, pd.DataFrame)
    assert matrix["c"].cat.codes.tolist() == [*range(len(levels))]


def test_data_that_has_lost_the_dtype_is_refused(tmp_path: Path) -> None:
    """A CSV file contains text where the estimator was fitted on categories; the message recommends Parquet."""
    table = table_of(LEVELS["texts"])
    estimator = make_pipeline(FunctionTransformer(codes), LogisticRegression()).fit(table, table["c"] == "low")

    with pytest.raises(PackError, match=r"If column c had the dtype category .*Parquet file"):
        pack(estimator, table.astype({"c": "str"}), name="x", out=tmp_path / "b", artifact_format="joblib")


def _is_none(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(x=[float(value is None) for value in frame["x"]])


def _number(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(n=[float(isinstance(value, int)) for value in frame["n"].tolist()])[["z", "n"]]


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("x", _is_none, r"row 1090 of the training data, column x: .*\(1 of 1,200 rows differ\). A request cannot"),
        ("n", _number, r"row 0 of the training data, column n: .*\(1,199 of 1,200 rows differ\)"),
    ],
)
def test_differing_row_and_column_are_named(
    column: str, change: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    """All rows are compared, and the column that a request cannot send as in training is found."""
    rows = 1200
    columns: dict[str, Any] = {
        "x": pd.Series([np.nan if row == 1090 else None if row % 2 else "a" for row in range(rows)], dtype=object),
        "n": pd.array([row if row != 7 else None for row in range(rows)], dtype="Int64"),
    }
    table = pd.DataFrame({"z": np.zeros(rows), column: columns[column]})
    label = change(table)[column].to_numpy() > 0
    estimator = make_pipeline(FunctionTransformer(change), LogisticRegression(C=1e6))

    with pytest.raises(PackError, match=message):
        pack(estimator.fit(table, label), table, name="x", out=tmp_path / "b", artifact_format="joblib")


def test_a_different_confidence_is_an_error(tmp_path: Path) -> None:
    """An output consists of label and confidence."""
    table = pd.DataFrame({"x": pd.Series([None, np.nan, "a", "b"] * 20, dtype=object), "z": np.arange(80.0)})
    estimator = make_pipeline(FunctionTransformer(_is_none), LogisticRegression()).fit(table, table.z > 100 - table.z)

    with pytest.raises(PackError, match=r"column x: .*\(confidence "):
        pack(estimator, table, name="x", out=tmp_path / "b", artifact_format="joblib")


@pytest.mark.parametrize("kind", ["integers", "booleans", "texts"])
def test_onnx_predicts_the_same_for_levels_of_every_type(kind: str, tmp_path: Path) -> None:
    """Levels that are not text are numbers in ONNX; there is no encoder for floats."""
    pytest.importorskip("skl2onnx")
    table = table_of(LEVELS[kind])
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough")
    packed(table, tmp_path, make_pipeline(encoder, LogisticRegression()), onnx=True)

    sklearn_model, onnx_model = (load_bundle(tmp_path / "b", engine=engine) for engine in ("sklearn", "onnx"))

    for row in to_rows(table)[:10]:
        sent = dict(zip(sklearn_model.schema.names, row, strict=True))
        assert predict_row(onnx_model, **sent).label == predict_row(sklearn_model, **sent).label
