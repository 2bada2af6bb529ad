"""Parts of a hub for the tests: real ones, in memory where the test is not about the file."""

import gc
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
    """An empty store in memory."""
    store = Store(None)
    yield store
    store.close()


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    """A writer at work on it."""
    writer = Writer(store, Retention(store, max_age=timedelta(days=7), max_size=2**31))
    writer.start()
    yield writer
    writer.close()


@pytest.fixture
def start_hub() -> Callable[..., AbstractContextManager[InProcessHub]]:
    """Runs a hub with settings of the test's own, as a context manager."""
    return in_process_hub


@pytest.fixture(scope="module")
def hub() -> Iterator[InProcessHub]:
    """One hub for the tests of a module, in memory."""
    with in_process_hub() as hub:
        yield hub


def pytest_unconfigure() -> None:
    """Let modules go: Hypothesis leaves a callback that keeps all alive, which DuckDB's binding reports as a leak."""
    gc.callbacks.clear()
