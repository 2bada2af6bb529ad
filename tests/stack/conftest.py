"""A module proxy in a folder, so that builds are real and take a second."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.cache import Cache
from stack.components import Component

MakePart = Callable[..., Component]


@pytest.fixture
def go() -> Path:
    """The Go on PATH."""
    found = shutil.which("go")
    if found is None:
        pytest.skip("no Go on PATH")
    return Path(found)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def make_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePart:
    """Publishes a Go module of one program on a proxy that is a folder, and describes it as a component."""
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
