"""Start, status, logs and stop of a real stack, and the errors of each."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stack.cache import Cache
from stack.errors import RunError
from stack.layout import Layout
from stack.run import Stack
from tests.helpers.processes import wait_until
from tests.helpers.stack import StackUnderTest, binaries, components, free_ports, running_stack

pytestmark = pytest.mark.stack


@pytest.fixture
def layout() -> Iterator[Layout]:
    """The layout of a stack that is not running."""
    with TemporaryDirectory(prefix="stack-") as folder:
        yield Layout(components(), free_ports(), binaries(), Path(folder))


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    """A running stack."""
    with running_stack() as stack:
        yield stack


def cli(*arguments: str, state: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `python -m stack`."""
    return subprocess.run(
        [sys.executable, "-m", "stack", *arguments, "--state", str(state)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **env},
        check=False,
    )


def test_every_component_is_healthy(stack: StackUnderTest) -> None:
    """`up` returns when all components are healthy."""
    assert all(component.healthy for component in stack.statuses())
    assert [component.name for component in stack.statuses()] == stack.layout.start_order()


def test_every_listener_is_on_loopback(stack: StackUnderTest) -> None:
    """No component listens on an address that other machines can reach."""
    pids = {component.pid for component in stack.statuses()}
    listening = subprocess.check_output(["ss", "-Hltnp"], text=True).splitlines()
    addresses = [line.split()[3] for line in listening if any(f"pid={pid}," in line for pid in pids)]

    assert len(addresses) >= sum(len(component.ports) for component in stack.layout.table.components.values())
    assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1"}


def test_up_again_changes_nothing(stack: StackUnderTest) -> None:
    """The running processes stay the same."""
    before = {component.name: component.pid for component in stack.statuses()}
    stack.up()

    assert {component.name: component.pid for component in stack.statuses()} == before


def test_up_again_starts_stopped_components(stack: StackUnderTest) -> None:
    """The stopped component is started; the processes of the others stay the same."""
    before = {component.name: component.pid for component in stack.statuses()}
    stack.stop("jaeger")
    stack.up()

    after = {component.name: component.pid for component in stack.statuses()}
    assert all(component.healthy for component in stack.statuses())
    assert [name for name in before if before[name] != after[name]] == ["jaeger"]


def test_a_failed_up_leaves_the_other_components_running(stack: StackUnderTest) -> None:
    """The error names the component that cannot start and contains the end of its log."""
    config = stack.layout.config / "deploy" / "jaeger" / "jaeger.yaml"
    stack.stop("jaeger")
    text = config.read_text()
    config.write_text("no_such_section: {}\n")
    with pytest.raises(RunError, match=r"Jaeger does not start\. Its log ends with: .*no_such_section"):
        stack.up()

    assert {component.name for component in stack.statuses() if not component.healthy} == {"jaeger"}
    config.write_text(text)
    wait_until(
        lambda: stack.status("jaeger").state in ("FATAL", "RUNNING"), description="the end of the supervisor's attempts"
    )
    stack.up()


def test_up_with_other_options_is_refused(stack: StackUnderTest, tmp_path: Path) -> None:
    """A running stack does not silently ignore new options; it keeps running."""
    with pytest.raises(RunError, match=r"already runs with other options.*\./dev stack down"):
        Stack(replace(stack.layout, collector_configs=[tmp_path / "sampling.yaml"])).up()

    assert all(component.healthy for component in stack.statuses())


def test_a_killed_component_is_restarted(stack: StackUnderTest) -> None:
    """The supervisor starts a new process."""
    pid = stack.status("node_exporter").pid
    stack.kill("node_exporter")

    wait_until(lambda: stack.status("node_exporter").healthy, description="node_exporter")
    assert stack.status("node_exporter").pid != pid


def test_status_and_logs_are_printed(stack: StackUnderTest) -> None:
    """`status` has a row per component with its version; `logs` prints the end of a log."""
    status = cli("status", state=stack.layout.state)
    logs = cli("logs", "otelcol", "-n", "500", state=stack.layout.state)

    for name, component in stack.layout.table.components.items():
        assert f"{name} " in status.stdout
        assert component.version in status.stdout
    assert "Everything is ready" in logs.stdout


def test_logs_of_an_unknown_component_are_an_error(stack: StackUnderTest) -> None:
    """The error lists the components."""
    result = cli("logs", "grafana", state=stack.layout.state)

    assert result.returncode != 0
    assert "otelcol" in result.stderr


def test_status_without_a_running_stack(tmp_path: Path) -> None:
    """The exit code is 1, and each component has a row with the state `stopped`."""
    status = cli("status", state=tmp_path)

    assert status.returncode == 1
    assert status.stdout.count("stopped") == len(components().components)


def test_down_ends_every_process(layout: Layout) -> None:
    """No process is left, and a second `down` is not an error."""
    stack = Stack(layout)
    stack.up()
    pids = [component.pid for component in stack.statuses()]
    stack.down()
    stack.down()

    assert not stack.running
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_port_in_use_is_named(layout: Layout) -> None:
    """The error names the port, its component and its place in the table, and nothing is started."""
    port = layout.ports.by_component["jaeger"]["query"]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            RunError, match=rf"port {port} for Jaeger \(jaeger.query in stack/components.toml\): Address already in use"
        ),
    ):
        Stack(layout).up()

    assert not (layout.state / "supervisord.pid").exists()


def test_the_error_of_an_invalid_configuration_has_the_log_of_the_component(layout: Layout, tmp_path: Path) -> None:
    """The error contains the message of the Collector, and all started components are stopped."""
    invalid = tmp_path / "invalid.yaml"
    invalid.write_text("exporters: {otlp_grpc/jaeger: {endpiont: here}}\n")
    stack = Stack(replace(layout, collector_configs=[invalid]))

    with pytest.raises(RunError, match=r"OpenTelemetry Collector does not start\. Its log ends with: .*endpiont"):
        stack.up()

    assert not stack.running


def test_a_missing_binary_is_named(layout: Layout, tmp_path: Path) -> None:
    """The error names the component and the command that builds it."""
    stack = Stack(replace(layout, cache=Cache(tmp_path)))

    with pytest.raises(RunError, match=r"not built yet: .*otelcol.*\./dev stack build"):
        stack.up()


def test_ctrl_c_during_the_start_stops_the_started_components(layout: Layout) -> None:
    """No component is left running."""
    stack = Stack(layout)

    def interrupt(_: str, step: str, *__: int) -> None:
        if step == "healthy":
            os.kill(os.getpid(), signal.SIGINT)

    # A worker process of pytest-xdist ignores the signal.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            stack.up(interrupt)
    finally:
        signal.signal(signal.SIGINT, previous)

    assert not stack.running
