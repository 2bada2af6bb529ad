"""Parts of a hub for the tests: real ones, in memory where the test is not about the file."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from hub.app import run_hub
from hub.retention import Retention
from hub.settings import HubSettings
from hub.store import Store
from hub.writer import Writer
from tests.helpers.processes import free_port


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


@dataclass
class LiveHub:
    """A hub that listens on ports of its own, in a thread of this process."""

    settings: HubSettings
    store: Store
    writer: Writer
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.settings.http_port}", timeout=20)

    @property
    def page(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def target(self) -> str:
        """Where gRPC is."""
        return f"127.0.0.1:{self.settings.grpc_port}"

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the store."""
        with self.store.read() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()


@contextmanager
def live_hub(**settings: object) -> Iterator[LiveHub]:
    """Run a hub, in memory unless told otherwise."""
    chosen = HubSettings(
        **{"memory": True, "port": free_port(), "grpc_port": free_port(), "http_port": free_port(), **settings}
    )
    up: list[LiveHub] = []
    failure: list[BaseException] = []
    told = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def ready(store: Store, writer: Writer) -> None:
        up.append(LiveHub(chosen, store, writer))
        told.set()

    def run() -> None:
        try:
            loop.run_until_complete(run_hub(chosen, stop=stop, ready=ready))
        except BaseException as error:  # noqa: BLE001  shown by the test that waits
            failure.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            told.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert told.wait(20)
    if failure:
        thread.join()
        raise failure[0]
    try:
        yield up[0]
    finally:
        up[0].client.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
    if failure:
        raise failure[0]


@pytest.fixture
def start_hub() -> Callable[..., AbstractContextManager[LiveHub]]:
    """Runs a hub with settings of the test's own, as a context manager."""
    return live_hub


@pytest.fixture(scope="module")
def hub() -> Iterator[LiveHub]:
    """One hub for the tests of a module, in memory."""
    with live_hub() as hub:
        yield hub


def pytest_unconfigure() -> None:
    """Let modules go: Hypothesis leaves a callback that keeps all alive, which DuckDB's binding reports as a leak."""
    gc.callbacks.clear()
