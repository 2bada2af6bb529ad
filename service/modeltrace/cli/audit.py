"""`modeltrace audit`: export, show, erase and prune stored predictions."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modeltrace.cli.options import ModelName, ModelVersion, tag_option, time_option
from modeltrace.cli.store import open_configured_store, progress_display
from modeltrace.store.export import ExportError, export_predictions, format_from_suffix
from modeltrace.store.lookup import TRACE_ID, NotFoundError, find_predictions
from modeltrace.store.partitions import format_day
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection, models
from modeltrace.store.store import Store
from modeltrace.terminal import echo


def export(
    file: Annotated[
        str, typer.Argument(help="The file to write: .parquet, .jsonl or .csv. With --by-day: a folder or a URI.")
    ],
    since: Annotated[int | None, time_option(help="Only predictions from this time on.")] = None,
    until: Annotated[int | None, time_option(help="Only predictions before this time.")] = None,
    trace: Annotated[str | None, typer.Option(metavar="ID", help="Only predictions of this trace.")] = None,
    external_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Only predictions with this external ID, which the client chose."),
    ] = None,
    tags: Annotated[
        list[Any] | None, tag_option(help="Only predictions with this tag; can be repeated. NAME= means without it.")
    ] = None,
    name: ModelName = None,
    version: ModelVersion = None,
    format_: Annotated[
        Literal["parquet", "jsonl", "csv"] | None,
        typer.Option("--format", show_default="by the file's suffix", help="The file format."),
    ] = None,
    by_day: Annotated[  # noqa: FBT002  a flag
        bool,
        typer.Option("--by-day", help="Write a Parquet file for each whole day (UTC): FILE/date=2026-11-30/…"),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Write stored predictions and their true labels to a file.

    TIME is a date (2026-11-01), a date with a time of day (2026-11-01T12:00:00+01:00; without an offset, UTC), or how
    long ago (7d, 12h, 30m).

    Examples: modeltrace audit export week.parquet --since 7d
              modeltrace audit export churn.csv --name churn --version 1.2.0 --tag country=DE
              modeltrace audit export s3://lake/predictions --by-day --since 8d --force
    """
    path = Path(file)
    if by_day:
        from modeltrace.store.day_files import export_days, whole_days  # noqa: PLC0415  needs pyarrow, an extra

        if format_ not in (None, "parquet"):
            raise typer.BadParameter("--by-day writes Parquet")
        since, until = whole_days(since, until, time.time_ns())
    file_format = "parquet" if by_day else format_ or format_from_suffix(path)
    if not by_day and path.exists() and not force:
        raise ExportError(f"{file} exists already; --force replaces it")
    with open_configured_store() as store:
        trace_id = None if trace is None else _parse_trace_id(trace)
        selection = Selection(since, until, trace_id, external_id=external_id, tags=tuple(tags or ()))
        if name is not None or version is not None:
            selection = _select_model(store, selection, name, version)
        with progress_display(store.counts(selection).predictions) as on_progress:
            pages = store.read(selection)
            if by_day:
                number = export_days(pages, file, replace=force, on_progress=on_progress)
            else:
                number = export_predictions(pages, path, file_format, on_progress=on_progress)
    echo(f"{number:,} predictions written to {file}")


def show(
    identifier: Annotated[
        str,
        typer.Argument(metavar="PREDICTION_ID|TRACE_ID|ID", help="A prediction ID, a trace ID or an external ID."),
    ],
) -> None:
    """Print a stored prediction, or all stored predictions of a trace or of an external ID, as JSON.

    Example: modeltrace audit show 4bf92f3577b34da6a3ce929d0e0e4736
    """
    with open_configured_store() as store:
        predictions = find_predictions(store, identifier)
    for prediction in predictions:
        echo(json.dumps(_to_json(prediction), indent=2, ensure_ascii=False))


def _to_json(prediction: StoredPrediction) -> dict[str, object]:
    columns = prediction._asdict()
    times = {name: columns[name] for name in ("time", "erased", "received") if columns[name] is not None}
    return {**columns, **{name: _format_time(value) for name, value in times.items()}}


def _format_time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def erase(
    prediction_ids: Annotated[
        list[str] | None, typer.Argument(metavar="PREDICTION_ID…", help="The IDs of the predictions.")
    ] = None,
    external_ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="All predictions with this external ID; can be repeated."),
    ] = None,
) -> None:
    """Erase the inputs, external IDs and tags of stored predictions; the other columns stay.

    The time of the erasure is recorded in the store. Copies in log files and in telemetry backends (the hub, Loki, a
    vendor) are not erased. The retention there deletes them.

    The exit code is 1 if some of the predictions are not in the store. All others are erased.

    Examples: modeltrace audit erase AVJ38UtD…
              modeltrace audit erase --id order-17 --id order-18
    """
    if not prediction_ids and not external_ids:
        raise typer.BadParameter("name predictions by PREDICTION_ID or --id")
    with open_configured_store() as store:
        now = time.time_ns()
        erased = store.erase(prediction_ids, now) if prediction_ids else []
        by_external_id = {name: _erase_by_external_id(store, name, now) for name in external_ids or ()}
        location = store.location
    number = len(erased) + sum(by_external_id.values())
    echo(f"the inputs of {number:,} predictions are erased from {location.description}")
    if location.file is None:
        echo("PostgreSQL overwrites them at its next VACUUM of the table predictions")
    echo("copies in Loki, the hub, other backends and log files are deleted by the retention there", err=True)
    missing = [prediction_id for prediction_id in prediction_ids or () if prediction_id not in erased]
    if missing := [*missing, *(name for name, rows in by_external_id.items() if not rows)]:
        raise NotFoundError(f"not in {location.description}: {', '.join(missing)}")


def _erase_by_external_id(store: Store, external_id: str, now_ns: int) -> int:
    """Erase the predictions with an external ID, and return their number."""
    pages = store.read(Selection(external_id=external_id))
    return sum(len(store.erase([prediction.prediction_id for prediction in page], now_ns)) for page in pages)


def prune(before: Annotated[int, time_option(help="Delete predictions before this time.")]) -> None:
    """Delete predictions before a given time, and their true labels.

    Example: modeltrace audit prune --before 90d
    """
    deleted, more = 0, True
    with open_configured_store() as store:
        with progress_display(store.counts(Selection(until=before)).predictions) as on_progress:
            while more:
                number, more = store.delete_before(before)
                deleted += number
                on_progress(deleted)
        echo(f"{deleted:,} predictions deleted from {store.location.description}")


def partition() -> None:
    """Divide a PostgreSQL store into partitions by day (UTC), which are dropped when they expire.

    Rows are not copied: those of earlier days stay in one table. Services may run meanwhile. The user of the database
    must own the tables; afterwards, the users of all services must, too, because they create and drop partitions.

    Example: modeltrace audit partition
    """
    with open_configured_store() as store:
        first_day, converted = store.partition(time.time_ns())
        done = "now has" if converted else "has already"
        echo(f"{store.location.description} {done} partitions by day, from {format_day(first_day)} on")


def _select_model(store: Store, selection: Selection, name: str | None, version: str | None) -> Selection:
    """Restrict a selection to models with a name, a version or both.

    Raises:
        NotFoundError: the store has no prediction of such a model; the message lists the models that it has.
    """
    hashes: dict[tuple[str, str], list[str]] = {}
    for known_name, known_version, model_hash in store.fetch_all(models()):
        hashes.setdefault((known_name, known_version), []).append(model_hash)
    matches = [key for key in sorted(hashes) if name in (None, key[0]) and version in (None, key[1])]
    if not matches:
        known = ", ".join(" ".join(key) for key in sorted(hashes)) or "none"
        wanted = " ".join(filter(None, (name, version)))
        raise NotFoundError(f"no predictions of {wanted} in {store.location.description}; it has these models: {known}")
    for key in matches:
        if len(hashes[key]) > 1:
            listed = ", ".join(f"{model_hash[:12]}…" for model_hash in sorted(hashes[key]))
            echo(f"{len(hashes[key])} models have the name {' '.join(key)}: see model_hash ({listed})", err=True)
    return selection._replace(model_name=name, model_version=version)


def _parse_trace_id(text: str) -> str:
    if not TRACE_ID.fullmatch(text):
        raise typer.BadParameter("a trace ID has 32 hexadecimal digits", param_hint="--trace")
    return text.lower()
