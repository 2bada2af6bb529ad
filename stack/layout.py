"""Files and folders of a running stack, and the supervisor's configuration."""

import configparser
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from stack.cache import Cache
from stack.components import HERE, HOST, ComponentTable, Ports
from stack.errors import RunError

ROOT = HERE.parent
SUPERVISOR_CONFIG = "supervisord.conf"
# Maximum length of a Unix socket's path that all kernels accept, and free bytes that the databases need to start.
MAX_SOCKET_PATH = 100
MIN_FREE_BYTES = 500 * 10**6


@dataclass(frozen=True, slots=True)
class Layout:
    """One stack: its components, ports, binaries and state folder.

    `state` contains `config/` (a copy of otel/ and deploy/ with the addresses of this run), `data/NAME/`,
    `logs/NAME.log` and the files of the supervisor. `collector_configs` are merged with otel/collector.yaml, in the
    given order.
    """

    table: ComponentTable
    ports: Ports
    cache: Cache
    state: Path
    collector_configs: Sequence[Path] = ()
    environment: Mapping[str, str] | None = None

    @property
    def socket(self) -> Path:
        """The Unix socket of the supervisor."""
        return self.state / "supervisor.sock"

    @property
    def supervisor_config(self) -> Path:
        """The supervisor's configuration file."""
        return self.state / SUPERVISOR_CONFIG

    @property
    def config(self) -> Path:
        """The folder with this run's copy of otel/ and deploy/."""
        return self.state / "config"

    def data_folder(self, component: str) -> Path:
        """Return the data folder of a component."""
        return self.state / "data" / component

    def log_file(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.state / "logs" / f"{component}.log"

    @property
    def log_record_file(self) -> Path | None:
        """The file that the Collector writes log records to when there is no Loki (otel/log-file.yaml)."""
        return None if "loki" in self.table.components else self.data_folder("otelcol") / "logs" / "records.jsonl"

    def fill(self, component: str, text: str) -> str:
        """Replace the ports and folders in a text of the table."""
        return self.ports.fill(text, config=self.config, data=self.data_folder(component))

    def address(self, component: str, port: str) -> str:
        """Return the address of a port, such as ``127.0.0.1:4318``."""
        return f"{HOST}:{self.ports.by_component[component][port]}"

    def start_order(self) -> list[str]:
        """Return the components in start order: each one follows the components that it waits for."""
        order: list[str] = []

        def add(name: str) -> None:
            for other in self.table.components[name].after:
                add(other)
            if name not in order:
                order.append(name)

        for name in self.table.components:
            add(name)
        return order

    def prepare(self) -> None:
        """Create the folders and write all configuration.

        Raises:
            RunError: the disk is full, or the path is too long for a Unix socket.
        """
        if len(str(self.socket)) > MAX_SOCKET_PATH:
            raise RunError(
                f"the path {self.state} is too long for a Unix socket in it: choose a shorter one with --state"
            )
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (free := shutil.disk_usage(self.state).free) < MIN_FREE_BYTES:
                raise RunError(
                    f"{free / 1e6:.0f} MB are free in {self.state}; the stack needs {MIN_FREE_BYTES / 1e6:.0f}"
                )
            for name in self.table.components:
                self.data_folder(name).mkdir(parents=True, exist_ok=True)
                self.log_file(name).parent.mkdir(parents=True, exist_ok=True)
            self._write_config()
            self._write_supervisor_config()
        except OSError as error:
            raise RunError(f"cannot write in {self.state}: {error.strerror or error}") from None

    def wipe(self) -> None:
        """Delete the data of all components. Logs stay."""
        shutil.rmtree(self.state / "data", ignore_errors=True)

    def _write_config(self) -> None:
        shutil.rmtree(self.config, ignore_errors=True)
        for folder in ("otel", "deploy"):
            shutil.copytree(ROOT / folder, self.config / folder)
        targets = self.config / "deploy" / "prometheus" / "targets"
        targets.mkdir(exist_ok=True)
        scraped = [
            {"targets": [self.fill(name, component.metrics)], "labels": {"component": name}}
            for name, component in self.table.components.items()
        ]
        (targets / "components.yml").write_text(yaml.safe_dump(scraped))
        (targets / "alertmanager.yml").write_text(yaml.safe_dump([{"targets": [self.address("alertmanager", "http")]}]))

    def supervisor_text(self) -> str:
        """Return the supervisor's configuration. Stacks with equal texts have equal components, ports and options."""
        config = configparser.RawConfigParser()
        config.optionxform = str  # type: ignore[assignment,method-assign]  # names of variables keep their case
        config["unix_http_server"] = {"file": str(self.socket), "chmod": "0700"}
        config["supervisord"] = {
            "logfile": str(self.state / "logs" / "supervisord.log"),
            "pidfile": str(self.state / "supervisord.pid"),
            "childlogdir": str(self.state / "logs"),
        }
        config["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        for priority, name in enumerate(self.start_order(), start=1):
            config[f"program:{name}"] = self._program(name, priority)
        text = io.StringIO()
        config.write(text)
        return text.getvalue()

    def _write_supervisor_config(self) -> None:
        self.supervisor_config.touch(mode=0o600)
        self.supervisor_config.write_text(self.supervisor_text())

    def _program(self, name: str, priority: int) -> dict[str, str]:
        """Return the supervisor's section of a component. The supervisor stops the highest priority number first."""
        return {
            "command": " ".join(_quoted(argument) for argument in self.command(name)),
            "environment": ",".join(f"{k}={_quoted(v)}" for k, v in self.component_environment(name).items()),
            "directory": self.fill(name, self.table.components[name].directory),
            "priority": str(priority),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "stopwaitsecs": "20",
            "redirect_stderr": "true",
            "stdout_logfile": str(self.log_file(name)),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "2",
        }

    def command(self, name: str) -> list[str]:
        """Return the program of a component and its arguments."""
        component = self.table.components[name]
        program, *arguments = (self.fill(name, argument) for argument in component.command)
        if name == "otelcol":
            arguments += [f"--config={path.resolve()}" for path in self.collector_configs]
        return [str(self.cache.program(name, component, program)), *arguments]

    def component_environment(self, name: str) -> dict[str, str]:
        """Return the variables that a component gets in addition to the user's."""
        return {k: self.fill(name, v) for k, v in self.table.components[name].environment.items()} | dict(
            self.environment or {}
        )


def configured_components(state: Path) -> set[str]:
    """Return the components in the supervisor's configuration of a state folder; empty if there is none."""
    config = configparser.RawConfigParser()
    config.read(state / SUPERVISOR_CONFIG)
    return {name.removeprefix("program:") for name in config.sections() if name.startswith("program:")}


def _quoted(text: str) -> str:
    """Quote a value for the supervisor's configuration, where % starts a substitution."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
