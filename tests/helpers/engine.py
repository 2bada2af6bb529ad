"""A Docker engine for the tests: the one that runs, or one of our own where the machine can start it."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import platformdirs

from stack.build import build_missing
from stack.cache import Cache
from stack.components import GoProgram, read_components
from stack.golang import find_go

# Built where there is no compose plugin.
COMPOSE = GoProgram(
    title="Docker Compose",
    version="2.40.3",
    module="github.com/docker/compose/v2@v2.40.3",
    binaries={"docker-compose": "./cmd"},
    version_variable="github.com/docker/compose/v2/internal.Version",
)
START_TIMEOUT = 60.0


class NoEngineError(Exception):
    """There is no engine, and none can be started."""


def cache_folder() -> Path:
    """Where what takes long to make is kept from run to run."""
    return platformdirs.user_cache_path("modeltrace") / "docker"


@dataclass(frozen=True)
class Engine:
    """An engine, and how it is talked to. `environment` leads to it; `own` says that the tests started it."""

    compose_command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    own: bool = False

    def docker(self, *arguments: str, stdin: Path | None = None) -> str:
        """Run `docker …`; what it prints.

        Raises:
            AssertionError: it failed.
        """
        return self.run(["docker", *arguments], stdin=stdin)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """What the engine knows of containers or images."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *names))
        return found

    def has(self, image: str) -> bool:
        """Whether it holds an image."""
        return bool(self.docker("images", "--quiet", image).strip())

    def run(
        self, command: Sequence[str], *, stdin: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a program that talks to the engine; what it prints.

        Raises:
            AssertionError: it failed.
        """
        with (stdin or Path(os.devnull)).open("rb") as given:
            done = subprocess.run(
                command,
                stdin=given,
                capture_output=True,
                env={**os.environ, **self.environment, **(environment or {})},
                check=False,
            )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, (
            f"{' '.join(command)}\n{said[-4000:]}\n{done.stderr.decode(errors='replace')[-4000:]}"
        )
        return said


@contextmanager
def running_engine() -> Iterator[Engine]:
    """The engine that answers, else one started as root and stopped at the end.

    Raises:
        NoEngineError: neither can be had.
    """
    if shutil.which("docker") is None:
        raise NoEngineError("there is no docker on PATH")
    if _answers({}):
        yield Engine(_compose_command())
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngineError("no Docker engine answers, and there is no dockerd here that could be started as root")
    with _own_engine() as environment:
        yield Engine(_compose_command(), environment, own=True)


@contextmanager
def _own_engine() -> Iterator[dict[str, str]]:
    data = cache_folder() / "engine"
    data.mkdir(parents=True, exist_ok=True)
    with data.with_suffix(".lock").open("w") as lock, TemporaryDirectory(prefix="docker-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two engines on one folder would ruin it
        running = data.with_suffix(".running")
        if running.exists():  # that engine was killed, which can damage its build cache
            shutil.rmtree(data / "buildkit", ignore_errors=True)
        running.touch()
        environment = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        log = Path(folder, "log")
        with log.open("wb") as output:
            engine = subprocess.Popen(
                [
                    *("dockerd", "--host", environment["DOCKER_HOST"], "--data-root", str(data)),
                    *("--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(environment):
                if engine.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace").strip().splitlines()[-3:]
                    raise NoEngineError(f"dockerd does not start here: {' / '.join(said)[-600:]}")
                time.sleep(0.2)
            yield environment
        finally:
            engine.terminate()
            try:
                engine.wait(60)
                running.unlink()
            except subprocess.TimeoutExpired:
                engine.kill()
                engine.wait()


def _answers(environment: Mapping[str, str]) -> bool:
    done = subprocess.run(
        ["docker", "info"], capture_output=True, env={**os.environ, **environment}, check=False, timeout=60
    )
    # The client prints its own component and ends with 0 where there is no engine, too.
    return done.returncode == 0 and b"Server Version" in done.stdout


def _compose_command() -> list[str]:
    """`docker compose` where the plugin is installed, else the same program, built once."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    cache = Cache(cache_folder())
    build_missing({"compose": COMPOSE}, cache, find_go(read_components().go, cache.root), lambda *_: None)
    return [str(cache.folder("compose", COMPOSE) / "docker-compose")]
