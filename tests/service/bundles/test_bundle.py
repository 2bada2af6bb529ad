"""A bundle is verified before it is loaded, and written completely or not at all."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from modeltrace.bundles.bundle import load_bundle, write_bundle
from modeltrace.bundles.example import HELD_OUT_ROWS, build_example
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.errors import (
    BundleError,
    BundleIntegrityError,
    BundleNotFoundError,
    IncompatibleBundleError,
    PackError,
    UntrustedModelError,
)
from tests.helpers.estimators import LABELS, fit, iris_frame

Edit = Callable[[Callable[[dict[str, Any]], None]], Path]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small bundle."""
    out = tmp_path_factory.mktemp("packed") / "iris"
    return pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=out)


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """Return a copy of it for one test."""
    return Path(shutil.copytree(packed, tmp_path / "iris"))


@pytest.fixture
def edit(bundle: Path) -> Edit:
    """Return a function that changes the bundle's model.json."""

    def change(edit_manifest: Callable[[dict[str, Any]], None]) -> Path:
        manifest = json.loads((bundle / "model.json").read_text())
        edit_manifest(manifest)
        (bundle / "model.json").write_text(json.dumps(manifest))
        return bundle

    return change


def test_a_bundle_loads(bundle: Path) -> None:
    """The loaded model is the one that was packed."""
    model = load_bundle(bundle)

    assert (model.name, model.version, model.task) == ("iris", "1.0.0", "classifier")
    assert model.classes == ("setosa", "versicolor", "virginica")
    assert model.hash == hashlib.sha256((bundle / "model.skops").read_bytes()).hexdigest()


def test_the_pinned_bundle_loads(bundle: Path) -> None:
    """--expect-sha256 takes the SHA-256 of model.json."""
    digest = hashlib.sha256((bundle / "model.json").read_bytes()).hexdigest()

    assert load_bundle(bundle, expect_sha256=digest).name == "iris"


def test_another_bundle_than_the_pinned_one_is_refused(bundle: Path) -> None:
    """One changed byte of model.json makes it another bundle."""
    digest = hashlib.sha256((bundle / "model.json").read_bytes()).hexdigest()
    (bundle / "model.json").write_bytes((bundle / "model.json").read_bytes() + b"\n")

    with pytest.raises(BundleIntegrityError, match=digest):
        load_bundle(bundle, expect_sha256=digest)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: raw[:-1] + b"\xff"])
def test_an_altered_artifact_is_refused(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    """An artifact that was truncated, extended or changed is not loaded."""
    path = bundle / "model.skops"
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(BundleIntegrityError, match=r"model\.skops"):
        load_bundle(bundle)


def test_the_message_for_a_missing_bundle_names_the_command(tmp_path: Path) -> None:
    """The message names the folder and `modeltrace pack`."""
    with pytest.raises(BundleNotFoundError, match=r"nowhere.*modeltrace pack"):
        load_bundle(tmp_path / "nowhere")


def test_a_missing_artifact_is_an_incomplete_bundle(bundle: Path) -> None:
    """model.json alone is not a bundle."""
    (bundle / "model.skops").unlink()

    with pytest.raises(BundleNotFoundError, match="incomplete"):
        load_bundle(bundle)


@pytest.mark.parametrize("file", ["../model.skops", "/etc/passwd", "..", "", "sub/model.skops", "..\\model.skops"])
def test_an_artifact_outside_the_folder_is_refused(edit: Edit, file: str) -> None:
    """The artifact's name cannot refer to a file outside the bundle."""
    with pytest.raises(BundleError, match=r"artifact\.file: must be a file name"):
        load_bundle(edit(lambda manifest: manifest["artifact"].update(file=file)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: m.pop("name"), "name"),
        (lambda m: m.update(format="3"), "format"),
        (lambda m: m.update(name="\x1b]0;x\x07"), "name"),
        (lambda m: m["features"][1].update(name="a\nb"), r"features\.1\.name"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["artifact"].update(format="onnx"), "artifact.format"),
        (lambda m: m["artifact"].update(sha256="short"), "artifact.sha256"),
        (lambda m: m["features"][1].update(privacy="mask"), "features.1.privacy"),
        (lambda m: m["features"][1].update(valid_range=[2, 1]), "features.1"),
        (lambda m: m["features"][1].update(name=m["features"][0]["name"]), "features"),
        (lambda m: m.update(features=[]), "features"),
        (lambda m: m.update(task="cluster"), "task"),
    ],
)
def test_an_invalid_key_is_named(edit: Edit, change: Callable[[Any], None], key: str) -> None:
    """A model.json that is not valid is refused; the message names the key."""
    with pytest.raises(BundleError, match=rf"model\.json: {key}"):
        load_bundle(edit(change))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_another_format_is_refused(edit: Edit, number: int) -> None:
    """Only the current format is read; the message names both numbers and the remedy."""
    with pytest.raises(BundleError, match=rf"format is {number}, this version reads 3: pack the model again"):
        read_manifest(edit(lambda manifest: manifest.update(format=number)))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_an_object_is_refused(bundle: Path, text: bytes) -> None:
    """Anything but a JSON object raises a BundleError."""
    (bundle / "model.json").write_bytes(text)

    with pytest.raises(BundleError, match=r"model\.json"):
        load_bundle(bundle)


def test_another_minor_version_of_scikit_learn_is_refused(edit: Edit) -> None:
    """The message names both versions and the remedy."""
    bundle = edit(lambda manifest: manifest["libraries"].update({"scikit-learn": "0.24.2"}))

    with pytest.raises(IncompatibleBundleError, match=r"0\.24\.2.*Pack the model again"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(classes=["a", "b", "c"]),
        lambda m: m.update(task="regressor"),
        lambda m: m["features"].pop(),
    ],
)
def test_a_manifest_for_another_model_is_refused(edit: Edit, change: Callable[[Any], None]) -> None:
    """Classes and features must be those of the estimator."""
    with pytest.raises(BundleError, match="does not describe"):
        load_bundle(edit(change))


@pytest.mark.parametrize("steps", [[], [("a", "b", "c")], "steps", None])
def test_a_damaged_estimator_is_refused(bundle: Path, edit: Edit, steps: object) -> None:
    """An estimator that cannot be inspected is refused when it is loaded, not at the first request."""
    raw = skops.io.dumps(Pipeline(steps))
    (bundle / "model.skops").write_bytes(raw)
    edit(lambda manifest: manifest["artifact"].update(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)))

    with pytest.raises(BundleError, match=r"model\.skops|does not describe"):
        load_bundle(bundle)


def test_a_joblib_bundle_needs_the_operators_permission(tmp_path: Path) -> None:
    """A bundle cannot allow its own pickle."""
    bundle = pack(
        fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=tmp_path / "iris", artifact_format="joblib"
    )

    with pytest.raises(UntrustedModelError, match="MODELTRACE_TRUST_PICKLE"):
        load_bundle(bundle)
    assert load_bundle(bundle, trust_pickle=True).name == "iris"


def test_an_existing_bundle_is_kept(bundle: Path) -> None:
    """Without force nothing is overwritten."""
    manifest, before = read_manifest(bundle)

    with pytest.raises(PackError, match="--force"):
        write_bundle(bundle, manifest, {})
    assert read_manifest(bundle)[1] == before


def test_a_bundle_is_replaced_by_force(bundle: Path) -> None:
    """With force only the new bundle remains, without temporary files."""
    manifest, _ = read_manifest(bundle)

    write_bundle(bundle, manifest, {"other": b"x"}, force=True)

    assert sorted(path.name for path in bundle.iterdir()) == ["model.json", "other"]
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_not_a_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    """Force does not delete other folders."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")

    with pytest.raises(PackError, match="is not a bundle"):
        write_bundle(precious, read_manifest(bundle)[0], {}, force=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_a_failed_write_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    """A bundle that cannot be written completely leaves no files."""
    manifest, _ = read_manifest(bundle)
    with pytest.raises(PackError, match="cannot be written"):
        write_bundle(tmp_path / "fresh", manifest, {"no/such/folder": b""})

    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


@pytest.mark.slow
def test_the_example_is_reproducible(tmp_path: Path) -> None:
    """Building it twice gives the same features and the same test rows."""
    first, second = (build_example(tmp_path / name) for name in ("first", "second"))
    manifests = [read_manifest(bundle)[0] for bundle in (first, second)]

    assert manifests[0].features == manifests[1].features
    assert (first / "traffic.parquet").read_bytes() == (second / "traffic.parquet").read_bytes()


@pytest.mark.slow
def test_the_example_is_fitted_without_names(tmp_path: Path) -> None:
    """The example accepts arrays, has text labels, and contains labelled test rows."""
    manifest, _ = read_manifest(build_example(tmp_path / "example"))

    assert (manifest.name, manifest.version, manifest.fitted_with) == ("breast-cancer", "1.0.0", "array")
    assert manifest.classes == ("benign", "malignant")
    assert manifest.features[0].name == "mean_radius"
    assert manifest.traffic is not None
    assert manifest.traffic.target == "target"
    assert manifest.traffic.rows == HELD_OUT_ROWS


def test_loading_gives_no_warning(bundle: Path) -> None:
    """A bundle made with the installed libraries loads without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bundle(bundle)
