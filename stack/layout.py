"""Where one running stack keeps its things, and what its supervisor is told."""

import configparser
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from stack.cache import Cache
from stack.errors import RunError
from stack.parts import HERE, HOST, Parts, Ports

ROOT = HERE.parent
SUPERVISOR_CONFIG = "supervisord.conf"
# The kernel's limit for the path of a Unix socket, and what a database needs to start at all.
SOCKET_PATH = 100
NEEDED_BYTES = 500 * 10**6


@dataclass(frozen=True, slots=True)
class Layout:
    """One stack: its parts, their ports, where the binaries are and where it may write.

    `state` holds `config/` (a copy of otel/ and deploy/ with this run's addresses), `data/PART/`, `logs/PART.log` and
    the supervisor's own files. `collector_configs` are merged with otel/collector.yaml, in this order.
    """

    parts: Parts
    ports: Ports
    cache: Cache
    state: Path
    collector_configs: Sequence[Path] = ()
    environment: Mapping[str, str] | None = None

    @property
    def socket(self) -> Path:
        """Where the supervisor is asked."""
        return self.state / "supervisor.sock"

    @property
    def pid_file(self) -> Path:
        """The supervisor's process ID."""
        return self.state / "supervisord.pid"

    @property
    def supervisor_config(self) -> Path:
        """What the supervisor is told."""
        return self.state / SUPERVISOR_CONFIG

    @property
    def config(self) -> Path:
        """This run's copy of otel/ and deploy/."""
        return self.state / "config"

    def data(self, part: str) -> Path:
        """Where a part stores."""
        return self.state / "data" / part

    def log(self, part: str) -> Path:
        """What a part says."""
        return self.state / "logs" / f"{part}.log"

    @property
    def record_file(self) -> Path | None:
        """Where the Collector writes log records when there is no Loki (otel/log-file.yaml)."""
        return None if "loki" in self.parts.parts else self.data("otelcol") / "logs" / "records.jsonl"

    def fill(self, part: str, text: str) -> str:
        """A text of the table with ports and folders put in."""
        return self.ports.fill(text, config=self.config, data=self.data(part))

    def address(self, part: str, port: str) -> str:
        """Where a port listens: ``127.0.0.1:4318``."""
        return f"{HOST}:{self.ports.by_part[part][port]}"

    def order(self) -> list[str]:
        """The parts, each behind those that it waits for."""
        order: list[str] = []

        def add(name: str) -> None:
            for other in self.parts.parts[name].after:
                add(other)
            if name not in order:
                order.append(name)

        for name in self.parts.parts:
            add(name)
        return order

    def prepare(self) -> None:
        """Lay out the folders and write all configuration.

        Raises:
            RunError: there is no room, or the path is too long for a socket.
        """
        if len(str(self.socket)) > SOCKET_PATH:
            raise RunError(
                f"the path of {self.state} is too long for a socket in it: choose a shorter one with --state"
            )
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (free := shutil.disk_usage(self.state).free) < NEEDED_BYTES:
                raise RunError(
                    f"{free / 1e6:.0f} MB are free in {self.state}, and the stack wants {NEEDED_BYTES / 1e6:.0f}"
                )
            for name in self.parts.parts:
                self.data(name).mkdir(parents=True, exist_ok=True)
                self.log(name).parent.mkdir(parents=True, exist_ok=True)
            self._write_config()
            self._write_supervisor_config()
        except OSError as error:
            raise RunError(f"cannot write in {self.state}: {error.strerror or error}") from None

    def wipe(self) -> None:
        """Delete what the parts stored; their logs stay."""
        shutil.rmtree(self.state / "data", ignore_errors=True)

    def _write_config(self) -> None:
        shutil.rmtree(self.config, ignore_errors=True)
        for folder in ("otel", "deploy"):
            shutil.copytree(ROOT / folder, self.config / folder)
        targets = self.config / "deploy" / "prometheus" / "targets"
        targets.mkdir(exist_ok=True)
        scraped = [
            {"targets": [self.fill(name, part.metrics)], "labels": {"part": name}}
            for name, part in self.parts.parts.items()
        ]
        (targets / "parts.yml").write_text(yaml.safe_dump(scraped))
        (targets / "alertmanager.yml").write_text(yaml.safe_dump([{"targets": [self.address("alertmanager", "http")]}]))

    def supervisor_text(self) -> str:
        """What the supervisor is told: the same text means the same parts, ports and options."""
        config = configparser.RawConfigParser()
        config.optionxform = str  # type: ignore[assignment,method-assign]  # names of variables keep their case
        config["unix_http_server"] = {"file": str(self.socket), "chmod": "0700"}
        config["supervisord"] = {
            "logfile": str(self.state / "logs" / "supervisord.log"),
            "pidfile": str(self.pid_file),
            "childlogdir": str(self.state / "logs"),
        }
        config["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        for priority, name in enumerate(self.order(), start=1):
            config[f"program:{name}"] = self._program(name, priority)
        text = io.StringIO()
        config.write(text)
        return text.getvalue()

    def _write_supervisor_config(self) -> None:
        self.supervisor_config.touch(mode=0o600)
        self.supervisor_config.write_text(self.supervisor_text())

    def _program(self, name: str, priority: int) -> dict[str, str]:
        """A part as the supervisor runs it; the one with the highest priority number is stopped first."""
        return {
            "command": " ".join(_quoted(argument) for argument in self.command(name)),
            "environment": ",".join(f"{k}={_quoted(v)}" for k, v in self.part_environment(name).items()),
            "directory": self.fill(name, self.parts.parts[name].directory),
            "priority": str(priority),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "stopwaitsecs": "20",
            "redirect_stderr": "true",
            "stdout_logfile": str(self.log(name)),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "2",
        }

    def command(self, name: str) -> list[str]:
        """The program of a part and its arguments."""
        part = self.parts.parts[name]
        program, *arguments = (self.fill(name, argument) for argument in part.command)
        if name == "otelcol":
            arguments += [f"--config={path.resolve()}" for path in self.collector_configs]
        return [str(self.cache.program(name, part, program)), *arguments]

    def part_environment(self, name: str) -> dict[str, str]:
        """What the environment of a part says beside the user's own."""
        return {k: self.fill(name, v) for k, v in self.parts.parts[name].environment.items()} | dict(
            self.environment or {}
        )


def configured_parts(state: Path) -> set[str]:
    """The parts that the supervisor of a state folder was last told of; empty where nothing was started."""
    config = configparser.RawConfigParser()
    config.read(state / SUPERVISOR_CONFIG)
    return {name.removeprefix("program:") for name in config.sections() if name.startswith("program:")}


def _quoted(text: str) -> str:
    """A value in the supervisor's configuration, where % starts a substitution."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
