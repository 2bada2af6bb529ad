"""Programs from Maven Central and PyPI are in the cache by version and hash, and a wrong download is refused."""

import hashlib
import shutil
from pathlib import Path

import pytest

from stack import packages
from stack.build import build_missing
from stack.cache import Cache
from stack.components import MavenProgram, PypiProgram, read_components
from stack.errors import BuildError

pytestmark = pytest.mark.slow

LIBRARY = b"PK\5\6" + bytes(18)  # an empty archive
# Does what `mvn dependency:copy-dependencies` does: its last argument names the folder.
MAVEN = r"""#!/bin/sh
for last; do :; done
out=${last#-DoutputDirectory=}
mkdir -p "$out"
{ printf 'PK\5\6'; head -c 18 /dev/zero; } >"$out/a-1.jar"
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MavenProgram:
    """A program of one library, a source, and a Maven that downloads the library."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "pom.xml").write_text("<project/>")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(LIBRARY).hexdigest()}  a-1.jar\n")
    _place_command(tmp_path, "mvn", MAVEN)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return MavenProgram(kind="maven", title="Program", version="1", folder=str(folder))


def _place_command(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _build(program: MavenProgram | PypiProgram, cache: Cache) -> Path:
    build_missing({"program": program}, cache, Path("no-go"), lambda *_: None)
    return cache.folder("program", program)


def test_libraries_and_classes_are_in_the_cache(program: MavenProgram, cache: Cache) -> None:
    """Sources are compiled with the libraries, and everything is listed in SHA256SUMS. No Go is needed."""
    if shutil.which("javac") is None:
        pytest.skip("Java: apt install default-jdk-headless")
    source = Path(program.folder) / "Main.java"
    source.write_text("public final class Main { public static void main(String[] a) {} }")

    folder = _build(program, cache)

    assert sorted(path.name for path in folder.iterdir()) == ["Main.class", "SHA256SUMS", "a-1.jar"]
    assert cache.missing({"program": program}) == {}
    (folder / "a-1.jar").write_bytes(b"another library")
    assert cache.altered({"program": program}) == ["program"]
    source.write_text(source.read_text() + "\n")
    assert cache.folder("program", program) != folder


@pytest.mark.parametrize(
    "sums",
    [f"{'0' * 64}  a-1.jar\n", "", f"{hashlib.sha256(LIBRARY).hexdigest()}  a-1.jar\n{'0' * 64}  b-1.jar\n"],
    ids=["another hash", "not listed", "one is missing"],
)
def test_other_libraries_are_refused(program: MavenProgram, cache: Cache, sums: str) -> None:
    """The message names the library and the file with the hashes. Nothing is in the cache."""
    (Path(program.folder) / "SHA256SUMS").write_text(sums)

    with pytest.raises(BuildError, match=r"Program could not be built: [ab]-1\.jar from Maven Central.*SHA256SUMS"):
        _build(program, cache)

    assert not cache.folder("program", program).exists()


def test_a_failure_of_maven_is_reported(program: MavenProgram, cache: Cache, tmp_path: Path) -> None:
    """The message has the first lines that Maven printed."""
    _place_command(tmp_path, "mvn", "#!/bin/sh\necho '[ERROR] Could not find artifact a:a:jar:1'\nexit 1\n")

    with pytest.raises(BuildError, match=r"Program could not be built: mvn: .*Could not find artifact a:a:jar:1"):
        _build(program, cache)


def test_a_missing_maven_is_reported(program: MavenProgram, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    monkeypatch.setenv("PATH", "")

    with pytest.raises(BuildError, match="mvn is not on PATH; Debian: apt install default-jdk-headless maven"):
        _build(program, cache)


def test_a_binary_of_a_package_is_in_the_cache(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other files of the package are not. A package without the binary is refused."""

    def install(_: Path, folder: Path) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "tool").write_text("#!/bin/sh\n")
        (folder / "METADATA").touch()

    monkeypatch.setattr(packages, "install_locked", install)
    (tmp_path / "lock").touch()
    program = PypiProgram(
        kind="pypi", title="Tool", version="1", lock=str(tmp_path / "lock"), binaries={"tool": "bin/tool"}
    )

    folder = _build(program, cache)

    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "tool"]
    assert (folder / "tool").stat().st_mode & 0o111
    with pytest.raises(BuildError, match="its package on PyPI has no file bin/other"):
        _build(program.model_copy(update={"binaries": {"other": "bin/other"}}), cache)


def test_packages_need_less_space_than_go_modules() -> None:
    """The cache of Go modules is most of the space that a build requires."""
    many = read_components().many

    assert many["kafka"].build_bytes < many["kube-apiserver"].build_bytes


def test_pinned_files_name_the_versions_of_the_table() -> None:
    """The versions in pom.xml and in the lock file are those of components.toml."""
    many = read_components().many
    for name, program in many.items():
        if isinstance(program, MavenProgram):
            assert any(program.version in library for library in program.libraries()), name
        if isinstance(program, PypiProgram):
            assert f"=={program.version} " in program.recipe()[0], name
