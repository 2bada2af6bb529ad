"""Fixtures for builds: a Go module proxy in a folder with small modules, so that a real build takes a second."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.cache import Cache
from stack.components import Component

MakeComponent = Callable[..., Component]


@pytest.fixture
def go() -> Path:
    """The path of the Go program on PATH."""
    program = shutil.which("go")
    if program is None:
        pytest.skip("no Go on PATH")
    return Path(program)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def make_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeComponent:
    """Return a function that publishes a Go module with one program in the proxy and returns it as a component."""
    proxy = tmp_path / "proxy"
    monkeypatch.setenv("GOPROXY", proxy.as_uri())
    monkeypatch.setenv("GONOSUMDB", "*")

    def publish(source: str, go_mod: str = "", name: str = "hello") -> Component:
        module, version = f"example.com/{name}", "v1.2.3"
        folder = proxy / module / "@v"
        folder.mkdir(parents=True, exist_ok=True)
        mod = f"module {module}\n\ngo 1.21\n\n{go_mod}"
        (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
        (folder / f"{version}.mod").write_text(mod)
        with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
            archive.writestr(f"{module}@{version}/go.mod", mod)
            archive.writestr(f"{module}@{version}/main.go", source)
        return Component(
            title=name.title(),
            version="1.2.3",
            build_bytes=10**7,
            image=f"{name}:1.2.3",
            module=f"{module}@{version}",
            binaries={name: "."},
            version_variable="main.version",
            command=[name],
            health="http://{host}:1/",
            metrics="{host}:1",
            ports={},
        )

    return publish
