"""The hub as a process: its output, durability and shutdown."""

import os
import re
import resource
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from modeltrace_hub.store import FILE_NAME, Store
from tests.helpers.hubs import PROTOBUF, running_hub
from tests.helpers.otlp_messages import attribute, span, trace_request
from tests.helpers.processes import wait_until

pytestmark = pytest.mark.slow


def _names(data: Path) -> list[str]:
    """Return the names of all spans in a file that no process has open."""
    store = Store(data / FILE_NAME)
    with store.read() as cursor:
        names = [row[0] for row in cursor.execute("SELECT name FROM spans ORDER BY 1").fetchall()]
    store.close()
    return names


def test_it_prints_its_addresses(tmp_path: Path) -> None:
    """The first lines are the addresses of the pages and both OTLP ports, and the file; there is no other output."""
    with running_hub(tmp_path) as hub:
        hub.send(span())
        lines = hub.process.log.splitlines()
        assert [re.split(r"\s+", line.strip(), maxsplit=1) for line in lines] == [
            ["pages", hub.page_url],
            ["OTLP/HTTP", hub.otlp_url],
            ["OTLP/gRPC", hub.grpc_url],
            ["data", str(tmp_path / FILE_NAME)],
        ]


def test_acknowledged_spans_survive_sigkill(tmp_path: Path) -> None:
    """After SIGKILL under load, each span that was answered with 200 is in the file once."""
    acknowledged: list[str] = []

    with running_hub(tmp_path) as hub:

        def send(sender: int) -> None:
            for number in range(100_000):
                name = f"{sender}-{number}"
                try:
                    response = hub.send(span(name=name))
                except httpx.HTTPError:
                    return
                assert response.status_code == 200
                acknowledged.append(name)

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(acknowledged) > 60, description="60 acknowledged requests")
        hub.process.popen.kill()
        hub.process.popen.wait()
        for thread in threads:
            thread.join()

    stored = _names(tmp_path)
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))


def test_a_killed_hub_starts_again(tmp_path: Path) -> None:
    """A killed hub starts with the same file and accepts more."""
    with running_hub(tmp_path) as hub:
        hub.send(span(name="before"))
        hub.process.popen.kill()
        hub.process.popen.wait()
    with running_hub(tmp_path) as hub:
        hub.send(span(name="after"))
        assert hub.process.stop() == 0
    assert _names(tmp_path) == ["after", "before"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_on_signals(tmp_path: Path, signum: int) -> None:
    """SIGTERM and Ctrl-C end it with exit code 0, no output, and the write-ahead log merged."""
    with running_hub(tmp_path) as hub:
        hub.send(span(name="kept"))
        output = hub.process.log
        assert hub.process.stop(signum) == 0
        assert hub.process.log == output
    assert not (tmp_path / f"{FILE_NAME}.wal").exists()
    assert _names(tmp_path) == ["kept"]


def test_a_stop_under_load_loses_no_acknowledged_span(tmp_path: Path) -> None:
    """Requests in progress at SIGTERM are answered or refused, and the answered ones are in the file."""
    acknowledged: list[str] = []
    with running_hub(tmp_path) as hub:

        def send(sender: int) -> None:
            for number in range(100_000):
                try:
                    response = hub.send(span(name=f"{sender}-{number}"))
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    acknowledged.append(f"{sender}-{number}")

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(acknowledged) > 60, description="60 acknowledged requests")
        assert hub.process.stop() == 0
        for thread in threads:
            thread.join()
    assert set(acknowledged) <= set(_names(tmp_path))


def test_an_open_connection_does_not_delay_a_stop(tmp_path: Path) -> None:
    """An idle connection and an incomplete body do not delay the end."""
    arrived, go_on = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"\x0a"
        arrived.set()
        go_on.wait(600)

    def stall(url: str) -> None:
        with suppress(httpx.HTTPError):
            httpx.post(url, content=body(), headers=PROTOBUF, timeout=600)

    with running_hub(tmp_path) as hub, httpx.Client() as idle:
        url = f"{hub.otlp_url}/v1/traces"
        idle.post(url, content=trace_request().SerializeToString(), headers=PROTOBUF)
        stalled = threading.Thread(target=stall, args=(url,))
        stalled.start()
        arrived.wait(20)
        assert hub.process.stop() == 0
        go_on.set()
        stalled.join()


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """While the disk is full, senders are told to retry; afterwards every record is stored once."""
    blob = os.urandom(20_000).hex()
    acknowledged: list[str] = []
    with running_hub(tmp_path) as hub:

        def send(name: str) -> int:
            status = hub.send(span(name=name, attributes=[attribute("blob", blob)])).status_code
            if status == 200:
                acknowledged.append(name)
            return status

        assert send("first") == 200
        # Files of the process are limited to 200 kB, which has the same effect as a full disk.
        resource.prlimit(hub.process.popen.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        names = iter(range(1000))
        wait_until(lambda: send(f"full-{next(names)}") == 503, description="a write that fails")
        assert httpx.get(f"{hub.page_url}/healthz").status_code == 200
        assert send("still full") == 503
        resource.prlimit(hub.process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert send("space again") == 200
        assert hub.process.stop() == 0
    assert _names(tmp_path) == sorted(acknowledged)


def test_decompression_bombs_take_no_memory(tmp_path: Path) -> None:
    """Bodies that decompress to 400 MB are rejected within the memory of a large request."""
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()
    with running_hub(tmp_path) as hub:
        hub.send(span())
        before = psutil.Process(hub.process.popen.pid).memory_info().rss
        url = f"{hub.otlp_url}/v1/traces"
        for _ in range(3):
            response = httpx.post(url, content=bomb, headers={**PROTOBUF, "Content-Encoding": "gzip"}, timeout=20)
            assert response.status_code == 413
        assert psutil.Process(hub.process.popen.pid).memory_info().rss < before + 100 * 2**20
