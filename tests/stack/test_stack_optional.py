"""Loki is optional: a stack works without it, and the command line says which component is left out and why."""

import configparser
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stack import __main__ as command_line
from stack.cache import Cache
from stack.components import Component, Ports, read_components
from stack.layout import ROOT, Layout, configured_components


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The layout of a stack without Loki."""
    table = read_components()
    ports = Ports.default(table)
    return Layout(
        table.without(["loki"]), ports, Cache(tmp_path / "cache"), tmp_path / "state", [tmp_path / "own.yaml"]
    )


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the components that the command line builds, on a machine where nothing is built."""
    names: list[str] = []

    def remember(components: Mapping[str, Component], *_: object) -> None:
        names.extend(components)

    monkeypatch.setattr(command_line, "build_missing", remember)
    monkeypatch.setattr(command_line, "find_go", lambda *_: Path("go"))
    monkeypatch.setattr(command_line, "_cache", lambda: Cache(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    return names


def test_only_loki_is_optional() -> None:
    """All other components are required; the table names the license of Loki."""
    optional = {
        name: component.licence for name, component in read_components().components.items() if component.optional
    }

    assert optional == {"loki": "AGPL-3.0"}


def test_no_component_depends_on_the_absent_one(layout: Layout) -> None:
    """Start order, `after` and the scrape targets contain only the components of the stack."""
    layout.prepare()
    targets = yaml.safe_load((layout.config / "deploy/prometheus/targets/components.yml").read_text())
    present = read_components().components.keys() - {"loki"}

    assert set(layout.start_order()) == present
    assert set(layout.table.components["otelcol"].after) == {"jaeger", "prometheus"}
    assert {target["labels"]["component"] for target in targets} == present
    assert configured_components(layout.state) == present


def test_the_collector_writes_log_records_to_the_file_of_the_layout(layout: Layout) -> None:
    """otel/log-file.yaml is merged before the user's files, and writes to the path that the stack shows."""
    layout.prepare()
    config = configparser.RawConfigParser()
    config.read(layout.supervisor_config)
    command = config["program:otelcol"]["command"]
    exporter = yaml.safe_load((ROOT / "otel" / "log-file.yaml").read_text())["exporters"]["file/logs"]

    assert command.index("/collector.yaml") < command.index("/log-file.yaml") < command.index("/own.yaml")
    assert layout.log_record_file is not None
    assert exporter["path"].replace("${env:OTELCOL_DATA:-/var/lib/otelcol}", str(layout.data_folder("otelcol"))) == str(
        layout.log_record_file
    )
    assert layout.component_environment("otelcol")["OTELCOL_LOG_EXPORTER"] == "file/logs"


def test_with_loki_there_is_no_file(layout: Layout) -> None:
    """The Collector then runs without otel/log-file.yaml."""
    complete = Layout(read_components(), layout.ports, layout.cache, layout.state)

    assert complete.log_record_file is None
    assert not [argument for argument in complete.command("otelcol") if "log-file" in argument]
    assert "OTELCOL_LOG_EXPORTER" not in complete.component_environment("otelcol")


def test_loki_is_only_built_on_request(built: list[str]) -> None:
    """One line says that it is not built, with its license and the option to build it."""
    done = CliRunner().invoke(command_line.app, ["build"])

    assert done.exit_code == 0
    assert built == [name for name in read_components().components if name != "loki"]
    assert [line for line in done.stderr.splitlines() if "Loki" in line] == [
        "not built: Loki, which is optional and licensed under AGPL-3.0. To build it: ./dev stack build --with loki"
    ]


def test_programs_for_many_machines_are_built_on_request(built: list[str]) -> None:
    """`--many` builds them; they are not components of the stack."""
    done = CliRunner().invoke(command_line.app, ["build", "--many"])

    assert done.exit_code == 0
    assert set(built) - read_components().components.keys() == read_components().many.keys()


def test_a_single_program_for_many_machines_can_be_built(built: list[str]) -> None:
    """`--with kafka` builds none of the others."""
    done = CliRunner().invoke(command_line.app, ["build", "--with", "kafka"])

    assert done.exit_code == 0
    assert set(built) - read_components().components.keys() == {"kafka"}


def test_the_license_is_shown_before_loki_is_built(built: list[str]) -> None:
    """The first line on stderr names the license and the module that is downloaded."""
    done = CliRunner().invoke(command_line.app, ["build", "--with", "loki"])

    assert done.exit_code == 0
    assert "loki" in built
    assert done.stderr.startswith(
        "Loki 3.7.8 is licensed under AGPL-3.0. It is downloaded from github.com/grafana/loki/v3@v3.7.8"
    )


def test_with_accepts_only_optional_components(built: list[str]) -> None:
    """The error lists the valid names, and nothing is built."""
    done = CliRunner().invoke(command_line.app, ["build", "--with", "grafana"])

    assert done.exit_code == 2
    assert "loki" in done.stderr
    assert built == []


def test_status_shows_the_components_at_the_start(
    layout: Layout, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Loki that was built after the start is not part of the running stack."""
    assert built == []
    layout.prepare()
    loki = read_components().components["loki"]
    folder = layout.cache.folder("loki", loki)
    folder.mkdir(parents=True)
    (folder / "loki").touch()
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(command_line.app, ["status", "--state", str(layout.state)])

    assert "otelcol" in done.stdout
    assert "loki" not in done.stdout
