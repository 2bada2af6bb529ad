"""Pack the user's modules and requirements, and test a bundle with them in a new process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeltrace.bundles.code.archive import CodeArchive, collect_code, import_root
from modeltrace.bundles.code.requirements import REQUIREMENTS_FILE, read_requirements
from modeltrace.bundles.manifest import CodeFile, ModelFile
from modeltrace.errors import PackError

CODE_FILE: Final = "code.zip"


@dataclass(frozen=True)
class PackedCode:
    """The files of a bundle that are not the model, and their entries in the manifest."""

    files: dict[str, bytes]
    archive: CodeArchive | None
    code: CodeFile | None
    requirements: ModelFile | None


@contextmanager
def importable(sources: Sequence[Path]) -> Iterator[None]:
    """Let Python import the modules under their own names, as the program did that fitted the estimator."""
    folders = [str(import_root(source.resolve())) for source in sources]
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)


def pack_code(sources: Sequence[Path | str], requirements: Path | str | None) -> PackedCode:
    """Read the modules and the requirements to pack.

    Args:
        sources: folders of modules, folders of packages, or `.py` files.
        requirements: a file in pip's format, or `None`.

    Raises:
        PackError: a file cannot be packed.
    """
    files: dict[str, bytes] = {}
    archive = code = requirements_file = None
    if sources:
        archive = collect_code(map(Path, sources))
        files[CODE_FILE] = archive.content
        code = CodeFile.describe(CODE_FILE, archive.content, modules=tuple(sorted(archive.modules)))
    if requirements is not None and (raw := read_requirements(Path(requirements))):
        files[REQUIREMENTS_FILE] = raw
        requirements_file = ModelFile.describe(REQUIREMENTS_FILE, raw)
    return PackedCode(files, archive, code, requirements_file)


def verify_in_new_process(bundle: Path, trusted_types: Sequence[str]) -> None:
    """Load a bundle in a process that has only its modules and the installed packages, and predict its example.

    Raises:
        PackError: the bundle cannot be used there.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-P", "-m", "modeltrace.bundles.verify_process"],
        input=json.dumps({"folder": str(bundle), "trusted_types": list(trusted_types)}),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if process.returncode:
        lines = process.stderr.replace(f"{bundle}/", "").strip().splitlines()
        raise PackError(
            "--code: the bundle does not work in a new process, which has only the packed modules and the installed "
            f"packages: {lines[-1] if lines else f'exit code {process.returncode}'}"
        )
