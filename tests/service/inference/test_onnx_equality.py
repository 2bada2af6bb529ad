"""A model in ONNX Runtime answers as scikit-learn does: on the rows that proved it, on others, and at thresholds."""

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
    """Rows of every type; a number may be missing."""
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


def of_people(estimator: Any) -> tuple[Any, pd.DataFrame]:
    """An estimator behind a preparation of every column, fitted on frames with noisy labels."""
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
    "every type of column": lambda: of_people(LogisticRegression()),
    "every type of column, forest": lambda: of_people(RandomForestClassifier(20)),
    "every type of column, histogram boosting": lambda: of_people(HistGradientBoostingClassifier(max_iter=10)),
}


class Pair(NamedTuple):
    """One bundle behind both engines, and the data that it was packed with."""

    sklearn: Model
    onnx: Model
    manifest: Manifest
    training: pd.DataFrame


@cache
def pair(name: str) -> Pair:
    """Pack an estimator, once for all tests of it."""
    # What estimators draw from: a forest whose trees are evenly divided over a row leaves its label to rounding.
    np.random.seed(0)
    estimator, data = ESTIMATORS[name]()
    training = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data).rename(columns=str)
    with TemporaryDirectory() as folder:
        bundle = pack(estimator, training, name="m", out=Path(folder) / "m", onnx=True)
        return Pair(*(load_bundle(bundle, engine=e) for e in ("sklearn", "onnx")), read_manifest(bundle)[0], training)


def ask(model: Model, rows: list[tuple[Any, ...]]) -> list[ModelOutput]:
    """What a model answers to rows of plain values."""
    return model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))


def plain(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Rows as JSON has them."""
    return [
        tuple(None if pd.isna(value) else getattr(value, "item", lambda value=value: value)() for value in row)
        for row in table.itertuples(index=False, name=None)
    ]


def assert_same(pair: Pair, rows: list[tuple[Any, ...]]) -> None:
    """Both engines answer alike, to rows together and to the first one alone."""
    own = [*ask(pair.sklearn, rows), *ask(pair.sklearn, rows[:1])]
    other = [*ask(pair.onnx, rows), *ask(pair.onnx, rows[:1])]
    assert [(one.label, type(one.label)) for one in other] == [(one.label, type(one.label)) for one in own]
    assert [one.confidence for one in other] == pytest.approx([one.confidence for one in own], abs=TOLERANCE)
    scale = max((abs(one.value) for one in own if one.value is not None), default=1.0)
    assert [one.value for one in other] == pytest.approx([one.value for one in own], abs=TOLERANCE * scale)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_rows_of_no_training_are_answered_alike(name: str) -> None:
    """Columns shuffled each by itself, numbers moved a little: the same labels, confidences and values."""
    found = pair(name)
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({column: rng.permutation(found.training[column]) for column in found.training})
    for column in rows.select_dtypes("float64"):
        rows[column] += rng.normal(0, 0.1, len(rows)) * rows[column].std()

    assert_same(found, plain(rows))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_manifest_says_how_it_was_proven(name: str) -> None:
    """Rows, precision, and a difference that is within what is let pass."""
    proof = pair(name).manifest.onnx

    assert proof is not None
    assert proof.verified_rows == len(pair(name).training)
    assert proof.max_difference <= TOLERANCE
    assert proof.precision == ("float32" if name in ("in single precision", "labels alone") else "float64")
    assert proof.opset["ai.onnx"] <= 21


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 4), min_size=1, max_size=20))
def test_any_numbers_are_answered_alike(rows: list[tuple[float, ...]]) -> None:
    """In double precision nothing depends on where in the space a row lies."""
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
def test_a_value_on_a_threshold_goes_the_same_way(estimator: Any, digits: int, tmp_path: Path) -> None:
    """On thresholds, and one step of either precision beside them, where rounding decides, every tree agrees."""
    data = GRID if digits == 1 else GRID + np.random.default_rng(4).uniform(0, 1e-6, GRID.shape)
    target = (np.sin(data).sum(axis=1) > 0).astype(int)
    bundle = pack(
        estimator.fit(data, target), pd.DataFrame(data, columns=["a", "b"]), name="t", out=tmp_path / "t", onnx=True
    )
    found = Pair(*(load_bundle(bundle, engine=e) for e in ("sklearn", "onnx")), read_manifest(bundle)[0], data)
    known = np.unique(data)
    values = np.concatenate([known, (known[1:] + known[:-1]) / 2])
    single = values.astype(np.float32)
    near = [values, single, (values + single) / 2]
    near += [np.nextafter(one, end, dtype=one.dtype) for one in (values, single) for end in (-100, 100)]  # type: ignore[call-overload]
    steps = np.concatenate([one.astype(np.float64) for one in near])

    assert_same(found, [(a, b) for a in steps.tolist() for b in (2.5, 7.1)])


def test_threads_share_a_session() -> None:
    """Requests on several threads get the answers that each would get alone."""
    model, rows = pair("boosting, three classes").onnx, [[tuple(row)] for row in X.tolist()] * 10

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda row: ask(model, row), rows))

    assert together == [ask(model, row) for row in rows]


def test_of_many_rows_a_share_proves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows as are drawn, and one where each column is missing, if training has it."""
    monkeypatch.setattr("modeltrace.bundles.pack.MAX_ONNX_ROWS", 20)
    data = X.repeat(2, axis=0)
    data[1, 3] = np.nan
    estimator = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)).fit(data, LABELS.repeat(2))

    bundle = pack(estimator, pd.DataFrame(data).rename(columns=str), name="m", out=tmp_path / "m", onnx=True)

    proof = read_manifest(bundle)[0].onnx
    assert proof is not None
    assert proof.verified_rows in (20, 21)


def test_the_same_estimator_gives_the_same_file(tmp_path: Path) -> None:
    """Nothing of a run is in it, so its hash can be compared."""
    packed = partial(pack, fit(LogisticRegression(), LABELS)[0], iris_frame(), name="m", onnx=True)

    first, second = (packed(out=tmp_path / name) / "model.onnx" for name in ("a", "b"))

    assert first.read_bytes() == second.read_bytes()
