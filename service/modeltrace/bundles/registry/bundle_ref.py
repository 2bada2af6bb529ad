"""References to the bundles that a catalog lists: name, version, hashes and location."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modeltrace.bundles.manifest import ManifestFile
from modeltrace.errors import VersionConflictError
from modeltrace.inference.model import Model
from modeltrace.telemetry.records.model_info import ModelInfo


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """A bundle that a catalog lists.

    `hash` and `onnx_hash` are the SHA-256 of the model's files; `sha256` is that of `model.json`. `location` is for
    messages: a folder, or a version in a registry.
    """

    name: str
    version: str
    hash: str
    onnx_hash: str | None
    sha256: str
    location: str

    def has_model_hash(self, digest: str) -> bool:
        """Return whether one of the model's files has this SHA-256, for either engine."""
        return digest in (self.hash, self.onnx_hash)

    def at(self, path: Path) -> "LocalBundle":
        """Return the bundle as a folder on this machine."""
        return LocalBundle(self.name, self.version, self.hash, self.onnx_hash, self.sha256, self.location, path)


@dataclass(frozen=True, slots=True)
class LocalBundle(BundleInfo):
    """A bundle in a folder on this machine. If it equals the loaded bundle, there is nothing new to load."""

    path: Path


def bundle_info(file: ManifestFile, location: str) -> BundleInfo:
    """Return the `BundleInfo` of the bundle that a manifest describes."""
    manifest = file.manifest
    onnx_hash = None if manifest.onnx is None else manifest.onnx.sha256
    return BundleInfo(manifest.name, manifest.version, manifest.artifact.sha256, onnx_hash, file.sha256, location)


def check_version_conflict(bundle: BundleInfo, models: Iterable[Model | ModelInfo]) -> None:
    """Check that no other model has the name and version of a bundle.

    Args:
        bundle: the bundle to serve.
        models: the models that are served, or were served before.

    Raises:
        VersionConflictError: another model has this name and version, so metrics would mix both models.
    """
    for model in models:
        same_version = (bundle.name, bundle.version) == (model.name, model.version)
        if same_version and not bundle.has_model_hash(model.hash):
            raise VersionConflictError(
                f"{bundle.location} contains another model with the name and version {bundle.name} {bundle.version} "
                f"(SHA-256 {bundle.hash[:12]}… instead of {model.hash[:12]}…), so metrics would mix both. Pack it with "
                "another --version"
            )
