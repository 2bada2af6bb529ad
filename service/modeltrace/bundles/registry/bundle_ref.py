"""What a catalog says of a bundle."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import VersionConflictError


class ModelIdentity(Protocol):
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
class BundleInfo:
    """A bundle that a source has. `hash` and `onnx_hash` are those of its model's files, `sha256` of its `model.json`.

    `where` says for people where it is: a folder, or a version in a registry.
    """

    name: str
    version: str
    hash: str
    onnx_hash: str | None
    sha256: str
    location: str

    def has_model_hash(self, digest: str) -> bool:
        """Whether it is the bundle of a model that telemetry knows by this hash, whatever engine answered."""
        return digest in (self.hash, self.onnx_hash)


@dataclass(frozen=True, slots=True)
class LocalBundle(BundleInfo):
    """A bundle in a folder of this machine. Two of them are equal when there is nothing new to load."""

    path: Path


def check_version_conflict(bundle: BundleInfo, models: Iterable[ModelIdentity]) -> None:
    """See that a bundle is no other model under the name and version of one that is served, or was before.

    Raises:
        VersionConflictError: it is; figures by name and version would add the two up.
    """
    for model in models:
        if (bundle.name, bundle.version) == (model.name, model.version) and not bundle.has_model_hash(model.hash):
            raise VersionConflictError(
                f"{bundle.location} is another model that calls itself {bundle.name} {bundle.version}, too (SHA-256 "
                f"{bundle.hash[:12]}… instead of {model.hash[:12]}…): all figures would add both up. Pack it with "
                "another --version"
            )


def bundle_info(manifest: Manifest, sha256: str, location: str) -> BundleInfo:
    """What a manifest says."""
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        hash=manifest.artifact.sha256,
        onnx_hash=None if manifest.onnx is None else manifest.onnx.sha256,
        sha256=sha256,
        location=location,
    )


def local_bundle(path: Path, info: BundleInfo) -> LocalBundle:
    """The same, now that it is in a folder."""
    return LocalBundle(info.name, info.version, info.hash, info.onnx_hash, info.sha256, info.location, path)
