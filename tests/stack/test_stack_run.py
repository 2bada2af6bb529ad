"""A stack starts, stands, is asked, and stops; what goes wrong is one clear line."""

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
    """A stack that does not run."""
    with TemporaryDirectory(prefix="stack-") as folder:
        yield Layout(components(), free_ports(), binaries(), Path(folder))


@pytest.fixture(scope="module")
def stack() -> Iterator[StackUnderTest]:
    """A stack that runs."""
    with running_stack() as stack:
        yield stack


def cli(*arguments: str, state: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the stack's command line."""
    return subprocess.run(
        [sys.executable, "-m", "stack", *arguments, "--state", str(state)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **env},
        check=False,
    )


def test_every_part_is_healthy(stack: StackUnderTest) -> None:
    """`up` returns when all of them are."""
    assert all(component.healthy for component in stack.statuses())
    assert [component.name for component in stack.statuses()] == stack.layout.start_order()


def test_every_listener_is_on_loopback(stack: StackUnderTest) -> None:
    """Nothing listens on an address that others reach."""
    pids = {component.pid for component in stack.statuses()}
    listening = subprocess.check_output(["ss", "-Hltnp"], text=True).splitlines()
    addresses = [line.split()[3] for line in listening if any(f"pid={pid}," in line for pid in pids)]

    assert len(addresses) >= sum(len(component.ports) for component in stack.layout.table.components.values())
    assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1"}


def test_up_again_changes_nothing(stack: StackUnderTest) -> None:
    """What runs goes on with the same processes."""
    before = {component.name: component.pid for component in stack.statuses()}
    stack.up()

    assert {component.name: component.pid for component in stack.statuses()} == before


def test_up_again_starts_what_has_stopped(stack: StackUnderTest) -> None:
    """One component is started, the others go on."""
    before = {component.name: component.pid for component in stack.statuses()}
    stack.stop("jaeger")
    stack.up()

    after = {component.name: component.pid for component in stack.statuses()}
    assert all(component.healthy for component in stack.statuses())
    assert [name for name in before if before[name] != after[name]] == ["jaeger"]


def test_up_again_in_vain_leaves_the_others_running(stack: StackUnderTest) -> None:
    """A component that cannot start any more is named; what ran before still runs."""
    config = stack.layout.config / "deploy" / "jaeger" / "jaeger.yaml"
    stack.stop("jaeger")
    text = config.read_text()
    config.write_text("no_such_section: {}\n")
    with pytest.raises(RunError, match=r"Jaeger does not start\. Its log ends with: .*no_such_section"):
        stack.up()

    assert {component.name for component in stack.statuses() if not component.healthy} == {"jaeger"}
    config.write_text(text)
    wait_until(lambda: stack.status("jaeger").state in ("FATAL", "RUNNING"), description="the supervisor to be done")
    stack.up()


def test_up_with_other_options_is_refused(stack: StackUnderTest, tmp_path: Path) -> None:
    """What was asked for is not silently left out, and what runs goes on."""
    with pytest.raises(RunError, match=r"already runs with other options.*\./dev stack down"):
        Stack(replace(stack.layout, collector_configs=[tmp_path / "sampling.yaml"])).up()

    assert all(component.healthy for component in stack.statuses())


def test_a_part_that_is_killed_comes_back(stack: StackUnderTest) -> None:
    """The supervisor starts it again, as another process."""
    pid = stack.status("node_exporter").pid
    stack.kill("node_exporter")

    wait_until(lambda: stack.status("node_exporter").healthy, description="node_exporter")
    assert stack.status("node_exporter").pid != pid


def test_status_and_logs_are_for_a_person(stack: StackUnderTest) -> None:
    """A row a component with version and health; what they say, by file."""
    status = cli("status", state=stack.layout.state)
    logs = cli("logs", "otelcol", "-n", "500", state=stack.layout.state)

    for name, component in stack.layout.table.components.items():
        assert f"{name} " in status.stdout
        assert component.version in status.stdout
    assert "Everything is ready" in logs.stdout


def test_logs_of_a_part_that_there_is_not(stack: StackUnderTest) -> None:
    """The error lists those that there are."""
    asked = cli("logs", "grafana", state=stack.layout.state)

    assert asked.returncode != 0
    assert "otelcol" in asked.stderr


def test_status_of_nothing_says_so(tmp_path: Path) -> None:
    """Exit code 1 and a row a component, stopped."""
    status = cli("status", state=tmp_path)

    assert status.returncode == 1
    assert status.stdout.count("stopped") == len(components().components)


def test_down_ends_every_process(layout: Layout) -> None:
    """None is left, and a second time is no error."""
    stack = Stack(layout)
    stack.up()
    pids = [component.pid for component in stack.statuses()]
    stack.down()
    stack.down()

    assert not stack.running
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_port_in_use_is_named(layout: Layout) -> None:
    """The message says which component wanted it and where that is written; nothing was started."""
    port = layout.ports.by_component["jaeger"]["query"]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            RunError, match=rf"port {port} for Jaeger \(jaeger.query in stack/components.toml\): Address already in use"
        ),
    ):
        Stack(layout).up()

    assert not (layout.state / "supervisord.pid").exists()


def test_a_broken_configuration_is_told_in_the_parts_own_words(layout: Layout, tmp_path: Path) -> None:
    """The Collector says what it does not understand, and everything that had started is stopped."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("exporters: {otlp_grpc/jaeger: {endpiont: here}}\n")
    stack = Stack(replace(layout, collector_configs=[broken]))

    with pytest.raises(RunError, match=r"OpenTelemetry Collector does not start\. Its log ends with: .*endpiont"):
        stack.up()

    assert not stack.running


def test_a_missing_binary_is_named(layout: Layout, tmp_path: Path) -> None:
    """And the command that makes it."""
    stack = Stack(replace(layout, cache=Cache(tmp_path)))

    with pytest.raises(RunError, match=r"not built yet: .*otelcol.*\./dev stack build"):
        stack.up()


def test_ctrl_c_while_starting_stops_what_has_started(layout: Layout) -> None:
    """Nothing is left behind."""
    stack = Stack(layout)

    def interrupt(_: str, what: str, *__: int) -> None:
        if what == "healthy":
            os.kill(os.getpid(), signal.SIGINT)

    # A worker process of pytest-xdist ignores the signal.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            stack.up(interrupt)
    finally:
        signal.signal(signal.SIGINT, previous)

    assert not stack.running
