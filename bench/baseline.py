"""Read and write the committed instruction counts in bench/instructions.json."""

import json
import platform
import re
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

FILE: Final = Path(__file__).with_name("instructions.json")
# The libraries that the counted code calls.
LIBRARIES: Final = (
    "numpy",
    "opentelemetry-api",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-sdk",
    "orjson",
    "sqlalchemy",
    "starlette",
)


class Platform(NamedTuple):
    """The platform of a count. The same code has different instruction counts on another platform."""

    python: str
    machine: str
    libc: str
    valgrind: str

    def __str__(self) -> str:
        return f"{self.python}, {self.machine}, {self.libc}, valgrind {self.valgrind}"


class Entry(NamedTuple):
    """The instructions per prediction of each program on one platform with one set of library versions."""

    platform: Platform
    libraries: dict[str, str]
    instructions: dict[str, int]


def current_platform(valgrind: str) -> Platform:
    """Return the platform of this process."""
    # Only the names of the options, because their values may be paths.
    options = re.findall(r"--(?:enable|with|without)-[a-z0-9-]+", sysconfig.get_config_var("CONFIG_ARGS") or "")
    python = f"{sys.implementation.name} {platform.python_version()} ({platform.python_compiler()})"
    return Platform(
        " ".join([python, *sorted(set(options))]), platform.machine(), " ".join(platform.libc_ver()), valgrind
    )


def installed_libraries() -> dict[str, str]:
    """Return the installed versions of the libraries that the counted code calls."""
    return {name: version(name) for name in LIBRARIES}


def read_entries(file: Path = FILE) -> list[Entry]:
    """Read all entries."""
    return [
        Entry(Platform(**entry["platform"]), entry["libraries"], entry["instructions"])
        for entry in json.loads(file.read_text())
    ]


def find_instructions(entries: list[Entry], platform: Platform, libraries: dict[str, str]) -> dict[str, int] | None:
    """Return the counts of exactly this platform and these libraries, or `None` if there is no such entry."""
    return next((e.instructions for e in entries if e.platform == platform and e.libraries == libraries), None)


def replace_entry(entries: list[Entry], entry: Entry) -> list[Entry]:
    """Add an entry. Remove the previous entry of its platform and all entries of other library versions."""
    remaining = (old for old in entries if old.platform != entry.platform and old.libraries == entry.libraries)
    return [*remaining, entry]


def write_entries(entries: list[Entry], file: Path = FILE) -> None:
    """Write all entries."""
    content = [{**entry._asdict(), "platform": entry.platform._asdict()} for entry in entries]
    file.write_text(json.dumps(content, indent=2) + "\n")
