"""A bundle: a folder with `model.json` and the artifact it describes, checked before anything is built from it."""

import hashlib
import io
import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import joblib
import skops.io
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import (
    BundleAlteredError,
    BundleError,
    BundleNotFoundError,
    IncompatibleBundleError,
    PackError,
    UntrustedModelError,
)
from service.inference.model import Label, Model, Task, answering
from service.inference.schema import Schema
from service.inference.trusted import untrusted_types

MANIFEST = "model.json"
TRAFFIC = "traffic.parquet"
Format = Literal["skops", "joblib"]
LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "skops")


class Artifact(BaseModel):
    """The file that holds the estimator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    format: Format
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=1)

    @field_validator("file")
    @classmethod
    def _beside_the_manifest(cls, file: str) -> str:
        if file != Path(file).name or file in ("", ".", ".."):
            raise ValueError("must be a plain file name, in the bundle's own folder")
        return file


class Manifest(BaseModel):
    """What `model.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str = Field(min_length=1, max_length=128)
    version: str = Field(min_length=1, max_length=64)
    task: Task
    created: str
    artifact: Artifact
    libraries: dict[str, str]
    fitted_with: Literal["array", "frame"]
    classes: tuple[Label, ...] | None
    target: str | None = None
    features: Schema


def installed_libraries() -> dict[str, str]:
    """Versions of what an estimator's answers depend on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def read_manifest(bundle: Path) -> tuple[Manifest, str]:
    """Read `model.json`: what it says, and its SHA-256.

    Raises:
        BundleNotFoundError: there is no bundle at that path.
        BundleError: it does not say what a bundle says; the message names the key.
    """
    path = bundle / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise BundleNotFoundError(
            f"no bundle at {bundle}: {path.name}: {reason} (`modeltrace pack` makes one)"
        ) from None
    try:
        return Manifest.model_validate_json(raw), hashlib.sha256(raw).hexdigest()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}") from None


def load_bundle(
    bundle: Path, *, expect_sha256: str | None = None, trust_pickle: bool = False, trusted_types: Sequence[str] = ()
) -> Model:
    """Check a bundle, then load it. The artifact is read once: what was hashed is what is loaded.

    Args:
        bundle: the folder.
        expect_sha256: the SHA-256 that `model.json` must have; it pins the artifact, too, whose hash it holds.
        trust_pickle: load joblib, which can run any code.
        trusted_types: dotted names of types that a skops artifact may hold beyond scikit-learn's own.

    Raises:
        BundleError: one of its kinds says what is wrong; nothing of the artifact was built.
    """
    manifest, digest = read_manifest(bundle)
    if expect_sha256 is not None and digest != expect_sha256:
        raise BundleAlteredError(f"{bundle / MANIFEST} has the SHA-256 {digest}, expected {expect_sha256}")
    raw = _read_artifact(bundle, manifest.artifact)
    _check_libraries(bundle, manifest)
    estimator = _load(bundle / manifest.artifact.file, manifest.artifact.format, raw, trust_pickle, trusted_types)
    return Model(
        name=manifest.name,
        version=manifest.version,
        hash=manifest.artifact.sha256,
        task=manifest.task,
        classes=manifest.classes,
        schema=manifest.features,
        as_frame=manifest.fitted_with == "frame",
        created=manifest.created,
        answer_matrix=answering(estimator, manifest.task),
    )


def _read_artifact(bundle: Path, artifact: Artifact) -> bytes:
    path = bundle / artifact.file
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise BundleNotFoundError(f"{path}: {reason}; the bundle is incomplete") from None
    if len(raw) != artifact.size or hashlib.sha256(raw).hexdigest() != artifact.sha256:
        raise BundleAlteredError(f"{path} is not the file that {MANIFEST} describes: altered, or copied in part")
    return raw


def _check_libraries(bundle: Path, manifest: Manifest) -> None:
    recorded, here = manifest.libraries.get("scikit-learn", "unknown"), version("scikit-learn")
    if recorded.split(".")[:2] != here.split(".")[:2]:
        raise IncompatibleBundleError(
            f"{bundle} was made with scikit-learn {recorded}, here is {here}: answers could differ. "
            f"Pack the model anew here, or install scikit-learn {recorded}"
        )


def _load(path: Path, kind: Format, raw: bytes, trust_pickle: bool, trusted_types: Sequence[str]) -> Any:  # noqa: ANN401, FBT001  any estimator; passed through
    if kind == "joblib":
        if not trust_pickle:
            raise UntrustedModelError(
                f"{path} is a pickle, which can run any code when it is loaded. "
                "If you made it yourself: --trust-pickle, or MODELTRACE_TRUST_PICKLE=true"
            )
        return joblib.load(io.BytesIO(raw))
    unknown = untrusted_types(raw, trusted_types)
    if unknown:
        raise UntrustedModelError(
            f"{path} holds types that nobody has allowed: {', '.join(unknown)}. "
            f"If you know them: MODELTRACE_TRUSTED_TYPES={','.join(unknown)}"
        )
    return skops.io.loads(raw, trusted=skops.io.get_untrusted_types(data=raw))


def write_bundle(folder: Path, manifest: Manifest, artifact: bytes, *, force: bool = False) -> Path:
    """Write a bundle completely, then give the folder its name.

    Raises:
        PackError: the folder exists and `force` is not given.
    """
    if folder.exists() and not force:
        raise PackError(f"{folder} exists; choose another --out, or replace it with --force")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        (fresh / manifest.artifact.file).write_bytes(artifact)
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (fresh / MANIFEST).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return folder
