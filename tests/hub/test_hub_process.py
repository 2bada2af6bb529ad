"""The hub as a process: what it says, what survives, how it ends."""

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
    """The names of all spans in a file that nobody holds."""
    store = Store(data / FILE_NAME)
    with store.read() as cursor:
        names = [row[0] for row in cursor.execute("SELECT name FROM spans ORDER BY 1").fetchall()]
    store.close()
    return names


def test_it_says_where_to_look_and_send(tmp_path: Path) -> None:
    """The first lines name the page, both OTLP ports and the file, and nothing else is said."""
    with running_hub(tmp_path) as hub:
        hub.send(span())
        lines = hub.process.log.splitlines()
        assert [re.split(r"\s+", line.strip(), maxsplit=1) for line in lines] == [
            ["look", hub.page_url],
            ["OTLP/HTTP", hub.otlp_url],
            ["OTLP/gRPC", hub.grpc_url],
            ["data", str(tmp_path / FILE_NAME)],
        ]


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """Spans that were answered with 200 are in the file after SIGKILL under load, each once."""
    acknowledged: list[str] = []

    with running_hub(tmp_path) as hub:

        def send(sender: int) -> None:
            for number in range(100_000):
                name = f"{sender}-{number}"
                try:
                    answer = hub.send(span(name=name))
                except httpx.HTTPError:
                    return
                assert answer.status_code == 200
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
    """A hub that was killed starts on the same file and takes more."""
    with running_hub(tmp_path) as hub:
        hub.send(span(name="before"))
        hub.process.popen.kill()
        hub.process.popen.wait()
    with running_hub(tmp_path) as hub:
        hub.send(span(name="after"))
        assert hub.process.stop() == 0
    assert _names(tmp_path) == ["after", "before"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_asked(tmp_path: Path, signum: int) -> None:
    """SIGTERM and Ctrl-C end it with exit code 0, nothing said, and the log merged into the file."""
    with running_hub(tmp_path) as hub:
        hub.send(span(name="kept"))
        said = hub.process.log
        assert hub.process.stop(signum) == 0
        assert hub.process.log == said
    assert not (tmp_path / f"{FILE_NAME}.wal").exists()
    assert _names(tmp_path) == ["kept"]


def test_a_stop_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Requests in flight at SIGTERM are answered or refused, and those answered are in the file."""
    acknowledged: list[str] = []
    with running_hub(tmp_path) as hub:

        def send(sender: int) -> None:
            for number in range(100_000):
                try:
                    answer = hub.send(span(name=f"{sender}-{number}"))
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(f"{sender}-{number}")

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(acknowledged) > 60, description="60 acknowledged requests")
        assert hub.process.stop() == 0
        for thread in threads:
            thread.join()
    assert set(acknowledged) <= set(_names(tmp_path))


def test_an_open_connection_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """A sender that keeps a connection open, and one that is in the middle of a body, do not delay the end."""
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
    """While nothing can be written senders are asked to try again; with room again all goes on, nothing twice."""
    blob = os.urandom(20_000).hex()
    acknowledged: list[str] = []
    with running_hub(tmp_path) as hub:

        def send(name: str) -> int:
            status = hub.send(span(name=name, attributes=[attribute("blob", blob)])).status_code
            if status == 200:
                acknowledged.append(name)
            return status

        assert send("first") == 200
        # No file of the process may grow over 200 kB: what a full disk looks like from inside.
        resource.prlimit(hub.process.popen.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        names = iter(range(1000))
        wait_until(lambda: send(f"full-{next(names)}") == 503, description="a write that fails")
        assert httpx.get(f"{hub.page_url}/healthz").status_code == 200
        assert send("still full") == 503
        resource.prlimit(hub.process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert send("room again") == 200
        assert hub.process.stop() == 0
    assert _names(tmp_path) == sorted(acknowledged)


def test_bombs_do_not_take_its_memory(tmp_path: Path) -> None:
    """Bodies that unpack to 400 MB are refused within the memory that a large request may take anyway."""
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()
    with running_hub(tmp_path) as hub:
        hub.send(span())
        before = psutil.Process(hub.process.popen.pid).memory_info().rss
        url = f"{hub.otlp_url}/v1/traces"
        for _ in range(3):
            answer = httpx.post(url, content=bomb, headers={**PROTOBUF, "Content-Encoding": "gzip"}, timeout=20)
            assert answer.status_code == 413
        assert psutil.Process(hub.process.popen.pid).memory_info().rss < before + 100 * 2**20
