"""Run a hub with its own ports in a thread of this process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from modeltrace_hub.app import run_hub
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer
from tests.helpers.processes import free_port


@dataclass
class InProcessHub:
    """A hub that runs in a thread of this process."""

    settings: HubSettings
    store: Store
    writer: Writer
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.settings.http_port}", timeout=20)

    @property
    def page_url(self) -> str:
        """The URL of the pages."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def grpc_target(self) -> str:
        """The address of OTLP over gRPC."""
        return f"127.0.0.1:{self.settings.grpc_port}"

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Query the store."""
        with self.store.read() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()


@contextmanager
def in_process_hub(**settings: object) -> Iterator[InProcessHub]:
    """Run a hub, in memory unless the settings say otherwise."""
    hub_settings = HubSettings(
        **{"memory": True, "port": free_port(), "grpc_port": free_port(), "http_port": free_port(), **settings}
    )
    hubs: list[InProcessHub] = []
    failure: list[BaseException] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def on_ready(store: Store, writer: Writer) -> None:
        hubs.append(InProcessHub(hub_settings, store, writer))
        started.set()

    def run() -> None:
        try:
            loop.run_until_complete(run_hub(hub_settings, stop=stop, on_ready=on_ready))
        except BaseException as error:  # noqa: BLE001  shown by the test that waits
            failure.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    if failure:
        thread.join()
        raise failure[0]
    try:
        yield hubs[0]
    finally:
        hubs[0].client.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
    if failure:
        raise failure[0]
