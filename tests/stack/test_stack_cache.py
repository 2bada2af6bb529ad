"""A binary in the cache is what was built; an optional one may come from PATH."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.build import build_missing
from stack.cache import SUMS, Cache, write_sums
from stack.parts import Part, read_parts

MakePart = Callable[..., Part]

PROGRAM = 'package main\n\nfunc main() { print("as built") }\n'


def place(cache: Cache, name: str, part: Part, content: str = "a program") -> Path:
    """Put a part into the cache as a build would; its folder."""
    folder = cache.folder(name, part)
    folder.mkdir(parents=True)
    for binary in part.binaries:
        (folder / binary).write_text(content)
    write_sums(folder)
    return folder


def test_sums_are_those_of_sha256sum(cache: Cache) -> None:
    """The system's own tool reads the file and agrees."""
    folder = place(cache, "prometheus", read_parts().parts["prometheus"])

    said = subprocess.check_output(["sha256sum", "--check", SUMS], cwd=folder, text=True)

    assert said.splitlines() == ["prometheus: OK", "promtool: OK"]


@pytest.mark.parametrize("binary", ["prometheus", "promtool"])
def test_an_altered_binary_is_noticed(cache: Cache, binary: str) -> None:
    """Each of a part's binaries is checked, and only that part is named."""
    parts = {name: read_parts().parts[name] for name in ("jaeger", "prometheus")}
    folders = {name: place(cache, name, part) for name, part in parts.items()}
    assert cache.to_build(parts) == {}
    (folders["prometheus"] / binary).write_text("another program")

    assert cache.altered(parts) == ["prometheus"]
    assert list(cache.to_build(parts)) == ["prometheus"]


@pytest.mark.extended
def test_an_altered_binary_is_built_again_and_said(make_part: MakePart, cache: Cache, go: Path) -> None:
    """Afterwards it is what was built."""
    part = make_part(PROGRAM)
    build_missing({"hello": part}, cache, go, lambda *_: None)
    program = cache.folder("hello", part) / "hello"
    program.write_text("#!/bin/sh\necho altered\n")
    told: list[str] = []
    build_missing({"hello": part}, cache, go, lambda _, what, *__: told.append(what))

    assert told[0] == "does not match its SHA256SUMS in the cache; building it again"
    assert subprocess.check_output([program], stderr=subprocess.STDOUT, text=True) == "as built"
    assert cache.to_build({"hello": part}) == {}


def test_binaries_without_sums_are_built_again(cache: Cache) -> None:
    """A folder from before these files existed is not taken on trust."""
    part = read_parts().parts["jaeger"]
    (place(cache, "jaeger", part) / SUMS).unlink()

    assert list(cache.to_build({"jaeger": part})) == ["jaeger"]


def test_an_optional_part_is_found_on_path(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not built; no other part is taken from there."""
    for name in ("loki", "jaeger"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    table = read_parts()

    assert cache.program("loki", table.parts["loki"], "loki") == tmp_path / "bin" / "loki"
    assert "loki" in cache.present(table).parts
    assert set(cache.missing(table.parts)) == table.parts.keys() - {"loki"}
    built = place(cache, "loki", table.parts["loki"]) / "loki"
    assert cache.program("loki", table.parts["loki"], "loki") == built


def test_an_optional_part_that_is_nowhere_is_left_out(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are asked for all the same."""
    monkeypatch.setenv("PATH", "")
    table = read_parts()

    assert cache.present(table).parts.keys() == table.parts.keys() - {"loki"}
