"""The table of components in stack/components.toml, and the configuration files that are generated from it."""

import configparser
import tomllib
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from stack import layout as layout_module
from stack.cache import Cache
from stack.components import Component, Ports, read_components
from stack.errors import RunError
from stack.layout import ROOT, Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The layout of the default stack in a temporary folder."""
    components = read_components()
    return Layout(
        components, Ports.default(components), Cache(tmp_path / "cache"), tmp_path / "state", [ROOT / "otel/x.yaml"]
    )


def test_no_two_listeners_share_a_port() -> None:
    """All components, the service and the hub can run on one machine at the same time."""
    ports = [port for component in read_components().components.values() for port in component.ports.values()]

    assert len({*ports, 8000, 4319}) == len(ports) + 2


def test_a_component_has_the_version_of_its_image() -> None:
    """The built component and its official image have the same version."""
    for component in read_components().components.values():
        assert component.image.rpartition(":")[2].removeprefix("v") == component.version


def test_a_component_starts_after_its_dependencies(layout: Layout) -> None:
    """The Collector starts last and stops first, because it sends to all other components."""
    order = layout.start_order()

    assert sorted(order) == sorted(layout.table.components)
    assert order[-1] == "otelcol"
    for name, component in layout.table.components.items():
        assert all(order.index(other) < order.index(name) for other in component.after)


def test_an_unknown_key_is_an_error() -> None:
    """A misspelt key in the table raises an error that names it."""
    described = tomllib.loads((ROOT / "stack" / "components.toml").read_text())["components"]["loki"]

    with pytest.raises(ValidationError, match="vresion"):
        Component.model_validate({**described, "vresion": "1"})


def test_prometheus_scrapes_every_component(layout: Layout) -> None:
    """The file of scrape targets lists all components of the table, on loopback."""
    layout.prepare()
    targets = yaml.safe_load((layout.config / "deploy/prometheus/targets/components.yml").read_text())

    assert {target["labels"]["component"] for target in targets} == set(layout.table.components)
    assert all(address.startswith("127.0.0.1:") for target in targets for address in target["targets"])


def test_the_supervisor_runs_every_component(layout: Layout) -> None:
    """Each component is a program that is restarted when it ends; all placeholders of its command are replaced."""
    layout.prepare()
    config = configparser.RawConfigParser()
    config.read(layout.supervisor_config)

    programs = {name.partition(":")[2]: config[name] for name in config.sections() if name.startswith("program:")}
    assert set(programs) == set(layout.table.components)
    for program in programs.values():
        assert "{" not in program["command"] + program["environment"]
        assert program["autorestart"] == "true"
    assert programs["otelcol"]["command"].endswith('otel/x.yaml"')


def test_state_folder_and_supervisor_are_private_to_the_user(layout: Layout) -> None:
    """No other user can read the state folder, which contains inputs of predictions."""
    layout.prepare()

    assert layout.state.stat().st_mode & 0o777 == 0o700
    assert layout.supervisor_config.stat().st_mode & 0o777 == 0o600


def test_a_path_too_long_for_a_socket_is_an_error(layout: Layout, tmp_path: Path) -> None:
    """The error names the limit and the option, before any component starts."""
    long = Layout(layout.table, layout.ports, layout.cache, tmp_path / ("long" * 30))

    with pytest.raises(RunError, match=r"too long for a Unix socket.*--state"):
        long.prepare()


def test_a_full_disk_is_an_error_before_the_start(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the free and the required space."""
    monkeypatch.setattr(layout_module, "MIN_FREE_BYTES", 10**18)

    with pytest.raises(RunError, match=r"MB are free in .*state; the stack needs"):
        layout.prepare()


def test_an_unwritable_state_folder_is_an_error(layout: Layout) -> None:
    """The error names the path, here that of a file instead of a folder."""
    layout.state.write_text("a file")

    with pytest.raises(RunError, match=r"cannot write in .*state: "):
        layout.prepare()
