"""A real stack for the tests: every component from its binary, on free ports, in a folder of its own."""

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

# Merged last, it sends log records to LOKI_OTLP_ENDPOINT where the stack has no Loki.
LOKI_ELSEWHERE = Path(__file__).with_name("loki-elsewhere.yaml")


def binaries() -> Cache:
    """Where the built components are."""
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def components() -> ComponentTable:
    """The components that a stack has here: all but the optional ones that are not here."""
    return binaries().without_absent(read_components())


def missing() -> list[str]:
    """The components that are not built here, without the optional ones."""
    return list(binaries().missing(components().components))


def missing_many() -> list[str]:
    """The programs of ./dev test --many that are not built here."""
    return list(binaries().missing(read_components().many))


def has_loki() -> bool:
    """Whether Loki is here, which is optional."""
    return "loki" in components().components


def binary(component: str, name: str) -> Path:
    """One program of a component: ``binary("prometheus", "promtool")``."""
    return binaries().program(component, read_components().components[component], name)


def free_ports() -> Ports:
    """A free port for every listener."""
    return Ports(
        {
            name: {port: free_port() for port in component.ports}
            for name, component in read_components().components.items()
        }
    )


class StackUnderTest(Stack):
    """A stack whose components fail on request; `up` starts them again."""

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
        environment: what every component's environment says besides.
    """
    with TemporaryDirectory(prefix="stack-") as folder:
        layout = Layout(components(), free_ports(), binaries(), Path(folder), collector_configs, environment)
        stack = StackUnderTest(layout)
        stack.up()
        try:
            yield stack
        finally:
            stack.down()
