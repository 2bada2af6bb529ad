"""Binaries in the cache are checked against their SHA-256; an optional component may be on PATH instead."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.build import build_missing
from stack.cache import SUMS_FILE, Cache, write_sums
from stack.components import Component, read_components

MakeComponent = Callable[..., Component]

PROGRAM = 'package main\n\nfunc main() { print("as built") }\n'


def place(cache: Cache, name: str, component: Component, content: str = "a program") -> Path:
    """Write a component to the cache as a build does, and return its folder."""
    folder = cache.folder(name, component)
    folder.mkdir(parents=True)
    for binary in component.binaries:
        (folder / binary).write_text(content)
    write_sums(folder)
    return folder


def test_sha256sum_accepts_the_file_of_hashes(cache: Cache) -> None:
    """The file has the format of `sha256sum`, and the hashes are correct."""
    folder = place(cache, "prometheus", read_components().components["prometheus"])

    output = subprocess.check_output(["sha256sum", "--check", SUMS_FILE], cwd=folder, text=True)

    assert output.splitlines() == ["prometheus: OK", "promtool: OK"]


@pytest.mark.parametrize("binary", ["prometheus", "promtool"])
def test_an_altered_binary_is_detected(cache: Cache, binary: str) -> None:
    """All binaries of a component are checked, and only the altered component is listed."""
    components = {name: read_components().components[name] for name in ("jaeger", "prometheus")}
    folders = {name: place(cache, name, component) for name, component in components.items()}
    assert cache.to_build(components) == {}
    (folders["prometheus"] / binary).write_text("another program")

    assert cache.altered(components) == ["prometheus"]
    assert list(cache.to_build(components)) == ["prometheus"]


@pytest.mark.extended
def test_an_altered_binary_is_built_again_with_a_message(make_component: MakeComponent, cache: Cache, go: Path) -> None:
    """The progress messages name the reason, and the new binary replaces the altered one."""
    component = make_component(PROGRAM)
    build_missing({"hello": component}, cache, go, lambda *_: None)
    program = cache.folder("hello", component) / "hello"
    program.write_text("#!/bin/sh\necho altered\n")
    messages: list[str] = []
    build_missing({"hello": component}, cache, go, lambda _, message, *__: messages.append(message))

    assert messages[0] == "does not match its SHA256SUMS in the cache; building it again"
    assert subprocess.check_output([program], stderr=subprocess.STDOUT, text=True) == "as built"
    assert cache.to_build({"hello": component}) == {}


def test_binaries_without_hashes_are_built_again(cache: Cache) -> None:
    """A folder without SHA256SUMS, which an older version wrote, is not used."""
    component = read_components().components["jaeger"]
    (place(cache, "jaeger", component) / SUMS_FILE).unlink()

    assert list(cache.to_build({"jaeger": component})) == ["jaeger"]


def test_an_optional_component_may_be_on_path(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on PATH is used if the component is optional and not built; others must be built."""
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


def test_a_missing_optional_component_is_left_out(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Required components stay in the table although they are missing, too."""
    monkeypatch.setenv("PATH", "")
    table = read_components()

    assert cache.without_absent(table).components.keys() == table.components.keys() - {"loki"}
