"""The manifest of a bundle is read without loading the bundle."""

import json
from pathlib import Path

import pytest

from modeltrace.local.bundles import example_is_current, read_raw_manifest
from modeltrace.local.plan import UpError


def test_manifest_is_read(example: Path) -> None:
    """The content of `model.json` is returned."""
    assert read_raw_manifest(example)["name"] == "breast-cancer"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        ("{", "not JSON"),
        ("[]", "not an object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_invalid_bundle_is_an_error(tmp_path: Path, content: str | bytes | None, complaint: str) -> None:
    """The message names the folder, the reason and the command that makes a bundle."""
    if content is not None:
        (tmp_path / "model.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UpError, match=rf"no bundle at {tmp_path}: model\.json: {complaint}.*modeltrace pack"):
        read_raw_manifest(tmp_path)


def test_bundle_built_with_the_installed_libraries_is_current(example: Path) -> None:
    """The versions in the manifest are those of the installed libraries."""
    assert example_is_current(example)


@pytest.mark.parametrize("library", ["python", "scikit-learn", "a-library-that-is-gone"])
def test_bundle_built_with_other_libraries_is_not_current(example: Path, tmp_path: Path, library: str) -> None:
    """One different version is sufficient."""
    manifest = json.loads((example / "model.json").read_text())
    manifest["libraries"][library] = "0.1"
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    assert not example_is_current(tmp_path)


def test_bundle_with_another_schema_is_not_current(example: Path, tmp_path: Path) -> None:
    """A manifest of another version of Modeltrace, with an unknown field, is not current."""
    manifest = json.loads((example / "model.json").read_text())
    manifest["features"][0]["colour"] = "red"
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    assert not example_is_current(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", '{"features": [], "libraries": []}'])
def test_invalid_bundle_is_not_current(tmp_path: Path, content: str | None) -> None:
    """A missing or incomplete manifest means that the example is built again."""
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    assert not example_is_current(tmp_path)
