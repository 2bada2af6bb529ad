"""Outputs in ONNX Runtime equal those of scikit-learn, on reference rows, on other rows, and at thresholds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.onnx.export import TOLERANCE
from modeltrace.bundles.pack import pack
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput
from tests.helpers.estimators import LABELS, TWO_LABELS, VALUES, X, fit, iris_frame, with_gaps

pytestmark = pytest.mark.slow


def people() -> pd.DataFrame:
    """Return rows with features of every type and missing numbers."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 300),
            "income": rng.lognormal(10, 1, 300),
            "city": rng.choice(["Bonn", "other", "missing"], 300),
            "vip": rng.random(300) > 0.5,
        }
    )
    table.loc[::7, "income"] = np.nan
    return table


def fit_people(estimator: Any) -> tuple[Any, pd.DataFrame]:
    """Return a pipeline that preprocesses every column, fitted on frames with noisy labels, and its data."""
    data = people()
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        remainder="passthrough",
    )
    noise = np.random.default_rng(1).random(len(data)) < 0.2
    return make_pipeline(prepared, estimator).fit(data, (data.age > 50) ^ noise), data


Make = Callable[[], tuple[Any, Any]]
ESTIMATORS: dict[str, Make] = {
    "logistic regression": lambda: fit(make_pipeline(StandardScaler(), LogisticRegression()), TWO_LABELS),
    "three classes": lambda: fit(make_pipeline(StandardScaler(), LogisticRegression()), LABELS),
    "numbers as classes": lambda: fit(LogisticRegression(), np.where(TWO_LABELS == "other", 7.0, -1.0)),
    "ridge": lambda: fit(Ridge(), VALUES * 1e6),
    "labels alone": lambda: fit(RidgeClassifier(), LABELS),
    "label by votes": lambda: fit(make_pipeline(StandardScaler(), SVC()), LABELS),
    "calibrated": lambda: fit(CalibratedClassifierCV(LinearSVC(), method="sigmoid", cv=2), LABELS),
    "neighbours": lambda: fit(KNeighborsClassifier(4), LABELS),
    "neural network": lambda: fit(make_pipeline(StandardScaler(), MLPClassifier(max_iter=50)), LABELS),
    "tree": lambda: fit(DecisionTreeClassifier(), LABELS),
    "forest": lambda: fit(make_pipeline(StandardScaler(), RandomForestClassifier(10, max_depth=2)), LABELS),
    "forest with gaps": lambda: fit(RandomForestClassifier(10), TWO_LABELS, with_gaps()),
    "extra trees": lambda: fit(ExtraTreesRegressor(10), VALUES),
    "bagged": lambda: fit(BaggingClassifier(max_features=2), LABELS),
    "adaptive boosting": lambda: fit(AdaBoostRegressor(n_estimators=5), VALUES),
    "boosting": lambda: fit(make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=10)), TWO_LABELS),
    "boosting, three classes": lambda: fit(GradientBoostingClassifier(n_estimators=5), LABELS),
    "boosting, exponential": lambda: fit(GradientBoostingClassifier(n_estimators=5, loss="exponential"), TWO_LABELS),
    "boosted values": lambda: fit(GradientBoostingRegressor(n_estimators=10, loss="huber"), VALUES),
    "histogram boosting": lambda: fit(HistGradientBoostingClassifier(max_iter=5), TWO_LABELS, with_gaps()),
    "histogram boosting, three classes": lambda: fit(HistGradientBoostingClassifier(max_iter=5), LABELS),
    "histogram boosting, Poisson": lambda: fit(HistGradientBoostingRegressor(max_iter=5, loss="poisson"), VALUES),
    "stacked": lambda: fit(
        StackingClassifier([("tree", DecisionTreeClassifier(max_depth=2))], LogisticRegression(), cv=2), LABELS
    ),
    "voted": lambda: fit(
        VotingClassifier([("tree", DecisionTreeClassifier()), ("line", LogisticRegression())], voting="soft"), LABELS
    ),
    "in single precision": lambda: fit(make_pipeline(PolynomialFeatures(), LogisticRegression()), LABELS),
    "a frame of numbers": lambda: fit(
        make_pipeline(make_column_transformer((StandardScaler(), ["petal_width"])), LogisticRegression()),
        LABELS,
        iris_frame(),
    ),
    "every type of column": lambda: fit_people(LogisticRegression()),
    "every type of column, forest": lambda: fit_people(RandomForestClassifier(20)),
    "every type of column, histogram boosting": lambda: fit_people(HistGradientBoostingClassifier(max_iter=10)),
}


class Pair(NamedTuple):
    """A bundle loaded by both engines, and its training data."""

    sklearn: Model
    onnx: Model
    manifest: Manifest
    training: pd.DataFrame


@cache
def pair(name: str) -> Pair:
    """Pack an estimator, once for all tests."""
    # Fixes the random state of estimators: in a forest with an equal number of votes, rounding decides the label.
    np.random.seed(0)
    estimator, data = ESTIMATORS[name]()
    training = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data).rename(columns=str)
    with TemporaryDirectory() as folder:
        bundle = pack(estimator, training, name="m", out=Path(folder) / "m", onnx=True)
        return Pair(*(load_bundle(bundle, engine=e) for e in ("sklearn", "onnx")), read_manifest(bundle)[0], training)


def predict(model: Model, rows: list[tuple[Any, ...]]) -> list[ModelOutput]:
    """Return the outputs of rows of plain values."""
    return model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))


def plain(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the rows as JSON values."""
    return [
        tuple(None if pd.isna(value) else getattr(value, "item", lambda value=value: value)() for value in row)
        for row in table.itertuples(index=False, name=None)
    ]


def assert_same(pair: Pair, rows: list[tuple[Any, ...]]) -> None:
    """Assert equal outputs of both engines, for all rows in a batch and for the first row alone."""
    expected = [*predict(pair.sklearn, rows), *predict(pair.sklearn, rows[:1])]
    actual = [*predict(pair.onnx, rows), *predict(pair.onnx, rows[:1])]
    assert [(output.label, type(output.label)) for output in actual] == [
        (output.label, type(output.label)) for output in expected
    ]
    assert [output.confidence for output in actual] == pytest.approx(
        [output.confidence for output in expected], abs=TOLERANCE
    )
    scale = max((abs(output.value) for output in expected if output.value is not None), default=1.0)
    assert [output.value for output in actual] == pytest.approx(
        [output.value for output in expected], abs=TOLERANCE * scale
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_other_rows_have_equal_outputs(name: str) -> None:
    """With shuffled columns and shifted numbers, labels, confidences and values are the same."""
    engines = pair(name)
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({column: rng.permutation(engines.training[column]) for column in engines.training})
    for column in rows.select_dtypes("float64"):
        rows[column] += rng.normal(0, 0.1, len(rows)) * rows[column].std()

    assert_same(engines, plain(rows))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_manifest_contains_the_verification(name: str) -> None:
    """It has the rows, the precision, and a difference within the tolerance."""
    verification = pair(name).manifest.onnx

    assert verification is not None
    assert verification.verified_rows == len(pair(name).training)
    assert verification.max_difference <= TOLERANCE
    assert verification.precision == ("float32" if name in ("in single precision", "labels alone") else "float64")
    assert verification.opset["ai.onnx"] <= 21


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 4), min_size=1, max_size=20))
def test_any_numbers_have_equal_outputs(rows: list[tuple[float, ...]]) -> None:
    """In double precision, the outputs agree for every row."""
    for name in ("three classes", "boosting, three classes", "histogram boosting, three classes", "neural network"):
        assert_same(pair(name), rows)


GRID: NDArray[np.float64] = np.round(np.random.default_rng(3).uniform(0, 10, (400, 2)), 1)


@pytest.mark.parametrize(
    ("estimator", "digits"),
    [
        (DecisionTreeClassifier(), 1),
        (RandomForestClassifier(5, random_state=0), 1),
        (DecisionTreeRegressor(), 1),
        (GradientBoostingClassifier(n_estimators=5), 1),
        (HistGradientBoostingClassifier(max_iter=5), 1),
        (DecisionTreeClassifier(), 7),
    ],
    ids=str,
)
def test_values_at_a_threshold_take_the_same_branch(estimator: Any, digits: int, tmp_path: Path) -> None:
    """Trees agree on thresholds and one step of either precision next to them, where rounding decides."""
    data = GRID if digits == 1 else GRID + np.random.default_rng(4).uniform(0, 1e-6, GRID.shape)
    target = (np.sin(data).sum(axis=1) > 0).astype(int)
    bundle = pack(
        estimator.fit(data, target), pd.DataFrame(data, columns=["a", "b"]), name="t", out=tmp_path / "t", onnx=True
    )
    engines = Pair(*(load_bundle(bundle, engine=e) for e in ("sklearn", "onnx")), read_manifest(bundle)[0], data)
    known = np.unique(data)
    values = np.concatenate([known, (known[1:] + known[:-1]) / 2])
    single = values.astype(np.float32)
    near = [values, single, (values + single) / 2]
    near += [np.nextafter(array, end, dtype=array.dtype) for array in (values, single) for end in (-100, 100)]  # type: ignore[call-overload]
    steps = np.concatenate([array.astype(np.float64) for array in near])

    assert_same(engines, [(a, b) for a in steps.tolist() for b in (2.5, 7.1)])


def test_threads_share_a_session() -> None:
    """Concurrent calls return the outputs that each would get alone."""
    model, rows = pair("boosting, three classes").onnx, [[tuple(row)] for row in X.tolist()] * 10

    with ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(lambda row: predict(model, row), rows))

    assert outputs == [predict(model, row) for row in rows]


def test_large_training_data_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample includes a row with a missing value of each column that has one."""
    monkeypatch.setattr("modeltrace.bundles.pack.MAX_ONNX_ROWS", 20)
    data = X.repeat(2, axis=0)
    data[1, 3] = np.nan
    estimator = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)).fit(data, LABELS.repeat(2))

    bundle = pack(estimator, pd.DataFrame(data).rename(columns=str), name="m", out=tmp_path / "m", onnx=True)

    verification = read_manifest(bundle)[0].onnx
    assert verification is not None
    assert verification.verified_rows in (20, 21)


def test_the_export_is_deterministic(tmp_path: Path) -> None:
    """Equal estimators have equal files, so hashes can be compared."""
    packed = partial(pack, fit(LogisticRegression(), LABELS)[0], iris_frame(), name="m", onnx=True)

    first, second = (packed(out=tmp_path / name) / "model.onnx" for name in ("a", "b"))

    assert first.read_bytes() == second.read_bytes()
