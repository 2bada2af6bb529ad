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

from modeltrace.api.health import health_routes
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


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle with a model for ONNX Runtime."""
    return pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris", onnx=True)


def alter(bundle: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """Change model.json."""
    manifest = json.loads((bundle / "model.json").read_text())
    how(manifest)
    (bundle / "model.json").write_text(json.dumps(manifest))


def cities(n: int = 90) -> pd.DataFrame:
    """A column of texts and one of numbers."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"city": rng.choice(["Aachen", "Bonn", "Cologne"], n), "age": rng.normal(50, 9, n)})


def by_city(encoder: Any) -> tuple[Any, pd.DataFrame]:
    """An estimator that encodes the column of texts."""
    data = cities()
    prepared = make_column_transformer((encoder, ["city"]), remainder="passthrough")
    return make_pipeline(prepared, DecisionTreeClassifier()).fit(data, data.city == "Bonn"), data


def test_the_engine_is_the_one_that_was_asked_for(bundle: Path) -> None:
    """`GET /model` says which, and the hash of the file that it was loaded from."""
    for engine, file in (("sklearn", "artifact"), ("onnx", "onnx")):
        app = FastAPI()
        app.include_router(health_routes(load_bundle(bundle, engine=engine), None, workers=1))
        said = TestClient(app).get("/model").json()
        assert (said["engine"], said["hash"]) == (engine, getattr(read_manifest(bundle)[0], file).sha256)


def test_the_estimator_is_not_even_read(bundle: Path) -> None:
    """Its file may be missing, and scikit-learn may be another one."""
    (bundle / "model.skops").unlink()
    alter(bundle, lambda manifest: manifest["libraries"].update({"scikit-learn": "0.24.2"}))

    model = load_bundle(bundle, engine="onnx")

    assert model.cpu_bound
    assert [answer.label for answer in model.predict(X)] == fit(LogisticRegression(), LABELS)[0].predict(X).tolist()
    with pytest.raises((BundleNotFoundError, IncompatibleBundleError)):
        load_bundle(bundle)


def test_a_pickled_bundle_needs_no_trust(tmp_path: Path) -> None:
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


def test_an_estimator_fitted_on_frames_needs_none(tmp_path: Path) -> None:
    """A row becomes an array, which costs a request a hundredth of a frame."""
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
def test_an_altered_file_is_refused(bundle: Path, damage: bytes) -> None:
    """Its size and SHA-256 stand in model.json, which is what --expect-sha256 pins."""
    (bundle / "model.onnx").write_bytes(damage)

    with pytest.raises(BundleIntegrityError, match=r"model\.onnx is not the file"):
        load_bundle(bundle, engine="onnx")


def test_a_pinned_bundle_is_refused_when_it_is_another(bundle: Path) -> None:
    """The pin holds for this engine as well."""
    digest = read_manifest(bundle)[1]
    assert load_bundle(bundle, engine="onnx", expect_sha256=digest).name == "iris"
    alter(bundle, lambda manifest: manifest["onnx"].update(precision="float32"))

    with pytest.raises(BundleIntegrityError, match="not the pinned bundle"):
        load_bundle(bundle, engine="onnx", expect_sha256=digest)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    """The bundle was copied in part."""
    (bundle / "model.onnx").unlink()

    with pytest.raises(BundleNotFoundError, match=r"model\.onnx.*incomplete"):
        load_bundle(bundle, engine="onnx")


def test_a_bundle_without_such_a_model_is_refused(tmp_path: Path) -> None:
    """The message says how to make one, and how to do without."""
    bundle = pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris")

    with pytest.raises(BundleError, match=r"--onnx.*MODELTRACE_ENGINE=sklearn"):
        load_bundle(bundle, engine="onnx")


@pytest.mark.parametrize(
    "change", [lambda m: m.update(classes=["a", "b"]), lambda m: m.update(task="regressor", classes=None)]
)
def test_a_manifest_for_another_model_is_refused(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As far as the graph shows what it is."""
    alter(bundle, lambda m: (change(m), m["features"].pop() if m["task"] == "regressor" else None))

    with pytest.raises(BundleError, match=r"model\.onnx: the ONNX model"):
        load_bundle(bundle, engine="onnx")


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/passwd", "model.json"])
def test_a_path_out_of_the_bundle_is_refused(bundle: Path, file: str) -> None:
    """The file lies in the bundle's own folder."""
    alter(bundle, lambda manifest: manifest["onnx"].update(file=file))

    with pytest.raises(BundleError, match="file name without a folder"):
        load_bundle(bundle, engine="onnx")


def scaled_forest() -> tuple[Any, pd.DataFrame]:
    """Thresholds on scaled values: in single precision some rows fall on the other side."""
    data = pd.DataFrame(np.random.default_rng(0).integers(0, 50, (2000, 2)) * 1.1 + 1e5, columns=["a", "b"])
    target = np.random.default_rng(1).random(len(data)) > 0.5
    return make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(data, target), data


def test_a_translation_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how many rows, and by how much; nothing is written."""
    estimator, data = scaled_forest()
    assert read_manifest(pack(estimator, data, name="good", out=tmp_path / "good", onnx=True))[0].onnx is not None
    # Without them a forest goes in single precision alone.
    monkeypatch.setattr(operators, "float64_converters", dict)

    with pytest.raises(PackError) as refused:
        pack(estimator, data, name="bad", out=tmp_path / "bad", onnx=True)

    assert refused.match(
        r"of 2,000 rows of the training data, \d+ get another label and \d+ the same label with another"
    )
    assert refused.match("pack it without --onnx and serve it with scikit-learn")
    assert not (tmp_path / "bad").exists()


def test_a_wrong_translation_of_a_regressor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are off by a thousandth, in both precisions, do not pass."""

    def wrong(scope: Any, operator: Any, container: Any) -> None:
        step = operators._GraphBuilder(scope, container)
        rows = step("Cast", [operator.inputs[0].full_name], to=11)
        step.output(step("MatMul", [rows, step.constant(right.coef_[:, None] * 1.001)]), operator.outputs[0])

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
        (make_pipeline(FactorAnalysis(2), LogisticRegression()), LABELS, "MissingShapeCalculator"),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), LABELS, "with categorical features"),
        (
            GradientBoostingRegressor(n_estimators=2, init=LinearRegression()),
            VALUES,
            "with another estimator as `init`",
        ),
    ],
    ids=["no converter", "categories", "init"],
)
def test_an_estimator_that_does_not_convert_is_refused(
    estimator: Any, target: Any, reason: str, tmp_path: Path
) -> None:
    """The message names it, the reason, and the way out."""
    data = iris_frame().round()
    estimator = fit(estimator, target, data.to_numpy())[0]

    with pytest.raises(PackError, match=f"cannot be served by ONNX Runtime: .*{reason}.*without --onnx"):
        pack(estimator, data, name="m", out=tmp_path / "m", onnx=True)


@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_text_is_treated_alike_or_never_let_through(strict: bool, tmp_path: Path) -> None:
    """This encoder refuses what it does not know; its translation would answer."""
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


def test_an_unknown_text_fails_where_it_failed(tmp_path: Path) -> None:
    """Where scikit-learn raises, so does ONNX Runtime."""
    estimator, data = by_city(OneHotEncoder())
    model = load_bundle(pack(estimator, data, name="m", out=tmp_path / "m", onnx=True), engine="onnx")

    assert model.predict(np.array([["Bonn", 50.0]], dtype=object))[0].label is True
    with pytest.raises(Exception, match="the model failed"):
        model.predict(np.array([["Atlantis", 50.0]], dtype=object))


def test_missing_texts_are_refused(tmp_path: Path) -> None:
    """ONNX has only texts, so a missing one could not be told from a word."""
    data = cities()
    data.loc[3, "city"] = None
    estimator = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"])), LogisticRegression())
    estimator.fit(data, data.age > 50)

    with pytest.raises(PackError, match="city may be missing"):
        pack(estimator, data, name="m", out=tmp_path / "m", onnx=True)


def test_without_the_extra_packing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written."""
    monkeypatch.setitem(sys.modules, "skl2onnx", None)

    with pytest.raises(PackError, match=r"pip install 'modeltrace\[onnx\]'"):
        pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris", onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_serving_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn goes on serving the same bundle."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(SettingsError, match=r"pip install 'modeltrace\[onnx\]'"):
        load_bundle(bundle, engine="onnx")
    assert load_bundle(bundle).engine == "sklearn"


def test_serving_needs_onnx_runtime_alone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter and its formats stay where models are packed."""
    for module in ("skl2onnx", "onnx"):
        monkeypatch.setitem(sys.modules, module, None)

    assert load_bundle(bundle, engine="onnx").predict(X[:1])[0].label == "setosa"


def test_the_command_packs_and_says_how_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--onnx` prints precision, rows and the largest difference, and how to serve it."""
    monkeypatch.chdir(tmp_path)
    joblib.dump(fit(LogisticRegression(), LABELS)[0], "iris.joblib")
    iris_frame().to_csv("train.csv", index=False)
    monkeypatch.setattr(
        sys, "argv", ["modeltrace", "pack", "iris.joblib", "--trust-pickle", "--data", "train.csv", "--onnx"]
    )

    with pytest.raises(SystemExit) as ended:
        sys.exit(main())

    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert "ONNX model in float64, verified on 50 rows" in said.out
    assert "MODELTRACE_ENGINE=onnx" in said.out
    assert load_bundle(tmp_path / "iris", engine="onnx").name == "iris"


def test_the_engine_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn unless said otherwise; anything else than the two is refused by name."""
    assert read_settings().engine == "sklearn"
    monkeypatch.setenv("MODELTRACE_ENGINE", "onnx")
    assert read_settings().engine == "onnx"
    monkeypatch.setenv("MODELTRACE_ENGINE", "tensorflow")

    with pytest.raises(SettingsError, match="MODELTRACE_ENGINE"):
        read_settings()
