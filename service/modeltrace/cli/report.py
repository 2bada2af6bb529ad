"""`modeltrace report`: predictions of the store against a reference, by the field's own libraries."""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.cli.audit import open_configured_store, parse_time
from modeltrace.cli.report_common import (
    ReportRequest,
    check_suffix,
    move_to_output,
    open_bundle,
    prepare_comparison,
    print_note,
    run_library,
    select_predictions,
)
from modeltrace.report.comparison import exclusion_notes, selection_notes
from modeltrace.report.fiddler import event_schema, write_events
from modeltrace.report.html import format_p_value, render_tests
from modeltrace.report.sources import ReportError
from modeltrace.report.venvs import ALIBI, EVIDENTLY, WHYLOGS
from modeltrace.store.export import format_from_suffix
from modeltrace.store.selection import Selection

# Rows of a window and of a reference that a library is given: with more, its report takes minutes and says the same.
MAX_ROWS = 100_000


def _time(text: str) -> Any:  # noqa: ANN401  typer's own
    return typer.Option(parser=parse_time, metavar="TIME", help=text)


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
Synthetic = Annotated[bool, typer.Option("--include-synthetic", help="With what generated traffic asked, too.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


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
    rows: Rows = MAX_ROWS,
    include_synthetic: Synthetic = False,  # noqa: FBT002  a flag
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Evidently's report: drift, data quality, and how right the answers are, as one HTML file.

    Example: modeltrace report evidently week.html --since 7d --reference train.csv --target churned
    """
    check_suffix(out, ".html")
    asked = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(asked, out, force) as (said, folder):
        page = folder / "page.html"
        answer = run_library(EVIDENTLY, "evidently_report", said, folder, python, page)
        move_to_output(page, out)
    if answer["empty"]:
        print_note("left out", f"{', '.join(answer['empty'])}: every value is missing on one side")
    figures = {one["metric"].partition("(")[0]: one["value"] for one in reversed(answer["metrics"])}
    drifted, columns = figures["DriftedColumnsCount"]["count"], len(said.description["columns"]) - len(answer["empty"])
    found = [f"{drifted:.0f} of {columns} columns drifted"]
    found += [
        f"{name} {figures[metric]:.4g}"
        for metric, name in QUALITY_METRICS.items()
        if isinstance(figures.get(metric), float)
    ]
    print_note(answer["library"], "; ".join(found))
    print_note("written to", f"{out}; it opens without a network")


QUALITY_METRICS = {"Accuracy": "accuracy", "F1Score": "F1", "RMSE": "RMSE", "R2Score": "R²"}


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
    rows: Rows = MAX_ROWS,
    include_synthetic: Synthetic = False,  # noqa: FBT002  a flag
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Alibi Detect's drift tests: Kolmogorov-Smirnov and chi-square for each column, MMD for all numbers together.

    Example: modeltrace report alibi week.json --since 7d --reference train.parquet
    """
    check_suffix(out, ".json", ".html")
    asked = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(asked, out, force) as (said, folder):
        answer = run_library(ALIBI, "alibi_tests", said, folder, python, folder)
        page = folder / "page"
        title = f"{said.description['title']}: drift tests"
        text = json.dumps({"notes": said.notes, **answer}, indent=2, ensure_ascii=False) + "\n"
        page.write_text(render_tests(title, said.notes, answer) if out.suffix == ".html" else text, encoding="utf-8")
        move_to_output(page, out)
    drifted = [one["column"] for one in answer["tests"] if one["drift"]]
    together = answer["mmd"]
    words = f"{len(drifted)} of {len(answer['tests'])} columns drifted (level {answer['level']}, Bonferroni)"
    if together is not None:
        words += f"; all numbers together, by MMD: p {format_p_value(together)}"
    print_note(answer["library"], words)
    print_note("written to", str(out))


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
    rows: Rows = MAX_ROWS,
    include_synthetic: Synthetic = False,  # noqa: FBT002  a flag
    python: Python = None,
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Profiles by whylogs of the window and of the reference, which merge with others of its kind.

    Example: modeltrace report whylogs profiles --since 1d --reference train.parquet
    """
    asked = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(asked, out, force) as (said, folder):
        made = folder / "profiles"
        made.mkdir()
        answer = run_library(WHYLOGS, "whylogs_profiles", said, folder, python, made)
        text = json.dumps({"notes": said.notes, **answer}, indent=2, ensure_ascii=False)
        (made / "summary.json").write_text(text + "\n", encoding="utf-8")
        move_to_output(made, out)
    print_note(answer["library"], f"profiles of {len(said.description['columns'])} columns")
    print_note("written to", f"{out}: window.bin, reference.bin, summary.json")


def fiddler(
    out: Annotated[Path, typer.Argument(metavar="OUT.parquet|.jsonl", help="Where to; the model goes beside it.")],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    include_synthetic: Synthetic = False,  # noqa: FBT002  a flag
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Predictions as events that Fiddler takes, and OUT.model.json: schema and specification of their model.

    Example: modeltrace report fiddler yesterday.parquet --since 1d
    """
    check_suffix(out, ".parquet", ".jsonl", ".ndjson")
    kind = format_from_suffix(out)
    beside = out.with_suffix(".model.json")
    if there := [path for path in (out, beside) if path.exists() and not force]:
        raise ReportError(f"{there[0]} is there already; --force replaces it")
    with open_configured_store() as store:
        _, _, manifest = open_bundle(store, bundle)
        selection = Selection(since, until, include_synthetic=include_synthetic)
        with select_predictions(store, manifest, version, selection) as predictions:
            rows = iter(predictions)
            first = next(rows, None)
            if first is None:
                predictions.require_any()
                return
            events = event_schema(manifest, has_probabilities=first.confidence is not None)
            write_events(chain([first], rows), events, out, kind)
    beside.write_text(json.dumps(events.model_description(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for term, words in [
        *selection_notes(predictions, manifest.name, predictions.selected),
        *exclusion_notes(events.layout),
    ]:
        print_note(term, words)
    print_note("written to", f"{out}: the events; {beside}: their model")
