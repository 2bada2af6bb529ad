"""One process at a time holds a leader lock, and the lock ends with its process."""

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
from modeltrace.store.leader_lock import leader_lock
from modeltrace.store.store_url import parse_store_url
lock = leader_lock(parse_store_url(sys.argv[1]), "work")
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(store_url: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that tries to acquire the lock, prints whether it succeeded, and keeps the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def acquired(process: "subprocess.Popen[str]") -> bool:
    """Return whether the process acquired the lock."""
    assert process.stdout is not None
    return process.stdout.readline() == "True\n"


@pytest.fixture
def lock(store_url: str) -> Iterator[LeaderLock]:
    """A lock in this process."""
    open_store(store_url).close()
    lock = leader_lock(parse_store_url(store_url), "work")
    yield lock
    lock.release()


def test_one_holder_at_a_time(store_url: str, lock: LeaderLock) -> None:
    """Neither another process nor another object in this process acquires the lock until it is released."""
    assert lock.try_acquire()
    assert lock.try_acquire()
    second = leader_lock(parse_store_url(store_url), "work")
    assert not second.try_acquire()
    with other_process(store_url) as process:
        assert not acquired(process)

    lock.release()

    assert wait_until(
        second.try_acquire, description="the lock"
    )  # PostgreSQL releases the lock once its backend has ended
    second.release()


def test_the_lock_ends_with_its_process(store_url: str, lock: LeaderLock) -> None:
    """A killed process leaves nothing to clean up."""
    with other_process(store_url) as process:
        assert acquired(process)
        assert not lock.try_acquire()
        process.kill()

        assert wait_until(lock.try_acquire, description="the lock")


def test_each_task_has_its_own_lock(store_url: str, lock: LeaderLock) -> None:
    """Two models in one store do not wait for each other."""
    other = leader_lock(parse_store_url(store_url), "other work")

    assert lock.try_acquire()
    assert other.try_acquire()
    other.release()


def test_a_lost_connection_ends_the_lock(postgres: Postgres) -> None:
    """The next call of the holder raises an error, and a further call can acquire the lock again."""
    url = postgres.url(postgres.create_database())
    lock = leader_lock(parse_store_url(url), "work")
    assert lock.try_acquire()
    postgres.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

    with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE"):
        lock.try_acquire()

    assert lock.try_acquire()
    lock.release()


def test_an_unavailable_store_is_an_error(tmp_path: Path) -> None:
    """The message for a missing folder or server names the setting and contains no password."""
    with pytest.raises(StoreUnavailableError, match=r"missing/s\.db.*MODELTRACE_STORE"):
        leader_lock(parse_store_url(str(tmp_path / "missing" / "s.db")), "work").try_acquire()
    with pytest.raises(StoreUnavailableError, match="MODELTRACE_STORE") as caught:
        leader_lock(parse_store_url("postgresql://u:hunter2@127.0.0.1:1/d"), "work").try_acquire()
    assert "hunter2" not in str(caught.value)
