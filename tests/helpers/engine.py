"""Use the running Docker engine, or start one if there is none and the machine allows it."""

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

# Built if the Docker client has no compose plugin.
COMPOSE = GoProgram(
    title="Docker Compose",
    version="2.40.3",
    module="github.com/docker/compose/v2@v2.40.3",
    binaries={"docker-compose": "./cmd"},
    version_variable="github.com/docker/compose/v2/internal.Version",
)
START_TIMEOUT = 60.0


class NoEngineError(Exception):
    """No engine is running, and none can be started."""


def cache_folder() -> Path:
    """Return the folder of files that are reused in later runs: images, the engine's data, Docker Compose."""
    return platformdirs.user_cache_path("modeltrace") / "docker"


@dataclass(frozen=True)
class Engine:
    """A Docker engine.

    Attributes:
        compose_command: the command line of Docker Compose, without arguments.
        environment: the variables with which the Docker client reaches the engine.
        own: the tests have started the engine.
    """

    compose_command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    own: bool = False

    def docker(self, *arguments: str, stdin: Path | None = None) -> str:
        """Run `docker …` and return its output.

        Raises:
            AssertionError: the command failed.
        """
        return self.run(["docker", *arguments], stdin=stdin)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Return the output of `docker inspect` for containers or images."""
        described: list[dict[str, Any]] = json.loads(self.docker("inspect", *names))
        return described

    def has(self, image: str) -> bool:
        """Return whether the engine has an image."""
        return bool(self.docker("images", "--quiet", image).strip())

    def run(
        self, command: Sequence[str], *, stdin: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a program that uses the engine and return its output.

        Raises:
            AssertionError: the program failed.
        """
        with (stdin or Path(os.devnull)).open("rb") as input_file:
            done = subprocess.run(
                command,
                stdin=input_file,
                capture_output=True,
                env={**os.environ, **self.environment, **(environment or {})},
                check=False,
            )
        output = done.stdout.decode(errors="replace")
        assert done.returncode == 0, (
            f"{' '.join(command)}\n{output[-4000:]}\n{done.stderr.decode(errors='replace')[-4000:]}"
        )
        return output


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Yield the running engine. If there is none, start one as root and stop it at the end.

    Raises:
        NoEngineError: no engine is running, and none can be started.
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
        fcntl.flock(lock, fcntl.LOCK_EX)  # two engines would damage a shared data folder
        running = data.with_suffix(".running")
        if running.exists():  # the previous engine was killed, which can damage its build cache
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
                    last_lines = log.read_text(errors="replace").strip().splitlines()[-3:]
                    raise NoEngineError(f"dockerd does not start here: {' / '.join(last_lines)[-600:]}")
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
    # Without an engine the client prints only its own version and also ends with 0.
    return done.returncode == 0 and b"Server Version" in done.stdout


def _compose_command() -> list[str]:
    """Return `docker compose` if the plugin is installed, else the path of the same program, which is built once."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    cache = Cache(cache_folder())
    build_missing({"compose": COMPOSE}, cache, find_go(read_components().go, cache.root), lambda *_: None)
    return [str(cache.folder("compose", COMPOSE) / "docker-compose")]
