"""Of many who would do what is to be done once, one has the turn, and its death ends it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modeltrace.errors import StoreUnavailableError
from modeltrace.store.leader_lock import LeaderLock, leader_lock
from modeltrace.store.store import open_store
from modeltrace.store.store_url import parse_store_url
from tests.helpers.postgres import Postgres
from tests.helpers.processes import wait_until

HOLDER = """
import sys
from modeltrace.store.store_url import locate
from modeltrace.store.leader_lock import turn
print(turn(locate(sys.argv[1]), "work").hold(), flush=True)
sys.stdin.read()
"""


@contextmanager
def another(store_url: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that asks for the turn, says whether it has it, and keeps it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def asked(process: "subprocess.Popen[str]") -> bool:
    """What it says."""
    assert process.stdout is not None
    return process.stdout.readline() == "True\n"


@pytest.fixture
def mine(store_url: str) -> Iterator[LeaderLock]:
    """The turn, asked for by this process."""
    open_store(store_url).close()
    one = leader_lock(parse_store_url(store_url), "work")
    yield one
    one.release()


def test_one_of_many_has_the_turn(store_url: str, mine: LeaderLock) -> None:
    """Neither another process nor another asker in this one gets it until it is released."""
    assert mine.try_acquire()
    assert mine.try_acquire()
    second = leader_lock(parse_store_url(store_url), "work")
    assert not second.try_acquire()
    with another(store_url) as process:
        assert not asked(process)

    mine.release()

    assert wait_until(
        second.try_acquire, description="the turn"
    )  # PostgreSQL frees the lock when its backend has ended
    second.release()


def test_the_death_of_its_holder_ends_a_turn(store_url: str, mine: LeaderLock) -> None:
    """However it dies: nothing is left to be cleaned up."""
    with another(store_url) as process:
        assert asked(process)
        assert not mine.try_acquire()
        process.kill()

        assert wait_until(mine.try_acquire, description="the turn")


def test_what_is_to_be_done_has_a_turn_each(store_url: str, mine: LeaderLock) -> None:
    """Two models in one store do not wait for each other."""
    other = leader_lock(parse_store_url(store_url), "other work")

    assert mine.try_acquire()
    assert other.try_acquire()
    other.release()


def test_without_its_connection_a_turn_is_over(postgres: Postgres) -> None:
    """The holder learns of it with its next question, and may have it again."""
    url = postgres.url(postgres.create_database())
    mine = leader_lock(parse_store_url(url), "work")
    assert mine.try_acquire()
    postgres.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

    with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE"):
        mine.try_acquire()

    assert mine.try_acquire()
    mine.release()


def test_a_turn_that_cannot_be_asked_for_is_an_error(tmp_path: Path) -> None:
    """A folder or a server that is not there; the password stays out of it."""
    with pytest.raises(StoreUnavailableError, match=r"missing/s\.db.*MODELTRACE_STORE"):
        leader_lock(parse_store_url(str(tmp_path / "missing" / "s.db")), "work").try_acquire()
    with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE") as caught:
        leader_lock(parse_store_url("postgresql://u:hunter2@127.0.0.1:1/d"), "work").try_acquire()
    assert "hunter2" not in str(caught.value)
