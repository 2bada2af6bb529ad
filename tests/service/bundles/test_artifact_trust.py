"""What an artifact may contain, and what happens to an artifact that contains more."""

import io
import json
import os
import pickle
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modeltrace.bundles.artifact import dump_artifact, load_artifact
from modeltrace.errors import BundleError, IncompatibleBundleError, PackError, UntrustedModelError
from tests.helpers.estimators import LABELS, X, fit


class RunsOnUnpickling:
    """Create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def edit(raw: bytes, change: Any) -> bytes:
    """Return a skops file with an edited schema."""
    sink = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as source, ZipFile(sink, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                content = json.dumps(change(schema) or schema).encode()
            target.writestr(name, content)
    return sink.getvalue()


def call_to(module: str, name: str, arguments: Any) -> Any:
    """Return an edit that inserts a forged call into a skops file."""

    def edit(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "__class__": name,
            "__module__": module,
            "__loader__": "ConstructorFromReduceNode",
            "content": json.loads(json.dumps(arguments)),
            **{key: schema[key] for key in ("protocol", "_skops_version")},
        }

    return edit


@pytest.fixture(scope="module")
def plain() -> bytes:
    """Return the artifact of a small model."""
    return dump_artifact(fit(LogisticRegression(), LABELS)[0], "skops")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("joblib", "load"),
        ("operator", "attrgetter"),
        ("sklearn.datasets._base", "load_files"),
        ("sklearn.neighbors", "no_such_thing"),
    ],
)
def test_a_forged_call_is_refused(module: str, name: str, plain: bytes) -> None:
    """A name outside the list is refused, and the message contains it."""
    arguments = {
        "__class__": "tuple",
        "__module__": "builtins",
        "__loader__": "TupleNode",
        "content": [{"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"x"'}],
    }

    with pytest.raises(UntrustedModelError, match=name):
        load_artifact(edit(plain, call_to(module, name, arguments)), "skops", source="forged")


def test_forged_code_does_not_run(tmp_path: Path, plain: bytes) -> None:
    """The call in a refused artifact is not executed."""
    proof = tmp_path / "proof"
    content = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": json.dumps(str(proof)),
    }
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [content]}
    forged = edit(plain, call_to("os", "mkdir", arguments))
    with pytest.raises(UntrustedModelError):
        load_artifact(forged, "skops", source="forged")
    assert not proof.exists()

    # A loader that trusts the name does execute the call.
    skops.io.loads(forged, trusted=["os.mkdir"])
    assert proof.exists()


@pytest.mark.parametrize("function", [os.system, eval, subprocess.run])
def test_a_transformer_with_a_dangerous_function_is_refused(function: Any) -> None:
    """The function of a FunctionTransformer is checked like any other name."""
    steps = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(X, LABELS)
    steps[0].func = function

    with pytest.raises(UntrustedModelError, match=function.__name__):
        load_artifact(skops.io.dumps(steps), "skops", source="forged")


def test_a_numpy_function_in_a_transformer_is_allowed() -> None:
    """`FunctionTransformer(numpy.log1p)`, the usual case, loads."""
    estimator, _ = fit(make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), LABELS)

    loaded = load_artifact(dump_artifact(estimator, "skops"), "skops", source="log")

    assert (loaded.predict(X) == estimator.predict(X)).all()


class Clip(StandardScaler):
    """A user-defined step."""


def test_a_user_defined_type_is_packed_only_if_trusted() -> None:
    """The message names the type and both remedies."""
    estimator, _ = fit(make_pipeline(Clip(), LogisticRegression()), LABELS)

    with pytest.raises(PackError, match=r"Clip.*MODELTRACE_TRUSTED_TYPES=.*--format joblib"):
        dump_artifact(estimator, "skops")


def test_a_user_defined_type_loads_if_the_operator_trusts_it() -> None:
    """The operator's list is added to the reviewed one."""
    estimator, _ = fit(make_pipeline(Clip(), LogisticRegression()), LABELS)
    trusted = [f"{Clip.__module__}.Clip"]
    raw = dump_artifact(estimator, "skops", trusted_types=trusted)

    with pytest.raises(UntrustedModelError, match="Clip"):
        load_artifact(raw, "skops", source="own")
    assert isinstance(load_artifact(raw, "skops", source="own", trusted_types=trusted)[0], Clip)


def test_a_pickle_is_not_read_unless_trusted(tmp_path: Path) -> None:
    """Without the operator's permission no byte of a pickle is interpreted."""
    proof = tmp_path / "proof"
    raw = pickle.dumps(RunsOnUnpickling(proof))

    with pytest.raises(UntrustedModelError, match="--trust-pickle"):
        load_artifact(raw, "joblib", source="model.pkl")
    assert not proof.exists()


def test_a_plain_pickle_loads_if_trusted() -> None:
    """joblib reads what pickle wrote."""
    raw = pickle.dumps(fit(LogisticRegression(), LABELS)[0])

    assert isinstance(load_artifact(raw, "joblib", source="model.pkl", trust_pickle=True), LogisticRegression)


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"no zip at all", b"\x80\x05."])
@pytest.mark.parametrize("kind", ["skops", "joblib"])
def test_garbage_is_a_bundle_error(raw: bytes, kind: Any) -> None:
    """Other bytes raise a BundleError that names the file."""
    with pytest.raises(BundleError, match=r"model\.bin cannot be loaded"):
        load_artifact(raw, kind, source="model.bin", trust_pickle=True)


def test_another_minor_version_is_refused(plain: bytes) -> None:
    """A model from another minor version of scikit-learn is refused; the message names both versions."""
    raw = edit(plain, lambda schema: json.loads(json.dumps(schema).replace(_version(), "0.99.0")))

    with pytest.raises(IncompatibleBundleError, match=r"0\.99\.0"):
        load_artifact(raw, "skops", source="old")


def test_another_patch_version_loads_without_a_warning(plain: bytes) -> None:
    """Within a minor version there is neither an error nor a warning."""
    patch = ".".join([*_version().split(".")[:2], "99"])
    raw = edit(plain, lambda schema: json.loads(json.dumps(schema).replace(_version(), patch)))

    assert isinstance(load_artifact(raw, "skops", source="patched"), LogisticRegression)


def _version() -> str:
    return version("scikit-learn")


def forest() -> Any:
    """Return a small forest."""
    return fit(RandomForestClassifier(3, random_state=0), LABELS)[0]


def tamper(estimator: Any, field: str, value: int) -> bytes:
    """Return the artifact of a forest in which one field of the first node of the first tree is forged."""
    tree = estimator.estimators_[0].tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    nodes[field][0] = value
    tree.__setstate__({**state, "nodes": nodes})
    return skops.io.dumps(estimator)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10**6),
        ("right_child", 10**6),
        ("left_child", -7),
        ("right_child", -1),
        ("left_child", 0),
        ("feature", 10**6),
        ("feature", -3),
    ],
)
def test_a_forged_tree_is_refused(field: str, value: int) -> None:
    """A node that refers outside its tree, to an earlier node or to no feature is refused."""
    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(tamper(forest(), field, value), "skops", source="forged")


@pytest.mark.slow
@pytest.mark.parametrize(("field", "value"), [("left", 10**6), ("right", 10**6), ("feature_idx", 99), ("left", 0)])
def test_a_forged_boosting_tree_is_refused(field: str, value: int) -> None:
    """Histogram boosting has another tree structure, which is validated too."""
    estimator, _ = fit(HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=3), LABELS)
    estimator._predictors[0][0].nodes[field][0] = value

    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(skops.io.dumps(estimator), "skops", source="forged")


def test_a_forged_category_set_is_refused() -> None:
    """A categorical node that refers to a missing set of categories is refused."""
    estimator, _ = fit(
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=3, categorical_features=[2]), LABELS, np.round(X)
    )
    nodes = estimator._predictors[0][0].nodes
    nodes["is_categorical"][0], nodes["bitset_idx"][0] = 1, 10**6

    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(skops.io.dumps(estimator), "skops", source="forged")


def test_an_unfitted_forest_is_written_and_read() -> None:
    """The validation of trees accepts estimators without trees."""
    loaded = load_artifact(dump_artifact(RandomForestClassifier(), "skops"), "skops", source="unfitted")

    with pytest.raises(NotFittedError):
        loaded.predict(X)
