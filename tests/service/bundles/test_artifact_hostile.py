"""Artifacts that contain only trusted types, but in a harmful combination."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modeltrace.bundles.artifact import dump_artifact, load_artifact
from modeltrace.bundles.tree_validation import walk_objects
from modeltrace.bundles.trusted_types import REVIEWED_TYPES
from modeltrace.errors import BundleError, UntrustedModelError
from tests.helpers.estimators import LABELS, TWO_LABELS, X, fit


def with_cache(folder: Path, labels: "np.ndarray[Any, Any]" = TWO_LABELS) -> Pipeline:
    """Return a fitted pipeline that reads pickles from a folder if it is fitted again."""
    fitted: Pipeline = fit(Pipeline([("scale", StandardScaler()), ("decide", LogisticRegression())]), labels)[0]
    fitted.memory = str(folder)
    return fitted


def rewrite(raw: bytes, edit: Callable[[Any], None]) -> bytes:
    """Return a skops file with a changed schema."""
    sink = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as source, ZipFile(sink, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                edit(schema)
                content = json.dumps(schema).encode()
            target.writestr(name, content)
    return sink.getvalue()


def by_threshold(folder: Path) -> Any:
    """Return an estimator that calls a method of its inner estimator by name: here, `fit`."""
    forged = FixedThresholdClassifier(LogisticRegression(), threshold=0.5, pos_label="setosa").fit(X, TWO_LABELS)
    forged.estimator_, forged.response_method = with_cache(folder), "fit"
    return forged


def by_stack(folder: Path) -> Any:
    """Return an estimator that calls methods of its inner estimators by name: here, `fit`."""
    forged = StackingClassifier([("only", LogisticRegression())], cv=2).fit(X, TWO_LABELS)
    forged.estimators_, forged.stack_method_ = [with_cache(folder)], ["fit"]
    return forged


@pytest.mark.parametrize("forge", [by_threshold, by_stack])
def test_a_forged_call_of_fit_reads_no_cache(forge: Callable[[Path], Any], tmp_path: Path) -> None:
    """Both contain only trusted types; with `memory` they would read pickles from a folder of their choice."""
    raw = skops.io.dumps(forge(tmp_path / "cache"))
    with pytest.raises(ValueError, match="requires y"):
        skops.io.loads(raw, trusted=sorted(REVIEWED_TYPES)).predict(X)
    assert (tmp_path / "cache").exists()
    raw = skops.io.dumps(forge(tmp_path / "fresh"))

    with pytest.raises(ValueError, match="requires y"):
        load_artifact(raw, "skops", source="forged").predict(X)
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: make_pipeline(StandardScaler(), inner),
        lambda inner: TransformedTargetRegressor(LinearRegression(), transformer=inner),
        lambda inner: StackingClassifier([("one", inner)]),
        lambda inner: FunctionTransformer(kw_args={"x": [inner]}),
        lambda inner: FunctionTransformer(kw_args={"x": np.array([(inner, 1)], dtype=object)}),
    ],
)
def test_every_memory_is_cleared(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    """A pipeline has no `memory` after loading, at any depth."""
    raw = skops.io.dumps(wrap(with_cache(tmp_path)))

    parts = list(walk_objects(load_artifact(raw, "skops", source="deep")))

    pipelines = [part for part in parts if isinstance(part, Pipeline)]
    assert pipelines
    assert {pipeline.memory for pipeline in pipelines} == {None}


def test_a_pipeline_with_a_cache_predicts_as_before(tmp_path: Path) -> None:
    """The cache was for training; predictions are the same without it."""
    estimator = with_cache(tmp_path, LABELS)

    loaded = load_artifact(dump_artifact(estimator, "skops"), "skops", source="cached")

    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize(
    "scorer", [_Scorer(accuracy_score, 1, {}, response_method="fit"), _PassthroughScorer(LogisticRegression())]
)
def test_a_scorer_is_refused(scorer: object) -> None:
    """A scorer calls a method whose name comes from the file, which can be any method."""
    forged = fit(FunctionTransformer(), LABELS)[0].set_params(func=None, kw_args={"scorer": scorer})

    with pytest.raises(UntrustedModelError, match=type(scorer).__name__):
        load_artifact(skops.io.dumps(forged), "skops", source="forged")


def test_a_bound_method_is_refused() -> None:
    """A method of a trusted object is a name of its own, which is not trusted."""
    forged = FunctionTransformer(LogisticRegression().fit)

    with pytest.raises(UntrustedModelError, match=r"LogisticRegression\.fit"):
        load_artifact(skops.io.dumps(forged), "skops", source="forged")


def test_a_key_that_is_made_by_a_forged_call_is_refused(tmp_path: Path) -> None:
    """skops calls the type of each dictionary key: names outside the list are not called there either."""
    proof = tmp_path / "proof"
    raw = rewrite(
        skops.io.dumps({str(proof): 1}),
        lambda schema: schema["key_types"]["content"][0].update(__class__="mkdir", __module__="os"),
    )

    with pytest.raises(UntrustedModelError, match=r"os\.mkdir"):
        load_artifact(raw, "skops", source="forged")
    assert not proof.exists()


@pytest.mark.parametrize("loader", ["ListNode", "SetNode", "DictNode", "TypeNode", "ObjectNode", "FunctionNode"])
def test_no_kind_of_node_bypasses_the_list(loader: str) -> None:
    """Wherever skops would import a name, the name has to be on the list."""
    content: Any = {} if loader == "DictNode" else []
    forged = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": loader,
        "content": None if loader == "ObjectNode" else content,
        "key_types": {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []},
    }
    raw = rewrite(skops.io.dumps([1]), lambda schema: schema["content"].append(forged))

    with pytest.raises(UntrustedModelError, match=r"os\.system"):
        load_artifact(raw, "skops", source="forged")


@pytest.mark.parametrize("kind", [RandomForestClassifier, GradientBoostingClassifier])
def test_a_tree_that_is_wider_than_its_ensemble_is_refused(kind: type[Any]) -> None:
    """An ensemble checks the width of its rows once, so a wider tree would read memory beyond them."""
    estimator, _ = fit(kind(n_estimators=2), TWO_LABELS)
    wide, _ = fit(
        DecisionTreeRegressor() if kind is GradientBoostingClassifier else DecisionTreeClassifier(),
        TWO_LABELS == "other",
        np.tile(X, 100)[:, ::-1],
    )
    np.ravel(estimator.estimators_)[-1].__dict__.update(tree_=wide.tree_, n_features_in_=wide.n_features_in_)

    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(skops.io.dumps(estimator), "skops", source="forged")


def test_a_zip_bomb_is_not_unpacked() -> None:
    """An archive that claims to unpack to a thousand times its size is refused."""
    sink = io.BytesIO()
    with ZipFile(sink, "w", ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 10**7)

    with pytest.raises(BundleError, match=r"10,000,000 bytes"):
        load_artifact(sink.getvalue(), "skops", source="bomb")


def test_a_compressed_model_loads() -> None:
    """The compression that skops offers is accepted."""
    raw = skops.io.dumps(fit(LogisticRegression(), LABELS)[0], compression=ZIP_DEFLATED)

    assert isinstance(load_artifact(raw, "skops", source="small"), LogisticRegression)


@pytest.mark.parametrize(
    "schema",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"protocol": 99}',
        "[" * 100_000,
        '{"protocol": 1, "__loader__": "NoNode", "__class__": "x", "__module__": "y"}',
        '{"protocol": 1, "__loader__": "CachedNode", "__class__": "x", "__module__": "y", "__id__": 1}',
        '{"protocol": 1, "__loader__": "BytesNode", "__class__": "bytes", "__module__": "builtins", "file": "/etc/x"}',
    ],
)
def test_a_damaged_schema_is_a_bundle_error(schema: str) -> None:
    """Any skops file loads or raises a BundleError that names the file."""
    sink = io.BytesIO()
    with ZipFile(sink, "w") as archive:
        archive.writestr("schema.json", schema)

    with pytest.raises(BundleError, match=r"model\.skops"):
        load_artifact(sink.getvalue(), "skops", source="model.skops")


def test_an_array_of_pickles_is_not_read(tmp_path: Path) -> None:
    """An array file that contains pickled objects instead of numbers is refused."""
    sink = io.BytesIO()
    np.save(sink, np.array([RunsOnUnpickling(tmp_path / "proof")], dtype=object), allow_pickle=True)
    raw = skops.io.dumps(np.arange(3))
    changed = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as source, ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, sink.getvalue() if name.endswith(".npy") else source.read(name))

    with pytest.raises(BundleError, match="allow_pickle=False"):
        load_artifact(changed.getvalue(), "skops", source="forged")
    assert not (tmp_path / "proof").exists()


class RunsOnUnpickling:
    """Create a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.path,))


def test_the_pickle_probe_works(tmp_path: Path) -> None:
    """The object that must never be unpickled does create its folder when it is."""
    joblib.dump(RunsOnUnpickling(tmp_path / "proof"), tmp_path / "evil")

    joblib.load(tmp_path / "evil")

    assert (tmp_path / "proof").exists()
