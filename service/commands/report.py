"""`modeltrace report`: predictions of the store against a reference, by the field's own libraries."""

import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from service.commands.audit import moment, open_audit, telling
from service.commands.bundle import find_bundle
from service.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.inference.bundle import Manifest
    from service.report.comparison import Comparison
    from service.report.environments import Library
    from service.report.sources import Chosen, Reference
    from service.store.store import Store

# Rows of a window and of a reference that a library is given: with more, its report takes minutes and says the same.
ROWS = 100_000


def _time(text: str) -> Any:  # noqa: ANN401  typer's own
    return typer.Option(parser=moment, metavar="TIME", help=text)


Bundle = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        show_default="MODELTRACE_BUNDLE, or that of the newest prediction",
        help="The model's bundle: it says what columns are.",
    ),
]
Since = Annotated[int | None, _time("Predictions from this time on: a date, a date and time, or 7d, 12h, 30m ago.")]
Until = Annotated[int | None, _time("Up to this time, which is not included.")]
Version = Annotated[str | None, typer.Option(show_default="all", help="Predictions of this version of the model.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="FILE",
        show_default="the bundle's held-out rows",
        help="What to compare with: the training data, .csv or .parquet.",
    ),
]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of true labels in that file.")]
ReferenceSince = Annotated[int | None, _time("Compare with earlier predictions instead: from this time on.")]
ReferenceUntil = Annotated[int | None, _time("Up to this time, which is not included.")]
Rows = Annotated[int, typer.Option(min=1, help="Of more predictions than this, so many are drawn at random.")]
Python = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="one made for it, once",
        help="A Python that has the library; nothing is installed then.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@dataclass(frozen=True, slots=True)
class Asked:
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


def evidently(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="Where to.")],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    reference: File = None,
    target: Target = None,
    reference_since: ReferenceSince = None,
    reference_until: ReferenceUntil = None,
    rows: Rows = ROWS,
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Evidently's report: drift, data quality, and how right the answers are, as one HTML file.

    Example: modeltrace report evidently week.html --since 7d --reference train.csv --target churned
    """
    # Imported when it is needed: the other commands need not wait for it.
    from service.report.environments import EVIDENTLY  # noqa: PLC0415  see above

    suffix(out, ".html")
    asked = Asked(bundle, since, until, version, reference, target, reference_since, reference_until, rows)
    with _made(asked, out, force) as (said, folder):
        page = folder / "page.html"
        answer = _ask(EVIDENTLY, "evidently_report", said, folder, python, page)
        _place(page, out)
    if answer["empty"]:
        _tell("left out", f"{', '.join(answer['empty'])}: every value is missing on one side")
    figures = {one["metric"].partition("(")[0]: one["value"] for one in reversed(answer["figures"])}
    drifted, columns = figures["DriftedColumnsCount"]["count"], len(said.description["columns"]) - len(answer["empty"])
    found = [f"{drifted:.0f} of {columns} columns drifted"]
    found += [
        f"{name} {figures[metric]:.4g}" for metric, name in QUALITY.items() if isinstance(figures.get(metric), float)
    ]
    _tell(answer["library"], "; ".join(found))
    _tell("written to", f"{out}; it opens without a network")


QUALITY = {"Accuracy": "accuracy", "F1Score": "F1", "RMSE": "RMSE", "R2Score": "R²"}


def alibi(
    out: Annotated[Path, typer.Argument(metavar="OUT.json|.html", help="Where to.")],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    reference: File = None,
    target: Target = None,
    reference_since: ReferenceSince = None,
    reference_until: ReferenceUntil = None,
    rows: Rows = ROWS,
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Alibi Detect's drift tests: Kolmogorov-Smirnov and chi-square for each column, MMD for all numbers together.

    Example: modeltrace report alibi week.json --since 7d --reference train.parquet
    """
    from service.report.environments import ALIBI  # noqa: PLC0415  as above
    from service.report.pages import p_value, page_of_tests  # noqa: PLC0415  as above

    suffix(out, ".json", ".html")
    asked = Asked(bundle, since, until, version, reference, target, reference_since, reference_until, rows)
    with _made(asked, out, force) as (said, folder):
        answer = _ask(ALIBI, "alibi_tests", said, folder, python, folder)
        page = folder / "page"
        title = f"{said.description['title']}: drift tests"
        text = json.dumps({"notes": said.notes, **answer}, indent=2, ensure_ascii=False) + "\n"
        page.write_text(page_of_tests(title, said.notes, answer) if out.suffix == ".html" else text, encoding="utf-8")
        _place(page, out)
    drifted = [one["column"] for one in answer["tests"] if one["drift"]]
    together = answer["mmd"]
    words = f"{len(drifted)} of {len(answer['tests'])} columns drifted (level {answer['level']}, Bonferroni)"
    if together is not None:
        words += f"; all numbers together, by MMD: p {p_value(together)}"
    _tell(answer["library"], words)
    _tell("written to", str(out))


def whylogs(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to: two profiles and summary.json.")],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    reference: File = None,
    target: Target = None,
    reference_since: ReferenceSince = None,
    reference_until: ReferenceUntil = None,
    rows: Rows = ROWS,
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Profiles by whylogs of the window and of the reference, which merge with others of its kind.

    Example: modeltrace report whylogs profiles --since 1d --reference train.parquet
    """
    from service.report.environments import WHYLOGS  # noqa: PLC0415  as above

    asked = Asked(bundle, since, until, version, reference, target, reference_since, reference_until, rows)
    with _made(asked, out, force) as (said, folder):
        made = folder / "profiles"
        made.mkdir()
        answer = _ask(WHYLOGS, "whylogs_profiles", said, folder, python, made)
        text = json.dumps({"notes": said.notes, **answer}, indent=2, ensure_ascii=False)
        (made / "summary.json").write_text(text + "\n", encoding="utf-8")
        _place(made, out)
    _tell(answer["library"], f"profiles of {len(said.description['columns'])} columns")
    _tell("written to", f"{out}: window.bin, reference.bin, summary.json")


def fiddler(
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet|.jsonl", help="Where to; the model goes beside it.")],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Predictions as events that Fiddler takes, and OUT.model.json: schema and specification of their model.

    Example: modeltrace report fiddler yesterday.parquet --since 1d
    """
    from service.report.comparison import left_out, notes_of  # noqa: PLC0415  as above
    from service.report.fiddler import events_of, write_events  # noqa: PLC0415  as above
    from service.report.sources import ReportError  # noqa: PLC0415  as above
    from service.store.export import format_of  # noqa: PLC0415  as above

    kind = format_of(out)
    beside = out.with_suffix(".model.json")
    if there := [path for path in (out, beside) if path.exists() and not force]:
        raise ReportError(f"{there[0]} is there already; --force replaces it")
    with open_audit() as store:
        _, _, manifest = read_bundle(store, bundle)
        with chosen(store, manifest.name, version, since, until) as predictions:
            rows = iter(predictions)
            first = next(rows, None)
            if first is None:
                predictions.check()
                return
            events = events_of(manifest, probabilities=first.confidence is not None)
            write_events(chain([first], rows), events, out, kind)
    beside.write_text(json.dumps(events.model(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for term, words in [*notes_of(predictions, manifest.name, predictions.found), *left_out(events.layout)]:
        _tell(term, words)
    _tell("written to", f"{out}: the events; {beside}: their model")


def suffix(out: Path, *suffixes: str) -> None:
    """Refuse a name that says something else of the format."""
    if out.suffix not in suffixes:
        raise typer.BadParameter(f"the name must end in {' or '.join(suffixes)}")


def read_bundle(store: "Store", bundle: str | None) -> tuple[Settings, Path, "Manifest"]:
    """The settings, and the bundle that they, the command line or the store name."""
    from service.inference.bundle import read_manifest  # noqa: PLC0415  as above

    settings = read_settings(bundle=bundle)
    folder = find_bundle(settings, store)
    return settings, folder, read_manifest(folder)[0]


@contextmanager
def chosen(store: "Store", model: str, version: str | None, since: int | None, until: int | None) -> "Iterator[Chosen]":
    """The predictions of a time, with what is told of progress while they are read."""
    from service.report.sources import Chosen  # noqa: PLC0415  as above
    from service.store.selection import Selection  # noqa: PLC0415  as above

    selection = Selection(since, until)
    with telling(store.counts(selection).predictions) as progress:
        yield Chosen(store, selection, model, version, progress)


@contextmanager
def _made(asked: Asked, out: Path, force: bool) -> "Iterator[tuple[Comparison, Path]]":  # noqa: FBT001  passed on
    """Both sides of a comparison, told of, and a folder to work in that is the user's alone."""
    from service.report.columns import layout_of  # noqa: PLC0415  as above
    from service.report.comparison import compare  # noqa: PLC0415  as above
    from service.report.sources import ReportError, read_window  # noqa: PLC0415  as above

    if out.exists() and not force:
        raise ReportError(f"{out} is there already; --force replaces it")
    with open_audit() as store:
        settings, bundle, manifest = read_bundle(store, asked.bundle)
        with chosen(store, manifest.name, asked.version, asked.since, asked.until) as predictions:
            window = read_window(predictions, asked.rows)
        reference = _reference(store, asked, settings, bundle, manifest)
    said = compare(window, reference, layout_of(manifest), manifest.name)
    for term, words in said.notes:
        _tell(term, words)
    with TemporaryDirectory(prefix="modeltrace-report-") as folder:
        yield said, Path(folder)


def _reference(store: "Store", asked: Asked, settings: Settings, bundle: Path, manifest: "Manifest") -> "Reference":
    from service.report.sources import (  # noqa: PLC0415  as above
        Trust,
        read_window,
        reference_file,
        reference_held_out,
        reference_window,
    )

    trust = Trust(settings.trust_pickle, settings.trusted_types)
    earlier = asked.reference_since is not None or asked.reference_until is not None
    if asked.reference is not None and earlier:
        raise typer.BadParameter("either a file or an earlier time", param_hint="--reference")
    if asked.target is not None and asked.reference is None:
        raise typer.BadParameter("it belongs to --reference FILE", param_hint="--target")
    if earlier:
        since, until = asked.reference_since, asked.reference_until
        with chosen(store, manifest.name, asked.version, since, until) as predictions:
            return reference_window(read_window(predictions, asked.rows))
    if asked.reference is not None:
        return reference_file(asked.reference, asked.target, bundle, manifest, trust)
    return reference_held_out(bundle, manifest, trust)


def _ask(
    library: "Library", program: str, said: "Comparison", folder: Path, python: Path | None, output: Path
) -> dict[str, Any]:
    """Have a library's program make its report in a folder; what it says of it."""
    from service.report.environments import environment  # noqa: PLC0415  as above
    from service.report.run import run_program  # noqa: PLC0415  as above

    description = {**said.write(folder), "output": str(output)}
    with working() as say:
        python = python or environment(library, say)
        say(f"{library.title} is at work")
        return run_program(python, program, description, folder)


@contextmanager
def working() -> "Iterator[Callable[[str], None]]":
    """Say on stderr what is being done: a line that goes away, or one that stays where there is no terminal."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda words: status.update(f"{words} …")
        return
    yield lambda words: console.print(f"{words} …", markup=False)


def _place(made: Path, out: Path) -> None:
    """Give what was made its place, all at once; it may be on another disk."""
    from service.report.sources import ReportError  # noqa: PLC0415  as above

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


def _tell(term: str, words: str) -> None:
    typer.echo(f"{term:<12}  {words}")
