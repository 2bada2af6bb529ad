"""Packing a model for ONNX Runtime, and serving it from the bundle."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI
from sklearn.compose import make_column_transformer
from sklearn.decomposition import FactorAnalysis
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from starlette.testclient import TestClient

from modeltrace.api.model_and_health import health_routes
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.onnx import operators
from modeltrace.bundles.pack import pack
from modeltrace.cli.main import main
from modeltrace.errors import (
    BundleError,
    BundleIntegrityError,
    BundleNotFoundError,
    IncompatibleBundleError,
    PackError,
    SettingsError,
    UntrustedModelError,
)
from modeltrace.settings import read_settings
from tests.helpers.estimators import LABELS, VALUES, X, fit, iris_frame

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a small bundle with a model for ONNX Runtime."""
    return pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris", onnx=True)


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change model.json."""
    manifest = json.loads((bundle / "model.json").read_text())
    change(manifest)
    (bundle / "model.json").write_text(json.dumps(manifest))


def cities(n: int = 90) -> pd.DataFrame:
    """Return a column of texts and one of numbers."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"city": rng.choice(["Aachen", "Bonn", "Cologne"], n), "age": rng.normal(50, 9, n)})


def by_city(encoder: Any) -> tuple[Any, pd.DataFrame]:
    """Return an estimator that encodes the column of texts, and its data."""
    data = cities()
    prepared = make_column_transformer((encoder, ["city"]), remainder="passthrough")
    return make_pipeline(prepared, DecisionTreeClassifier()).fit(data, data.city == "Bonn"), data


def test_the_model_reports_its_engine(bundle: Path) -> None:
    """`GET /model` contains the engine and the hash of the loaded file."""
    for engine, file in (("sklearn", "artifact"), ("onnx", "onnx")):
        app = FastAPI()
        app.include_router(health_routes(load_bundle(bundle, engine=engine), None))
        description = TestClient(app).get("/model").json()
        assert (description["engine"], description["hash"]) == (engine, getattr(read_manifest(bundle)[0], file).sha256)


def test_the_estimator_is_not_read(bundle: Path) -> None:
    """Its file may be missing, and the version of scikit-learn may differ."""
    (bundle / "model.skops").unlink()
    edit_manifest(bundle, lambda manifest: manifest["libraries"].update({"scikit-learn": "0.24.2"}))

    model = load_bundle(bundle, engine="onnx")

    assert model.cpu_bound
    assert [output.label for output in model.predict(X)] == fit(LogisticRegression(), LABELS)[0].predict(X).tolist()
    with pytest.raises((BundleNotFoundError, IncompatibleBundleError)):
        load_bundle(bundle)


def test_a_joblib_bundle_needs_no_trust(tmp_path: Path) -> None:
    """Nothing is unpickled."""
    bundle = pack(
        LinearRegression().fit(X, VALUES),
        iris_frame(),
        name="m",
        out=tmp_path / "m",
        artifact_format="joblib",
        onnx=True,
    )

    with pytest.raises(UntrustedModelError):
        load_bundle(bundle)
    assert load_bundle(bundle, engine="onnx").predict(X)[0].value == pytest.approx(VALUES[0])


def test_an_estimator_fitted_on_frames_gets_arrays(tmp_path: Path) -> None:
    """An array takes a hundredth of the time of a frame."""
    bundle = pack(
        LogisticRegression(max_iter=1000).fit(iris_frame(), LABELS),
        iris_frame(),
        name="m",
        out=tmp_path / "m",
        onnx=True,
    )

    assert load_bundle(bundle).as_frame
    assert not load_bundle(bundle, engine="onnx").as_frame


@pytest.mark.parametrize("damage", [b"", b"other bytes"])
def test_an_altered_file_is_rejected(bundle: Path, damage: bytes) -> None:
    """model.json contains its size and SHA-256, and --expect-sha256 pins model.json."""
    (bundle / "model.onnx").write_bytes(damage)

    with pytest.raises(BundleIntegrityError, match=r"model\.onnx is not the file"):
        load_bundle(bundle, engine="onnx")


def test_a_bundle_with_another_hash_is_rejected(bundle: Path) -> None:
    """The pin applies to this engine, too."""
    digest = read_manifest(bundle)[1]
    assert load_bundle(bundle, engine="onnx", expect_sha256=digest).name == "iris"
    edit_manifest(bundle, lambda manifest: manifest["onnx"].update(precision="float32"))

    with pytest.raises(BundleIntegrityError, match="not the pinned bundle"):
        load_bundle(bundle, engine="onnx", expect_sha256=digest)


def test_a_missing_file_is_rejected(bundle: Path) -> None:
    """The bundle was copied in part."""
    (bundle / "model.onnx").unlink()

    with pytest.raises(BundleNotFoundError, match=r"model\.onnx.*incomplete"):
        load_bundle(bundle, engine="onnx")


def test_a_bundle_without_an_onnx_model_is_rejected(tmp_path: Path) -> None:
    """The message says how to make one, and how to serve without."""
    bundle = pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris")

    with pytest.raises(BundleError, match=r"--onnx.*MODELTRACE_ENGINE=sklearn"):
        load_bundle(bundle, engine="onnx")


@pytest.mark.parametrize(
    "change", [lambda m: m.update(classes=["a", "b"]), lambda m: m.update(task="regressor", classes=None)]
)
def test_a_manifest_of_another_model_is_rejected(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The graph's inputs and outputs must match the manifest."""
    edit_manifest(bundle, lambda m: (change(m), m["features"].pop() if m["task"] == "regressor" else None))

    with pytest.raises(BundleError, match=r"model\.onnx: the ONNX model"):
        load_bundle(bundle, engine="onnx")


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/passwd", "model.json"])
def test_a_path_outside_of_the_bundle_is_rejected(bundle: Path, file: str) -> None:
    """The file must be in the bundle's own folder."""
    edit_manifest(bundle, lambda manifest: manifest["onnx"].update(file=file))

    with pytest.raises(BundleError, match="file name without a folder"):
        load_bundle(bundle, engine="onnx")


def scaled_forest() -> tuple[Any, pd.DataFrame]:
    """Return a forest with thresholds on scaled values, where single precision changes the branch of some rows."""
    data = pd.DataFrame(np.random.default_rng(0).integers(0, 50, (2000, 2)) * 1.1 + 1e5, columns=["a", "b"])
    target = np.random.default_rng(1).random(len(data)) > 0.5
    return make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(data, target), data


@pytest.mark.slow
def test_an_export_with_other_outputs_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message contains the number of rows and the difference; nothing is written."""
    estimator, data = scaled_forest()
    assert read_manifest(pack(estimator, data, name="good", out=tmp_path / "good", onnx=True))[0].onnx is not None
    # Without these converters, a forest is exported in single precision only.
    monkeypatch.setattr(operators, "float64_converters", dict)

    with pytest.raises(PackError) as raised:
        pack(estimator, data, name="bad", out=tmp_path / "bad", onnx=True)

    assert raised.match(
        r"of 2,000 rows of the training data, \d+ get another label and \d+ the same label with another"
    )
    assert raised.match("pack it without --onnx and serve it with scikit-learn")
    assert not (tmp_path / "bad").exists()


def test_a_wrong_export_of_a_regressor_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that differ by a thousandth in both precisions are rejected."""

    def wrong(scope: Any, operator: Any, container: Any) -> None:
        add = operators._GraphBuilder(scope, container)
        rows = add("Cast", [operator.inputs[0].full_name], to=11)
        add.output(add("MatMul", [rows, add.constant(right.coef_[:, None] * 1.001)]), operator.outputs[0])

    right = LinearRegression(fit_intercept=False).fit(X, VALUES)
    monkeypatch.setattr(operators, "float64_converters", lambda: {LinearRegression: wrong})
    monkeypatch.setattr("modeltrace.bundles.onnx.export.get_args", lambda _: ("float64",))

    with pytest.raises(
        PackError, match=r"0 get another label and \d+ the same label with another number \(by up to 0\.001"
    ):
        pack(right, iris_frame(), name="bad", out=tmp_path / "bad", onnx=True)


@pytest.mark.parametrize(
    ("estimator", "target", "reason"),
    [
        (make_pipeline(FactorAnalysis(2), LogisticRegression()), LABELS, "cannot convert .*FactorAnalysis"),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), LABELS, "with categorical features"),
        (
            GradientBoostingRegressor(n_estimators=2, init=LinearRegression()),
            VALUES,
            "with another estimator as `init`",
        ),
    ],
    ids=["no converter", "categories", "init"],
)
def test_an_estimator_without_converter_is_rejected(estimator: Any, target: Any, reason: str, tmp_path: Path) -> None:
    """The message contains the estimator, the reason and the remedy."""
    data = iris_frame().round()
    estimator = fit(estimator, target, data.to_numpy())[0]

    with pytest.raises(PackError, match=f"cannot be served by ONNX Runtime: .*{reason}.*without --onnx"):
        pack(estimator, data, name="m", out=tmp_path / "m", onnx=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_text_is_treated_alike_or_rejected(strict: bool, tmp_path: Path) -> None:
    """This encoder rejects an unknown category; its ONNX operator would accept it."""
    estimator, data = by_city(OrdinalEncoder())

    def packed() -> Path:
        return pack(estimator, data, name="m", out=tmp_path / "m", onnx=True, strict_categories=strict)

    if strict:
        assert load_bundle(packed(), engine="onnx").engine == "onnx"
    else:
        with pytest.raises(
            PackError, match=r"a value of city that the training data does not have .*--strict-categories"
        ):
            packed()


def test_an_unknown_text_fails_in_both_engines(tmp_path: Path) -> None:
    """If scikit-learn raises an exception, ONNX Runtime raises an exception, too."""
    estimator, data = by_city(OneHotEncoder())
    model = load_bundle(pack(estimator, data, name="m", out=tmp_path / "m", onnx=True), engine="onnx")

    assert model.predict(np.array([["Bonn", 50.0]], dtype=object))[0].label is True
    with pytest.raises(Exception, match="the model failed"):
        model.predict(np.array([["Atlantis", 50.0]], dtype=object))


def test_missing_texts_are_rejected(tmp_path: Path) -> None:
    """ONNX has strings only, so a missing text could not be distinguished from a string."""
    data = cities()
    data.loc[3, "city"] = None
    estimator = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"])), LogisticRegression())
    estimator.fit(data, data.age > 50)

    with pytest.raises(PackError, match="city may be missing"):
        pack(estimator, data, name="m", out=tmp_path / "m", onnx=True)


def test_packing_without_the_extra_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    monkeypatch.setitem(sys.modules, "skl2onnx", None)

    with pytest.raises(PackError, match=r"pip install 'modeltrace\[onnx\]'"):
        pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris", onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_serving_without_the_extra_names_the_package(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn still serves the same bundle."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(SettingsError, match=r"pip install 'modeltrace\[onnx\]'"):
        load_bundle(bundle, engine="onnx")
    assert load_bundle(bundle).engine == "sklearn"


def test_serving_needs_onnx_runtime_only(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter is needed for packing only."""
    for module in ("skl2onnx", "onnx"):
        monkeypatch.setitem(sys.modules, module, None)

    assert load_bundle(bundle, engine="onnx").predict(X[:1])[0].label == "setosa"


def test_the_command_prints_the_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--onnx` prints precision, rows and the largest difference, and how to serve the model."""
    monkeypatch.chdir(tmp_path)
    joblib.dump(fit(LogisticRegression(), LABELS)[0], "iris.joblib")
    iris_frame().to_csv("train.csv", index=False)
    monkeypatch.setattr(
        sys, "argv", ["modeltrace", "pack", "iris.joblib", "--trust-pickle", "--data", "train.csv", "--onnx"]
    )

    with pytest.raises(SystemExit) as exited:
        sys.exit(main())

    output = capsys.readouterr()
    assert not exited.value.code, output.err
    assert "ONNX model in float64, verified on 50 rows" in output.out
    assert "MODELTRACE_ENGINE=onnx" in output.out
    assert load_bundle(tmp_path / "iris", engine="onnx").name == "iris"


def test_the_engine_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is scikit-learn; any other name than the two is rejected."""
    assert read_settings().engine == "sklearn"
    monkeypatch.setenv("MODELTRACE_ENGINE", "onnx")
    assert read_settings().engine == "onnx"
    monkeypatch.setenv("MODELTRACE_ENGINE", "tensorflow")

    with pytest.raises(SettingsError, match="MODELTRACE_ENGINE"):
        read_settings()
