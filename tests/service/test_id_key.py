"""The key that signs prediction IDs is stored, shared and never too short."""

from pathlib import Path

import pytest

from modeltrace.errors import SettingsError
from modeltrace.keys import load_id_key
from modeltrace.settings import Settings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty data folder, and no key in the environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("MODELTRACE_ID_KEY", raising=False)
    return tmp_path / "modeltrace"


def test_the_key_file_is_created_once(data: Path) -> None:
    """The second process reads the key of the first one; only the user can read the file."""
    first = load_id_key(Settings())

    assert load_id_key(Settings()) == first
    assert (data / "id.key").stat().st_mode & 0o077 == 0


def test_a_trailing_newline_is_not_part_of_the_key(data: Path) -> None:
    """The same text from a file and from the environment is the same key."""
    data.mkdir()
    (data / "id.key").write_text("a key that only the tests use\n")

    assert load_id_key(Settings()) == load_id_key(Settings(id_key="a key that only the tests use"))


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_a_file_with_a_short_key_is_rejected(data: Path, text: str) -> None:
    """With an empty key, anybody could sign prediction IDs."""
    data.mkdir()
    (data / "id.key").write_text(text)

    with pytest.raises(SettingsError, match=r"id\.key has fewer than 16 characters; remove the file"):
        load_id_key(Settings())
