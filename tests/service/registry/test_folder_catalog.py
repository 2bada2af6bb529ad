"""Bundles in folders: the one that is meant is found, what is broken is told and left out."""

import os
import shutil
from pathlib import Path

import pytest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.errors import BundleError, BundleIntegrityError, BundleNotFoundError
from tests.helpers.bundles import edit_manifest, flip_byte, pack_iris


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of several versions, made once."""
    folder = tmp_path_factory.mktemp("versions")
    for number, version in enumerate(["1.9.0", "1.10.0", "2.0.0rc1"]):
        pack_iris(folder / f"bundle-{number}", version, strength=number + 1)
    return folder


@pytest.fixture
def models(versions: Path, tmp_path: Path) -> Path:
    """A copy of them for one test."""
    return Path(shutil.copytree(versions, tmp_path / "models"))


class Told(list[str]):
    """A catalog and what it told of."""

    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog(self.append)


@pytest.fixture
def told() -> Told:
    """A catalog that remembers what it told of."""
    return Told()


def test_a_bundle_is_found_at_its_folder(models: Path, told: Told) -> None:
    """With name, version and the hashes that its files have."""
    found = told.catalog.resolve(str(models / "bundle-0"))
    model = load_bundle(found.path)

    assert (found.path, found.name, found.version) == (models / "bundle-0", "iris", "1.9.0")
    assert (found.hash, found.onnx_hash) == (model.hash, None)
    assert found.sha256 == read_manifest(found.path)[1]


def test_of_a_folder_of_bundles_the_highest_release_is_served(models: Path, told: Told) -> None:
    """1.10 is higher than 1.9, and a pre-release is not served unless it is named."""
    assert told.catalog.resolve(str(models)).version == "1.10.0"
    assert told.catalog.resolve(f"{models}@2.0.0rc1").version == "2.0.0rc1"
    assert told == []


def test_where_there_are_only_pre_releases_the_highest_is_served(models: Path, told: Told) -> None:
    """There is nothing better."""
    for name in ("bundle-0", "bundle-1"):
        shutil.rmtree(models / name)

    assert told.catalog.resolve(str(models)).version == "2.0.0rc1"


def test_a_version_that_is_not_there_is_refused_by_name(models: Path, told: Told) -> None:
    """The message says which ones there are, best first."""
    with pytest.raises(BundleNotFoundError, match=r"no version 3; it has 1\.10\.0, 1\.9\.0, 2\.0\.0rc1"):
        told.catalog.resolve(f"{models}@3")
    with pytest.raises(BundleNotFoundError, match=r"has the version 1\.9\.0"):
        told.catalog.resolve(f"{models / 'bundle-0'}@2")


def test_a_new_version_is_found_and_nothing_new_is_equal(models: Path, told: Told) -> None:
    """Asking again answers the same until another version, or another bundle of the same version, is there."""
    first = told.catalog.resolve(str(models))
    assert told.catalog.resolve(str(models)) == first

    pack_iris(models / "fresh", "1.11.0")
    second = told.catalog.resolve(str(models))
    assert (second.version, second.path) == ("1.11.0", models / "fresh")

    pack_iris(models / "fresh", "1.11.0", strength=5.0, force=True)
    assert told.catalog.resolve(str(models)) != second


def test_asking_again_reads_nothing(models: Path, told: Told) -> None:
    """A look at files that have not changed does not open them: unreadable ones are no hindrance."""
    first = told.catalog.resolve(str(models))
    for file in models.glob("*/model.*"):
        times = file.stat()
        file.write_bytes(b"\0" * times.st_size)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert told.catalog.resolve(str(models)) == first


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda bundle: (bundle / "model.json").write_text("{"), r"model\.json"),
        (lambda bundle: edit_manifest(bundle, surprise=1), "surprise"),
        (lambda bundle: (bundle / "model.skops").unlink(), "incomplete"),
        (lambda bundle: (bundle / "model.skops").write_bytes(b"half"), "copied in part"),
        (lambda bundle: flip_byte(bundle / "model.skops"), "altered"),
    ],
)
def test_what_is_broken_is_told_once_and_left_out(models: Path, told: Told, harm: object, words: str) -> None:
    """The next version is served; a poll a second does not repeat it."""
    assert callable(harm)
    harm(models / "bundle-1")

    assert [told.catalog.resolve(str(models)).version for _ in range(3)] == ["1.9.0"] * 3
    assert len(told) == 1
    assert "bundle-1" in told[0]
    assert words.replace("\\", "") in told[0]


def test_nothing_that_is_intact_is_an_error(models: Path, told: Told) -> None:
    """When each is broken, none is served."""
    for bundle in models.iterdir():
        flip_byte(bundle / "model.skops")

    with pytest.raises(BundleNotFoundError, match=r"no bundle in .* is intact"):
        told.catalog.resolve(str(models))
    assert len(told) == 3


def test_a_broken_bundle_that_is_named_itself_is_refused(models: Path, told: Told) -> None:
    """There is nothing to serve in its place."""
    (models / "bundle-1" / "model.json").write_text("{}")

    with pytest.raises(BundleError, match=r"model\.json"):
        told.catalog.resolve(str(models / "bundle-1"))
    assert told == []


def test_models_of_different_names_are_not_chosen_from(models: Path, told: Told) -> None:
    """Which model is served is no matter of its version; a version that only one has is clear."""
    pack_iris(models / "other", "0.1", name="other")

    with pytest.raises(BundleError, match="several models: iris, other"):
        told.catalog.resolve(str(models))
    assert told.catalog.resolve(f"{models}@1.9.0").name == "iris"


def test_two_bundles_of_one_version_are_an_error_unless_they_are_one(models: Path, told: Told) -> None:
    """A copy or a link is the same bundle; another model under the same version is not."""
    (models / "current").symlink_to(models / "bundle-1")
    assert told.catalog.resolve(str(models)).version == "1.10.0"

    pack_iris(models / "twin", "1.10.0", strength=9.0)
    with pytest.raises(BundleError, match=r"same name and version, iris 1\.10\.0"):
        told.catalog.resolve(str(models))


def test_what_is_no_bundle_is_passed_over(models: Path, told: Told) -> None:
    """Files, other folders, and the hidden one in which pack writes."""
    (models / "notes.txt").write_text("x")
    (models / "empty").mkdir()
    shutil.copytree(models / "bundle-1", models / ".fresh-x1")
    edit_manifest(models / ".fresh-x1", version="9.0.0")

    assert told.catalog.resolve(str(models)).version == "1.10.0"
    assert told == []


def test_an_empty_folder_and_none_at_all_say_what_is_missing(tmp_path: Path, told: Told) -> None:
    """Both messages name the folder and what makes a bundle."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleNotFoundError, match=rf"no bundle at {folder}.*modeltrace pack"):
            told.catalog.resolve(str(folder))


def test_a_bundle_is_found_by_the_hash_of_its_model(models: Path, told: Told) -> None:
    """In any of the sources, whichever version those would serve; where it is in none, they are named."""
    wanted = load_bundle(models / "bundle-0")
    sources = [str(models.parent / "nowhere"), str(models / "bundle-1"), f"{models}@1.10.0"]

    assert told.catalog.find_by_hash(wanted.hash, sources).path == models / "bundle-0"
    assert told.catalog.find_version("iris", "2.0.0rc1", sources).path == models / "bundle-2"
    with pytest.raises(BundleNotFoundError, match=f"SHA-256 {'0' * 64} in .*nowhere.*bundle-1.*models@"):
        told.catalog.find_by_hash("0" * 64, sources)
    with pytest.raises(BundleNotFoundError, match=r"of iris 7 in "):
        told.catalog.find_version("iris", "7", sources)


def test_of_a_model_that_was_packed_twice_the_wanted_version_is_found(models: Path, told: Told) -> None:
    """Or any, where none is of that version: the model is the same."""
    again = Path(shutil.copytree(models / "bundle-0", models / "again"))
    edit_manifest(again, version="1.9.1")
    digest = load_bundle(again).hash

    found = [told.catalog.find_by_hash(digest, [str(models)], version=one).version for one in ("1.9.1", "1.9.0", "7")]
    assert found == ["1.9.1", "1.9.0", "1.9.1"]


def test_a_bundle_is_found_by_the_hash_of_its_other_form(tmp_path: Path, told: Told) -> None:
    """With ONNX Runtime the hash that is recorded is that of model.onnx."""
    bundle = pack_iris(tmp_path / "both", "1", onnx=True)

    assert told.catalog.find_by_hash(load_bundle(bundle, engine="onnx").hash, [str(bundle)]).path == bundle


def test_what_is_found_is_checked_again_when_it_is_loaded(models: Path, told: Told) -> None:
    """The catalog's word is not what loading relies on."""
    found = told.catalog.resolve(str(models))
    flip_byte(found.path / "model.skops")

    with pytest.raises(BundleIntegrityError):
        load_bundle(found.path)
