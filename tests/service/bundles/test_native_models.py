"""Estimators of XGBoost, LightGBM and CatBoost are packed without pickle and predict the same."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from lightgbm import LGBMClassifier
from sklearn.pipeline import Pipeline

from modeltrace.bundles.artifact import dump_artifact, load_artifact
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.pack_files import pack_files
from modeltrace.bundles.proxies.native_models import NativeModel
from modeltrace.bundles.registry.publish import _mlflow_flavors
from modeltrace.errors import BundleError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.predict_fns import make_predict_fn
from tests.helpers.native_models import CASES, LIGHTGBM, FittedCase, labels_of, numbers

pytestmark = pytest.mark.slow

Fit = Callable[[str], FittedCase]


@pytest.fixture(scope="module")
def fitted() -> Fit:
    """Return a fitted estimator by the name of its case; each is fitted once."""
    return cache(lambda name: CASES[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_estimator_is_packed_and_predicts_the_same(name: str, fitted: Fit, tmp_path: Path) -> None:
    """The packed model predicts 200 rows as the estimator does, together and one by one, without any trust."""
    estimator, data, labels = fitted(name)
    bundle = pack(estimator, data, labels, name="m", out=tmp_path / "m", cross_validation_seconds=0)

    model = load_bundle(bundle)
    rows = [tuple(None if pd.isna(value) else value for value in row) for row in data[:200].itertuples(index=False)]
    together = model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))
    alone = [model.predict(to_matrix([row], model.schema, as_frame=model.as_frame))[0] for row in rows[:20]]

    sent = data[:200] if model.as_frame else data[:200].to_numpy()
    expected = make_predict_fn(estimator, model.task)(sent)
    assert read_manifest(bundle)[0].artifact.format == "skops"
    assert_equal(together, expected)
    assert_equal(alone, expected[:20])
    assert [output.label for output in together] == (
        [None] * 200 if model.task == "regressor" else np.ravel(estimator.predict(sent)).tolist()
    )


def assert_equal(outputs: list[ModelOutput], expected: list[ModelOutput]) -> None:
    """Compare labels, confidences and values."""
    assert [output.label for output in outputs] == [output.label for output in expected]
    for field in ("confidence", "value"):
        actual, expected_values = ([getattr(output, field) for output in side] for side in (outputs, expected))
        np.testing.assert_allclose(np.array(actual, dtype=float), np.array(expected_values, dtype=float), rtol=1e-6)


@pytest.mark.parametrize("name", ["XGBClassifier", "Pipeline, LGBMClassifier", "CatBoostClassifier, texts"])
def test_equal_estimators_have_equal_files(name: str, fitted: Fit) -> None:
    """An estimator is always written to the same bytes, because their hash identifies the model."""
    estimator = fitted(name).estimator

    assert dump_artifact(copy.deepcopy(estimator), "skops") == dump_artifact(estimator, "skops")


def test_the_loaded_estimator_has_its_parameters(fitted: Fit) -> None:
    """The wrapper is rebuilt with its parameters, classes and feature names."""
    for name in ("XGBClassifier", "LGBMClassifier", "CatBoostClassifier"):
        estimator = fitted(name).estimator
        loaded = load_artifact(dump_artifact(estimator, "skops"), "skops", source=name)

        assert type(loaded) is type(estimator)
        known = {key: value for key, value in estimator.get_params().items() if value is not None and value == value}
        assert {key: loaded.get_params()[key] for key in known} == known
        assert loaded.classes_.tolist() == estimator.classes_.tolist()
        names = loaded.feature_names_ if "Cat" in name else loaded.feature_names_in_
        assert list(names) == ["income", "balance", "age"]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("XGBClassifier, three classes", ".ubj"),
        ("XGBRegressor", ".json"),
        ("LGBMClassifier", ".txt"),
        ("LGBMClassifier, three classes", ".txt"),
        ("LGBMRegressor", ".txt"),
        ("CatBoostClassifier, three classes", ".cbm"),
        ("CatBoostRegressor", ".cbm"),
    ],
)
def test_a_file_of_the_library_is_packed(
    name: str, suffix: str, fitted: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pack` reads what `save_model` wrote. It does not contain all parameters, so there is no cross-validation."""
    estimator, data, labels = fitted(name)
    file, table, out = tmp_path / f"model{suffix}", tmp_path / "train.parquet", tmp_path / "m"
    (estimator.booster_ if suffix == ".txt" else estimator).save_model(str(file))
    data.assign(**{str(labels.name): labels}).to_parquet(table)
    messages: list[str] = []

    def pack_estimator(*args: Any, **more: Any) -> Path:
        return pack(*args, name="m", out=out, on_message=messages.append, **more)

    pack_files(
        file, table, pack_estimator, targets=(str(labels.name),), traffic=None, trust_pickle=False, trusted_types=()
    )

    model = load_bundle(out)
    assert_equal(model.predict(data), make_predict_fn(estimator, model.task)(data))
    assert "the file of the model does not contain the parameters of its training" in messages[0]
    assert "Packed m" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "suffix"), [("XGBClassifier, categories", ".ubj"), ("LGBMClassifier, categories", ".txt")]
)
def test_a_file_with_categories_is_packed_with_a_text_file(name: str, suffix: str, fitted: Fit, tmp_path: Path) -> None:
    """The texts of a CSV file become categories. Their order differs from that in training, but not their meaning."""
    estimator, data, labels = fitted(name)
    file, table = tmp_path / f"model{suffix}", tmp_path / "train.csv"
    (estimator.booster_ if suffix == ".txt" else estimator).save_model(str(file))
    data.assign(label=labels).to_csv(table, index=False)

    def pack_estimator(*args: Any, **more: Any) -> Path:
        return pack(*args, name="m", out=tmp_path / "m", **more)

    pack_files(file, table, pack_estimator, targets=("label",), traffic=None, trust_pickle=False, trusted_types=())

    model = load_bundle(tmp_path / "m")
    rows = [tuple(None if pd.isna(value) else value for value in row) for row in data.itertuples(index=False)]
    outputs = model.predict(to_matrix(rows, model.schema, as_frame=model.as_frame))
    assert_equal(outputs, make_predict_fn(estimator, "classifier")(data))


def test_the_columns_of_a_loaded_catboost_are_known(fitted: Fit, tmp_path: Path) -> None:
    """CatBoost sets n_features_in_ to 0 when it loads a model, also in a pipeline. Its columns have names in order."""
    estimator, data, labels = fitted("CatBoostClassifier")
    loaded = load_artifact(dump_artifact(estimator, "skops"), "skops", source="m")
    assert loaded.n_features_in_ == 0
    reordered = data[["age", "income", "balance"]].assign(unused=1)

    for number, model in enumerate((loaded, Pipeline([("only", loaded)]))):
        bundle = pack(model, reordered, labels, name="m", out=tmp_path / str(number), cross_validation_seconds=0)
        assert load_bundle(bundle).schema.names == ("income", "balance", "age")

    unnamed = dump_artifact(fitted("CatBoostClassifier, array").estimator, "skops")
    from_array = load_artifact(unnamed, "skops", source="m")
    for model in (from_array, Pipeline([("only", from_array)])):
        with pytest.raises(PackError, match="fitted on 3 columns, but the training data has 4"):
            pack(model, reordered, labels, name="m", out=tmp_path / "refused")


@pytest.mark.parametrize("name", ["XGBClassifier, three classes", "LGBMClassifier", "CatBoostClassifier"])
def test_a_model_is_called_once_where_that_is_enough(name: str, fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """`predict` of XGBoost and LightGBM is the argmax of `predict_proba`; CatBoost may have another threshold."""
    estimator, data, _ = fitted(name)
    calls = []
    monkeypatch.setattr(type(estimator), "predict", lambda *_: calls.append(1) or estimator.classes_[[0]])

    make_predict_fn(estimator, "classifier")(data[:1])

    assert len(calls) == ("CatBoost" in name)


def test_a_model_of_a_training_function_is_packed(tmp_path: Path) -> None:
    """`xgboost.train`, `lightgbm.train` and `catboost.train` return models that are no estimators of scikit-learn."""
    data = numbers()
    target = labels_of(data, (0, 1))
    boosters = {
        "xgboost": xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(data, target), 3),
        "lightgbm": lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(data, target), 3),
        "catboost": catboost.train(
            params={"loss_function": "Logloss", "verbose": 0, "allow_writing_files": False},
            pool=catboost.Pool(data, target),
            iterations=3,
        ),
    }
    for name, booster in boosters.items():
        model = load_bundle(pack(booster, data, target, name=name, out=tmp_path / name))

        assert (model.task, model.classes) == ("classifier", (0, 1))
        positive = [
            output.confidence if output.label == 1 else 1 - (output.confidence or 0) for output in model.predict(data)
        ]
        match name:
            case "xgboost":
                expected = booster.predict(xgboost.DMatrix(data))
            case "lightgbm":
                expected = booster.predict(data)
            case _:
                expected = booster.predict(data, prediction_type="Probability")[:, 1]
        np.testing.assert_allclose(np.array(positive, dtype=float), expected, rtol=1e-5)


def test_an_objective_in_python_is_refused() -> None:
    """The format of the library does not contain the function. The message says how to pack the model."""

    def objective(labels: Any, predicted: Any) -> Any:
        return predicted - labels, np.ones_like(predicted)

    data = numbers()
    estimator = LGBMClassifier(**{**LIGHTGBM, "objective": objective}).fit(data, labels_of(data, (0, 1)))

    with pytest.raises(PackError, match=r"the objective of the LGBMClassifier is a Python function.*--format joblib"):
        dump_artifact(estimator, "skops")


@pytest.mark.parametrize(("suffix", "library"), [(".ubj", "xgboost"), (".txt", "lightgbm"), (".cbm", "catboost")])
def test_another_file_is_refused(suffix: str, library: str, tmp_path: Path) -> None:
    """The message names the file and the library."""
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"no model")

    with pytest.raises(PackError, match=rf"model{suffix} is not a model that {library} has saved"):
        pack_files(file, file, pack, targets=(), traffic=None, trust_pickle=False, trusted_types=())


MISSING_LIBRARY_PROGRAM = """
import importlib.metadata, sys
from pathlib import Path
libraries = ("catboost", "lightgbm", "xgboost")
sys.modules |= dict.fromkeys(libraries)
find = importlib.metadata.distribution
def distribution(name):
    if name.startswith(libraries):
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = distribution
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.proxies.native_models import read_native_file
for path in map(Path, sys.argv[1:]):
    try:
        read_native_file(path, b"x") if path.suffix else load_bundle(path)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_missing_library_is_named_with_its_extra(fitted: Fit, tmp_path: Path) -> None:
    """This applies to a file of the library and to a bundle, whose message has the version, too."""
    cases = {
        "xgboost": ("XGBRegressor", "m.ubj"),
        "lightgbm": ("LGBMRegressor", "m.txt"),
        "catboost": ("CatBoostRegressor", "m.cbm"),
    }
    arguments, expected = [], []
    for library, (name, file) in cases.items():
        estimator, data, labels = fitted(name)
        bundle = pack(estimator, data, labels, name="m", out=tmp_path / library, cross_validation_seconds=0)
        version, extra = read_manifest(bundle)[0].libraries[library], f"'modeltrace[{library}]'"
        arguments += [str(bundle), file]
        expected += [
            (
                f"IncompatibleBundleError {bundle} needs {library} {version}, which is not installed. Install it with: "
                f"pip install {extra} '{library}=={version}'"
            ),
            f"PackError {file} needs {library}. Install it with: pip install {extra}",
        ]

    command = [sys.executable, "-c", MISSING_LIBRARY_PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == expected


def forged(model: NativeModel) -> bytes:
    """Return an artifact with a changed proxy."""
    return bytes(skops.io.dumps(model))


def native(name: str, fitted: Fit) -> NativeModel:
    """Return the proxy of an estimator."""
    loaded = skops.io.loads(
        dump_artifact(fitted(name).estimator, "skops"), trusted=[f"{NativeModel.__module__}.NativeModel"]
    )
    assert isinstance(loaded, NativeModel)
    return loaded


@pytest.mark.parametrize(
    "change",
    [
        {"type_name": "os.system"},
        {"type_name": "xgboost.sklearn.XGBRanker"},
        {"parameters": {"objective": np.max}},
        {"parameters": [1]},
        {"content": "/etc/passwd"},
    ],
)
def test_a_forged_proxy_is_refused(change: dict[str, Any], fitted: Fit) -> None:
    """A proxy builds only estimators of the list, with plain parameters and a model as bytes."""
    proxy = native("XGBClassifier", fitted)
    vars(proxy).update(change)

    with pytest.raises(BundleError, match="invalid estimator of the type"):
        load_artifact(forged(proxy), "skops", source="forged")


def change_xgboost_tree(content: bytes, field: str, value: Any) -> bytes:
    """Return a model in JSON with another first value in a field of the first tree."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    model = json.loads(bytes(booster.save_raw("json")))
    gradient_booster = model["learner"]["gradient_booster"]["model"]
    (gradient_booster if field == "tree_info" else gradient_booster["trees"][0])[field][0] = value
    return json.dumps(model).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_children", 10**6),
        ("left_children", -5),
        ("right_children", 0),
        ("right_children", 1),
        ("split_indices", 10**6),
        ("split_indices", 3),
        ("tree_info", 7),
    ],
)
def test_a_forged_tree_of_xgboost_is_refused(field: str, value: int, fitted: Fit) -> None:
    """XGBoost itself loads a tree whose nodes refer outside the tree or to each other."""
    proxy = native("XGBClassifier", fitted)
    assert proxy.content is not None
    proxy.content = change_xgboost_tree(proxy.content, field, value)

    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(forged(proxy), "skops", source="forged")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", "1000000"),
        ("left_child", "0"),
        ("right_child", "-1000000"),
        ("split_feature", "1000000"),
        ("split_feature", "-1"),
        ("decision_type", "1"),
        ("num_leaves", "7000"),
        ("num_class", "5"),
    ],
)
def test_a_forged_tree_of_lightgbm_is_refused(field: str, value: str, fitted: Fit) -> None:
    """LightGBM itself loads a tree whose nodes refer outside the tree or to each other."""
    proxy = native("LGBMClassifier", fitted)
    assert proxy.content is not None
    lines = proxy.content.decode().splitlines()
    position = next(index for index, line in enumerate(lines) if line.startswith(f"{field}="))
    lines[position] = " ".join([f"{field}={value}", *lines[position].split()[1:]])
    # Without the sizes, LightGBM reads the trees one after another.
    proxy.content = "\n".join(line for line in lines if not line.startswith("tree_sizes=")).encode()

    with pytest.raises(BundleError, match="invalid decision tree"):
        load_artifact(forged(proxy), "skops", source="forged")


def test_a_proxy_has_no_mlflow_flavor(fitted: Fit, tmp_path: Path) -> None:
    """MLflow could not predict with it, so a registered bundle of such a model has no flavor of MLflow."""
    estimator, data, labels = fitted("XGBRegressor")
    bundle = pack(estimator, data, labels, name="m", out=tmp_path / "m", cross_validation_seconds=0)

    assert _mlflow_flavors(bundle, read_manifest(bundle)[0]) == {}


def test_onnx_is_refused_with_the_name_of_the_estimator(fitted: Fit, tmp_path: Path) -> None:
    """The converters of scikit-learn do not know these estimators."""
    estimator, data, labels = fitted("LGBMRegressor")

    with pytest.raises(PackError, match=r"LGBMRegressor"):
        pack(estimator, data, labels, name="m", out=tmp_path / "m", onnx=True, cross_validation_seconds=0)


def test_another_distribution_of_the_library_has_the_same_name(fitted: Fit, tmp_path: Path) -> None:
    """A bundle that was packed with xgboost-cpu loads with xgboost."""
    estimator, data, labels = fitted("XGBRegressor")
    manifest = read_manifest(pack(estimator, data, labels, name="m", out=tmp_path / "m", cross_validation_seconds=0))[0]

    assert manifest.libraries["xgboost"] == xgboost.__version__
    assert manifest.estimator_libraries == ("scikit-learn", "xgboost")
