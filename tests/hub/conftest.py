"""Fixtures of the hub tests. The parts are real; the database is in memory unless the test needs a file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from modeltrace_hub.retention import Retention
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub


@pytest.fixture
def store() -> Iterator[Store]:
    """Yield an empty store in memory."""
    store = Store(None)
    yield store
    store.close()


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    """Yield a running writer of the store."""
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31))
    writer.start()
    yield writer
    writer.close()


@pytest.fixture
def start_hub() -> Callable[..., AbstractContextManager[InProcessHub]]:
    """Return the context manager that runs a hub with settings of the test."""
    return in_process_hub


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """Yield one hub in memory for the tests of a module."""
    with in_process_hub() as hub:
        yield hub
