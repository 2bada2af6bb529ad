"""A real stack for the tests: every part from its binary, on free ports, in a folder of its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from stack.cache import Cache
from stack.layout import Layout
from stack.parts import Parts, Ports, read_parts
from stack.run import Stack
from tests.helpers.processes import free_port

# Merged last, it sends log records to LOKI_OTLP_ENDPOINT where the stack has no Loki.
LOKI_ELSEWHERE = Path(__file__).with_name("loki-elsewhere.yaml")


def binaries() -> Cache:
    """Where the built parts are."""
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack")


def parts() -> Parts:
    """The parts that a stack has here: all but the optional ones that are not here."""
    return binaries().present(read_parts())


def missing() -> list[str]:
    """The parts that are not built here, without the optional ones."""
    return list(binaries().missing(parts().parts))


def has_loki() -> bool:
    """Whether Loki is here, which is optional."""
    return "loki" in parts().parts


def binary(part: str, name: str) -> Path:
    """One program of a part: ``binary("prometheus", "promtool")``."""
    return binaries().program(part, read_parts().parts[part], name)


def free_ports() -> Ports:
    """A free port for every listener."""
    return Ports({name: {port: free_port() for port in part.ports} for name, part in read_parts().parts.items()})


@contextmanager
def running_stack(
    *, collector_configs: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Start all parts, stop them at the end, and delete what they stored.

    Args:
        collector_configs: merged with otel/collector.yaml.
        environment: what every part's environment says besides.
    """
    with TemporaryDirectory(prefix="stack-") as folder:
        layout = Layout(parts(), free_ports(), binaries(), Path(folder), collector_configs, environment)
        stack = Stack(layout)
        stack.up()
        try:
            yield stack
        finally:
            stack.down()
