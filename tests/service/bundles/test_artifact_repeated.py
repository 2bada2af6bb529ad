"""A model that is packed again gives the same file, and so the same hash."""

import io
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modeltrace.bundles.artifact import dump_artifact
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from tests.helpers.tables import customers_without_gaps

DATA = customers_without_gaps()


def load_again(estimator: BaseEstimator) -> Any:
    """Return the same model at other memory addresses, as in another run of `modeltrace pack`."""
    sink = io.BytesIO()
    joblib.dump(estimator, sink)
    return joblib.load(io.BytesIO(sink.getvalue()))


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(),
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=2),
        KNeighborsClassifier(algorithm="kd_tree"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_same_model_is_the_same_file(last: BaseEstimator) -> None:
    """Memory addresses, the time and the padding bytes of tree nodes do not change the file."""
    encoder = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["age", "income"]))
    model = make_pipeline(encoder, last).fit(DATA, DATA["vip"])
    first, second = load_again(model), load_again(model)

    assert dump_artifact(first, "skops") == dump_artifact(second, "skops")


def test_a_model_that_is_packed_again_has_the_same_hash(tmp_path: Path) -> None:
    """A running service accepts it with another description under the same version."""
    numbers = DATA[["age", "income"]]
    model = LogisticRegression().fit(numbers, DATA["vip"])
    plain = pack(model, numbers, name="x", out=tmp_path / "plain")
    ranged = pack(load_again(model), numbers, name="x", out=tmp_path / "ranged", valid_ranges={"age": (0, 200)})

    assert read_manifest(plain)[0].artifact == read_manifest(ranged)[0].artifact
