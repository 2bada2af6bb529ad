"""Only regular files in a bundle's folder are read, never devices, pipes or files elsewhere."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry.folder_catalog import FolderCatalog
from modeltrace.bundles.registry.publish import _mlflow_flavors
from modeltrace.bundles.registry.source import FolderSource
from modeltrace.errors import BundleError, BundleIntegrityError
from modeltrace.local.bundles import read_raw_manifest
from modeltrace.local.plan import UpError
from modeltrace.regular_files import NotRegularError, read_regular, stat_regular
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.generated import generate_samples
from modeltrace.traffic.rows import RowSourceError, load_test_samples
from tests.helpers.bundles import pack_iris
from tests.helpers.estimators import iris_frame

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle with test rows, in a folder of bundles."""
    return pack_iris(tmp_path / "models" / "iris", "1.0.0", traffic=iris_frame())


def make_pipe(path: Path) -> None:
    """Create a named pipe without a writer: opening it blocks forever."""
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """Create a link to a device that can be read without end."""
    path.symlink_to("/dev/zero")


def make_link_to_pipe(path: Path) -> None:
    """Create a link to a named pipe in the same folder."""
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def make_folder(path: Path) -> None:
    """Create a folder."""
    path.mkdir()


def make_socket(path: Path) -> None:
    """Create a socket."""
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def make_outside_link(path: Path) -> None:
    """Create a link to a file outside the bundle that has the original content."""
    target = path.parent.parent.parent / f"moved-{path.name}"
    path.rename(target)
    path.symlink_to(target)


def make_circle(path: Path) -> None:
    """Create a link to itself."""
    path.symlink_to(path.name)


SPECIAL_FILES: list[Callable[[Path], None]] = [
    make_pipe,
    make_device,
    make_link_to_pipe,
    make_folder,
    make_socket,
    make_outside_link,
    make_circle,
]


def replace(path: Path, make: Callable[[Path], None]) -> None:
    """Replace a file with something else."""
    if make is not make_outside_link:
        path.unlink()
    make(path)


@pytest.mark.parametrize("make", SPECIAL_FILES)
@pytest.mark.parametrize("file", ["model.json", "model.skops"])
def test_only_regular_files_are_read(file: str, make: Callable[[Path], None], bundle: Path) -> None:
    """Loading fails at once with a message that names the file, for a bundle and for a folder of bundles."""
    digest = read_manifest(bundle)[1]
    replace(bundle / file, make)

    with pytest.raises(BundleError, match=file):
        load_bundle(bundle, expect_sha256=digest)
    reported: list[str] = []
    with pytest.raises(BundleError):
        FolderCatalog(reported.append).resolve(FolderSource(bundle.parent))
    with pytest.raises((BundleError, OSError)):
        _mlflow_flavors(bundle, read_manifest(bundle)[0])


@pytest.mark.parametrize("make", SPECIAL_FILES)
def test_held_out_rows_are_a_regular_file(make: Callable[[Path], None], bundle: Path) -> None:
    """`traffic` and `report` read only a regular file."""
    features = read_manifest(bundle)[0].features
    assert len(load_test_samples(bundle, features)) > 1
    replace(bundle / "traffic.parquet", make)

    with pytest.raises(RowSourceError, match=r"traffic\.parquet"):
        load_test_samples(bundle, features)


@pytest.mark.parametrize("make", SPECIAL_FILES)
def test_up_reads_only_regular_files(make: Callable[[Path], None], bundle: Path) -> None:
    """This applies to the manifest of any bundle, and to the rows that a generator is fitted on."""
    features = read_manifest(bundle)[0].features
    (bundle / GENERATOR_FILE).touch()
    replace(bundle / GENERATOR_FILE, make)
    with pytest.raises(RowSourceError, match=GENERATOR_FILE):
        next(generate_samples(bundle, features, make_rng(0)))
    (bundle / "pipe").unlink(missing_ok=True)
    replace(bundle / "model.json", make)
    with pytest.raises(UpError, match="no bundle at"):
        read_raw_manifest(bundle)


def test_a_file_of_another_size_is_not_read(bundle: Path) -> None:
    """The size is compared before the file is read."""
    manifest, _ = read_manifest(bundle)
    for file in ("model.skops", "traffic.parquet"):
        with (bundle / file).open("ab") as grown:
            grown.truncate(2**40)  # a sparse file, too large to be read

    with pytest.raises(BundleIntegrityError, match=r"model\.skops is not the file .* altered"):
        load_bundle(bundle)
    with pytest.raises(RowSourceError, match=r"traffic\.parquet does not have the size"):
        load_test_samples(bundle, manifest.features)


def test_a_huge_manifest_is_not_read(bundle: Path) -> None:
    """The limit is 64 MiB."""
    with (bundle / "model.json").open("ab") as grown:
        grown.truncate(2**40)

    with pytest.raises(BundleError, match=r"model\.json has 1,099,511,627,776 bytes"):
        read_manifest(bundle)


def test_links_below_the_folder_are_followed(bundle: Path) -> None:
    """Kubernetes volumes contain links to their files; the folder itself may be a link too."""
    (bundle / "..data").mkdir()
    for file in ("model.json", "model.skops"):
        (bundle / file).rename(bundle / "..data" / file)
        (bundle / file).symlink_to(Path("..data", file))
    link = bundle.with_name("current")
    link.symlink_to(bundle.name)

    assert load_bundle(link).name == "iris"
    assert FolderCatalog(lambda _: None).resolve(FolderSource(link)).version == "1.0.0"


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """A larger file is refused, not truncated."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    assert read_regular(path, max_bytes=5) == b"12345"
    assert stat_regular(path).st_size == 5
    with pytest.raises(NotRegularError, match="5 bytes, the limit is 4"):
        read_regular(path, max_bytes=4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", max_bytes=4)
