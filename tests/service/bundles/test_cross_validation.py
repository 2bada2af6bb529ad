"""Cross-validation of an estimator by `pack`: when it is possible, and when a warning says that it is not."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.cross_validation import FOLDS, assign_folds
from modeltrace.bundles.pack import pack
from modeltrace.errors import PackError
from tests.helpers.noisy_models import noisy_rows, output_drift, pack_with_messages

pytestmark = pytest.mark.slow


class SlowClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose second and later fits take ten seconds."""

    fits = 0

    def __init__(self, fast_fits: int = 1) -> None:
        self.fast_fits = fast_fits

    def fit(self, rows: Any, target: Any) -> "SlowClassifier":  # noqa: ARG002  part of the interface
        """Learn the most frequent class."""
        type(self).fits += 1
        if type(self).fits > self.fast_fits:
            time.sleep(10)
        self.classes_, counts = np.unique(target, return_counts=True)
        self.mode_ = self.classes_[counts.argmax()]
        return self

    def predict(self, rows: Any) -> Any:
        """Return the most frequent class."""
        return np.full(len(rows), self.mode_)


class NotCloneable(DecisionTreeClassifier):
    """A classifier whose constructor changes a parameter."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__(max_depth=depth)
        self.depth = depth + 1


class FailsAgain(LogisticRegression):
    """A classifier that can be fitted on all rows only."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "FailsAgain":  # noqa: N803  scikit-learn's name
        """Fit 600 rows."""
        if len(X) < 600:
            raise RuntimeError("600 rows,\nnot fewer")
        super().fit(X, y, sample_weight)
        return self


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (NotCloneable, "the NotCloneable cannot be cloned: RuntimeError"),
        (FailsAgain, "a clone of the FailsAgain fails: RuntimeError: 600 rows,"),
        (
            lambda: CalibratedClassifierCV(FrozenEstimator(DecisionTreeClassifier().fit(*noisy_rows(600, 0)))),
            "contains a DecisionTreeClassifier that is fitted already",
        ),
    ],
    ids=["not cloneable", "fails", "frozen"],
)
def test_an_estimator_that_cannot_be_cross_validated_is_packed(
    tmp_path: Path, make: Callable[[], Any], message: str
) -> None:
    """A warning says why, and the statistics of the outputs have a state of their own, never an alarm."""
    rows, target = noisy_rows(600, 0)
    bundle, manifest, messages = pack_with_messages(tmp_path, make().fit(rows, target), rows, target)

    assert manifest.held_out is None
    assert manifest.output_reference is not None
    assert manifest.output_reference.source == "training"
    assert messages[-1].startswith("Warning: no held-out reference of the model's predictions: ")
    assert message in messages[-1]
    assert "--traffic" in messages[-1]
    results = output_drift(load_bundle(bundle, trust_pickle=True), rows.assign(a=10.0))
    assert {result.state for result in results.values()} == {"no held-out reference"}


@pytest.mark.parametrize(
    ("options", "has_target", "message"),
    [
        ({}, False, "the labels of the training data are unknown (--target)"),
        ({"cross_validation_seconds": 0}, True, "cross-validation is off"),
    ],
)
def test_cross_validation_needs_labels_and_can_be_turned_off(
    tmp_path: Path, options: dict[str, Any], has_target: bool, message: str
) -> None:
    """Without it, the model's outputs for training rows are the reference, and a warning says so."""
    rows, target = noisy_rows(600, 0)
    estimator = LogisticRegression().fit(rows, target)
    _, manifest, messages = pack_with_messages(tmp_path, estimator, rows, target if has_target else None, **options)

    assert manifest.held_out is None
    assert message in messages[-1]


@pytest.mark.parametrize(("fast_fits", "predicted"), [(2, 0), (8, 7 * 60)], ids=["too few rows", "enough rows"])
def test_the_time_limit_ends_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_fits: int, predicted: int
) -> None:
    """A fit of ten seconds is interrupted. The rows that were predicted before are used if there are enough."""
    monkeypatch.setattr(SlowClassifier, "fits", 0)
    rows, target = noisy_rows(600, 0)
    estimator = SlowClassifier(fast_fits).fit(rows, target)
    handler = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    _, manifest, messages = pack_with_messages(tmp_path, estimator, rows, target, cross_validation_seconds=1)

    assert time.monotonic() - start < 8
    assert signal.getsignal(signal.SIGALRM) == handler
    assert any("the time limit is reached" in message for message in messages)
    if predicted:
        assert manifest.held_out is not None
        assert manifest.held_out.rows == predicted
        assert manifest.held_out.low_confidence_share is None
    else:
        assert manifest.held_out is None
        assert "predicted 60 rows in 1 s (--cross-validation-seconds), 200 are needed" in messages[-1]


def test_a_class_may_have_fewer_rows_than_folds(tmp_path: Path) -> None:
    """Clones that have not seen the class predict others. The reference has all classes."""
    rows, target = noisy_rows(600, 0)
    target[:3] = "rare"
    forest = RandomForestClassifier(10, random_state=0).fit(rows, target)
    _, manifest, _ = pack_with_messages(tmp_path, forest, rows, target)

    assert manifest.held_out is not None
    assert manifest.held_out.rows == 600
    assert manifest.output_reference is not None
    assert set(manifest.output_reference.shares) == {"x", "y", "z", "rare"}


def test_a_class_with_one_row_leaves_clones_without_it(tmp_path: Path) -> None:
    """A clone that sees one class only cannot be fitted, so there is no reference."""
    rows = noisy_rows(300, 0)[0]
    target = pd.Series(["usual"] * 299 + ["once"], name="kind")
    _, manifest, messages = pack_with_messages(tmp_path, LogisticRegression().fit(rows, target), rows, target)

    assert manifest.held_out is None
    assert "a clone of the LogisticRegression fails: ValueError" in messages[-1]


def test_missing_labels_are_left_out(tmp_path: Path) -> None:
    """Only labelled rows are cross-validated."""
    rows, target = noisy_rows(600, 0)
    estimator = LogisticRegression().fit(rows, target)
    target[:100] = None
    _, manifest, _ = pack_with_messages(tmp_path, estimator, rows, target)
    assert manifest.held_out is not None
    assert manifest.held_out.rows == 500

    _, manifest, messages = pack_with_messages(tmp_path, estimator, rows, target.where(target.isna()), force=True)
    assert manifest.held_out is None
    assert "all labels of the training data are missing" in messages[-1]


def test_a_model_that_was_fitted_in_another_way_has_no_reference(tmp_path: Path) -> None:
    """Sample weights and transformed labels are unknown to clones, so their outputs are not those of the model."""
    rng = np.random.default_rng(0)
    rows = noisy_rows(1000, 0)[0]
    rare = pd.Series(rows.a + rng.normal(size=1000) > 2.2, name="rare")
    weighted = LogisticRegression().fit(rows, rare, sample_weight=np.where(rare, 20, 1))
    _, manifest, messages = pack_with_messages(tmp_path, weighted, rows, rare)
    assert manifest.held_out is None
    assert "fitted in another way, for example with sample weights" in messages[-1]

    price = (np.exp(rows.a) * 1000).rename("price")
    regressor = LinearRegression().fit(rows, np.log(price))
    _, manifest, messages = pack_with_messages(tmp_path, regressor, rows, price, force=True)
    assert manifest.held_out is None
    assert "fitted on other labels than the column of --target" in messages[-1]


def test_a_folder_that_exists_is_refused_before_the_cross_validation(tmp_path: Path) -> None:
    """The user need not wait for it."""
    rows, target = noisy_rows(300, 0)
    (tmp_path / "bundle").mkdir()
    messages: list[str] = []
    with pytest.raises(PackError, match="--force"):
        pack(
            LogisticRegression().fit(rows, target), rows, target, name="m", out=tmp_path / "bundle",
            on_message=messages.append,
        )  # fmt: skip
    assert messages == []


def test_copies_of_a_row_are_in_one_fold() -> None:
    """Otherwise, an oversampled row is known to the clone that predicts it. It may be if few rows are possible."""
    rows, target = noisy_rows(300, 0)
    copies = pd.concat([rows, rows[:100]], ignore_index=True)
    folds = assign_folds(copies, np.concatenate([target, target[:100]]))
    assert (folds[300:] == folds[:100]).all()

    few = pd.DataFrame({"a": np.arange(300) % 5})
    assert len({*assign_folds(few, None)[few.a == 0].tolist()}) > 1


def test_folds_have_equal_shares_of_each_class() -> None:
    """Each fold has a tenth of the rows of a class."""
    rows, target = noisy_rows(1000, 0)
    folds = assign_folds(rows, target.to_numpy())
    for label in ("x", "y", "z"):
        counts = np.bincount(folds[target == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
