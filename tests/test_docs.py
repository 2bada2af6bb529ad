"""The documentation agrees with the code: settings, telemetry names, routes, ports, commands, options and links."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typer.main import get_command

from modeltrace.cli.main import app as modeltrace
from modeltrace.settings import Settings
from modeltrace.telemetry import names
from modeltrace.telemetry.metrics import instruments
from modeltrace_hub.__main__ import cli as modeltrace_hub
from modeltrace_hub.api import create_app
from modeltrace_hub.retention import Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer
from stack.__main__ import app
from stack.components import read_components

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TELEMETRY_NAMES = {v for k, v in vars(names).items() if k.isupper() and isinstance(v, str)} | {
    instrument.name for instrument in vars(instruments).values() if isinstance(instrument, instruments.Instrument)
}


def variable(model: type[BaseSettings], name: str, field: FieldInfo) -> str:
    """Return the environment variable of a setting."""
    return str(field.validation_alias or f"{model.model_config['env_prefix']}{name}".upper())


def default(value: Any) -> str:
    """Return a default value as docs/settings.md shows it."""
    if value is None or value == () or value is PydanticUndefined:  # computed at startup, see the description
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def rows(model: type[BaseSettings]) -> list[str]:
    """Return the table rows that docs/settings.md must contain for a settings class."""
    return [
        f"| `{variable(model, name, field)}` | {default(field.get_default())} | {field.description} |"
        for name, field in model.model_fields.items()
        if not field.exclude
    ]


@pytest.mark.parametrize("row", [*rows(Settings), *rows(HubSettings)])
def test_every_setting_is_documented(row: str) -> None:
    """docs/settings.md has a row with the name, default and description in the code."""
    assert row in (DOCS / "settings.md").read_text().splitlines()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """Every row of docs/settings.md belongs to a field."""
    documented = [line for line in (DOCS / "settings.md").read_text().splitlines() if line.startswith("| `MODELTRACE_")]

    assert set(documented) <= {*rows(Settings), *rows(HubSettings)}


def test_lines_of_the_changelog_are_short() -> None:
    """They have at most 120 characters, as lines of code."""
    assert [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if len(line) > 120] == []


def test_every_variable_in_the_code_is_documented() -> None:
    """A page names each variable that the service, the hub or `dev` reads or sets, also if it is no setting."""
    code = "".join(path.read_text() for path in [*CODE, ROOT / "dev"] if ROOT / "tests" not in path.parents)
    names = set(re.findall(r"\bMODELTRACE_[A-Z0-9_]*[A-Z0-9]\b", code))
    text = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")

    assert sorted(name for name in names if not re.search(rf"\b{name}\b", text)) == []


@pytest.mark.parametrize("name", sorted(TELEMETRY_NAMES), ids=str)
def test_every_telemetry_name_is_documented(name: str) -> None:
    """docs/telemetry.md names every span, attribute and event of names.py, and every metric of instruments.py."""
    assert f"`{name}`" in (DOCS / "telemetry.md").read_text()


def test_no_ml_name_is_documented_that_does_not_exist() -> None:
    """Every `ml.*` in docs/telemetry.md is in names.py or instruments.py."""
    documented = set(re.findall(r"`(ml\.[a-z_.]+)`", (DOCS / "telemetry.md").read_text()))

    assert documented <= TELEMETRY_NAMES


def hub_paths(*, api: bool) -> set[str]:
    """Return the paths that the hub serves, without static files and redirects."""
    settings = HubSettings(memory=True)
    store = Store(None)
    app = create_app(store, Writer(store, Retention(store, max_age=settings.max_age, max_size=1)), settings)
    paths = {
        re.sub(":[a-z_]+}", "}", route.path) for route in iter_route_contexts(app.routes) if hasattr(route, "path")
    }
    store.close()
    return {p for p in paths if (p.startswith("/api/") or p == "/healthz") == api and not p.startswith("/static")}


def test_every_call_of_the_hub_is_documented() -> None:
    """docs/hub.md has a row for each call of the JSON API."""
    text = (DOCS / "hub.md").read_text()

    assert [path for path in hub_paths(api=True) if f"`GET {path}`" not in text and path not in text] == []


def test_every_page_of_the_hub_is_documented() -> None:
    """docs/hub.md has a row for each page. `/t` is not a page, but redirects to one."""
    text = (DOCS / "hub.md").read_text()

    assert [path for path in hub_paths(api=False) - {"/t"} if f"| `{path}` |" not in text] == []


def test_every_port_of_the_stack_is_documented() -> None:
    """docs/stack.md has a row for each component with all of its ports."""
    rows = [line for line in (DOCS / "stack.md").read_text().splitlines() if line.startswith("| ")]
    for component in read_components().components.values():
        row = next(line for line in rows if line.startswith(f"| {component.title.removeprefix('OpenTelemetry ')} |"))
        assert set(map(str, component.ports.values())) <= set(re.findall(r"\d+", row))


def test_every_command_of_the_stack_is_documented() -> None:
    """docs/stack.md names each command of `./dev stack`."""
    text = (DOCS / "stack.md").read_text()

    assert [c for c in app.registered_commands if f"./dev stack {c.callback.__name__} " not in text] == []  # type: ignore[union-attr]  # each has one


def test_the_verified_sdks_are_those_of_the_senders() -> None:
    """docs/hub.md names the versions of the SDKs in tests/senders."""
    senders = ROOT / "tests" / "senders"
    node = json.loads((senders / "node" / "package.json").read_text())["dependencies"]
    expected = {
        "Go": re.findall(r"go\.opentelemetry\.io/otel/sdk v(\S+)", (senders / "go" / "go.mod").read_text()),
        "Java": re.findall(r"<opentelemetry.version>(.+?)<", (senders / "java" / "pom.xml").read_text()),
        "Node.js": [node["@opentelemetry/sdk-node"]],
    }
    documented = re.findall(r"^\| (Go|Java|Node\.js)\b[^|]*\| (\S+) \|", (DOCS / "hub.md").read_text(), re.MULTILINE)

    assert {name: [version] for name, version in documented} == expected


# Files that may define a name: all except pages and tests.
CODE = [
    path
    for folder in ("service", "hub", "modeltrace_http", "stack", "deploy", "otel", "bench")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql", ".yml", ".yaml", ".toml", ".html"}
] + [ROOT / name for name in ("dev", "docker-compose.yml", "Dockerfile")]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]


def page_id(page: Path) -> str:
    """Return the name of a page in test IDs."""
    return page.relative_to(ROOT).as_posix()


def tables(text: str) -> Iterator[list[str]]:
    """Yield the rows of each Markdown table, without its header."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield block.splitlines()[2:]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_name_has_two_rows_in_a_table(page: Path) -> None:
    """A table whose rows begin with a name in code style describes each name once."""
    for table in tables(page.read_text()):
        named = Counter(cell for row in table if (cell := row.split("|")[1].strip()).startswith("`"))
        assert [name for name, count in named.items() if count > 1] == []


def slug(heading: str) -> str:
    """Return the anchor of a heading, as Git hosting services derive it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file or folder that exists, and each anchor a heading of that page."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(line.lstrip("#")) for line in file.read_text().splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=page_id)
def test_names_in_pages_exist(page: Path) -> None:
    """Settings, telemetry names, modules and paths of the repository that a page names exist."""
    text = page.read_text()
    settings = {variable(model, n, f) for model in (Settings, HubSettings) for n, f in model.model_fields.items()}
    code = "".join(path.read_text() for path in CODE)
    unknown = [
        name
        for name in set(re.findall(r"\bMODELTRACE_[A-Z0-9_]*[A-Z0-9]\b", text))
        if name not in settings and name not in code and not name.startswith("MODELTRACE_TEST_")
    ]
    unknown += [name for name in re.findall(r"`(m(?:l|odeltrace)\.[a-z_.]+)`", text) if name not in code]
    unknown += [
        path
        for path in re.findall(r"(?<![\w/.])((?:service|hub|deploy|otel|stack|bench|tests)/[\w./-]*\w)", text)
        if not (ROOT / path).exists() and not list(ROOT.glob(f"{path}*"))
    ]

    assert unknown == []


def options(command: Any) -> Iterator[str]:
    """Yield the options of a command and of its subcommands."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for name, inner in getattr(command, "commands", {}).items():
        context = inner.make_context(name, [], resilient_parsing=True)  # imports a lazy command
        yield from options(inner if hasattr(inner, "commands") else context.command)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=page_id)
def test_options_in_pages_exist(page: Path) -> None:
    """Each option in a shell line of `modeltrace` is an option of a command."""
    known = {option for typed in (modeltrace, modeltrace_hub, app) for option in options(get_command(typed))}
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(
        r"modeltrace (?:up|hub|serve|pack|score|traffic|doctor|evaluate|evidence|replay|report|audit)[^`#\n|&]*", text
    )
    named = {option for line in lines for option in re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", line)}

    assert sorted(named - known - {"--help"}) == []
