"""The command line: an error is one line on stderr with exit code 1, or 2 if an argument is wrong."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrace_hub.__main__ import main
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME
from tests.helpers.in_process_hubs import in_process_hub
from tests.helpers.processes import free_port, run, running


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in HubSettings.model_fields:
        monkeypatch.delenv(f"MODELTRACE_HUB_{name.upper()}", raising=False)


@pytest.fixture
def used_port() -> Iterator[int]:
    """Yield a port that another socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command line and return its exit code."""
    monkeypatch.setattr("sys.argv", ["modeltrace_hub", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def _ports() -> dict[str, int]:
    return {"--port": free_port(), "--http-port": free_port(), "--grpc-port": free_port()}


def _flat(options: dict[str, int]) -> list[object]:
    return [item for pair in options.items() for item in pair]


@pytest.mark.parametrize("option", ["--port", "--http-port", "--grpc-port"])
def test_a_used_port_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], used_port: int, option: str
) -> None:
    """The error names the port, and the option and variable that change it."""
    assert _run(monkeypatch, "--memory", *_flat({**_ports(), option: used_port})) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert f"port {used_port} " in err
    assert f"{option} or MODELTRACE_HUB_{option[2:].replace('-', '_').upper()}" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_non_loopback_address_needs_a_key() -> None:
    """Without a key, an address that others can reach is rejected, with no other output."""
    response = run(["modeltrace_hub", "--memory", "--host", "0.0.0.0"])  # noqa: S104  what is to be refused
    assert (response.returncode, response.stdout) == (1, "")
    assert "MODELTRACE_HUB_KEY" in response.stderr
    assert len(response.stderr.splitlines()) == 1


def test_a_file_that_is_not_a_database_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The error names the file."""
    (tmp_path / FILE_NAME).write_bytes(b"notes" * 5000)
    assert _run(monkeypatch, "--data", tmp_path, *_flat(_ports())) == 1
    assert capfd.readouterr().err.startswith(f"hub: {tmp_path / FILE_NAME} is not a database")


@pytest.mark.slow
def test_a_second_hub_on_the_same_file_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While a process has the file open, a second one names the file and what to do."""
    ports = _ports()
    with running(["modeltrace_hub", "--data", str(tmp_path), *map(str, _flat(ports))]) as first:
        first.wait_for(f"http://127.0.0.1:{ports['--port']}/healthz")
        assert _run(monkeypatch, "--data", tmp_path, *_flat(_ports())) == 1
    err = capfd.readouterr().err
    assert err.startswith(f"hub: {tmp_path / FILE_NAME} is open in another process")
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_command_that_sends_nothing_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It names the variables that the command must read."""
    assert _run(monkeypatch, "record", "--output", tmp_path / "x.zip", "--wait", "0", "--", "true") == 0
    warning = capfd.readouterr().err.splitlines()[-1]
    assert warning.startswith("hub: warning: the command has sent nothing")
    assert "OTEL_TRACES_EXPORTER" in warning
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warning


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_hub_that_is_ended_writes_nothing(number: signal.Signals) -> None:
    """After the addresses there is no other output, such as leaks that the binding of DuckDB reports."""
    ports = _ports()
    arguments = ["modeltrace_hub", "--memory", *map(str, _flat(ports))]
    with running(arguments, fresh=True) as hub:
        hub.wait_for(f"http://127.0.0.1:{ports['--port']}/api/traces")
        hub.popen.send_signal(number)
        hub.popen.wait(60)
        assert len(hub.log.splitlines()) == 4, hub.log


@pytest.mark.slow
def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    """The servers stop before the message, so none of them writes a traceback."""
    file = tmp_path / "notes"
    file.write_bytes(b"notes")
    process = [sys.executable, "-m", "modeltrace_hub", "open", str(file)]
    ended = subprocess.run(process, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("hub: Line 1 is not a JSON object.")
    assert len(ended.stderr.splitlines()) == 1


def test_an_archive_that_cannot_be_written_is_an_error_before_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder that does not exist, and the name of a folder."""
    for output in (tmp_path / "missing" / "x.zip", tmp_path):
        assert _run(monkeypatch, "record", "--output", output, "--", "touch", tmp_path / "ran") == 1
        assert f"{output} cannot be written: " in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "1", "traces"],
        ["traces", "--attr", "nonsense"],
        ["traces", "--url", "nonsense"],
        ["traces", "--limit", "many"],
        ["explain", "nonsense"],
        ["trace", ""],
        ["trace", ".."],
    ],
)
def test_wrong_arguments_have_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Whether the command line or a command finds them."""
    assert _run(monkeypatch, *arguments) == 2
    assert capfd.readouterr().err


def test_parameters_that_the_hub_rejects_have_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other errors of the hub have exit code 1."""
    with in_process_hub() as hub:
        assert _run(monkeypatch, "traces", "--since", "yesterday", "--url", hub.page_url) == 2
        assert _run(monkeypatch, "trace", "xyz", "--url", hub.page_url) == 2
        assert _run(monkeypatch, "trace", "ab" * 16, "--url", hub.page_url) == 1
    assert len(capfd.readouterr().err.splitlines()) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_output_that_cannot_be_written_is_one_line() -> None:
    """The text that is still buffered does not fail again at exit."""
    with in_process_hub() as hub, Path("/dev/full").open("wb") as full:
        process = [sys.executable, "-m", "modeltrace_hub", "traces", "--url", hub.page_url]
        for option in ([], ["--json"]):
            ended = subprocess.run([*process, *option], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert (ended.returncode, ended.stderr) == (1, "hub: No space left on device\n")


def test_help_is_complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`modeltrace-hub --help` names every option and how to send telemetry."""
    assert _run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    for word in ("--data", "--memory", "--host", "--port", "--grpc-port", "--http-port", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert word in out


@pytest.mark.slow
def test_opentelemetry_variables_are_ignored(used_port: int) -> None:
    """A value that makes the import of OpenTelemetry fail does not prevent the hub from starting."""
    process = [sys.executable, "-m", "modeltrace_hub", "--memory", *map(str, _flat({**_ports(), "--port": used_port}))]
    environ = {**os.environ, "OTEL_PROPAGATORS": "b3"}
    ended = subprocess.run(process, env=environ, capture_output=True, text=True, check=False)

    assert ended.stderr.startswith(f"hub: Cannot listen on 127.0.0.1 port {used_port}")  # the start got this far
