"""The commands that read telemetry. Each calls one function of the JSON API."""

import sys
from collections.abc import Collection, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from modeltrace_hub.api_client import quote_segment
from modeltrace_hub.cli import text
from modeltrace_hub.cli.options import (
    Attributes,
    Cursor,
    Database,
    FilterLine,
    Json,
    Key,
    KeyFile,
    MinDuration,
    Service,
    Since,
    Until,
    Url,
    query_parameters,
    read_source,
    show,
)
from modeltrace_hub.cli.source import DEFAULT_URL
from modeltrace_hub.cli.summaries import llm_calls, series, services
from modeltrace_hub.errors import ArgumentError, SettingsError


def traces(
    service: Service = None,
    name: Annotated[str | None, typer.Option(help="Part of a span's name.")] = None,
    error: Annotated[bool | None, typer.Option("--error/--no-error", help="With an error, or without one.")] = None,
    min_duration: MinDuration = None,
    max_duration: Annotated[str | None, typer.Option(help="At most this long.")] = None,
    filter_line: FilterLine = None,
    attr: Attributes = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The maximum number of traces.")] = 20,
    cursor: Cursor = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """List traces, newest first."""
    parameters = query_parameters(
        attr,
        filter=filter_line,
        service=service,
        name=name,
        error=error,
        min_duration=min_duration,
        max_duration=max_duration,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    show(read_source(url, key_file, key, database), "/api/traces", parameters, text.traces_text, as_json=as_json)


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace ID: 32 hexadecimal digits.")],
    limit: Annotated[int, typer.Option(help="The maximum number of spans, log records, …")] = 1000,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """Show one trace: its spans, log records, predictions and metric points."""
    trace_id = trace_id.strip().lower()
    if not trace_id.isalnum():  # an empty ID, or "..", would be the path of another function
        raise ArgumentError(f"{trace_id!r} is not a trace ID: it has 32 hexadecimal digits.")
    path = f"/api/traces/{quote_segment(trace_id)}"
    source = read_source(url, key_file, key, database)
    show(source, path, query_parameters(limit=limit), text.trace_text, as_json=as_json)


def logs(
    service: Service = None,
    severity: Annotated[str | None, typer.Option(help="This severity or a higher one: WARN.")] = None,
    q: Annotated[str | None, typer.Option("--text", help="Part of the text.")] = None,
    trace_id: Annotated[str | None, typer.Option("--trace", metavar="ID", help="Written in this trace.")] = None,
    event: Annotated[str | None, typer.Option(help="The event name.")] = None,
    scope: Annotated[str | None, typer.Option("--logger", help="The name of the logger.")] = None,
    filter_line: FilterLine = None,
    attr: Attributes = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The maximum number of records.")] = 100,
    cursor: Cursor = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """List log records, newest first."""
    parameters = query_parameters(
        attr,
        filter=filter_line,
        service=service,
        severity=severity,
        q=q,
        trace_id=trace_id,
        event=event,
        scope=scope,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    show(read_source(url, key_file, key, database), "/api/logs", parameters, text.logs_text, as_json=as_json)


def metrics(
    name: Annotated[str | None, typer.Argument(help="List the points of this metric. [all metrics]")] = None,
    service: Service = None,
    filter_line: FilterLine = None,
    attr: Attributes = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The maximum number of points.")] = 100,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """List all metrics, or the points of one metric, newest first."""
    if name is None and any((service, filter_line, attr, since, until)):
        raise ArgumentError("Filters apply to the points of one metric. Name the metric, or list all without filters.")
    parameters = query_parameters(
        attr, name=name, filter=filter_line, service=service, since=since, until=until, limit=limit
    )
    show(read_source(url, key_file, key, database), "/api/metrics", parameters, text.metrics_text, as_json=as_json)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT statement, or - to read it from standard input.")],
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The maximum number of rows.")] = 1000,
    format_: Annotated[
        Literal["table", "json", "csv", "parquet"], typer.Option("--format", help="The format of the answer.")
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """Run one SELECT statement in DuckDB's SQL.

    The views are traces, spans, logs, metrics, exemplars, predictions and labels. The page /sql of the hub lists their
    columns. The statement ends after 10 s (MODELTRACE_HUB_SQL_TIMEOUT), and it may use 512 MiB of memory.
    """
    query = sys.stdin.read() if query == "-" else query
    parameters = query_parameters(q=query, since=since, until=until, limit=limit)
    source = read_source(url, key_file, key, database)
    if format_ in {"table", "json"}:
        show(source, "/api/sql", parameters, text.sql_text, as_json=as_json or format_ == "json")
        return
    if format_ == "parquet" and sys.stdout.isatty():
        raise ArgumentError("A Parquet file is not text. Send it to a file: … --format parquet > rows.parquet")
    with source.open() as api:
        content = api.get("/api/sql", [*parameters, ("format", format_)])
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def explain(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="Filters as in the address of GET /api/explain: of all items (service=shop), of the selection "
            "(select.error=true), of the set that it is compared with (against.version=1.4.0). [select.error=true]",
        ),
    ] = None,
    of: Annotated[Literal["traces", "predictions"], typer.Option(help="What to compare.")] = "traces",
    rows: Annotated[int, typer.Option(help="The maximum number of properties.")] = 20,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """Find what is over-represented in a selection of traces or predictions, compared with the rest."""
    pairs = [*query_parameters(of=of, rows=rows)]
    for item in filters or ():
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ArgumentError(f"{item!r} is not NAME=VALUE, such as select.min_duration=300ms.")
        pairs.append((name, value))
    show(read_source(url, key_file, key, database), "/api/explain", pairs, text.explain_text, as_json=as_json)


def alerts(
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Check this file of `modeltrace-hub --alerts`, and print who gets each alert."
        ),
    ] = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """List the alerts that fire, are pending or, without a hub that monitors them, are true now. Send no message."""
    receivers: Mapping[str, Collection[str]] | None = None
    if check is not None:
        from modeltrace_hub.alerts.config import read_alert_config  # noqa: PLC0415  not needed for other commands

        receivers = {receiver.name: receiver.rules for receiver in read_alert_config(check).receivers}
    source = read_source(url, key_file, key, database)
    show(source, "/api/alerts", [], partial(text.alerts_text, receivers=receivers), as_json=as_json)


def mcp(url: Url = DEFAULT_URL, key_file: KeyFile = None, key: Key = None, database: Database = None) -> None:
    """Serve the Model Context Protocol on standard input and output, by which assistants read telemetry.

    A running hub also serves it at /mcp. It needs the package mcp: pip install "modeltrace[mcp]".
    """
    if find_spec("mcp") is None:
        raise SettingsError('The command needs the package mcp: pip install "modeltrace[mcp]".')
    from modeltrace_hub.mcp_server.tools import create_server  # noqa: PLC0415  an extra

    with read_source(url, key_file, key, database).open() as api:
        create_server(api).run("stdio")


COMMANDS: Final = (traces, trace, llm_calls, logs, metrics, series, services, alerts, explain, sql, mcp)
