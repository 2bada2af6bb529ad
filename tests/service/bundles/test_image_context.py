"""The build context of an image: what it contains, what it pins, and what it refuses."""

import base64
import csv
import hashlib
import importlib.util
import io
import re
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from modeltrace.bundles.image.context import write_context
from modeltrace.bundles.image.pins import pin_packages
from modeltrace.bundles.image.wheel import PACKAGES, build_wheel
from modeltrace.bundles.manifest import read_manifest
from modeltrace.errors import ModeltraceError
from tests.helpers.bundles import pack_iris

UNTRUSTED = {"trust_pickle": False, "trust_code": False, "trusted_types": ()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of a scikit-learn model."""
    return pack_iris(tmp_path_factory.mktemp("image") / "iris", "1.0.0", name='Iris $HOME "a"', traffic=None)


def test_a_context_has_the_bundle_and_pinned_packages(bundle: Path, tmp_path: Path) -> None:
    """It contains all that loading the bundle reads, and the installed versions with their hashes."""
    context = write_context(bundle, tmp_path / "context", **UNTRUSTED)  # type: ignore[arg-type]  # keywords

    manifest, sha256 = read_manifest(bundle)
    written = {path.relative_to(context.folder).as_posix() for path in context.folder.rglob("*") if path.is_file()}
    wheel = f"modeltrace-{version('modeltrace')}-py3-none-any.whl"
    assert written == {
        ".dockerignore", "Dockerfile", "bundle/model.json", f"bundle/{manifest.artifact.file}",
        "requirements.txt", wheel,
    }  # fmt: skip
    assert (context.folder / "bundle" / "model.json").read_bytes() == (bundle / "model.json").read_bytes()
    requirements = (context.folder / "requirements.txt").read_text()
    assert f"scikit-learn=={version('scikit-learn')} " in requirements
    assert len(re.findall("==", requirements)) == context.packages
    assert context.unhashed == ()
    assert all("--hash=sha256:" in pin for pin in re.split(r"\n(?=\S)", requirements))
    dockerfile = (context.folder / "Dockerfile").read_text()
    assert f"MODELTRACE_EXPECT_SHA256={sha256}" in dockerfile
    assert "MODELTRACE_TRUST" not in dockerfile
    assert "--require-hashes --requirement requirements.txt" in dockerfile
    assert r'image.title="Iris \$HOME \"a\""' in dockerfile
    assert context.tag == "iris-home-a:1.0.0"


def test_equal_inputs_give_equal_contexts(bundle: Path, tmp_path: Path) -> None:
    """A second run writes the same bytes, so that the layers of the image stay in the cache."""
    first, second = (
        write_context(bundle, tmp_path / name, **UNTRUSTED)  # type: ignore[arg-type]  # keywords
        for name in ("first", "second")
    )

    for path in first.folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (second.folder / path.relative_to(first.folder)).read_bytes()


def test_only_a_context_is_replaced(bundle: Path, tmp_path: Path) -> None:
    """`--force` replaces a former context, and no other folder."""
    out = write_context(bundle, tmp_path / "context", **UNTRUSTED).folder  # type: ignore[arg-type]  # keywords
    (out / "old").touch()

    with pytest.raises(ModeltraceError, match="exists; choose another folder with --out, or replace it with --force"):
        write_context(bundle, out, **UNTRUSTED)  # type: ignore[arg-type]  # keywords
    write_context(bundle, out, force=True, **UNTRUSTED)  # type: ignore[arg-type]  # keywords
    assert not (out / "old").exists()
    with pytest.raises(ModeltraceError, match="is not the context of an image"):
        write_context(bundle, bundle, force=True, **UNTRUSTED)  # type: ignore[arg-type]  # keywords
    assert (bundle / "model.json").exists()


def test_packages_are_the_closure_of_what_is_needed() -> None:
    """Dependencies of dependencies and of extras are included; a package that is not installed is an error."""
    pins = {pin.name: pin for pin in pin_packages([Requirement("tritonclient[http]")])}

    assert {"numpy", "scikit-learn", "fastapi", "starlette", "tritonclient", "aiohttp"} <= pins.keys()
    assert "modeltrace" not in pins
    assert "xgboost-cpu" in {pin.name for pin in pin_packages([Requirement("xgboost")])}  # installed instead
    assert "pytest" not in pins
    assert {name: pin.version for name, pin in pins.items()} == {name: version(name) for name in pins}
    with pytest.raises(ModeltraceError, match="no-such-package-of-ours is needed and not installed"):
        pin_packages([Requirement("no-such-package-of-ours")])


def test_the_wheel_contains_the_installed_files(tmp_path: Path) -> None:
    """It has every file of the packages, and a record with their hashes."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = wheel.namelist()
        contents = {name: wheel.read(name) for name in names}
    (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
    rows = list(csv.reader(io.StringIO(contents[record].decode())))

    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        files = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}
        assert {file for file in files if "__pycache__" not in file} <= set(names)
    assert "modeltrace/bundles/image/requirements.lock" in names
    assert "modeltrace/report/locks/evidently.lock" in names
    assert "modeltrace = modeltrace.cli.main:main" in contents[record.replace("RECORD", "entry_points.txt")].decode()
    assert sorted(row[0] for row in rows) == sorted(names)
    for name, digest, size in rows:
        if name != record:
            encoded = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={encoded}", len(contents[name]))
