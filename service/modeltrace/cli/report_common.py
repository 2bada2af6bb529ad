"""Shared parts of the `modeltrace report` commands: the data of a comparison, the library's program, its output."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.text import Text

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.store import open_configured_store, progress_display
from modeltrace.report.columns import build_layout
from modeltrace.report.comparison import Comparison, build_comparison
from modeltrace.report.run import run_program
from modeltrace.report.sources import (
    ModelPredictions,
    Reference,
    ReportError,
    TrustOptions,
    Window,
    read_window,
    reference_from_file,
    reference_from_held_out,
    reference_from_window,
)
from modeltrace.report.venvs import Library, ensure_venv
from modeltrace.settings import Settings, read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.terminal import SafeConsole, echo


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Options of a report: the window of predictions, and the reference."""

    bundle: str | None
    since: int | None
    until: int | None
    version: str | None
    reference: Path | None
    target: str | None
    reference_since: int | None
    reference_until: int | None
    rows: int
    include_synthetic: bool


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
    store: Store, model: Manifest, version: str | None, selection: Selection
) -> Iterator[ModelPredictions]:
    """Yield the predictions of a model in a selection. Their progress is displayed while they are read."""
    with progress_display(store.counts(selection).predictions) as on_progress:
        hashes = [file.sha256 for file in (model.artifact, model.onnx) if file is not None]
        identity = (model.version, hashes)
        yield ModelPredictions(store, selection, model.name, version, on_progress, bundle_identity=identity)


@contextmanager
def prepare_comparison(request: ReportRequest, out: Path, *, force: bool) -> Iterator[tuple[Comparison, Path]]:
    """Print the notes of a comparison. Yield the comparison and a private temporary folder."""
    check_not_exists(out, force=force)
    with open_configured_store() as store:
        settings, bundle, manifest = open_bundle(store, request.bundle)
        window = _read_window(store, request, manifest, request.since, request.until)
        reference = _load_reference(store, request, settings, bundle, manifest)
    comparison = build_comparison(window, reference, build_layout(manifest), manifest.name)
    print_notes(comparison.notes)
    with TemporaryDirectory(prefix="modeltrace-report-") as folder:
        yield comparison, Path(folder)


def _read_window(
    store: Store, request: ReportRequest, manifest: Manifest, since: int | None, until: int | None
) -> Window:
    selection = Selection(since, until, include_synthetic=request.include_synthetic)
    with select_predictions(store, manifest, request.version, selection) as predictions:
        return read_window(predictions, request.rows)


def _load_reference(
    store: Store, request: ReportRequest, settings: Settings, bundle: Path, manifest: Manifest
) -> Reference:
    trust = TrustOptions(settings.trust_pickle, settings.trusted_types)
    earlier = request.reference_since is not None or request.reference_until is not None
    if request.reference is not None and earlier:
        raise typer.BadParameter("give a file or an earlier period, not both", param_hint="--reference")
    if request.target is not None and request.reference is None:
        raise typer.BadParameter("it requires --reference FILE", param_hint="--target")
    if earlier:
        period = (request.reference_since, request.reference_until)
        return reference_from_window(_read_window(store, request, manifest, *period))
    if request.reference is not None:
        return reference_from_file(request.reference, request.target, bundle, manifest, trust)
    return reference_from_held_out(bundle, manifest, trust)


def run_library(
    library: Library, program: str, comparison: Comparison, folder: Path, python: Path | None, output: Path
) -> dict[str, Any]:
    """Run a library's program, which writes `output`. Return its summary."""
    description = {**comparison.write(folder), "output": str(output)}
    with activity_display() as show_activity:
        python = python or ensure_venv(library, show_activity)
        show_activity(f"{library.title} is running")
        return run_program(python, program, description, folder)


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
