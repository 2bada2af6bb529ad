"""`modeltrace audit`: reads and looks after the prediction store."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.errors import SettingsError
from modeltrace.settings import read_settings
from modeltrace.store.export import ExportError, format_from_suffix
from modeltrace.store.export import export_predictions as write
from modeltrace.store.lookup import TRACE_ID, NotFoundError, find_predictions
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection, models
from modeltrace.store.store import Store, open_store

# Seconds between two lines about progress where there is no terminal.
PROGRESS_INTERVAL = 10.0

_AGO = re.compile(r"([0-9]+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Nanoseconds that a store can hold: up to the year 2262.
_MAX_TIME = 2**63 - 1
_TIME_FORMATS = "2026-11-01, 2026-11-01T12:00:00+01:00 (UTC without an offset), or 7d, 12h, 30m ago"


def parse_time(text: str) -> int:
    """Read a time, or how long ago it was, as nanoseconds since the epoch.

    A time before 1970 or after 2262 is that limit: predictions have neither.
    """
    try:
        if match := _AGO.fullmatch(text.strip()):
            return max(time.time_ns() - int(match[1]) * _SECONDS[match[2]] * 10**9, 0)
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"write {_TIME_FORMATS}") from None
    return min(max(_nanoseconds(at if at.tzinfo else at.replace(tzinfo=UTC)), 0), _MAX_TIME)


def _nanoseconds(at: datetime) -> int:
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def time_option(help_text: str) -> typer.models.OptionInfo:
    """An option that takes a time."""
    option: typer.models.OptionInfo = typer.Option(parser=parse_time, metavar="TIME", help=help_text)
    return option


def export(
    file: Annotated[Path, typer.Argument(help="Where to: .parquet, .jsonl or .csv.")],
    since: Annotated[int | None, time_option("From this time on.")] = None,
    until: Annotated[int | None, time_option("Up to this time, which is not included.")] = None,
    trace: Annotated[str | None, typer.Option(metavar="ID", help="Those of one trace.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME[:VERSION]", help="Those of one model, or of one version of it.")
    ] = None,
    format_: Annotated[
        Literal["parquet", "jsonl", "csv"] | None,
        typer.Option("--format", show_default="by the suffix", help="The format."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Write predictions, with the true labels that have arrived, to a file.

    A time is a date (2026-11-01), a date and time (2026-11-01T12:00:00+01:00; UTC without an offset), or how long ago
    (7d, 12h, 30m).

    Examples: modeltrace audit export week.parquet --since 7d
              modeltrace audit export churn.csv --model churn:1.2.0
    """
    kind = format_ or format_from_suffix(file)
    if file.exists() and not force:
        raise ExportError(f"{file} is there already; --force replaces it")
    with open_configured_store() as store:
        chosen = Selection(since, until, None if trace is None else _parse_trace_id(trace))
        selection = chosen if model is None else _select_model(store, chosen, model)
        with progress_display(store.counts(selection).predictions) as progress:
            number = write(store.read(selection), file, kind, on_progress=progress)
    echo(f"{number:,} predictions written to {file}")


def show(
    what: Annotated[str, typer.Argument(metavar="PREDICTION_ID|TRACE_ID", help="Which one, or those of which trace.")],
) -> None:
    """Print what is kept of a prediction, or of all predictions of a trace, as JSON.

    Example: modeltrace audit show 4bf92f3577b34da6a3ce929d0e0e4736
    """
    with open_configured_store() as store:
        found = find_predictions(store, what)
    for one in found:
        echo(json.dumps(_to_json(one), indent=2, ensure_ascii=False))


def _to_json(one: StoredPrediction) -> dict[str, object]:
    times = {name: value for name in ("time", "erased", "received") if (value := getattr(one, name)) is not None}
    return {**one._asdict(), **{name: _format_time(value) for name, value in times.items()}}


def _format_time(nanoseconds: int) -> str:
    whole, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def erase(
    prediction_ids: Annotated[list[str], typer.Argument(metavar="PREDICTION_ID…", help="Which ones.")],
) -> None:
    """Remove the inputs of predictions; their rows stay, with the time of the removal.

    Copies of the inputs in what receives telemetry (the audit records in Loki, in the hub, at a vendor) and in log
    files are not touched: they fall under the retention there.

    Ends with exit code 1 when the store does not have all of them; those that it has are erased all the same.
    """
    with open_configured_store() as store:
        found = set(store.erase(prediction_ids, time.time_ns()))
        where, in_file = store.location.description, store.location.file is not None
    echo(f"the inputs of {len(found):,} predictions are removed from {where}")
    if not in_file:
        echo("PostgreSQL overwrites them at its next VACUUM of the table predictions")
    echo("copies in Loki, the hub, other backends and log files fall under the retention there", err=True)
    if missing := [one for one in prediction_ids if one not in found]:
        raise NotFoundError(f"not in {where}: {', '.join(missing)}")


def prune(before: Annotated[int, time_option("Older than this.")]) -> None:
    """Delete predictions, and their labels, that are older than a time.

    Example: modeltrace audit prune --before 90d
    """
    deleted, more = 0, True
    with (
        open_configured_store() as store,
        progress_display(store.counts(Selection(until=before)).predictions) as progress,
    ):
        while more:
            number, more = store.delete_before(before)
            deleted += number
            progress(deleted)
        where = store.location.description
    echo(f"{deleted:,} predictions deleted from {where}")


def _select_model(store: Store, selection: Selection, text: str) -> Selection:
    """Only those of a model, written `NAME` or `NAME:VERSION`; a name may hold a colon, too.

    Raises:
        NotFoundError: the store has no prediction of it, whenever; the message says which models it has.
    """
    known = [tuple(row) for row in store.fetch_all(models())]
    there = {(name, version) for name, version, _ in known}
    for name, version in sorted(there):
        hashes = sorted(digest for *model, digest in known if tuple(model) == (name, version))
        if len(hashes) > 1 and text in (name, f"{name}:{version}"):
            several = ", ".join(f"{digest[:12]}…" for digest in hashes)
            echo(f"{len(hashes)} models call themselves {name} {version}: see model_hash ({several})", err=True)
    name, _, version = text.rpartition(":")
    if any(one == text for one, _ in there):
        return selection._replace(model_name=text)
    if (name, version) in there:
        return selection._replace(model_name=name, model_version=version)
    has = ", ".join(f"{one}:{other}" for one, other in sorted(there)) or "none"
    raise NotFoundError(f"no predictions of {text} in {store.location.description}; it has those of: {has}")


def _parse_trace_id(text: str) -> str:
    if not TRACE_ID.fullmatch(text):
        raise typer.BadParameter("a trace ID has 32 hexadecimal digits", param_hint="--trace")
    return text.lower()


def open_configured_store() -> Store:
    """Open the prediction store that the settings name.

    Raises:
        SettingsError: the settings want none.
        StoreError: it cannot be opened.
    """
    said = read_settings().store_url()
    if said is None:
        raise SettingsError("there is no prediction store: MODELTRACE_STORE is none")
    return open_store(said, create=False)


@contextmanager
def progress_display(total: int | None) -> Iterator[Callable[[int], None]]:
    """Say on stderr how far long work has come: a bar, or a line now and then where there is no terminal."""
    console = SafeConsole(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("predictions", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL:
            last = time.monotonic()
            console.print(f"{done:,} predictions" if total is None else f"{done:,} of {total:,} predictions")

    yield tell
