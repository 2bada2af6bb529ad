"""The command line: what is refused is said in one line on stderr, and the exit code is 1."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrace_hub.__main__ import main
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME
from tests.helpers.processes import free_port, run, running


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in HubSettings.model_fields:
        monkeypatch.delenv(f"MODELTRACE_HUB_{name.upper()}", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command line; its exit code."""
    monkeypatch.setattr("sys.argv", ["modeltrace_hub", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def _ports() -> dict[str, int]:
    return {"--port": free_port(), "--http-port": free_port(), "--grpc-port": free_port()}


def _flat(options: dict[str, int]) -> list[object]:
    return [item for pair in options.items() for item in pair]


@pytest.mark.parametrize("option", ["--port", "--http-port", "--grpc-port"])
def test_a_taken_port_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], taken: int, option: str
) -> None:
    """A port that is taken is named, with the option and the variable that choose another."""
    assert _run(monkeypatch, "--memory", *_flat({**_ports(), option: taken})) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert f"port {taken} " in err
    assert f"{option} or MODELTRACE_HUB_{option[2:].replace('-', '_').upper()}" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_beyond_loopback_a_key_is_asked_for() -> None:
    """Without a key an address that others can reach is refused, and the process says nothing else."""
    answer = run(["modeltrace_hub", "--memory", "--host", "0.0.0.0"])  # noqa: S104  what is to be refused
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "MODELTRACE_HUB_KEY" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_file_that_is_no_database_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that the hub cannot read is named."""
    (tmp_path / FILE_NAME).write_bytes(b"notes" * 5000)
    assert _run(monkeypatch, "--data", tmp_path, *_flat(_ports())) == 1
    assert capfd.readouterr().err.startswith(f"hub: {tmp_path / FILE_NAME} is not a database")


@pytest.mark.slow
def test_a_second_hub_on_the_same_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While one process holds the file, the next one names it and what to do."""
    ports = _ports()
    with running(["modeltrace_hub", "--data", str(tmp_path), *map(str, _flat(ports))]) as first:
        first.wait_for(f"http://127.0.0.1:{ports['--port']}/healthz")
        assert _run(monkeypatch, "--data", tmp_path, *_flat(_ports())) == 1
    err = capfd.readouterr().err
    assert err.startswith(f"hub: {tmp_path / FILE_NAME} is held by another process")
    assert len(err.splitlines()) == 1


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`modeltrace-hub --help` names every option and how to send."""
    assert _run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    for word in ("--data", "--memory", "--host", "--port", "--grpc-port", "--http-port", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert word in out


@pytest.mark.slow
def test_opentelemetrys_variables_are_for_others(taken: int) -> None:
    """A value that OpenTelemetry's packages fail on when they are imported does not keep the hub from starting."""
    process = [sys.executable, "-m", "modeltrace_hub", "--memory", *map(str, _flat({**_ports(), "--port": taken}))]
    environ = {**os.environ, "OTEL_PROPAGATORS": "b3"}
    ended = subprocess.run(process, env=environ, capture_output=True, text=True, check=False)

    assert ended.stderr.startswith(f"hub: Cannot listen on 127.0.0.1 port {taken}")  # it came as far as that
