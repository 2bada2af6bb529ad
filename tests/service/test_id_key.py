"""The key that signs prediction IDs is kept, shared and never too short."""

from pathlib import Path

import pytest

from modeltrace.errors import SettingsError
from modeltrace.keys import load_id_key
from modeltrace.settings import Settings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and no key in the environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("MODELTRACE_ID_KEY", raising=False)
    return tmp_path / "modeltrace"


def test_a_key_is_made_once(data: Path) -> None:
    """The second process reads what the first one made, and nobody else may."""
    first = load_id_key(Settings())

    assert load_id_key(Settings()) == first
    assert (data / "id.key").stat().st_mode & 0o077 == 0


def test_a_newline_at_the_end_of_the_file_is_not_part_of_the_key(data: Path) -> None:
    """The same text signs alike, from a file or from the environment."""
    data.mkdir()
    (data / "id.key").write_text("a key that only the tests use\n")

    assert load_id_key(Settings()) == load_id_key(Settings(id_key="a key that only the tests use"))


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_a_file_that_holds_no_key_is_refused(data: Path, text: str) -> None:
    """An empty key would let anybody sign."""
    data.mkdir()
    (data / "id.key").write_text(text)

    with pytest.raises(SettingsError, match=r"id\.key has fewer than 16 characters; remove the file"):
        load_id_key(Settings())
