"""What reports compare, and how one is made: both sides from the prediction store, a library's program, its file."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.text import Text

from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.cli.audit import open_configured_store, progress_display
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.report.columns import build_layout
from modeltrace.report.comparison import Comparison, build_comparison
from modeltrace.report.run import run_program
from modeltrace.report.sources import (
    ModelPredictions,
    Reference,
    ReportError,
    TrustOptions,
    read_window,
    reference_from_file,
    reference_from_held_out,
    reference_from_window,
)
from modeltrace.report.venvs import Library, ensure_venv
from modeltrace.settings import Settings, read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What is to be compared with what."""

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

    def selection(self, since: int | None, until: int | None) -> Selection:
        """The predictions of a time."""
        return Selection(since, until, include_synthetic=self.include_synthetic)


def check_suffix(out: Path, *suffixes: str) -> None:
    """Refuse a name that says something else of the format."""
    if out.suffix not in suffixes:
        raise typer.BadParameter(f"the name must end in {' or '.join(suffixes)}")


def open_bundle(store: Store, bundle: str | None) -> tuple[Settings, Path, Manifest]:
    """The settings, and the bundle that they, the command line or the store name."""
    settings = read_settings(bundle=bundle)
    folder = resolve_bundle(settings, store)
    return settings, folder, read_manifest(folder)[0]


@contextmanager
def select_predictions(
    store: Store, model: Manifest, version: str | None, selection: Selection
) -> Iterator[ModelPredictions]:
    """The predictions of a selection, with what is told of progress while they are read."""
    with progress_display(store.counts(selection).predictions) as progress:
        hashes = [file.sha256 for file in (model.artifact, model.onnx) if file is not None]
        yield ModelPredictions(store, selection, model.name, version, progress, bundle_identity=(model.version, hashes))


@contextmanager
def prepare_comparison(asked: ReportRequest, out: Path, force: bool) -> Iterator[tuple[Comparison, Path]]:  # noqa: FBT001  passed on
    """Both sides of a comparison, told of, and a folder to work in that is the user's alone."""
    if out.exists() and not force:
        raise ReportError(f"{out} is there already; --force replaces it")
    with open_configured_store() as store:
        settings, bundle, manifest = open_bundle(store, asked.bundle)
        selection = asked.selection(asked.since, asked.until)
        with select_predictions(store, manifest, asked.version, selection) as predictions:
            window = read_window(predictions, asked.rows)
        reference = _load_reference(store, asked, settings, bundle, manifest)
    said = build_comparison(window, reference, build_layout(manifest), manifest.name)
    for term, words in said.notes:
        print_note(term, words)
    with TemporaryDirectory(prefix="modeltrace-report-") as folder:
        yield said, Path(folder)


def _load_reference(
    store: Store, asked: ReportRequest, settings: Settings, bundle: Path, manifest: Manifest
) -> Reference:
    trust = TrustOptions(settings.trust_pickle, settings.trusted_types)
    earlier = asked.reference_since is not None or asked.reference_until is not None
    if asked.reference is not None and earlier:
        raise typer.BadParameter("either a file or an earlier time", param_hint="--reference")
    if asked.target is not None and asked.reference is None:
        raise typer.BadParameter("it belongs to --reference FILE", param_hint="--target")
    if earlier:
        selection = asked.selection(asked.reference_since, asked.reference_until)
        with select_predictions(store, manifest, asked.version, selection) as predictions:
            return reference_from_window(read_window(predictions, asked.rows))
    if asked.reference is not None:
        return reference_from_file(asked.reference, asked.target, bundle, manifest, trust)
    return reference_from_held_out(bundle, manifest, trust)


def run_library(
    library: Library, program: str, said: Comparison, folder: Path, python: Path | None, output: Path
) -> dict[str, Any]:
    """Have a library's program make its report in a folder; what it says of it."""
    description = {**said.write(folder), "output": str(output)}
    with activity_display() as say:
        python = python or ensure_venv(library, say)
        say(f"{library.title} is at work")
        return run_program(python, program, description, folder)


@contextmanager
def activity_display() -> Iterator[Callable[[str], None]]:
    """Say on stderr what is being done: a line that goes away, or one that stays where there is no terminal."""
    console = SafeConsole(stderr=True, soft_wrap=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda words: status.update(Text(f"{words} …"))
        return
    yield lambda words: console.print(f"{words} …")


def move_to_output(made: Path, out: Path) -> None:
    """Give what was made its place, all at once; it may be on another disk."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made.chmod(0o700 if made.is_dir() else 0o600)  # inputs of predictions may be in it
        shutil.move(made, part)
        if out.is_dir():
            shutil.rmtree(out)
        part.replace(out)
    except OSError as error:
        raise ReportError(f"cannot write {out}: {error.strerror or error}") from None


def print_note(term: str, words: str) -> None:
    """One line about a report, after others of the same width."""
    echo(f"{term:<12}  {words}")
