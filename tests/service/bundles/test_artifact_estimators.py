"""Every estimator of scikit-learn predicts the same after it was saved and loaded."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import is_classifier
from sklearn.utils import all_estimators

from modeltrace.bundles.artifact import dump_artifact, load_artifact
from modeltrace.bundles.trusted_types import REVIEWED_TYPES
from modeltrace.inference.model import to_json_label
from modeltrace.inference.predict_fns import make_predict_fns
from tests.helpers.estimators import UNSUPPORTED, every_predictor, variants

pytestmark = pytest.mark.slow

PREDICTORS = {**every_predictor(), **variants()}
Prepared = Callable[[str], tuple[Any, Any, bytes]]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Return a fitted estimator, its data and its artifact by name; each is created once."""

    @cache
    def prepare(name: str) -> tuple[Any, Any, bytes]:
        estimator, data = PREDICTORS[name]()
        return estimator, data, dump_artifact(estimator, "skops")

    return prepare


@pytest.mark.parametrize("name", sorted(PREDICTORS))
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_an_estimator_predicts_the_same_after_loading(name: str, prepared: Prepared) -> None:
    """The loaded estimator predicts the same as the original one."""
    estimator, data, raw = prepared(name)

    loaded = load_artifact(raw, "skops", source=name)

    if "Dummy" not in name:  # one of its strategies is random
        before, after = estimator.predict(data), loaded.predict(data)
        # The memory alignment of arrays determines the order of summation, so the last bits may differ.
        same = np.allclose(after, before, rtol=1e-9) if before.dtype.kind == "f" else np.array_equal(after, before)
        assert same


@pytest.mark.parametrize("name", sorted(PREDICTORS))
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_the_output_is_what_the_estimator_predicts(name: str, prepared: Prepared) -> None:
    """The label is the result of predict(), with predict_proba(); the value is the predicted one."""
    estimator, data, _ = prepared(name)
    predict_fns = make_predict_fns(estimator, "classifier" if is_classifier(estimator) else "regressor")
    outputs = predict_fns.predict(data)

    predicted = estimator.predict(data)
    if not is_classifier(estimator):
        np.testing.assert_allclose([output.value for output in outputs], np.ravel(predicted))
        return
    assert [output.label for output in outputs] == [to_json_label(label) for label in predicted]
    if hasattr(estimator, "predict_proba"):
        columns = [list(estimator.classes_).index(label) for label in predicted]
        expected = estimator.predict_proba(data)[np.arange(len(predicted)), columns]
        np.testing.assert_allclose([output.confidence for output in outputs], expected)
        assert predict_fns.with_details is not None
        detailed = predict_fns.with_details(data)
        assert [output.label for output in detailed] == [output.label for output in outputs]
        np.testing.assert_allclose([output.probabilities for output in detailed], estimator.predict_proba(data))


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_no_reviewed_name_is_stale(prepared: Prepared) -> None:
    """Each reviewed name of scikit-learn and below that is installed is needed by an estimator of scikit-learn."""
    needed = {name for predictor in PREDICTORS for name in skops.io.get_untrusted_types(data=prepared(predictor)[2])}

    below = ("sklearn.", "numpy.", "scipy.", "functools.")
    assert [name for name in sorted(REVIEWED_TYPES - needed) if name.startswith(below) and exists(name)] == []


def exists(name: str) -> bool:
    """Return whether the installed libraries have an object with this dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False


def test_the_excluded_estimators_exist() -> None:
    """The list of exceptions contains only estimators that exist."""
    known = {
        name for kind in ("transformer", "regressor", "classifier") for name, _ in all_estimators(type_filter=kind)
    }

    assert sorted(set(UNSUPPORTED) - known) == []
