"""The options that several commands have, and how they call the JSON API."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from modeltrace_hub.api_client import Parameters
from modeltrace_hub.cli import text
from modeltrace_hub.cli.source import Source
from modeltrace_hub.errors import ArgumentError, SettingsError

_WHERE: Final = "Where to read"

Url = Annotated[
    str, typer.Option(envvar="MODELTRACE_HUB_URL", help="The address of a running hub.", rich_help_panel=_WHERE)
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="A file that has the hub's key; without it, MODELTRACE_HUB_KEY is used.", rich_help_panel=_WHERE),
]
Key = Annotated[str | None, typer.Option(envvar="MODELTRACE_HUB_KEY", hidden=True)]
Database = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Read this hub.duckdb, or the one in this folder, instead of a running hub. No hub may have it open.",
        rich_help_panel=_WHERE,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer of the JSON API.")]
Since = Annotated[str | None, typer.Option(help="Not before this time: RFC 3339, unix seconds, or an age (15m).")]
Until = Annotated[str | None, typer.Option(help="Not after this time.")]
Service = Annotated[str | None, typer.Option(help="service.name of the resource.")]
MinDuration = Annotated[str | None, typer.Option(help="At least this long: 300ms, 2s.")]
Cursor = Annotated[str | None, typer.Option(help="`next` of the previous answer.")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attr", metavar="KEY=VALUE", help="An attribute of the record or its resource. Repeatable."),
]
FilterLine = Annotated[
    str | None,
    typer.Option("--filter", metavar="LINE", help="A filter line, as on the pages: 'service = shop duration > 100ms'."),
]


def read_source(url: str, key_file: Path | None, key: str | None, database: Path | None) -> Source:
    """Return where to read.

    Raises:
        SettingsError: the file of the key cannot be read.
    """
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"{key_file}, which should have the hub's key, cannot be read: {reason}.") from None
    return Source(url, key, database)


def query_parameters(attributes: list[str] | None = None, **values: object) -> Parameters:
    """Return the query parameters of the values that are given.

    Raises:
        ArgumentError: an attribute is not KEY=VALUE.
    """
    pairs = [
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in values.items()
        if value is not None
    ]
    for attribute in attributes or ():
        key, equals, value = attribute.partition("=")
        if not equals or not key:
            raise ArgumentError(f"--attr {attribute!r} is not KEY=VALUE.")
        pairs.append((f"attr.{key}", value))
    return pairs


def show(source: Source, path: str, parameters: Parameters, format_text: text.TextFormat, *, as_json: bool) -> None:
    """Print the answer of a call of the API, as text or as JSON."""
    with source.open() as api:
        content = api.get(path, parameters)
    if as_json:
        sys.stdout.buffer.write(content + b"\n")
        sys.stdout.buffer.flush()
        return
    answer: dict[str, Any] = orjson.loads(content)
    typer.echo(format_text(answer))
