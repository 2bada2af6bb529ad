"""Estimators that begin with a text vectorizer are packed and served with one column of texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

import modeltrace
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.errors import PackError
from modeltrace.inference.text_input import accepts_texts
from tests.helpers.in_process_services import records_service

ROWS = 300
WORDS = ["alpha", "beta", "gamma", "delta", "good", "bad", "ugly", "fine", "nice", "poor", "great", "awful"]
REVIEWS = pd.Series([" ".join(words) for words in np.random.default_rng(0).choice(WORDS, (ROWS, 6))], name="review")
MOODS = np.where(REVIEWS.str.contains("good"), "glad", "sad")
LENGTHS = REVIEWS.str.len().to_numpy(dtype=float)

MODELS: dict[str, Callable[[], Any]] = {
    "tf-idf": lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(REVIEWS, MOODS),
    "hashing": lambda: make_pipeline(HashingVectorizer(n_features=64), SGDClassifier()).fit(REVIEWS, MOODS),
    "counts, regressor": lambda: Pipeline([("count", CountVectorizer()), ("fit", Ridge())]).fit(REVIEWS, LENGTHS),
    "union": lambda: make_pipeline(
        make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")), LogisticRegression(max_iter=500)
    ).fit(REVIEWS, MOODS),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(TfidfVectorizer(), LinearSVC()), cv=2).fit(
        REVIEWS, MOODS
    ),
    "vote": lambda: VotingClassifier(
        [
            ("words", make_pipeline(TfidfVectorizer(), LogisticRegression())),
            ("letters", make_pipeline(CountVectorizer(analyzer="char"), LogisticRegression(max_iter=500))),
        ],
        voting="soft",
    ).fit(REVIEWS, MOODS),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_text_model_answers_as_its_estimator_does(name: str, tmp_path: Path) -> None:
    """The estimator gets the column as a series: in `pack`, in single and batch requests, and in this process."""
    estimator = MODELS[name]()
    bundle = pack(estimator, REVIEWS, name="mood", out=tmp_path / "b")
    expected = estimator.predict(REVIEWS[:20]).tolist()
    rows = [{"review": text} for text in REVIEWS[:20]]
    key = "value" if "regressor" in name else "label"

    with records_service(load_bundle(bundle)) as service:
        single = [service.client.post("/predict", json={"features": row}).json()[key] for row in rows]
        batch = service.client.post("/predict/batch", json={"rows": rows}).json()["predictions"]

    assert single == pytest.approx(expected, rel=1e-12) if key == "value" else single == expected
    assert [entry[key] for entry in batch] == pytest.approx(single, rel=1e-12) if key == "value" else single
    assert modeltrace.load(bundle).predict(REVIEWS[:20].tolist()).tolist() == [entry[key] for entry in batch]


def test_held_out_predictions_of_texts_are_cross_validated(tmp_path: Path) -> None:
    """The clones are fitted on series of texts, too."""
    bundle = pack(MODELS["tf-idf"](), REVIEWS, MOODS, name="mood", out=tmp_path / "b")

    held_out = read_manifest(bundle).manifest.held_out
    assert held_out is not None
    assert (held_out.method, held_out.rows) == ("cross_validation", ROWS)
    assert held_out.accuracy is not None
    assert held_out.accuracy > 0.9


@pytest.mark.parametrize("texts", [REVIEWS.rename(None), REVIEWS.tolist(), REVIEWS.to_numpy(), REVIEWS.to_frame()])
def test_texts_without_a_name_are_the_feature_text(texts: Any, tmp_path: Path) -> None:
    """A list, an array or a series without a name has no name for the feature."""
    bundle = pack(MODELS["tf-idf"](), texts, name="mood", out=tmp_path / "b")

    assert load_bundle(bundle).schema.names == ("review" if isinstance(texts, pd.DataFrame) else "text",)


def test_the_column_of_texts_is_found_in_a_table(tmp_path: Path) -> None:
    """A file has other columns, too; the model cannot use numbers."""
    table = pd.DataFrame({"stars": np.arange(ROWS), "review": REVIEWS})

    assert load_bundle(pack(MODELS["hashing"](), table, name="mood", out=tmp_path / "b")).schema.names == ("review",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"stars": np.arange(ROWS), "count": 1.0}), "accepts one column of texts.* has none. Pack with"),
        (pd.DataFrame({"review": REVIEWS, "mood": MOODS}), "has 2: review, mood. Pack with .*--target"),
    ],
)
def test_a_table_without_one_column_of_texts_is_refused(table: pd.DataFrame, message: str, tmp_path: Path) -> None:
    """The message says what the estimator accepts and what to do."""
    with pytest.raises(PackError, match=message):
        pack(MODELS["tf-idf"](), table, name="mood", out=tmp_path / "b")


def test_a_missing_text_is_rejected(tmp_path: Path) -> None:
    """A vectorizer cannot use a missing text, so a row without a text gets an error and not a failure of the model."""
    with records_service(load_bundle(pack(MODELS["tf-idf"](), REVIEWS, name="mood", out=tmp_path / "b"))) as service:
        response = service.client.post("/predict", json={"features": {"review": None}})

    assert response.status_code == 422
    assert response.json()["error"]["violations"][0]["reason"] == "missing"


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (MODELS["tf-idf"], True),
        (
            lambda: make_pipeline(FunctionTransformer(), TfidfVectorizer(), LogisticRegression()).fit(REVIEWS, MOODS),
            True,
        ),
        (
            lambda: make_pipeline(ColumnTransformer([("t", TfidfVectorizer(), "review")]), LogisticRegression()).fit(
                REVIEWS.to_frame(), MOODS
            ),
            False,
        ),
        (
            lambda: make_pipeline(
                FunctionTransformer(lambda table: table["review"]), TfidfVectorizer(), LogisticRegression()
            ).fit(REVIEWS.to_frame(), MOODS),
            False,
        ),
        (lambda: make_pipeline("passthrough", TfidfVectorizer(), LogisticRegression()).fit(REVIEWS, MOODS), True),
        (lambda: LogisticRegression().fit(np.arange(ROWS).reshape(-1, 1), MOODS), False),
    ],
)
def test_the_input_of_an_estimator_is_determined(fit: Callable[[], Any], *, expected: bool) -> None:
    """An estimator that was fitted on a table gets a table, even if its first vectorizer accepts texts."""
    assert accepts_texts(fit()) is expected
