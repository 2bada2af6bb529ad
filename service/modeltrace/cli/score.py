"""`modeltrace score`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from modeltrace.cli.options import TrustCode, TrustPickle, bundle_option
from modeltrace.errors import ModeltraceError
from modeltrace.imports import import_object
from modeltrace.scoring.config import PartialResultError, ScoreConfig, parts_folder
from modeltrace.scoring.config import Progress as Done
from modeltrace.settings import Settings, read_settings
from modeltrace.tag_names import check_tag_names
from modeltrace.terminal import SafeConsole, echo

if TYPE_CHECKING:
    from modeltrace.scoring.results import Summary

RunJob: TypeAlias = "Callable[[Settings, ScoreConfig, Callable[[Done], object]], Summary]"
# Seconds between two lines of progress if stderr is not a terminal.
PROGRESS_INTERVAL = 10.0
EXIT_CODE_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells report it


def score(
    file: Annotated[
        Path, typer.Argument(help="The rows: .csv, .tsv, .jsonl (each also with .gz) or .parquet.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .parquet, .csv or .jsonl.")],
    bundle: Annotated[
        str | None, bundle_option(show_default="MODELTRACE_BUNDLE", help="The bundle of the model that predicts.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Copy this column of FILE to the results. Repeatable."),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of FILE with an ID of your own per row. Needs --telemetry."),
    ] = None,
    tags: Annotated[
        str,
        typer.Option(metavar="COLUMNS", help="Columns of FILE with a tag per row: country,channel. Needs --telemetry."),
    ] = "",
    probabilities: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--probabilities", help="Write the probability of each class, too.")
    ] = False,
    interval: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--interval", help="Write the prediction interval of a regressor, too.")
    ] = False,
    telemetry: Annotated[  # noqa: FBT002  a flag
        bool,
        typer.Option("--telemetry", help="Export traces, metrics and log records, and store the predictions."),
    ] = False,
    strict: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--strict", help="Exit with code 1 if any row has no prediction. FILE is written.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,  # noqa: FBT002  a flag
    restart: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--restart", help="Discard the partial results of an interrupted run.")
    ] = False,
    trust_pickle: TrustPickle = None,
    trust_code: TrustCode = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Predict all rows of a file and write one result per row, in the same order.

    A result has the number of the row, the columns of --keep, and the prediction: label and confidence, or value. If a
    row cannot be predicted, the result says why, and the run continues. The exit code is then 0; it is 1 if no row has
    a prediction, or with --strict. The memory does not depend on the size of the file.

    With --telemetry, the stored predictions have the IDs of --id-column and the tags of --tags, as those of a request.

    After a kill, the same command continues the run: no row is lost or written twice.

    Example: modeltrace score customers.parquet --bundle churn --out scores.parquet --keep customer_id
    """
    tag_columns = _parse_tags(tags)
    if not telemetry and (id_column is not None or tag_columns):
        raise typer.BadParameter("--id-column and --tags belong to recorded predictions: add --telemetry")
    settings = read_settings(bundle=bundle, trust_pickle=trust_pickle, trust_code=trust_code)
    # Imported after the settings are valid, because the import takes a second.
    run_job: RunJob = import_object("modeltrace.scoring.job:run_job")
    config = ScoreConfig(
        file=file,
        out=out,
        keep=tuple(keep or ()),
        id_column=id_column,
        tags=tag_columns,
        probabilities=probabilities,
        interval=interval,
        telemetry=telemetry,
        force=force,
        restart=restart,
    )
    try:
        with _open_progress() as on_progress:
            summary = run_job(settings, config, on_progress)
    except (KeyboardInterrupt, ModeltraceError) as error:
        if parts_folder(out).exists() and not isinstance(error, PartialResultError):
            echo(f"interrupted: the same command continues from {parts_folder(out)}", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(EXIT_CODE_INTERRUPTED) from None
        raise
    if as_json:
        echo(json.dumps(_to_json(summary), ensure_ascii=False))
    else:
        _print_summary(summary, out)
    if summary.rows and (not summary.predicted or (strict and summary.rejected)):
        raise typer.Exit(1)


def _parse_tags(value: str) -> tuple[str, ...]:
    """Return the columns of `--tags`.

    Raises:
        typer.BadParameter: a name is no name of a tag.
    """
    names = tuple(name.strip() for name in value.split(",")) if value else ()
    try:
        return check_tag_names(names)
    except ValueError as error:
        raise typer.BadParameter(f"--tags {error}; rename the column") from None


@contextmanager
def _open_progress() -> Iterator[Callable[[Done], None]]:
    """Show progress on stderr: a bar in a terminal, otherwise a line at intervals."""
    console = SafeConsole(stderr=True)
    if console.is_terminal:
        rows = TextColumn("{task.fields[rows]:,} rows")
        columns = (BarColumn(), TaskProgressColumn(), rows, TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=1.0, rows=0)
            yield lambda done: bar.update(task, completed=done.share, rows=done.rows)
        return
    last = time.monotonic()

    def print_progress(done: Done) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL:
            last = time.monotonic()
            console.print(f"{done.rows:,} rows, {done.share:.0%}")

    yield print_progress


def _print_summary(summary: "Summary", out: Path) -> None:
    rejected = summary.rows - summary.predicted
    echo(f"{summary.predicted:,} of {summary.rows:,} rows predicted, written to {out}")
    if not rejected:
        return
    echo(f"{rejected:,} rows have no prediction:", err=True)
    for (column, reason), rows in summary.rejected.most_common():
        echo(f"  {rows:,} {reason}{f' in {column}' if column else ''}", err=True)
    for row in summary.examples:
        echo(f"  row {row.row:,}: {row.message}", err=True)
    if rejected > len(summary.examples):
        echo(f"  … the column `error` of {out} has all messages", err=True)


def _to_json(summary: "Summary") -> dict[str, object]:
    return {
        "rows": summary.rows,
        "predicted": summary.predicted,
        "rejected": [
            {"column": column, "reason": reason, "rows": rows}
            for (column, reason), rows in summary.rejected.most_common()
        ],
        "examples": [row._asdict() for row in summary.examples],
    }
