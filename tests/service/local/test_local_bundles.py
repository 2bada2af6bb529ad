"""What can be known of a bundle without loading it."""

import json
from pathlib import Path

import pytest

from modeltrace.local.bundles import example_is_current, read_raw_manifest
from modeltrace.local.plan import UpError


def test_a_bundle_is_read(example: Path) -> None:
    """What `model.json` says."""
    assert read_raw_manifest(example)["name"] == "breast-cancer"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        ("{", "no JSON"),
        ("[]", "not an object"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_bundle_is_said_clearly(tmp_path: Path, content: str | bytes | None, complaint: str) -> None:
    """The message names the folder, the reason and the command that makes one."""
    if content is not None:
        (tmp_path / "model.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UpError, match=rf"no bundle at {tmp_path}: model\.json: {complaint}.*modeltrace pack"):
        read_raw_manifest(tmp_path)


def test_a_bundle_made_here_is_current(example: Path) -> None:
    """Its libraries are those that are installed."""
    assert example_is_current(example)


@pytest.mark.parametrize("library", ["python", "scikit-learn", "a-library-that-is-gone"])
def test_a_bundle_made_with_other_libraries_is_not_current(example: Path, tmp_path: Path, library: str) -> None:
    """One difference is enough."""
    manifest = json.loads((example / "model.json").read_text())
    manifest["libraries"][library] = "0.1"
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    assert not example_is_current(tmp_path)


def test_a_bundle_described_in_another_way_is_not_current(example: Path, tmp_path: Path) -> None:
    """Another version of Modeltrace wrote it."""
    manifest = json.loads((example / "model.json").read_text())
    manifest["features"][0]["colour"] = "red"
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    assert not example_is_current(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", '{"features": [], "libraries": []}'])
def test_what_is_no_bundle_is_not_current(tmp_path: Path, content: str | None) -> None:
    """It is built anew."""
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    assert not example_is_current(tmp_path)
