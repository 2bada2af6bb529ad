"""`modeltrace.pack` and `modeltrace.load` in a notebook: the results are the estimator's."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

import modeltrace
from modeltrace.bundles import loaded_model
from modeltrace.bundles.loaded_model import InvalidRowsError
from modeltrace.errors import BundleIntegrityError, BundleNotFoundError, ModeltraceError
from tests.helpers.mixed_model import FEATURES, MixedModel, pack_mixed


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> MixedModel:
    """A classifier with a feature of each type."""
    return pack_mixed(tmp_path_factory.mktemp("mixed"))


@pytest.mark.parametrize(
    "convert",
    [
        lambda table: table,
        lambda table: table[FEATURES[::-1]],
        lambda table: table.to_dict("records"),
        lambda table: table[FEATURES].astype(object).to_numpy(),
        pd.DataFrame.convert_dtypes,
        pa.Table.from_pandas,
        lambda table: table.astype({"age": "int8"}).set_index("id", drop=False),
    ],
    ids=["frame", "other order", "mappings", "array", "nullable types", "Arrow", "other integers and index"],
)
def test_predictions_are_those_of_the_estimator(
    mixed: MixedModel, convert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kind of table the rows come in, and however many chunks they need."""
    monkeypatch.setattr(loaded_model, "CHUNK_ROWS", 130)
    model = modeltrace.load(mixed.bundle)
    rows = convert(mixed.table)

    table = model.predict_table(rows)

    assert model.predict(rows).tolist() == mixed.labels
    assert model.predict_proba(rows) == pytest.approx(mixed.estimator.predict_proba(mixed.table[FEATURES]), abs=1e-12)
    assert table.label.tolist() == mixed.labels
    assert table.confidence.tolist() == pytest.approx(mixed.confidences, abs=1e-12)
    assert table.error.isna().all()
    if isinstance(rows, pd.DataFrame):
        assert table.index.equals(rows.index)


def test_rows_that_violate_the_schema(mixed: MixedModel) -> None:
    """`predict` raises an error with the position of each such row; `predict_table` predicts the others."""
    model = modeltrace.load(mixed.bundle)
    rows = mixed.table.head(5).assign(age=[30, None, 31, 32.5, 33]).set_index("id")

    with pytest.raises(
        InvalidRowsError, match=r"2 of 5 rows violate the feature schema; row 1: age: missing"
    ) as raised:
        model.predict(rows)
    table = model.predict_table(rows)

    assert [*raised.value.errors] == [1, 3]
    assert table.index.equals(rows.index)
    assert table.error.notna().tolist() == table.label.isna().tolist() == [False, True, False, True, False]
    assert table.error.iloc[3] == "age: expected an integer, got a fraction"


def test_regressor(tmp_path: Path) -> None:
    """The values are those of the estimator, with an array as training data and a list as target."""
    rows, y = load_iris(return_X_y=True)
    estimator = LinearRegression().fit(rows, y)
    model = modeltrace.load(modeltrace.pack(estimator, rows, y.tolist(), name="price", out=str(tmp_path / "price")))

    assert model.predict(rows).tolist() == pytest.approx(estimator.predict(rows).tolist(), rel=1e-12)
    assert list(model.predict_table(rows).columns) == ["value", "error"]
    with pytest.raises(ModeltraceError, match=r"price 1\.0\.0 has no probabilities"):
        model.predict_proba(rows)
    assert (model.name, model.version, model.task, model.classes) == ("price", "1.0.0", "regressor", None)
    assert repr(model) == "<price 1.0.0: regressor of 0, 1, 2, 3>"


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `out`, the bundle is written to the current folder, under the name of the model."""
    monkeypatch.chdir(tmp_path)
    rows, y = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(rows, y)

    bundle = modeltrace.pack(estimator, sparse.csr_array(rows), y, name="iris")

    assert bundle == Path("iris")
    assert np.array_equal(modeltrace.load("iris").predict(rows), estimator.predict(rows))


def test_source_of_the_bundle(mixed: MixedModel) -> None:
    """A folder of bundles and a version are sources, and the hash of the bundle can be pinned."""
    assert modeltrace.load(f"{mixed.bundle.parent}@1.0.0").name == "churn"
    with pytest.raises(BundleIntegrityError):
        modeltrace.load(mixed.bundle, expect_sha256="0" * 64)
    with pytest.raises(BundleNotFoundError):
        modeltrace.load("nowhere")


def test_table_without_a_feature(mixed: MixedModel) -> None:
    """The message names the features."""
    with pytest.raises(ModeltraceError, match="the table lacks the features größe, plan"):
        modeltrace.load(mixed.bundle).predict(mixed.table.drop(columns=["größe", "plan"]))


def test_names_of_the_package() -> None:
    """The package has the names that it documents, and no others."""
    assert {"InvalidFeaturesError", "ServiceError", "UnreachableError"} < set(modeltrace.__all__)
    assert set(modeltrace.__all__) <= set(dir(modeltrace))
    assert all(getattr(modeltrace, name).__name__ == name for name in modeltrace.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        modeltrace.nothing  # noqa: B018  the access is the test
