"""The commands about LLM calls, series of metrics, and services. Each calls one function of the JSON API."""

from typing import Annotated

import typer

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


def llm_calls(
    service: Service = None,
    model: Annotated[str | None, typer.Option(help="The requested model.")] = None,
    operation: Annotated[str | None, typer.Option(help="The operation, such as chat.")] = None,
    trace_id: Annotated[str | None, typer.Option("--trace", metavar="ID", help="In this trace.")] = None,
    error: Annotated[bool | None, typer.Option("--error/--no-error", help="Failed, or not.")] = None,
    min_duration: MinDuration = None,
    filter_line: FilterLine = None,
    attr: Attributes = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="The maximum number of calls.")] = 20,
    cursor: Cursor = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """List calls of large language models, newest first."""
    parameters = query_parameters(
        attr,
        filter=filter_line,
        service=service,
        model=model,
        operation=operation,
        trace_id=trace_id,
        error=error,
        min_duration=min_duration,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    show(read_source(url, key_file, key, database), "/api/llm-calls", parameters, text.llm_calls_text, as_json=as_json)


def series(
    name: Annotated[str, typer.Argument(help="The metric.")],
    by: Annotated[str | None, typer.Option(help="Group series by this attribute, or by service.name.")] = None,
    service: Service = None,
    filter_line: FilterLine = None,
    attr: Attributes = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """Show a metric over time: rates of a counter, values of a gauge, rate and quantiles of a histogram."""
    parameters = query_parameters(attr, name=name, by=by, filter=filter_line, service=service, since=since, until=until)
    source = read_source(url, key_file, key, database)
    show(source, "/api/metrics/series", parameters, text.series_text, as_json=as_json)


def services(
    since: Since = None,
    until: Until = None,
    as_json: Json = False,  # noqa: FBT002  how typer declares a flag
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    key: Key = None,
    database: Database = None,
) -> None:
    """Show the requests, errors and durations of each service."""
    source = read_source(url, key_file, key, database)
    show(source, "/api/services", query_parameters(since=since, until=until), text.services_text, as_json=as_json)
