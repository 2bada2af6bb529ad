"""Build the components from their pinned packages into the cache, each once.

A component of Go modules is built in its downloaded module, with the versions of its own `go.mod`. There are two
exceptions. A `replace` with a folder outside the module is removed, because a downloaded module does not contain that
folder. The sources of the Collector are first generated from a manifest by the Collector's builder. Binaries are
static, so that an image needs no other files. `packages.py` installs the programs from Maven Central and PyPI.
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

from stack.cache import SUMS_FILE, Cache, write_sums
from stack.components import HERE, GoProgram, MavenProgram, Program, PypiProgram
from stack.errors import BuildError
from stack.packages import install_maven, install_pypi
from stack.progress import OnProgress

# Peak memory of one linker, in bytes. A linker uses one thread, so one build per core is useful.
LINKER_BYTES = 2_500_000_000


def parallel_builds() -> int:
    """Return the number of components to build at the same time, limited by cores and available memory."""
    return max(1, min(psutil.cpu_count() or 1, psutil.virtual_memory().available // LINKER_BYTES))


def build_missing(components: Mapping[str, Program], cache: Cache, go: Path, on_progress: OnProgress) -> None:
    """Build every component that is missing from the cache or altered in it, then remove intermediate files.

    Raises:
        BuildError: a component cannot be built. Those that were built stay in the cache.
    """
    to_build = cache.to_build(components)
    if not to_build:
        return
    for name, component in to_build.items():
        if cache.is_built(name, component):
            on_progress(name, f"does not match its {SUMS_FILE} in the cache; building it again", 0, 0)
    cache.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.scratch).free
    needed = max(component.build_bytes for component in to_build.values())
    if free < needed:
        raise BuildError(
            f"the build needs about {needed / 1e9:.0f} GB in {cache.root}, and {free / 1e9:.1f} GB are free. "
            "Free some space, or set XDG_CACHE_HOME to a folder on a larger disk"
        )
    with ThreadPoolExecutor(parallel_builds()) as pool:
        builds = [pool.submit(_build, name, component, cache, go, on_progress) for name, component in to_build.items()]
    for build in builds:
        build.result()
    shutil.rmtree(cache.scratch)


def _build(name: str, component: Program, cache: Cache, go: Path, on_progress: OnProgress) -> None:
    """Build one component, and move it into the cache when it is complete.

    Raises:
        BuildError: the build failed.
    """
    folder = cache.folder(name, component)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache.scratch) as work:
        on_progress(name, "downloading", 0, 0)
        out = Path(work, "out")
        match component:
            case GoProgram():
                GoBuild(name, component, cache, go, on_progress).run(Path(work), out)
            case MavenProgram():
                install_maven(component, Path(work), out)
            case PypiProgram():
                install_pypi(component, Path(work), out)
        write_sums(out)
        shutil.rmtree(folder, ignore_errors=True)
        out.rename(folder)
    on_progress(name, "built", 1, 1)


@dataclass(frozen=True, slots=True)
class GoBuild:
    """The build of one component from Go modules."""

    name: str
    component: GoProgram
    cache: Cache
    go: Path
    on_progress: OnProgress

    def run(self, work: Path, out: Path) -> None:
        """Write the binaries to the folder `out`. The folder `work` holds intermediate files.

        Raises:
            BuildError: the build failed.
        """
        source = self._source(work)
        modfile = _modfile_without_local_replaces(source, work)
        for binary, package in self.component.binaries.items():
            self._compile(source, modfile, package, out / binary)

    def _source(self, work: Path) -> Path:
        """Return the folder in which the packages are built."""
        if self.component.manifest:
            return self._generate_source(work)
        if self.component.wrapper:
            return HERE / self.component.wrapper
        return self._download_module()

    def _download_module(self) -> Path:
        output = self._run(self.go, "mod", "download", "-json", self.component.module)
        return Path(json.loads(output)["Dir"])

    def _generate_source(self, work: Path) -> Path:
        """Generate the Collector's sources with its builder.

        The last step of the builder downloads the dependencies for all systems. It may fail, because some of them may
        not be available. The sources are complete before this step, and the compiler downloads the dependencies that
        this system needs.
        """
        self._run(self.go, "install", self.component.module, environment={"GOBIN": str(work)})
        source = work / "source"
        options = ("--skip-compilation", "--config", str(HERE / self.component.manifest), "--output-path", str(source))
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
        if self.component.version_variable:
            flags += f" -X {self.component.version_variable}={self.component.version}"
        arguments = ("build", *options, "-v", "-trimpath", f"-ldflags={flags}", "-o", str(out), package)
        done = count(1)

        def line(_: str) -> None:
            self.on_progress(self.name, f"compiling {out.name}", min(next(done), total), total)

        self._run(self.go, *arguments, cwd=source, on_line=line)

    def _run(
        self,
        program: Path,
        *arguments: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Run a program, call `on_line` for each line of its stderr, and return its stdout.

        Raises:
            BuildError: the program failed.
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
                on_line(text)
            process.wait()
            stdout.seek(0)
            if process.returncode:
                raise self._failure(program, arguments, lines, stdout.read())
            return stdout.read()

    def _environment(self) -> dict[str, str]:
        """Return variables for static binaries, with all files in the cache and no download of another Go."""
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
        lines_of_output = [
            line for line in [*lines, *output.splitlines()] if line and not line.startswith("go: downloading")
        ]
        if any("no space left on device" in line for line in lines_of_output):
            return BuildError(f"{self.component.title} could not be built: no space left in {self.cache.root}")
        why = " / ".join(lines_of_output[-3:])[-600:]
        return BuildError(f"{self.component.title} could not be built: {program.name} {arguments[0]}: {why}")


def _modfile_without_local_replaces(source: Path, work: Path) -> Path:
    """Copy a module's `go.mod` without local `replace` lines, and its `go.sum`. Return the copy's path."""
    modfile = work / "modfile.mod"
    text = (source / "go.mod").read_text()
    modfile.write_text(re.sub(r"(?m)^.*=>\s*\.{1,2}/.*\n", "", text))
    if (source / "go.sum").exists():
        shutil.copy(source / "go.sum", work / "modfile.sum")
    return modfile
