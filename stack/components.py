"""Read and validate `components.toml`."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent
HOST = "127.0.0.1"


class Table(BaseModel):
    """A table of `components.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Substitute(Table):
    """Arguments and variables that another component gets in addition if an optional component is absent."""

    arguments: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)


class Program(Table):
    """A program that is built from Go modules.

    Attributes:
        manifest: file in this folder from which the module, the Collector's builder, generates the sources.
        wrapper: folder in this folder with a `go.mod` that requires the module. The packages of `binaries` are built
            there, for a module whose own `go.mod` contains replacements by local folders.
    """

    title: str
    version: str
    module: str = Field(pattern=r"^[^@]+@v[^@]+$")
    binaries: dict[str, str]
    version_variable: str = ""
    manifest: str = ""
    wrapper: str = ""


class Component(Program):
    """One program of the stack, as described in `components.toml`."""

    image: str
    licence: str = ""
    optional: bool = False
    command: list[str]
    environment: dict[str, str] = Field(default_factory=dict)
    directory: str = "{data}"
    health: str
    metrics: str
    ports: dict[str, int]
    after: list[str] = Field(default_factory=list)
    when_absent: dict[str, Substitute] = Field(default_factory=dict)


class Go(Table):
    """The compiler.

    Attributes:
        lock: file in this folder with the package on PyPI and the hashes of its wheels.
        minimum: the oldest version that builds the components.
    """

    lock: str
    minimum: str


class ComponentTable(Table):
    """All components by name, in the order of the file, and the additional programs of `./dev test --many`."""

    go: Go
    components: dict[str, Component]
    many: dict[str, Program] = Field(default_factory=dict)

    def optional_names(self) -> list[str]:
        """Return the names of the optional components."""
        return [name for name, component in self.components.items() if component.optional]

    def without(self, names: Collection[str]) -> "ComponentTable":
        """Return the table without some components. Their `when_absent` is applied to the remaining components."""
        removed_components = [component for name, component in self.components.items() if name in names]
        components = {}
        for name, component in self.components.items():
            if name in names:
                continue
            substitutes = [other.when_absent[name] for other in removed_components if name in other.when_absent]
            update = {
                "after": [other for other in component.after if other not in names],
                "command": component.command + [argument for s in substitutes for argument in s.arguments],
                "environment": component.environment | {k: v for s in substitutes for k, v in s.environment.items()},
            }
            components[name] = component.model_copy(update=update)
        return self.model_copy(update={"components": components})


def read_components(path: Path = HERE / "components.toml") -> ComponentTable:
    """Read the table of components."""
    return ComponentTable.model_validate(tomllib.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of every listener, by component and name. A second stack has other ports than `components.toml`."""

    by_component: Mapping[str, Mapping[str, int]]

    @classmethod
    def default(cls, table: ComponentTable) -> "Ports":
        """Return the ports of the table."""
        return cls({name: component.ports for name, component in table.components.items()})

    def fill(self, text: str, **folders: Path) -> str:
        """Replace ports and folders in a text of the table: ``{jaeger.otlp}``, ``{host}``, ``{data}``."""
        named = {component: SimpleNamespace(**ports) for component, ports in self.by_component.items()}
        return text.format(host=HOST, **named, **folders)
