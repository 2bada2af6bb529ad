"""Build and run the programs in tests/senders, which send telemetry with the OpenTelemetry SDKs of other languages."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import platformdirs
import pytest

from stack.components import read_components
from stack.errors import BuildError
from stack.golang import find_go
from tests.helpers.stack import binaries

SOURCES: Final = Path(__file__).parent.parent / "senders"
# On a busy machine without a cache, the slowest step takes a few minutes.
STEP_SECONDS: Final = 900
RUN_SECONDS: Final = 120


@dataclass(frozen=True)
class Recipe:
    """The commands that build and run the sender of a language, in a copy of its sources.

    `download` needs the network; if it fails, the test is skipped. `build` needs no network; if it fails, the test
    fails.
    """

    tools: tuple[str, ...]
    download: str
    build: str
    run: str


RECIPES: Final = {
    "go": Recipe(
        tools=(),  # a Go that is new enough is installed where none is on PATH
        download="go mod download",
        build="go build -o sender .",
        run="./sender",
    ),
    "java": Recipe(
        tools=("java", "javac", "mvn"),
        download="mvn --batch-mode --quiet dependency:copy-dependencies -DoutputDirectory=lib",
        build="javac --release 17 -Xlint:all -encoding utf-8 -sourcepath . -cp lib/* -d classes Sender.java",
        run=f"java -cp classes{os.pathsep}lib/*",
    ),
    "node": Recipe(
        tools=("node", "npm"),
        download="npm install --ignore-scripts --no-audit --no-fund --no-package-lock",
        build="node --check sender.mjs",
        run="node sender.mjs",
    ),
}


@dataclass(frozen=True)
class Sent:
    """The output of a sender: the records that it has sent, and the warnings of its SDK."""

    records: tuple[Mapping[str, Any], ...]
    complaints: str

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the fields of all records of a kind."""
        return [dict(record["fields"]) for record in self.records if record["kind"] == kind]


def run_sender(language: str, options: Sequence[str], environment: Mapping[str, str]) -> Sent:
    """Build a sender if it is not in the cache, run it, and return its output.

    Raises:
        AssertionError: the build fails, or the program ends with an error.
        pytest.skip.Exception: a compiler is not on PATH, or libraries cannot be downloaded.
    """
    recipe = RECIPES[language]
    folder = _built(language)
    if isinstance(folder, str):
        pytest.skip(folder)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    run = subprocess.run(
        [*recipe.run.split(), *options],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"{language} ended with {run.returncode}:\n{run.stderr}"
    return Sent(tuple(map(json.loads, run.stdout.splitlines())), run.stderr)


def senders_cache() -> Path:
    """Return the folder of the senders and of the files that their builds download."""
    return platformdirs.user_cache_path("modeltrace") / "senders"


@cache
def _built(language: str) -> Path | str:
    """Return the folder with the built sender, or a message that says what is missing to build it."""
    recipe, source = RECIPES[language], SOURCES / language
    if absent := [tool for tool in recipe.tools if shutil.which(tool) is None]:
        return f"{', '.join(absent)} on PATH, to build the sender in {language}"
    folder = senders_cache() / "bin" / f"{language}-{_digest(source)}"
    if folder.exists():
        return folder
    environment = _environment()
    if language == "go":
        try:
            go = find_go(read_components().go, binaries().root)
        except BuildError as error:
            return f"Go, to build the sender in go: {error}"
        environment["PATH"] = f"{go.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as work:
        copy = Path(work, language)
        shutil.copytree(source, copy)
        if failure := _run(recipe.download, copy, environment):
            return f"the libraries of the sender in {language}, whose download failed: {failure.splitlines()[0][:300]}"
        failure = _run(recipe.build, copy, environment)
        assert not failure, failure
        if not folder.exists():  # another run may have built it meanwhile
            copy.rename(folder)
    return folder


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a step of a build. Return its output if it failed, else an empty string."""
    try:
        run = subprocess.run(
            command.split(),
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return str(error)
    return f"{command}: {run.stdout.strip()}" if run.returncode else ""


def _environment() -> dict[str, str]:
    """Return the environment variables that place downloads and intermediate results in the cache."""
    return {
        "CGO_ENABLED": "0",
        "GOCACHE": str(senders_cache() / "go" / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOMODCACHE": str(senders_cache() / "go" / "mod"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} -Dmaven.repo.local={senders_cache() / 'maven'}",
        "npm_config_fetch_retries": "1",
        "npm_config_cache": str(senders_cache() / "npm"),
    }


def _digest(source: Path) -> str:
    """Return a hash of all files of a sender."""
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(f"{path.name}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
