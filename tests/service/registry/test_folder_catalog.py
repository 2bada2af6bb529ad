"""Bundles in folders: a source is resolved to one of them, and broken bundles are reported and skipped."""

import os
import shutil
from pathlib import Path

import pytest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.cli.serve import serve
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError
from tests.helpers.bundles import edit_manifest, flip_byte, pack_iris


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with bundles of several versions, created once."""
    folder = tmp_path_factory.mktemp("versions")
    for number, version in enumerate(["1.9.0", "1.10.0", "2.0.0rc1"]):
        pack_iris(folder / f"bundle-{number}", version, strength=number + 1)
    return folder


@pytest.fixture
def models(versions: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder for one test."""
    return Path(shutil.copytree(versions, tmp_path / "models"))


class ReportingCatalog(list[str]):
    """A catalog, as the list of the messages that it has reported."""

    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog(self.append)


@pytest.fixture
def reports() -> ReportingCatalog:
    """Return a catalog with the list of its messages."""
    return ReportingCatalog()


def test_a_bundle_is_found_at_its_folder(models: Path, reports: ReportingCatalog) -> None:
    """It has the name, the version and the hashes of its files."""
    bundle = reports.catalog.resolve(str(models / "bundle-0"))
    model = load_bundle(bundle.path)

    assert (bundle.path, bundle.name, bundle.version) == (models / "bundle-0", "iris", "1.9.0")
    assert (bundle.hash, bundle.onnx_hash) == (model.hash, None)
    assert bundle.sha256 == read_manifest(bundle.path)[1]


def test_the_highest_release_in_a_folder_is_served(models: Path, reports: ReportingCatalog) -> None:
    """1.10 is higher than 1.9, and a pre-release is served only if it is named."""
    assert reports.catalog.resolve(str(models)).version == "1.10.0"
    assert reports.catalog.resolve(f"{models}@2.0.0rc1").version == "2.0.0rc1"
    assert reports == []


def test_the_highest_pre_release_is_served_if_there_is_no_release(models: Path, reports: ReportingCatalog) -> None:
    """There is no better version. Broken releases are reported."""
    shutil.rmtree(models / "bundle-0")
    flip_byte(models / "bundle-1" / "model.skops")

    assert reports.catalog.resolve(str(models)).version == "2.0.0rc1"
    assert len(reports) == 1
    shutil.rmtree(models / "bundle-1")
    assert reports.catalog.resolve(str(models)).version == "2.0.0rc1"


def test_the_help_of_serve_says_when_a_pre_release_is_served() -> None:
    """The help and the documentation have the rule that the other tests verify."""
    assert "only if the folder has no intact release, or if it is named" in " ".join((serve.__doc__ or "").split())
    page = (Path(__file__).parents[3] / "docs" / "registry.md").read_text(encoding="utf-8")
    assert "only if the source names it, or if there is no intact release" in " ".join(page.split())


def test_a_missing_version_is_refused(models: Path, reports: ReportingCatalog) -> None:
    """The message lists the existing versions, best first."""
    with pytest.raises(BundleNotFoundError, match=r"no version 3; it has 1\.10\.0, 1\.9\.0, 2\.0\.0rc1"):
        reports.catalog.resolve(f"{models}@3")
    with pytest.raises(BundleNotFoundError, match=r"has the version 1\.9\.0"):
        reports.catalog.resolve(f"{models / 'bundle-0'}@2")


def test_a_new_bundle_is_found_and_an_unchanged_one_is_equal(models: Path, reports: ReportingCatalog) -> None:
    """The result is the same until there is another version, or another bundle of this version."""
    first = reports.catalog.resolve(str(models))
    assert reports.catalog.resolve(str(models)) == first

    pack_iris(models / "fresh", "1.11.0")
    second = reports.catalog.resolve(str(models))
    assert (second.version, second.path) == ("1.11.0", models / "fresh")

    pack_iris(models / "fresh", "1.11.0", strength=5.0, force=True)
    assert reports.catalog.resolve(str(models)) != second


def test_unchanged_files_are_not_read_again(models: Path, reports: ReportingCatalog) -> None:
    """Files with the same size and times are not opened."""
    first = reports.catalog.resolve(str(models))
    for file in models.glob("*/model.*"):
        times = file.stat()
        file.write_bytes(b"\0" * times.st_size)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert reports.catalog.resolve(str(models)) == first


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda bundle: (bundle / "model.json").write_text("{"), r"model\.json"),
        (lambda bundle: edit_manifest(bundle, surprise=1), "surprise"),
        (lambda bundle: (bundle / "model.skops").unlink(), "incomplete"),
        (lambda bundle: (bundle / "model.skops").write_bytes(b"half"), "copied in part"),
        (lambda bundle: flip_byte(bundle / "model.skops"), "altered"),
    ],
)
def test_a_broken_bundle_is_reported_once_and_skipped(
    models: Path, reports: ReportingCatalog, damage: object, message: str
) -> None:
    """The next version is served; repeated calls do not repeat the message."""
    assert callable(damage)
    damage(models / "bundle-1")

    assert [reports.catalog.resolve(str(models)).version for _ in range(3)] == ["1.9.0"] * 3
    assert len(reports) == 1
    assert "bundle-1" in reports[0]
    assert message.replace("\\", "") in reports[0]


def test_no_intact_bundle_is_an_error(models: Path, reports: ReportingCatalog) -> None:
    """If all bundles are broken, none is served."""
    for bundle in models.iterdir():
        flip_byte(bundle / "model.skops")

    with pytest.raises(BundleNotFoundError, match=r"no bundle in .* is intact"):
        reports.catalog.resolve(str(models))
    assert len(reports) == 3


def test_a_broken_bundle_that_is_the_source_is_refused(models: Path, reports: ReportingCatalog) -> None:
    """There is no other bundle to serve."""
    (models / "bundle-1" / "model.json").write_text("{}")

    with pytest.raises(BundleError, match=r"model\.json"):
        reports.catalog.resolve(str(models / "bundle-1"))
    assert reports == []


def test_bundles_of_different_models_are_ambiguous(models: Path, reports: ReportingCatalog) -> None:
    """Versions of different models are not compared; a version that only one model has is unambiguous."""
    pack_iris(models / "other", "0.1", name="other")

    with pytest.raises(BundleError, match="several models: iris, other"):
        reports.catalog.resolve(str(models))
    assert reports.catalog.resolve(f"{models}@1.9.0").name == "iris"


def test_different_bundles_of_one_version_are_an_error(models: Path, reports: ReportingCatalog) -> None:
    """A copy or a link is the same bundle; another model with the same version is not."""
    (models / "current").symlink_to(models / "bundle-1")
    assert reports.catalog.resolve(str(models)).version == "1.10.0"

    pack_iris(models / "twin", "1.10.0", strength=9.0)
    with pytest.raises(BundleError, match=r"same name and version, iris 1\.10\.0"):
        reports.catalog.resolve(str(models))


def test_other_files_are_skipped(models: Path, reports: ReportingCatalog) -> None:
    """This applies to files, other folders, and the hidden folder that pack writes to."""
    (models / "notes.txt").write_text("x")
    (models / "empty").mkdir()
    shutil.copytree(models / "bundle-1", models / ".fresh-x1")
    edit_manifest(models / ".fresh-x1", version="9.0.0")

    assert reports.catalog.resolve(str(models)).version == "1.10.0"
    assert reports == []


def test_an_empty_and_a_missing_folder_are_errors(tmp_path: Path, reports: ReportingCatalog) -> None:
    """Both messages name the folder and the command that creates a bundle."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleNotFoundError, match=rf"no bundle at {folder}.*modeltrace pack"):
            reports.catalog.resolve(str(folder))


def test_a_bundle_is_found_by_the_hash_of_its_model(models: Path, reports: ReportingCatalog) -> None:
    """All versions of all sources are searched; if there is none, the message lists the sources."""
    requested = load_bundle(models / "bundle-0")
    sources = [str(models.parent / "nowhere"), str(models / "bundle-1"), f"{models}@1.10.0"]

    assert reports.catalog.find_by_hash(requested.hash, sources).path == models / "bundle-0"
    assert reports.catalog.find_version("iris", "2.0.0rc1", sources).path == models / "bundle-2"
    with pytest.raises(BundleNotFoundError, match=f"SHA-256 {'0' * 64} in .*nowhere.*bundle-1.*models@"):
        reports.catalog.find_by_hash("0" * 64, sources)
    with pytest.raises(BundleNotFoundError, match=r"of iris 7 in "):
        reports.catalog.find_version("iris", "7", sources)


def test_the_requested_version_is_preferred_for_a_hash(models: Path, reports: ReportingCatalog) -> None:
    """Without a bundle of this version, any bundle of the same model is returned."""
    again = Path(shutil.copytree(models / "bundle-0", models / "again"))
    edit_manifest(again, version="1.9.1")
    digest = load_bundle(again).hash

    resolved = [
        reports.catalog.find_by_hash(digest, [str(models)], version=version).version
        for version in ("1.9.1", "1.9.0", "7")
    ]
    assert resolved == ["1.9.1", "1.9.0", "1.9.1"]


def test_a_bundle_is_found_by_the_hash_of_its_onnx_file(tmp_path: Path, reports: ReportingCatalog) -> None:
    """With ONNX Runtime the recorded hash is that of model.onnx."""
    bundle = pack_iris(tmp_path / "both", "1", onnx=True)

    assert reports.catalog.find_by_hash(load_bundle(bundle, engine="onnx").hash, [str(bundle)]).path == bundle


def test_a_bundle_is_verified_again_when_it_is_loaded(models: Path, reports: ReportingCatalog) -> None:
    """Loading does not rely on the catalog."""
    bundle = reports.catalog.resolve(str(models))
    flip_byte(bundle.path / "model.skops")

    with pytest.raises(BundleIntegrityError):
        load_bundle(bundle.path)
