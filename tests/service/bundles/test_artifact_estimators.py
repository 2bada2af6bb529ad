"""Every estimator of scikit-learn goes through an artifact and comes out the same."""

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
from modeltrace.inference.model import make_predict_fn, to_json_label
from tests.helpers.estimators import UNSUPPORTED, every_predictor, variants

pytestmark = pytest.mark.slow

PREDICTORS = {**every_predictor(), **variants()}
Prepared = Callable[[str], tuple[Any, Any, bytes]]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """A fitted estimator, its data and its artifact by name, each made once."""

    @cache
    def prepare(name: str) -> tuple[Any, Any, bytes]:
        estimator, data = PREDICTORS[name]()
        return estimator, data, dump_artifact(estimator, "skops")

    return prepare


@pytest.mark.parametrize("name", sorted(PREDICTORS))
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_an_estimator_predicts_the_same_after_loading(name: str, prepared: Prepared) -> None:
    """What comes out of the artifact predicts what went in did."""
    estimator, data, raw = prepared(name)

    loaded = load_artifact(raw, "skops", source=name)

    if "Dummy" not in name:  # one strategy of it is chance
        before, after = estimator.predict(data), loaded.predict(data)
        # Where arrays lie in memory decides the order in which they are added up: the last bits may differ.
        same = np.allclose(after, before, rtol=1e-9) if before.dtype.kind == "f" else np.array_equal(after, before)
        assert same


@pytest.mark.parametrize("name", sorted(PREDICTORS))
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_the_answer_is_what_the_estimator_predicts(name: str, prepared: Prepared) -> None:
    """A label is the one that predict() says, with its own probability; a value is the predicted one."""
    estimator, data, _ = prepared(name)
    answers = make_predict_fn(estimator, "classifier" if is_classifier(estimator) else "regressor")(data)

    said = estimator.predict(data)
    if not is_classifier(estimator):
        np.testing.assert_allclose([answer.value for answer in answers], np.ravel(said))
        return
    assert [answer.label for answer in answers] == [to_json_label(label) for label in said]
    if hasattr(estimator, "predict_proba"):
        places = [list(estimator.classes_).index(label) for label in said]
        own = estimator.predict_proba(data)[np.arange(len(said)), places]
        np.testing.assert_allclose([answer.confidence for answer in answers], own)


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_no_reviewed_name_is_stale(prepared: Prepared) -> None:
    """Each name on the list that the installed libraries have is needed by an estimator of scikit-learn."""
    needed = {name for one in PREDICTORS for name in skops.io.get_untrusted_types(data=prepared(one)[2])}

    assert [name for name in sorted(REVIEWED_TYPES - needed) if exists(name)] == []


def exists(name: str) -> bool:
    """Whether the installed libraries have something of that dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False


def test_what_is_out_of_reach_exists() -> None:
    """The list of exceptions names estimators that there are."""
    known = {
        name for kind in ("transformer", "regressor", "classifier") for name, _ in all_estimators(type_filter=kind)
    }

    assert sorted(set(UNSUPPORTED) - known) == []
