"""What the documentation says is what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from modeltrace.settings import Settings
from modeltrace.telemetry import names
from modeltrace_hub.api import create_app
from modeltrace_hub.retention import Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer
from stack.__main__ import app
from stack.parts import read_parts

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def variable(model: type[BaseSettings], name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    return str(field.validation_alias or f"{model.model_config['env_prefix']}{name}".upper())


def default(value: Any) -> str:
    """A default as the page shows it."""
    if value is None or value == () or value is PydanticUndefined:  # made at start: the description says what
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def rows(model: type[BaseSettings]) -> list[str]:
    """The table rows that docs/settings.md must hold for a settings class."""
    return [
        f"| `{variable(model, name, field)}` | {default(field.get_default())} | {field.description} |"
        for name, field in model.model_fields.items()
        if not field.exclude
    ]


@pytest.mark.parametrize("row", [*rows(Settings), *rows(HubSettings)])
def test_every_setting_is_documented(row: str) -> None:
    """docs/settings.md has a row with name, default and meaning as the code has them."""
    assert row in (DOCS / "settings.md").read_text().splitlines()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """Every row of docs/settings.md belongs to a field."""
    documented = [line for line in (DOCS / "settings.md").read_text().splitlines() if line.startswith("| `MODELTRACE_")]

    assert set(documented) <= {*rows(Settings), *rows(HubSettings)}


@pytest.mark.parametrize(
    "name", sorted({v for k, v in vars(names).items() if k.isupper() and isinstance(v, str)}), ids=str
)
def test_every_telemetry_name_is_documented(name: str) -> None:
    """docs/telemetry.md names every span, attribute, event and metric of names.py."""
    assert f"`{name}`" in (DOCS / "telemetry.md").read_text()


def test_no_ml_name_is_documented_that_does_not_exist() -> None:
    """Every `ml.*` in docs/telemetry.md is in names.py."""
    documented = set(re.findall(r"`(ml\.[a-z_.]+)`", (DOCS / "telemetry.md").read_text()))

    assert documented <= {v for v in vars(names).values() if isinstance(v, str)}


def hub_paths(*, api: bool) -> set[str]:
    """The paths that the hub serves, without static files and what only redirects."""
    settings = HubSettings(memory=True)
    store = Store(None)
    app = create_app(store, Writer(store, Retention(store, max_age=settings.max_age, max_size=1)), settings)
    paths = {route.path.replace(":path}", "}") for route in iter_route_contexts(app.routes) if hasattr(route, "path")}
    store.close()
    return {p for p in paths if (p.startswith("/api/") or p == "/healthz") == api and not p.startswith("/static")}


def test_every_call_of_the_hub_is_documented() -> None:
    """docs/hub.md has a row for each call of the JSON API."""
    text = (DOCS / "hub.md").read_text()

    assert [path for path in hub_paths(api=True) if f"`GET {path}`" not in text and path not in text] == []


def test_every_page_of_the_hub_is_documented() -> None:
    """docs/hub.md has a row for each page; `/t` only leads to one."""
    text = (DOCS / "hub.md").read_text()

    assert [path for path in hub_paths(api=False) - {"/t"} if f"| `{path}` |" not in text] == []


def test_every_port_of_the_stack_is_documented() -> None:
    """docs/stack.md has a row for each part with every port that it listens on."""
    rows = [line for line in (DOCS / "stack.md").read_text().splitlines() if line.startswith("| ")]
    for part in read_parts().parts.values():
        row = next(line for line in rows if line.startswith(f"| {part.title.removeprefix('OpenTelemetry ')} |"))
        assert set(map(str, part.ports.values())) <= set(re.findall(r"\d+", row))


def test_every_command_of_the_stack_is_documented() -> None:
    """docs/stack.md names each."""
    text = (DOCS / "stack.md").read_text()

    assert [c for c in app.registered_commands if f"./dev stack {c.callback.__name__} " not in text] == []  # type: ignore[union-attr]  # each has one


def test_the_verified_sdks_are_those_of_the_senders() -> None:
    """docs/hub.md names the versions that tests/senders send with."""
    senders = ROOT / "tests" / "senders"
    node = json.loads((senders / "node" / "package.json").read_text())["dependencies"]
    expected = {
        "Go": re.findall(r"go\.opentelemetry\.io/otel/sdk v(\S+)", (senders / "go" / "go.mod").read_text()),
        "Java": re.findall(r"<opentelemetry.version>(.+?)<", (senders / "java" / "pom.xml").read_text()),
        "Node.js": [node["@opentelemetry/sdk-node"]],
    }
    found = re.findall(r"^\| (Go|Java|Node\.js)\b[^|]*\| (\S+) \|", (DOCS / "hub.md").read_text(), re.MULTILINE)

    assert {name: [version] for name, version in found} == expected
