"""A bundle is checked before it is loaded, and written completely or not at all."""

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
    """A small bundle."""
    out = tmp_path_factory.mktemp("packed") / "iris"
    return pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), name="iris", out=out)


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """A copy of it for this test alone."""
    return Path(shutil.copytree(packed, tmp_path / "iris"))


@pytest.fixture
def edit(bundle: Path) -> Edit:
    """Change the bundle's model.json."""

    def change(how: Callable[[dict[str, Any]], None]) -> Path:
        manifest = json.loads((bundle / "model.json").read_text())
        how(manifest)
        (bundle / "model.json").write_text(json.dumps(manifest))
        return bundle

    return change


def test_a_bundle_loads(bundle: Path) -> None:
    """What was packed is what is served."""
    model = load_bundle(bundle)

    assert (model.name, model.version, model.task) == ("iris", "1.0.0", "classifier")
    assert model.classes == ("setosa", "versicolor", "virginica")
    assert model.hash == hashlib.sha256((bundle / "model.skops").read_bytes()).hexdigest()


def test_the_pinned_bundle_loads(bundle: Path) -> None:
    """The SHA-256 that --expect-sha256 wants is that of model.json."""
    digest = hashlib.sha256((bundle / "model.json").read_bytes()).hexdigest()

    assert load_bundle(bundle, expect_sha256=digest).name == "iris"


def test_another_bundle_than_the_pinned_one_is_refused(bundle: Path) -> None:
    """One changed byte of model.json is another bundle."""
    digest = hashlib.sha256((bundle / "model.json").read_bytes()).hexdigest()
    (bundle / "model.json").write_bytes((bundle / "model.json").read_bytes() + b"\n")

    with pytest.raises(BundleIntegrityError, match=digest):
        load_bundle(bundle, expect_sha256=digest)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: raw[:-1] + b"\xff"])
def test_an_altered_artifact_is_refused(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    """An artifact that was cut, lengthened or changed is not read as a model."""
    path = bundle / "model.skops"
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(BundleIntegrityError, match=r"model\.skops"):
        load_bundle(bundle)


def test_a_missing_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    """Where there is no bundle, the message names the folder and `modeltrace pack`."""
    with pytest.raises(BundleNotFoundError, match=r"nowhere.*modeltrace pack"):
        load_bundle(tmp_path / "nowhere")


def test_a_missing_artifact_is_an_incomplete_bundle(bundle: Path) -> None:
    """model.json alone is not a bundle."""
    (bundle / "model.skops").unlink()

    with pytest.raises(BundleNotFoundError, match="incomplete"):
        load_bundle(bundle)


@pytest.mark.parametrize("file", ["../model.skops", "/etc/passwd", "..", "", "sub/model.skops", "..\\model.skops"])
def test_an_artifact_outside_the_folder_is_refused(edit: Edit, file: str) -> None:
    """The artifact's name cannot lead out of the bundle."""
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
def test_a_key_that_is_not_understood_is_named(edit: Edit, change: Callable[[Any], None], key: str) -> None:
    """A model.json that says something else is refused, never half read; the message names the key."""
    with pytest.raises(BundleError, match=rf"model\.json: {key}"):
        load_bundle(edit(change))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_another_format_is_refused(edit: Edit, number: int) -> None:
    """Only the current format is read; the message names both numbers and says what to do."""
    with pytest.raises(BundleError, match=rf"format is {number}, this version reads 3: pack the model again"):
        read_manifest(edit(lambda manifest: manifest.update(format=number)))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, text: bytes) -> None:
    """Anything but a JSON object is a BundleError."""
    (bundle / "model.json").write_bytes(text)

    with pytest.raises(BundleError, match=r"model\.json"):
        load_bundle(bundle)


def test_another_minor_version_of_scikit_learn_is_refused(edit: Edit) -> None:
    """The message names both versions and what to do."""
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
    """Classes and features are those of the estimator beside it."""
    with pytest.raises(BundleError, match="does not describe"):
        load_bundle(edit(change))


@pytest.mark.parametrize("steps", [[], [("a", "b", "c")], "steps", None])
def test_a_damaged_estimator_is_refused(bundle: Path, edit: Edit, steps: object) -> None:
    """An estimator that cannot even be asked what it is does not get as far as a request."""
    raw = skops.io.dumps(Pipeline(steps))
    (bundle / "model.skops").write_bytes(raw)
    edit(lambda manifest: manifest["artifact"].update(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw)))

    with pytest.raises(BundleError, match=r"model\.skops|does not describe"):
        load_bundle(bundle)


def test_a_joblib_bundle_needs_the_operators_word(tmp_path: Path) -> None:
    """That a bundle is pickled is not the bundle's to allow."""
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
    """Force leaves the new bundle, and nothing of the old one or of the work."""
    manifest, _ = read_manifest(bundle)

    write_bundle(bundle, manifest, {"other": b"x"}, force=True)

    assert sorted(path.name for path in bundle.iterdir()) == ["model.json", "other"]
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_no_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    """Force does not delete what Modeltrace has not made."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")

    with pytest.raises(PackError, match="is not a bundle"):
        write_bundle(precious, read_manifest(bundle)[0], {}, force=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_a_failed_write_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    """A bundle that could not be written completely is not there at all."""
    manifest, _ = read_manifest(bundle)
    with pytest.raises(PackError, match="cannot be written"):
        write_bundle(tmp_path / "fresh", manifest, {"no/such/folder": b""})

    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_the_example_is_the_same_each_time(tmp_path: Path) -> None:
    """Building it twice gives the same features, the same model and the same held-out rows."""
    first, second = (build_example(tmp_path / name) for name in ("first", "second"))
    manifests = [read_manifest(bundle)[0] for bundle in (first, second)]

    assert manifests[0].features == manifests[1].features
    assert (first / "traffic.parquet").read_bytes() == (second / "traffic.parquet").read_bytes()


def test_the_example_is_fitted_without_names(tmp_path: Path) -> None:
    """The example takes arrays, has text labels, and keeps a held-out part with them."""
    manifest, _ = read_manifest(build_example(tmp_path / "example"))

    assert (manifest.name, manifest.version, manifest.fitted_with) == ("breast-cancer", "1.0.0", "array")
    assert manifest.classes == ("benign", "malignant")
    assert manifest.features[0].name == "mean_radius"
    assert manifest.traffic is not None
    assert manifest.traffic.target == "target"
    assert manifest.traffic.rows == HELD_OUT_ROWS


def test_loading_warns_of_nothing(bundle: Path) -> None:
    """A bundle that fits its libraries loads in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bundle(bundle)
