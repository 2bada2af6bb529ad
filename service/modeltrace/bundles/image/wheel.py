"""Build a wheel of this Modeltrace from its installed files, so that an image contains exactly this version."""

import base64
import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from modeltrace.bundles.image.pins import PROJECT, lock_file

PACKAGES: Final = ("modeltrace", "modeltrace_hub", "modeltrace_http")
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: modeltrace\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(folder: Path) -> Path:
    """Write the wheel into a folder, and return its path. The same files always give the same bytes."""
    package = distribution(PROJECT)
    path = folder / f"{PROJECT}-{package.version}-py3-none-any.whl"
    info = f"{PROJECT}-{package.version}.dist-info"
    entries = dict(_package_files())
    entries |= {
        f"{info}/{name}": text.encode()
        for name in ("METADATA", "entry_points.txt")
        if (text := package.read_text(name))
    }
    entries[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in sorted(entries.items()))
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in sorted(entries.items()):
            file = zipfile.ZipInfo(name)
            file.external_attr = 0o644 << 16
            wheel.writestr(file, content, zipfile.ZIP_DEFLATED)
    return path


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the packages, and the lock files, which a checkout has outside of them."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(location)
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes()
    lock = lock_file()
    if lock.exists():
        yield f"modeltrace/bundles/image/{lock.name}", lock.read_bytes()
        for path in sorted((lock.parent / "locks").glob("*")):
            yield f"modeltrace/report/locks/{path.name}", path.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
