"""Write the build context of an image: Dockerfile, pinned requirements, the wheel of Modeltrace, and the bundle."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from jinja2 import Environment, StrictUndefined
from packaging.requirements import Requirement

from modeltrace.bundles.code.requirements import parse_requirements
from modeltrace.bundles.image.pins import Pin, pin_packages
from modeltrace.bundles.image.wheel import build_wheel
from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, read_manifest, read_verified
from modeltrace.errors import ModeltraceError

UV: Final = "uv==0.13.9"
_IGNORED: Final = "*\n!bundle\n!requirements.txt\n!*.whl\n"


@dataclass(frozen=True)
class ImageContext:
    """A written context: its folder, a tag for the image, and the packages without a known hash."""

    folder: Path
    tag: str
    packages: int
    unhashed: tuple[str, ...]


def write_context(
    bundle: Path, out: Path, *, trust_pickle: bool, trust_code: bool, trusted_types: Sequence[str], force: bool = False
) -> ImageContext:
    """Write the build context of an image that serves a bundle.

    The bundle must have been loaded with the same trust. The settings of trust that it needs become part of the image.

    Raises:
        ModeltraceError: the folder exists and is not an empty folder or a former context, or cannot be written, or a
            package is not installed.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not force:
            raise ModeltraceError(f"{out} exists; choose another folder with --out, or replace it with --force")
        if not (out / "Dockerfile").is_file():
            raise ModeltraceError(f"{out} is not the context of an image, so it is not replaced; choose another --out")
    manifest, sha256 = read_manifest(bundle)
    variables = {"MODELTRACE_EXPECT_SHA256": sha256}
    if trust_pickle and manifest.artifact.format == "joblib":
        variables["MODELTRACE_TRUST_PICKLE"] = "true"
    if trust_code and manifest.code is not None:
        variables["MODELTRACE_TRUST_CODE"] = "true"
    if trusted_types:
        variables["MODELTRACE_TRUSTED_TYPES"] = ",".join(trusted_types)
    pins = pin_packages(_required(bundle, manifest))
    unhashed = tuple(pin.name for pin in pins if not pin.hashes)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent, ignore_cleanup_errors=True) as folder:
            new = Path(folder, "new")
            _write_files(new, bundle, manifest, pins)
            wheel = build_wheel(new)
            dockerfile = _render(manifest, wheel.name, variables, trusted_types, all_hashed=not unhashed)
            (new / "Dockerfile").write_text(dockerfile)
            if out.exists():
                out.replace(Path(folder, "old"))
            new.replace(out)
    except OSError as error:
        raise ModeltraceError(f"{out} cannot be written: {error.strerror or error}") from None
    return ImageContext(out, _tag(manifest), len(pins), unhashed)


def _required(bundle: Path, manifest: Manifest) -> list[Requirement]:
    """Return the packages that the bundle needs besides Modeltrace's own."""
    required = [Requirement(name) for name in manifest.estimator_libraries]
    if manifest.onnx is not None:
        required.append(Requirement("onnxruntime"))
    if manifest.requirements is not None:
        file = manifest.requirements
        required += [
            requirement
            for requirement in parse_requirements(read_verified(bundle / file.file, file))
            if requirement.marker is None or requirement.marker.evaluate()
        ]
    return required


def _write_files(folder: Path, bundle: Path, manifest: Manifest, pins: Sequence[Pin]) -> None:
    (folder / "bundle").mkdir(parents=True)
    for name in (MANIFEST_FILE, *(file.file for file in manifest.loaded_files())):
        shutil.copyfile(bundle / name, folder / "bundle" / name)
    (folder / ".dockerignore").write_text(_IGNORED)
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))


def _render(
    manifest: Manifest, wheel: str, variables: dict[str, str], trusted_types: Sequence[str], *, all_hashed: bool
) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701  not HTML
    template = environment.from_string(files("modeltrace.bundles.image").joinpath("Dockerfile.jinja").read_text())
    trust = [name for name in variables if "TRUST" in name]
    return template.render(
        base=f"python:{sys.version_info.major}.{sys.version_info.minor}-slim-bookworm",
        uv=UV,
        wheel=wheel,
        all_hashed=all_hashed,
        verification=json.dumps({"folder": "/bundle", "trusted_types": list(trusted_types)}),
        title=_quote(manifest.name),
        version=_quote(manifest.version),
        variables=variables,
        trust_comment=f"Trusted when this file was written: {', '.join(trust)}."
        if trust
        else "Nothing else is trusted.",
    )


def _quote(text: str) -> str:
    """Return a text as a word of a Dockerfile."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def _tag(manifest: Manifest) -> str:
    """Return a name and tag that an image may have."""
    name = re.sub(r"[^a-z0-9]+", "-", manifest.name.lower()).strip("-") or "model"
    version = re.sub(r"[^A-Za-z0-9_.-]+", "-", manifest.version).lstrip(".-") or "1"
    return f"{name}:{version}"
