"""Shared parts of the `modeltrace report` commands: the data of a comparison, the library's program, its output."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.mlflow_results import MlflowName, log_report
from modeltrace.cli.options import IncludeSynthetic, analysed_bundle_option, time_option
from modeltrace.cli.store import open_configured_store, progress_display
from modeltrace.report.columns import build_layout
from modeltrace.report.comparison import Comparison, build_comparison
from modeltrace.report.run import run_program
from modeltrace.report.sources import (
    ModelPredictions,
    Reference,
    ReportError,
    Window,
    read_window,
    reference_from_file,
    reference_from_test_rows,
    reference_from_window,
)
from modeltrace.report.venvs import Library, ensure_venv
from modeltrace.settings import Settings, read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo

# Maximum number of rows of the window and of the reference. More rows take minutes and do not change the result.
MAX_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The options of all reports: the predictions, where the report is logged, and whether output is replaced."""

    bundle: Annotated[
        str | None, analysed_bundle_option(help="The bundle of the model, which describes the columns.")
    ] = None
    since: Annotated[
        int | None,
        time_option(
            help="Only predictions from this time on: a date, a date with a time of day, or how long ago "
            "(7d, 12h, 30m)."
        ),
    ] = None
    until: Annotated[int | None, time_option(help="Only predictions before this time.")] = None
    version: Annotated[
        str | None, typer.Option(show_default="all", help="Only predictions of this version of the model.")
    ] = None
    include_synthetic: IncludeSynthetic = False
    mlflow: MlflowName = None
    force: Annotated[bool, typer.Option("--force", help="Replace existing output.")] = False


@dataclass(frozen=True, slots=True)
class ComparisonOptions(ReportOptions):
    """The options of a comparison by a library: also the reference, and the library's Python."""

    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="the bundle's test rows",
            help="The data to compare with, e.g. the training data: .csv or .parquet.",
        ),
    ] = None
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the --reference file with the true labels.")
    ] = None
    reference_since: Annotated[int | None, time_option(help="Compare with stored predictions from this time on.")] = (
        None
    )
    reference_until: Annotated[int | None, time_option(help="Compare with stored predictions before this time.")] = None
    rows: Annotated[
        int, typer.Option(min=1, help="The largest number of predictions. If there are more, a random sample is used.")
    ] = MAX_ROWS
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="a virtual environment that is created once",
            help="A Python interpreter that has the library installed.",
        ),
    ] = None


def check_suffix(out: Path, *suffixes: str) -> None:
    """Reject an output file whose suffix is not one of `suffixes`."""
    if out.suffix not in suffixes:
        raise typer.BadParameter(f"the name must end in {' or '.join(suffixes)}")


def check_not_exists(out: Path, *, force: bool) -> None:
    """Reject an output file that exists, unless `force` is set."""
    if out.exists() and not force:
        raise ReportError(f"{out} exists already; --force replaces it")


def open_bundle(store: Store, bundle: str | None) -> tuple[Settings, Path, Manifest]:
    """Return the settings, and folder and manifest of the bundle."""
    settings = read_settings(bundle=bundle)
    folder = resolve_bundle(settings, store)
    return settings, folder, read_manifest(folder)[0]


@contextmanager
def select_predictions(
    store: Store, model: Manifest, options: ReportOptions, since: int | None, until: int | None
) -> Iterator[ModelPredictions]:
    """Yield the predictions of a model in a period. Their progress is displayed while they are read."""
    selection = Selection(since, until, include_synthetic=options.include_synthetic)
    with progress_display(store.counts(selection).predictions) as on_progress:
        identity = (model.version, [file.sha256 for file in model.model_files()])
        yield ModelPredictions(store, selection, model.name, options.version, on_progress, identity)


@contextmanager
def run_library(
    library: Library, program: str, options: ComparisonOptions, out: Path
) -> Iterator[tuple[Comparison, dict[str, Any], Path]]:
    """Print the notes of a comparison, and run the program of a library.

    Yields the comparison, the summary that the program returns, and the path of its output. At the end of the block,
    the output is moved to `out`.
    """
    check_not_exists(out, force=options.force)
    with open_configured_store() as store:
        settings, bundle, manifest = open_bundle(store, options.bundle)
        window = _read_window(store, options, manifest, options.since, options.until)
        reference = _load_reference(store, options, settings, bundle, manifest)
    comparison = build_comparison(window, reference, build_layout(manifest), manifest.name)
    print_notes(comparison.notes)
    with TemporaryDirectory(prefix="modeltrace-report-") as name:
        folder = Path(name)
        output = folder / "output"
        description = {**comparison.write(folder), "output": str(output)}
        with activity_display() as show_activity:
            python = options.python or ensure_venv(library, show_activity)
            show_activity(f"{library.title} is running")
            summary = run_program(python, program, description, folder)
        yield comparison, summary, output
        move_to_output(output, out)
    if options.mlflow:
        log_report(options.mlflow, options.version or manifest.version, out)


def _read_window(
    store: Store, options: ComparisonOptions, manifest: Manifest, since: int | None, until: int | None
) -> Window:
    with select_predictions(store, manifest, options, since, until) as predictions:
        return read_window(predictions, options.rows)


def _load_reference(
    store: Store, options: ComparisonOptions, settings: Settings, bundle: Path, manifest: Manifest
) -> Reference:
    earlier = options.reference_since is not None or options.reference_until is not None
    if options.reference is not None and earlier:
        raise typer.BadParameter("give a file or an earlier period, not both", param_hint="--reference")
    if options.target is not None and options.reference is None:
        raise typer.BadParameter("it requires --reference FILE", param_hint="--target")
    if earlier:
        period = (options.reference_since, options.reference_until)
        return reference_from_window(_read_window(store, options, manifest, *period))
    if options.reference is not None:
        return reference_from_file(options.reference, options.target, bundle, manifest, settings)
    return reference_from_test_rows(bundle, manifest, settings)


@contextmanager
def activity_display() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current activity on stderr: a spinner in a terminal, otherwise a line."""
    console = SafeConsole(stderr=True, soft_wrap=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda activity: status.update(Text(f"{activity} …"))
        return
    yield lambda activity: console.print(f"{activity} …")


def move_to_output(source: Path, out: Path) -> None:
    """Move a file or a folder to its destination, which may be on another disk, in one atomic step."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(0o700 if source.is_dir() else 0o600)  # it may contain inputs of predictions
        shutil.move(source, part)
        if out.is_dir():
            shutil.rmtree(out)
        part.replace(out)
    except OSError as error:
        raise ReportError(f"cannot write {out}: {error.strerror or error}") from None


def print_notes(notes: Iterable[tuple[str, str]]) -> None:
    """Print notes about a report: a term and a text per line, aligned."""
    for term, text in notes:
        echo(f"{term:<12}  {text}")
