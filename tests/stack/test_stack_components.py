"""The table of components is whole, and everything that is written from it is."""

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
    """The usual stack, in a folder of its own."""
    components = read_components()
    return Layout(
        components, Ports.default(components), Cache(tmp_path / "cache"), tmp_path / "state", [ROOT / "otel/x.yaml"]
    )


def test_no_two_listeners_share_a_port() -> None:
    """Everything can run on one machine, with service and hub page beside it."""
    ports = [port for component in read_components().components.values() for port in component.ports.values()]

    assert len({*ports, 8000, 4319}) == len(ports) + 2


def test_a_part_has_the_version_of_its_image() -> None:
    """Native component and official image are the same version."""
    for component in read_components().components.values():
        assert component.image.rpartition(":")[2].removeprefix("v") == component.version


def test_a_part_starts_after_those_it_waits_for(layout: Layout) -> None:
    """And the Collector, to which all others are receivers, last: it is the first to be stopped."""
    order = layout.start_order()

    assert sorted(order) == sorted(layout.table.components)
    assert order[-1] == "otelcol"
    for name, component in layout.table.components.items():
        assert all(order.index(other) < order.index(name) for other in component.after)


def test_a_word_that_nobody_reads_is_refused() -> None:
    """A misspelt key in the table is an error, not a silence."""
    described = tomllib.loads((ROOT / "stack" / "components.toml").read_text())["components"]["loki"]

    with pytest.raises(ValidationError, match="vresion"):
        Component.model_validate({**described, "vresion": "1"})


def test_prometheus_scrapes_every_part(layout: Layout) -> None:
    """The targets are written from the table."""
    layout.prepare()
    targets = yaml.safe_load((layout.config / "deploy/prometheus/targets/components.yml").read_text())

    assert {target["labels"]["component"] for target in targets} == set(layout.table.components)
    assert all(address.startswith("127.0.0.1:") for target in targets for address in target["targets"])


def test_the_supervisor_is_told_of_every_part(layout: Layout) -> None:
    """Each is a program of its own, with every brace of the table filled in, and restarted when it dies."""
    layout.prepare()
    config = configparser.RawConfigParser()
    config.read(layout.supervisor_config)

    programs = {name.partition(":")[2]: config[name] for name in config.sections() if name.startswith("program:")}
    assert set(programs) == set(layout.table.components)
    for program in programs.values():
        assert "{" not in program["command"] + program["environment"]
        assert program["autorestart"] == "true"
    assert programs["otelcol"]["command"].endswith('otel/x.yaml"')


def test_only_the_user_may_ask_the_supervisor_or_read_what_is_stored(layout: Layout) -> None:
    """Inputs of predictions are below the state folder."""
    layout.prepare()

    assert layout.state.stat().st_mode & 0o777 == 0o700
    assert layout.supervisor_config.stat().st_mode & 0o777 == 0o600


def test_a_path_too_long_for_a_socket_is_refused(layout: Layout, tmp_path: Path) -> None:
    """The kernel's limit is said before anything starts."""
    long = Layout(layout.table, layout.ports, layout.cache, tmp_path / ("long" * 30))

    with pytest.raises(RunError, match=r"too long for a Unix socket.*--state"):
        long.prepare()


def test_a_full_disk_is_said_before_anything_starts(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much there is, and how much is wanted."""
    monkeypatch.setattr(layout_module, "MIN_FREE_BYTES", 10**18)

    with pytest.raises(RunError, match=r"MB are free in .*state; the stack needs"):
        layout.prepare()


def test_a_folder_that_cannot_be_written_is_named(layout: Layout) -> None:
    """A file stands where the folder should be."""
    layout.state.write_text("in the way")

    with pytest.raises(RunError, match=r"cannot write in .*state: "):
        layout.prepare()
