"""What a catalog says of a bundle."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import VersionConflictError


class Served(Protocol):
    """What tells models apart: `modeltrace.inference.model.Model`, or what telemetry says of one."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def hash(self) -> str:
        """The SHA-256 of its file."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A bundle that a source has. `hash` and `onnx_hash` are those of its model's files, `sha256` of its `model.json`.

    `where` says for people where it is: a folder, or a version in a registry.
    """

    name: str
    version: str
    hash: str
    onnx_hash: str | None
    sha256: str
    where: str

    def holds(self, digest: str) -> bool:
        """Whether it is the bundle of a model that telemetry knows by this hash, whatever engine answered."""
        return digest in (self.hash, self.onnx_hash)


@dataclass(frozen=True, slots=True)
class Found(Listed):
    """A bundle in a folder of this machine. Two of them are equal when there is nothing new to load."""

    path: Path


def check_version(found: Listed, served: Iterable[Served]) -> None:
    """See that a bundle is no other model under the name and version of one that is served, or was before.

    Raises:
        VersionConflictError: it is; figures by name and version would add the two up.
    """
    for model in served:
        if (found.name, found.version) == (model.name, model.version) and not found.holds(model.hash):
            raise VersionConflictError(
                f"{found.where} is another model that calls itself {found.name} {found.version}, too (SHA-256 "
                f"{found.hash[:12]}… instead of {model.hash[:12]}…): all figures would add both up. Pack it with "
                "another --version"
            )


def listed(manifest: Manifest, sha256: str, where: str) -> Listed:
    """What a manifest says."""
    return Listed(
        name=manifest.name,
        version=manifest.version,
        hash=manifest.artifact.sha256,
        onnx_hash=None if manifest.onnx is None else manifest.onnx.sha256,
        sha256=sha256,
        where=where,
    )


def at(path: Path, one: Listed) -> Found:
    """The same, now that it is in a folder."""
    return Found(one.name, one.version, one.hash, one.onnx_hash, one.sha256, one.where, path)
