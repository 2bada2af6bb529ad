"""A service finds out at its start whether the prediction store can be written to."""

import sqlite3
from pathlib import Path

import pytest

from service.errors import StoreError
from service.store.check import StoreCheck


def test_a_store_that_is_not_there_is_made(tmp_path: Path) -> None:
    """After the check it has its tables."""
    file = tmp_path / "new" / "predictions.db"

    StoreCheck(str(file)).finish()

    with sqlite3.connect(file) as database:
        assert ("predictions",) in database.execute("SELECT name FROM sqlite_master").fetchall()
    database.close()


def test_without_a_store_there_is_nothing_to_check() -> None:
    """MODELTRACE_STORE=none starts no process."""
    StoreCheck(None).finish()


@pytest.mark.parametrize("said", ["mysql://user:hunter2@host/db", "postgresql+psycopg://user:hunter2@127.0.0.1:1/db"])
def test_what_is_wrong_is_said_without_the_password(said: str) -> None:
    """The message of the process is that of the error, and names the setting."""
    with pytest.raises(StoreError, match="MODELTRACE_STORE") as caught:
        StoreCheck(said).finish()

    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    file = tmp_path / "größe.db"
    file.write_text("no database " * 100)

    with pytest.raises(StoreError, match=r"größe\.db"):
        StoreCheck(str(file)).finish()
