"""Models that MLflow has saved into a folder are packed: pyfuncs, which MLflow serves, and the flavor sklearn."""

import io
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from modeltrace.bundles import mlflow_folder
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.pack_files import pack_files
from modeltrace.bundles.pyfunc_model import PyfuncModel
from modeltrace.errors import PackError, UntrustedModelError
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.predict_rows import score
from tests.helpers.estimators import LABELS, iris_frame
from tests.helpers.services import run_modeltrace, running_service
from tests.helpers.tables import churned, mlflow_rows

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROWS = mlflow_rows()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the models that the helper program saves, and their training data."""
    folder = tmp_path_factory.mktemp("mlflow")
    command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.mlflow_program", "save", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    ROWS.assign(churned=churned(ROWS)).to_csv(folder / "churn.csv", index=False)
    ROWS.assign(price=prices(ROWS)).to_csv(folder / "price.csv", index=False)
    iris_frame().assign(species=LABELS).to_csv(folder / "iris.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def churn(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of the pyfunc that predicts labels, packed by the command line."""
    out = tmp_path_factory.mktemp("bundles") / "churn"
    arguments = [str(saved / "churn"), "--trust-pickle", "--data", str(saved / "churn.csv"), "--target", "churned"]
    result = run_modeltrace("pack", *arguments, "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert "a pyfunc of MLflow cannot be fitted again" in result.stderr
    assert f"Next: MODELTRACE_TRUST_PICKLE=true modeltrace up {out}" in result.stdout
    return out


def prices(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return what the model predicts."""
    return (rows.income * 2 + rows.calls).rename("price")


def pack_folder(saved: Path, name: str, out: Path, data: str = "price.csv", target: str | None = "price") -> Path:
    """Pack one of the saved models, with pickles trusted."""

    def pack_estimator(*args: object, **more: object) -> Path:
        return pack(*args, name=name, out=out, **more)  # type: ignore[arg-type]

    pack_files(
        saved / name, saved / data, pack_estimator, targets=() if target is None else (target,), traffic=None,
        trust_pickle=True, trusted_types=(),
    )  # fmt: skip
    return out


def test_a_pyfunc_is_served_with_its_signature(churn: Path) -> None:
    """Its schema has the columns and types of the signature. The service answers as the model does."""
    manifest = read_manifest(churn)[0]
    row = {"income": 0.5, "calls": 2, "plan": "plus", "premium": False}

    with running_service(churn, None, "--trust-pickle") as service:
        answers = [
            httpx.post(f"{service.url}/predict", json={"features": {**row, "income": income}}).json()["label"]
            for income in (0.5, 2.5)
        ]
        refused = httpx.post(f"{service.url}/predict", json={"features": {**row, "calls": 1.5}})

    assert answers == ["no", "yes"]
    assert refused.status_code == 422
    assert {feature.name: feature.type for feature in manifest.features} == {
        "income": "number",
        "calls": "integer",
        "plan": "category",
        "premium": "boolean",
    }
    assert (manifest.task, manifest.classes) == ("classifier", ("no", "yes"))
    assert "mlflow" in manifest.estimator_libraries


def test_a_packed_pyfunc_predicts_the_same(churn: Path) -> None:
    """All rows are predicted as the model predicts them. Without trust, nothing is loaded."""
    outputs = load_bundle(churn, trust_pickle=True).predict(ROWS)

    assert [output.label for output in outputs] == churned(ROWS).tolist()
    with pytest.raises(UntrustedModelError, match="--trust-pickle"):
        load_bundle(churn)


def test_a_pyfunc_of_floats_is_a_regressor(saved: Path, tmp_path: Path) -> None:
    """Numbers are given to the model with the dtype of its signature, here int32."""
    bundle = pack_folder(saved, "price", tmp_path / "price")
    model = load_bundle(bundle, trust_pickle=True)

    assert model.task == "regressor"
    assert model.schema.names == ("income", "calls")
    assert [feature.type for feature in model.features] == ["number", "integer"]
    np.testing.assert_allclose([output.value for output in model.predict(ROWS[["income", "calls"]])], prices(ROWS))


def test_whole_numbers_in_a_column_of_floats_are_numbers(saved: Path, tmp_path: Path) -> None:
    """The type of a feature is that of the signature, not that of the training data."""
    table = ROWS.assign(price=prices(ROWS.assign(income=1)), income=1)
    table.to_csv(tmp_path / "whole.csv", index=False)
    shutil.copytree(saved / "price", tmp_path / "price")

    bundle = pack_folder(tmp_path, "price", tmp_path / "out", "whole.csv")

    assert [feature.type for feature in read_manifest(bundle)[0].features] == ["number", "integer"]


@pytest.mark.parametrize("name", ["skops", "cloudpickle"])
def test_the_flavor_sklearn_becomes_a_bundle_without_pickle(name: str, saved: Path, tmp_path: Path) -> None:
    """The estimator of the folder is packed like one in a file of its own."""
    bundle = pack_folder(saved, name, tmp_path / "iris", "iris.csv", "species")

    model = load_bundle(bundle)
    assert read_manifest(bundle)[0].artifact.format == "skops"
    assert model.classes is not None
    assert set(model.classes) == set(LABELS)


TENSOR = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (None, r"MLmodel has no signature.*signature=infer_signature"),
        ([TENSOR], r"input 1 of the signature is a tensor without a name"),
        (
            [{"type": "datetime", "name": "day"}],
            r"the column day has the type datetime; supported are boolean, integer",
        ),
        ([], r"the signature has no inputs"),
    ],
)
def test_a_signature_that_cannot_be_a_schema_is_refused(
    signature: object, message: str, saved: Path, tmp_path: Path
) -> None:
    """The message names the file, the cause and the remedy."""
    shutil.copytree(saved / "price", tmp_path / "price")
    shutil.copy(saved / "price.csv", tmp_path)
    file = tmp_path / "price" / "MLmodel"
    description = yaml.safe_load(file.read_text())
    description["signature"] = None if signature is None else {"inputs": json.dumps(signature)}
    file.write_text(yaml.safe_dump(description))

    with pytest.raises(PackError, match=message):
        pack_folder(tmp_path, "price", tmp_path / "out")


def test_a_pyfunc_is_packed_without_data(saved: Path, tmp_path: Path) -> None:
    """The types are those of the signature, the values those of the input example; a warning says what is missing."""
    out = tmp_path / "example"
    result = run_modeltrace("pack", str(saved / "example"), "--trust-pickle", "--out", str(out))

    assert result.returncode == 0, result.stderr
    assert "Warning: the 40 rows of the model's input example stand for its training data" in result.stderr
    model = load_bundle(out, trust_pickle=True)
    assert model.name == "example"
    assert {feature.name: feature.type for feature in model.features} == {
        "income": "number", "calls": "integer", "plan": "category", "premium": "boolean",
    }  # fmt: skip
    assert set(model.classes or ()) == {"yes", "no"}
    rows = ROWS[100:].to_dict("records")
    outputs = score(model, rows)
    assert [o.label for o in outputs if isinstance(o, ModelOutput)] == churned(ROWS[100:]).tolist()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("price", (), "price has no input example. Name the training data with --data"),
        ("example", ("--target", "churned"), "--target churned: an input example has no labels"),
        ("churn.csv", (), "churn.csv: name the training data with --data. Only a model that MLflow has saved"),
    ],
)
def test_without_data_an_input_example_is_needed(
    name: str, arguments: tuple[str, ...], message: str, saved: Path, tmp_path: Path
) -> None:
    """The message says what to do."""
    file = saved / name
    if file.is_file():
        file = tmp_path / "model.skops"
        shutil.copy(saved / "skops" / "model.skops", file)
        message = message.replace("churn.csv", "model.skops")
    result = run_modeltrace("pack", str(file), "--trust-pickle", *arguments, "--out", str(tmp_path / "out"))

    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"type": "ndarray", "artifact_path": "input_example.json"}, "is not a data frame with names of columns"),
        (
            {"type": "dataframe", "pandas_orient": "split", "artifact_path": "../input_example.json"},
            "is not a data frame with names of columns",
        ),
        (
            {"type": "dataframe", "pandas_orient": "split", "artifact_path": "missing.json"},
            r"missing\.json: the input example cannot be read",
        ),
    ],
)
def test_an_input_example_that_cannot_be_used(info: object, message: str, saved: Path, tmp_path: Path) -> None:
    """An array, a file outside the folder, and a file that is missing."""
    shutil.copytree(saved / "example", tmp_path / "example")
    file = tmp_path / "example" / "MLmodel"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "saved_input_example_info": info}))

    with pytest.raises(PackError, match=message):
        mlflow_folder.read_input_example(tmp_path / "example")


def test_a_folder_without_a_model_is_refused(saved: Path, tmp_path: Path) -> None:
    """A damaged file MLmodel and a model of another flavor are refused, too."""
    folder = saved / "damaged"
    folder.mkdir()
    for content, message in (
        (None, "contains no file MLmodel"),
        ("- 1", "it has no flavors"),
        ("{", "cannot be read"),
        ("flavors: {spark: {}}", "neither the flavor sklearn nor python_function"),
        ("flavors: {python_function: {}}\nsignature: {inputs: '{'}", "the inputs of the signature cannot be read"),
        ("flavors: {sklearn: {pickled_model: ../x.pkl}}", "the path or format of the estimator is unknown"),
    ):
        if content is not None:
            (folder / "MLmodel").write_text(content)
        with pytest.raises(PackError, match=message):
            pack_folder(saved, "damaged", tmp_path / "out")


def test_data_without_a_column_of_the_signature_is_refused(saved: Path, tmp_path: Path) -> None:
    """Data on which the model fails is refused, too; both messages have one line."""
    with pytest.raises(PackError, match="no column income, which the signature of the model has"):
        pack_folder(saved, "price", tmp_path / "out", "iris.csv", None)
    ROWS.assign(calls="many").to_csv(saved / "texts.csv", index=False)
    with pytest.raises(PackError, match="the model fails on the training data: ValueError: invalid literal"):
        pack_folder(saved, "price", tmp_path / "out", "texts.csv", None)


def test_a_pyfunc_is_not_loaded_without_trust(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trust, or without MLflow, the pyfunc is not loaded."""
    with pytest.raises(UntrustedModelError, match="is a pyfunc of MLflow, which can run any code"):
        mlflow_folder.read_pyfunc(saved / "churn", trust_pickle=False)
    monkeypatch.setattr(mlflow_folder, "find_spec", lambda _: None)
    with pytest.raises(PackError, match=r"needs MLflow. Install it with: pip install 'modeltrace\[mlflow\]'"):
        mlflow_folder.read_pyfunc(saved / "churn", trust_pickle=True)


def test_the_files_of_a_pyfunc_travel_in_its_pickle(saved: Path, tmp_path: Path) -> None:
    """They are the same bytes for the same folder, and contain no links."""
    folder = tmp_path / "price"
    shutil.copytree(saved / "price", folder)
    model = PyfuncModel(folder, {"income": "double", "calls": "integer"})

    state = model.__getstate__()
    assert state == PyfuncModel(folder, {"income": "double", "calls": "integer"}).__getstate__()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    with ZipFile(io.BytesIO(state["archive"])) as archive:
        assert set(archive.namelist()) == files
    shutil.rmtree(folder)
    rows = ROWS[["income", "calls"]]
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).predict(rows), prices(ROWS))  # noqa: S301  our own

    shutil.copytree(saved / "price", folder)
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(PackError, match="link is not a regular file"):
        PyfuncModel(folder, {"income": "double"})
