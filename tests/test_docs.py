"""What the documentation says is what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from hub.settings import HubSettings
from service.settings import OtelSettings, Settings
from service.telemetry import names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def variable(model: type[BaseSettings], name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    return str(field.validation_alias or f"{model.model_config['env_prefix']}{name}".upper())


def default(value: Any) -> str:  # noqa: ANN401  any default
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


@pytest.mark.parametrize("row", [*rows(Settings), *rows(OtelSettings), *rows(HubSettings)])
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
