"""`modeltrace up` starts and stops service, hub and traffic, all of them real processes."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.helpers.certificates import self_signed
from tests.helpers.processes import Process, free_port, running, wait_until
from tests.helpers.services import run_modeltrace

pytestmark = pytest.mark.slow


class Up:
    """`up` on free ports, with all of its files in one folder."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.service, self.hub, self.grpc, self.http = (free_port() for _ in range(4))
        self.logs = folder / "state" / "modeltrace" / "log"
        self._env = {"XDG_DATA_HOME": str(folder / "data"), "XDG_STATE_HOME": str(folder / "state")}
        self._bundle = bundle

    def run(self, *arguments: str, bundle: Path | None = None, **env: str) -> AbstractContextManager[Process]:
        """Run `up`."""
        ports = {"--port": self.service, "--hub-port": self.hub, "--grpc-port": self.grpc, "--http-port": self.http}
        options = [text for option, port in ports.items() for text in (option, str(port))]
        return running(
            ["modeltrace", "up", str(bundle or self._bundle), *options, *arguments], env={**self._env, **env}
        )


@pytest.fixture
def up(tmp_path: Path, example: Path) -> Up:
    """`up`, not started."""
    return Up(tmp_path, example)


def children(pid: int) -> list[int]:
    """Return the child processes of a process, including zombies."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid: int) -> bool:
    """Return whether a process does not exist or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_started(process: Process) -> str:
    """Wait until `up` has printed its lines, and return its output."""
    wait_until(lambda: "Ctrl-C stops everything" in process.log or process.popen.poll() is not None, description="up")
    return process.log


needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")


@needs_proc
def test_everything_is_started_and_stopped(up: Up) -> None:
    """The URLs are printed, traces of traffic arrive in the hub, and SIGTERM stops all processes."""
    with up.run("--traffic", "--rate", "10") as process:
        log = wait_until_started(process)
        assert "Modeltrace · breast-cancer 1.0.0 · 30 features\n" in log
        assert f"  predict    http://127.0.0.1:{up.service}/docs\n" in log
        assert f"  telemetry  http://127.0.0.1:{up.hub}\n" in log
        wait_until(lambda: " · last trace http" in process.log, description="traffic")
        trace_id = process.log.rpartition("/t/")[2][:32]
        url = f"http://127.0.0.1:{up.hub}/api/traces/{trace_id}"
        wait_until(lambda: httpx.get(url).status_code == 200, description="a trace of the traffic in the hub")
        pids = children(process.popen.pid)
        assert len(pids) == 3
        assert process.stop(signal.SIGTERM) == 0
        assert all(has_ended(pid) for pid in pids)


def test_everything_has_tls(up: Up, tmp_path: Path) -> None:
    """The links have https, traffic and telemetry arrive over TLS, and `doctor` verifies both servers with --ca."""
    certificate, key = self_signed(tmp_path)
    files = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    hub = {"MODELTRACE_HUB_TLS_CERTIFICATE": str(certificate), "MODELTRACE_HUB_TLS_KEY": str(key)}
    service_url, hub_url = f"https://127.0.0.1:{up.service}", f"https://127.0.0.1:{up.hub}"
    with up.run("--traffic", "--rate", "10", *files, **hub) as process:
        log = wait_until_started(process)
        assert f"  predict    {service_url}/docs\n" in log
        assert f"  telemetry  {hub_url}\n" in log
        wait_until(lambda: " · last trace http" in process.log, description="traffic")
        done = run_modeltrace("doctor", service_url, "--hub", hub_url, "--ca", str(certificate))
        assert done.returncode == 0, done.stderr
        refused = run_modeltrace("traffic", service_url, "--wait", "30s", "--count", "1")
        assert refused.returncode == 1
        assert f"no request is sent to {service_url}: its certificate is not trusted (self-signed" in refused.stderr
        assert "--ca FILE" in refused.stderr


def test_a_certificate_for_another_name_is_reported_at_once(up: Up, tmp_path: Path) -> None:
    """`up` does not wait until its time limit for a service that its clients would not trust."""
    certificate, key = self_signed(tmp_path, "DNS:ml.example.com")
    with up.run("--no-traffic", "--tls-certificate", str(certificate), "--tls-key", str(key)) as process:
        assert process.popen.wait(50) == 1
        assert (
            f"no request is sent to https://127.0.0.1:{up.service}: its certificate is not for 127.0.0" in process.log
        )


@pytest.mark.extended
@needs_proc
def test_children_end_with_up(up: Up) -> None:
    """The children end even if `up` gets SIGKILL and cannot stop them."""
    with up.run("--no-traffic") as process:
        wait_until_started(process)
        pids = children(process.popen.pid)
        assert len(pids) == 2
        process.stop(signal.SIGKILL)
        wait_until(lambda: all(has_ended(pid) for pid in pids), description="the children to end")


@needs_proc
def test_up_ends_if_a_child_ends(up: Up) -> None:
    """`up` names the child and its log file, stops the other children, and exits with 1."""
    with up.run() as process:
        assert "  traffic    none; start it with: modeltrace traffic" in wait_until_started(process)
        hub, service = children(process.popen.pid)
        os.kill(service, signal.SIGKILL)
        assert process.popen.wait(15) == 1
        assert f"the service ended unexpectedly (killed by signal 9). Its log: {up.logs / 'service.log'}" in process.log
        assert has_ended(hub)


@pytest.mark.extended
@needs_proc
def test_second_interrupt_kills_the_children(up: Up) -> None:
    """A child that does not stop is killed at the second SIGINT."""
    with up.run("--no-traffic") as process:
        wait_until_started(process)
        hub, service = children(process.popen.pid)
        os.kill(hub, signal.SIGSTOP)
        process.popen.send_signal(signal.SIGINT)
        wait_until(lambda: has_ended(service), description="the service to stop")
        assert process.stop(signal.SIGINT, seconds=3) == 0
        assert has_ended(hub)


@pytest.mark.extended
def test_no_hub_with_an_endpoint_of_the_user(up: Up) -> None:
    """The line about telemetry names the endpoint."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with up.run("--no-traffic", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        assert f"  telemetry  sent to {endpoint} (OTEL_EXPORTER_OTLP_ENDPOINT)\n" in wait_until_started(process)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{up.hub}/healthz")


@pytest.mark.extended
def test_missing_collector_is_reported_in_one_line(up: Up) -> None:
    """The line says how to start the stack, and no process is started."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with up.run("--stack", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        assert process.popen.wait(30) == 1
        assert f"no Collector answers at {endpoint}: Connection refused. Start the stack: ./dev stack up" in process.log
        assert not up.logs.exists()


@pytest.mark.extended
def test_no_collector_is_required_without_telemetry(up: Up) -> None:
    """The line about telemetry says that it is off."""
    with up.run("--stack", "--no-traffic", OTEL_SDK_DISABLED="true") as process:
        assert "  telemetry  off (OTEL_SDK_DISABLED)\n" in wait_until_started(process)


@pytest.fixture
def used_port() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_port_in_use_is_reported_in_one_line(up: Up, used_port: int) -> None:
    """The line names the port and its option, and no process is started."""
    up.grpc = used_port
    with up.run() as process:
        assert process.popen.wait(30) == 1
        assert f"port {used_port} for the hub's OTLP over gRPC: Address already in use" in process.log
        assert "--grpc-port" in process.log
        assert not up.logs.exists()


def test_invalid_bundle_is_reported(up: Up, example: Path, tmp_path: Path) -> None:
    """The output contains the error of the service."""
    bundle = shutil.copytree(example, tmp_path / "bundle")
    (bundle / "model.skops").write_bytes(b"altered")
    with up.run(bundle=bundle) as process:
        assert process.popen.wait(60) == 1
        assert "the service ended unexpectedly (exit code 1). The last lines of its output:" in process.log
        assert "is not the file that model.json describes" in process.log
        assert "Traceback" not in process.log
