"""`modeltrace up`: service, hub and traffic as one, all of them real processes."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.helpers.processes import Process, free_port, running, wait_until

pytestmark = pytest.mark.slow


class Up:
    """Starts `up` on free ports, with all of its files below one folder."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.service, self.hub, self.grpc, self.http = (free_port() for _ in range(4))
        self.logs = folder / "state" / "modeltrace" / "log"
        self._env = {"XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state")}
        self._bundle = bundle

    def run(self, *arguments: str, bundle: Path | None = None, **env: str) -> AbstractContextManager[Process]:
        """Run it."""
        ports = {"--port": self.service, "--hub-port": self.hub, "--grpc-port": self.grpc, "--http-port": self.http}
        options = [text for option, port in ports.items() for text in (option, str(port))]
        return running(
            ["modeltrace", "up", str(bundle or self._bundle), *options, *arguments], env={**self._env, **env}
        )


@pytest.fixture
def up(tmp_path: Path, example: Path) -> Up:
    """`up`, not started yet."""
    return Up(tmp_path, example)


def children(pid: int) -> list[int]:
    """The processes that this one has started and not yet collected."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not yet collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def started(process: Process) -> str:
    """Wait until `up` has said what it says, and return it."""
    wait_until(lambda: "Ctrl-C stops all of it" in process.log or process.popen.poll() is not None, description="up")
    return process.log


needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")


@needs_proc
def test_it_starts_everything_and_stops_everything(up: Up) -> None:
    """The lines say where to look; traffic's traces arrive in the hub; after SIGTERM nothing is left."""
    with up.run("--traffic", "--rate", "10") as process:
        log = started(process)
        assert "Modeltrace · breast-cancer 1.0.0 · 30 features\n" in log
        assert f"  predict   http://127.0.0.1:{up.service}/docs\n" in log
        assert f"  look      http://127.0.0.1:{up.hub}\n" in log
        wait_until(lambda: " · last trace /t/" in process.log, description="traffic")
        trace_id = process.log.rpartition("/t/")[2][:32]
        url = f"http://127.0.0.1:{up.hub}/api/traces/{trace_id}"
        wait_until(lambda: httpx.get(url).status_code == 200, description="a trace of the traffic in the hub")
        pids = children(process.popen.pid)
        assert len(pids) == 3
        assert process.stop(signal.SIGTERM) == 0
        assert all(gone(pid) for pid in pids)


@pytest.mark.extended
@needs_proc
def test_no_child_outlives_it(up: Up) -> None:
    """Even after SIGKILL, which leaves it no time to stop them."""
    with up.run("--no-traffic") as process:
        started(process)
        pids = children(process.popen.pid)
        assert len(pids) == 2
        process.stop(signal.SIGKILL)
        wait_until(lambda: all(gone(pid) for pid in pids), description="the children to end")


@needs_proc
def test_a_child_that_dies_ends_it(up: Up) -> None:
    """It says which one and where its log is, stops the others, and exits with 1. Nobody asked for traffic."""
    with up.run() as process:
        assert "  traffic   none; start some" in started(process)
        hub, service = children(process.popen.pid)
        os.kill(service, signal.SIGKILL)
        assert process.popen.wait(15) == 1
        assert f"the service has ended (killed by signal 9). Its log: {up.logs / 'service.log'}" in process.log
        assert gone(hub)


@pytest.mark.extended
@needs_proc
def test_a_second_interrupt_kills(up: Up) -> None:
    """A child that does not stop does not hold it up for longer than one's patience."""
    with up.run("--no-traffic") as process:
        started(process)
        hub, service = children(process.popen.pid)
        os.kill(hub, signal.SIGSTOP)
        process.popen.send_signal(signal.SIGINT)
        wait_until(lambda: gone(service), description="the service to stop")
        assert process.stop(signal.SIGINT, seconds=3) == 0
        assert gone(hub)


@pytest.mark.extended
def test_with_an_endpoint_of_ones_own_there_is_no_hub(up: Up) -> None:
    """The line says where telemetry goes instead."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with up.run("--no-traffic", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        assert f"  look      telemetry goes to {endpoint} (OTEL_EXPORTER_OTLP_ENDPOINT)\n" in started(process)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{up.hub}/healthz")


@pytest.mark.extended
def test_without_a_collector_there_is_no_service_either(up: Up) -> None:
    """One clear line that says what to start, before anything is started."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with up.run("--stack", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        assert process.popen.wait(30) == 1
        assert f"no Collector answers at {endpoint}: Connection refused. Start the stack: ./dev stack up" in process.log
        assert not up.logs.exists()


@pytest.mark.extended
def test_without_telemetry_no_collector_is_needed(up: Up) -> None:
    """The line says that telemetry is off."""
    with up.run("--stack", "--no-traffic", OTEL_SDK_DISABLED="true") as process:
        assert "  look      telemetry is off (OTEL_SDK_DISABLED)\n" in started(process)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_is_one_clear_line(up: Up, taken: int) -> None:
    """Before anything is started."""
    up.grpc = taken
    with up.run() as process:
        assert process.popen.wait(30) == 1
        assert f"port {taken} for the hub's OTLP over gRPC: Address already in use" in process.log
        assert "--grpc-port" in process.log
        assert not up.logs.exists()


def test_a_bundle_that_cannot_be_served_is_said_clearly(up: Up, example: Path, tmp_path: Path) -> None:
    """In the words of the service, which is the one that finds out."""
    bundle = shutil.copytree(example, tmp_path / "bundle")
    (bundle / "model.skops").write_bytes(b"altered")
    with up.run(bundle=bundle) as process:
        assert process.popen.wait(60) == 1
        assert "the service has ended (exit code 1). Its last words:" in process.log
        assert "is not the file that model.json describes" in process.log
        assert "Traceback" not in process.log
