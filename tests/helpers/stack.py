"""Run a real stack for the tests: components as processes on free ports, with files in a temporary folder."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from stack.cache import Cache
from stack.components import ComponentTable, Ports, read_components
from stack.layout import Layout
from stack.run import Stack
from tests.helpers.processes import free_port

# If it is merged last, the Collector sends log records to LOKI_OTLP_ENDPOINT although the stack has no Loki.
LOKI_ELSEWHERE = Path(__file__).with_name("loki-elsewhere.yaml")


def binaries() -> Cache:
    """Return the cache with the built components."""
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def components() -> ComponentTable:
    """Return the components of a stack on this machine: all except the optional ones that are not built."""
    return binaries().without_absent(read_components())


def missing() -> list[str]:
    """List the components that are required and not built on this machine."""
    return list(binaries().missing(components().components))


def missing_many() -> list[str]:
    """List the programs of ./dev test --many that are not built on this machine."""
    return list(binaries().missing(read_components().many))


def has_loki() -> bool:
    """Return whether Loki, which is optional, is built on this machine."""
    return "loki" in components().components


def binary(component: str, name: str) -> Path:
    """Return the path of a program of a component, as in ``binary("prometheus", "promtool")``."""
    return binaries().program(component, read_components().components[component], name)


def free_ports() -> Ports:
    """Return a free port for each listener of each component."""
    return Ports(
        {
            name: {port: free_port() for port in component.ports}
            for name, component in read_components().components.items()
        }
    )


class StackUnderTest(Stack):
    """A stack whose components a test can stop or kill; `up` starts them again."""

    def stop(self, name: str) -> None:
        """Stop a component."""
        self._call_supervisor("stopProcess", name)

    def kill(self, name: str) -> None:
        """Kill a component with SIGKILL, as a crash would. The supervisor restarts it."""
        os.kill(self.status(name).pid, signal.SIGKILL)


@contextmanager
def running_stack(
    *, collector_configs: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> Iterator[StackUnderTest]:
    """Start all components, stop them at the end, and delete what they stored.

    Args:
        collector_configs: merged with otel/collector.yaml.
        environment: additional environment variables of every component.
    """
    with TemporaryDirectory(prefix="stack-") as folder:
        layout = Layout(components(), free_ports(), binaries(), Path(folder), collector_configs, environment)
        stack = StackUnderTest(layout)
        stack.up()
        try:
            yield stack
        finally:
            stack.down()
