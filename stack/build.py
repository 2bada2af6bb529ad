"""Builds the parts from their pinned Go modules into the cache, each once.

A part is built inside its own downloaded module, with the versions that its own `go.mod` names. Two things differ: a
`replace` that leads to a folder outside the module is left out, since a downloaded module does not have it; and the
Collector's sources are first written by its builder, from a manifest. Binaries are static, so that an image can be
made of one and nothing else.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from stack.cache import SUMS, Cache, write_sums
from stack.errors import BuildError
from stack.parts import HERE, Part

# Peak memory of one linker, in bytes. A linker uses one thread, so one build per core is useful.
LINKER_BYTES = 2_500_000_000
# Bytes that modules and intermediate results take at the most, and that a build therefore asks for.
NEEDED_BYTES = 14 * 10**9

# What is told while a part is built: its name, what is being done, packages compiled, packages in all (0: not known).
Progress = Callable[[str, str, int, int], None]


def builds_at_a_time() -> int:
    """How many parts are built at the same time on this machine: as cores and available memory allow."""
    return max(1, min(psutil.cpu_count() or 1, psutil.virtual_memory().available // LINKER_BYTES))


def build_missing(parts: Mapping[str, Part], cache: Cache, go: Path, tell: Progress) -> None:
    """Build every part that is not in the cache or was altered there, then remove what only the build needed.

    Raises:
        BuildError: one of them cannot be built; those that could are kept.
    """
    to_build = cache.to_build(parts)
    if not to_build:
        return
    for name, part in to_build.items():
        if cache.is_built(name, part):
            tell(name, f"does not match its {SUMS} in the cache; building it again", 0, 0)
    cache.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.scratch).free
    if free < NEEDED_BYTES:
        raise BuildError(
            f"a build needs about {NEEDED_BYTES / 1e9:.0f} GB in {cache.root}, and {free / 1e9:.1f} GB are free. Make "
            "room, or set XDG_CACHE_HOME to a folder with more"
        )
    with ThreadPoolExecutor(builds_at_a_time()) as pool:
        builds = [pool.submit(Build(name, part, cache, go, tell).run) for name, part in to_build.items()]
    for build in builds:
        build.result()
    shutil.rmtree(cache.scratch)


@dataclass(frozen=True, slots=True)
class Build:
    """The build of one part."""

    name: str
    part: Part
    cache: Cache
    go: Path
    tell: Progress

    def run(self) -> None:
        """Build it.

        Raises:
            BuildError: it cannot be built.
        """
        folder = self.cache.folder(self.name, self.part)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.cache.scratch) as work:
            self.tell(self.name, "downloading", 0, 0)
            source = self._generated(Path(work)) if self.part.manifest else self._module()
            modfile = _modfile_without_local_replaces(source, Path(work))
            out = Path(work, "out")
            for binary, package in self.part.binaries.items():
                self._compile(source, modfile, package, out / binary)
            write_sums(out)
            shutil.rmtree(folder, ignore_errors=True)
            out.rename(folder)
        self.tell(self.name, "built", 1, 1)

    def _module(self) -> Path:
        said = self._run(self.go, "mod", "download", "-json", self.part.module)
        return Path(json.loads(said)["Dir"])

    def _generated(self, work: Path) -> Path:
        """Have the Collector's builder write its sources.

        Its last step fetches what every system would need, some of which cannot always be had. By then the sources are
        complete, and the compiler fetches what this system needs.
        """
        self._run(self.go, "install", self.part.module, environment={"GOBIN": str(work)})
        source = work / "source"
        options = ("--skip-compilation", "--config", str(HERE / self.part.manifest), "--output-path", str(source))
        try:
            self._run(work / "builder", *options)
        except BuildError:
            if not (source / "go.sum").exists():
                raise
        return source

    def _compile(self, source: Path, modfile: Path, package: str, out: Path) -> None:
        options = ("-mod=mod", f"-modfile={modfile}")
        total = len(self._run(self.go, "list", *options, "-deps", package, cwd=source).splitlines())
        flags = "-s -w"
        if self.part.version_variable:
            flags += f" -X {self.part.version_variable}={self.part.version}"
        arguments = ("build", *options, "-v", "-trimpath", f"-ldflags={flags}", "-o", str(out), package)
        done = count(1)

        def line(_: str) -> None:
            self.tell(self.name, f"compiling {out.name}", min(next(done), total), total)

        self._run(self.go, *arguments, cwd=source, each_line=line)

    def _run(
        self,
        program: Path,
        *arguments: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        each_line: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Run a program to its end, with each line of its stderr told; its stdout.

        Raises:
            BuildError: it failed.
        """
        with (
            TemporaryDirectory(dir=self.cache.scratch) as work,
            Path(work, "stdout").open("w+") as stdout,
            subprocess.Popen(
                [str(program), *arguments],
                cwd=cwd or work,
                env={**os.environ, **self._environment(), **(environment or {})},
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stderr is not None  # noqa: S101  it was started with a pipe
            lines = []
            for text in process.stderr:
                lines.append(text.rstrip())
                each_line(text)
            process.wait()
            stdout.seek(0)
            if process.returncode:
                raise self._failure(program, arguments, lines, stdout.read())
            return stdout.read()

    def _environment(self) -> dict[str, str]:
        """Static binaries, everything below the cache, and no other Go fetched behind our back."""
        return {
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.cache.scratch / "cache"),
            "GOFLAGS": "-buildvcs=false -modcacherw",
            "GOPATH": str(self.cache.scratch / "path"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "PATH": f"{self.go.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def _failure(self, program: Path, arguments: tuple[str, ...], lines: list[str], output: str) -> BuildError:
        said = [line for line in [*lines, *output.splitlines()] if line and not line.startswith("go: downloading")]
        if any("no space left on device" in line for line in said):
            return BuildError(f"{self.part.title} could not be built: no space left in {self.cache.root}")
        why = " / ".join(said[-3:])[-600:]
        return BuildError(f"{self.part.title} could not be built: {program.name} {arguments[0]}: {why}")


def _modfile_without_local_replaces(source: Path, work: Path) -> Path:
    """A copy of a module's `go.mod` without its `replace … => ./…`, and of its `go.sum` beside it."""
    modfile = work / "modfile.mod"
    text = (source / "go.mod").read_text()
    modfile.write_text(re.sub(r"(?m)^.*=>\s*\.{1,2}/.*\n", "", text))
    if (source / "go.sum").exists():
        shutil.copy(source / "go.sum", work / "modfile.sum")
    return modfile
