"""The user's own modules of a bundle: in worker processes of joblib, and while a running service changes versions."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modeltrace.bundles.code.archive import collect_code
from modeltrace.bundles.code.importer import OwnCode
from modeltrace.bundles.loaded_model import load
from modeltrace.bundles.pack import pack
from tests.helpers.estimators import LABELS, iris_frame
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

pytestmark = pytest.mark.slow

ROW = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}
MODULE = """
import os

import joblib
from sklearn.base import BaseEstimator, TransformerMixin

import own_scale


def scale(column):
    return own_scale.scale(column), os.getpid()


def scale_all(columns, n_jobs):
    return joblib.Parallel(n_jobs)(joblib.delayed(scale)(column) for column in columns)


class Scale(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return own_scale.scale(X)
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with the modules `own_steps` and `own_scale`, which Python can import."""
    folder = tmp_path / "src"
    folder.mkdir()
    monkeypatch.setattr("modeltrace.bundles.pack.verify_in_new_process", lambda *_: None)
    (folder / "own_steps.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    forget_modules()


def forget_modules() -> None:
    """Remove the modules of the tests from the import system."""
    for name in ("own_steps", "own_scale"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def pack_version(source: Path, out: Path, version: str, factor: float) -> Path:
    """Pack a model whose module `own_scale` multiplies by a factor."""
    (source / "own_scale.py").write_text(f"def scale(column):\n    return column * {factor}\n")
    forget_modules()
    step = importlib.import_module("own_steps").Scale()
    estimator = make_pipeline(step, LogisticRegression(max_iter=1000)).fit(iris_frame(), LABELS)
    estimator[-1].coef_ = estimator[-1].coef_ * 0 + [[1.0], [0.0], [-1.0]]
    bundle = pack(
        estimator, iris_frame(), LABELS, name="iris", version=version, out=out, code=[source],
        artifact_format="joblib", cross_validation_seconds=0,
    )  # fmt: skip
    forget_modules()
    return bundle


def test_worker_processes_of_joblib_have_the_modules(source: Path) -> None:
    """They cannot import them, because the modules exist only in the memory of the process that loaded the bundle."""
    (source / "own_scale.py").write_text("def scale(column):\n    return column * 2\n")
    code = OwnCode(collect_code([source]), "code.zip")
    module = importlib.import_module(code.internal_name("own_steps"))

    own, parallel = module.scale_all(range(8), 1), module.scale_all(range(8), 2)

    assert [value for value, _ in own] == [value for value, _ in parallel] == [*range(0, 16, 2)]
    assert {process for _, process in own} == {os.getpid()}
    assert os.getpid() not in {process for _, process in parallel}


def test_versions_with_modules_of_the_same_names_change_in_a_running_service(source: Path, tmp_path: Path) -> None:
    """Each version answers with its own modules, before and after the change."""
    folder = tmp_path / "models"
    bundles = [
        pack_version(source, tmp_path / version, version, factor) for version, factor in (("1", 1.0), ("2", -1.0))
    ]
    expected = [load(bundle, trust_pickle=True, trust_code=True).predict(iris_frame()[:1])[0] for bundle in bundles]
    folder.mkdir()
    bundles[0].rename(folder / "1")
    trust = {"MODELTRACE_TRUST_CODE": "true", "MODELTRACE_TRUST_PICKLE": "true"}

    def answer() -> tuple[Any, Any]:
        response = httpx.post(f"{url}/predict", json={"features": ROW}).json()
        return response["model"]["version"], response["label"]

    with running_service(folder, OTEL_SDK_DISABLED="true", MODELTRACE_RELOAD_INTERVAL="0.1", **trust) as (process, url):
        process.wait_for_workers(1)
        before = answer()
        bundles[1].rename(folder / "2")
        wait_until(lambda: "now serving iris 2 " in process.log, description="the new version")
        after = answer()

    assert [before, after] == [("1", expected[0]), ("2", expected[1])]
    assert expected[0] != expected[1]
