"""A binary in the cache is what was built; an optional one may come from PATH."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.build import build_missing
from stack.cache import SUMS_FILE, Cache, write_sums
from stack.components import Component, read_components

MakePart = Callable[..., Component]

PROGRAM = 'package main\n\nfunc main() { print("as built") }\n'


def place(cache: Cache, name: str, component: Component, content: str = "a program") -> Path:
    """Put a component into the cache as a build would; its folder."""
    folder = cache.folder(name, component)
    folder.mkdir(parents=True)
    for binary in component.binaries:
        (folder / binary).write_text(content)
    write_sums(folder)
    return folder


def test_sums_are_those_of_sha256sum(cache: Cache) -> None:
    """The system's own tool reads the file and agrees."""
    folder = place(cache, "prometheus", read_components().components["prometheus"])

    said = subprocess.check_output(["sha256sum", "--check", SUMS_FILE], cwd=folder, text=True)

    assert said.splitlines() == ["prometheus: OK", "promtool: OK"]


@pytest.mark.parametrize("binary", ["prometheus", "promtool"])
def test_an_altered_binary_is_noticed(cache: Cache, binary: str) -> None:
    """Each of a component's binaries is checked, and only that component is named."""
    components = {name: read_components().components[name] for name in ("jaeger", "prometheus")}
    folders = {name: place(cache, name, component) for name, component in components.items()}
    assert cache.to_build(components) == {}
    (folders["prometheus"] / binary).write_text("another program")

    assert cache.altered(components) == ["prometheus"]
    assert list(cache.to_build(components)) == ["prometheus"]


@pytest.mark.extended
def test_an_altered_binary_is_built_again_and_said(make_part: MakePart, cache: Cache, go: Path) -> None:
    """Afterwards it is what was built."""
    component = make_part(PROGRAM)
    build_missing({"hello": component}, cache, go, lambda *_: None)
    program = cache.folder("hello", component) / "hello"
    program.write_text("#!/bin/sh\necho altered\n")
    told: list[str] = []
    build_missing({"hello": component}, cache, go, lambda _, what, *__: told.append(what))

    assert told[0] == "does not match its SHA256SUMS in the cache; building it again"
    assert subprocess.check_output([program], stderr=subprocess.STDOUT, text=True) == "as built"
    assert cache.to_build({"hello": component}) == {}


def test_binaries_without_sums_are_built_again(cache: Cache) -> None:
    """A folder from before these files existed is not taken on trust."""
    component = read_components().components["jaeger"]
    (place(cache, "jaeger", component) / SUMS_FILE).unlink()

    assert list(cache.to_build({"jaeger": component})) == ["jaeger"]


def test_an_optional_part_is_found_on_path(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not built; no other component is taken from there."""
    for name in ("loki", "jaeger"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    table = read_components()

    assert cache.program("loki", table.components["loki"], "loki") == tmp_path / "bin" / "loki"
    assert "loki" in cache.without_absent(table).components
    assert set(cache.missing(table.components)) == table.components.keys() - {"loki"}
    built = place(cache, "loki", table.components["loki"]) / "loki"
    assert cache.program("loki", table.components["loki"], "loki") == built


def test_an_optional_part_that_is_nowhere_is_left_out(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are asked for all the same."""
    monkeypatch.setenv("PATH", "")
    table = read_components()

    assert cache.without_absent(table).components.keys() == table.components.keys() - {"loki"}
