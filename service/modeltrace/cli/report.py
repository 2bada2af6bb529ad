"""`modeltrace report`: compare stored predictions with a reference by established libraries."""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from modeltrace.cli.report_common import (
    ReportRequest,
    check_not_exists,
    check_suffix,
    move_to_output,
    open_bundle,
    prepare_comparison,
    print_notes,
    run_library,
    select_predictions,
)
from modeltrace.cli.store import open_configured_store
from modeltrace.cli.times import time_option
from modeltrace.report.comparison import exclusion_notes, selection_notes
from modeltrace.report.fiddler import event_schema, write_events
from modeltrace.report.html import format_p_value, render_tests
from modeltrace.report.venvs import ALIBI, EVIDENTLY, WHYLOGS
from modeltrace.store.export import format_from_suffix
from modeltrace.store.selection import Selection

# Maximum number of rows of the window and of the reference. More rows take minutes and do not change the result.
MAX_ROWS: Final = 100_000

# Names of Evidently's quality metrics in the output.
QUALITY_METRICS: Final = {"Accuracy": "accuracy", "F1Score": "F1", "RMSE": "RMSE", "R2Score": "R²"}

Bundle = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        show_default="MODELTRACE_BUNDLE, or the bundle of the newest prediction",
        help="The bundle of the model, which describes the columns.",
    ),
]
Since = Annotated[
    int | None,
    time_option(
        "Only predictions from this time on: a date, a date with a time of day, or how long ago (7d, 12h, 30m)."
    ),
]
Until = Annotated[int | None, time_option("Only predictions before this time.")]
Version = Annotated[str | None, typer.Option(show_default="all", help="Only predictions of this version of the model.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="FILE",
        show_default="the bundle's held-out rows",
        help="The data to compare with, e.g. the training data: .csv or .parquet.",
    ),
]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column of the --reference file with the true labels.")
]
ReferenceSince = Annotated[int | None, time_option("Compare with stored predictions from this time on.")]
ReferenceUntil = Annotated[int | None, time_option("Compare with stored predictions before this time.")]
Rows = Annotated[
    int, typer.Option(min=1, help="The largest number of predictions. If there are more, a random sample is used.")
]
Python = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="a virtual environment that is created once",
        help="A Python interpreter that has the library installed.",
    ),
]
Synthetic = Annotated[bool, typer.Option("--include-synthetic", help="Include predictions of synthetic traffic.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]


def evidently(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The file to write.")],
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
    """Write Evidently's report: drift, data quality and model quality, as one HTML file.

    Example: modeltrace report evidently week.html --since 7d --reference train.csv --target churned
    """
    check_suffix(out, ".html")
    request = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(request, out, force=force) as (comparison, folder):
        page = folder / "page.html"
        summary = run_library(EVIDENTLY, "evidently_report", comparison, folder, python, page)
        move_to_output(page, out)
    empty = summary["empty"]
    if empty:
        print_notes([("left out", f"{', '.join(empty)}: all values are missing on one side")])
    metrics = {item["metric"].partition("(")[0]: item["value"] for item in reversed(summary["metrics"])}
    columns = len(comparison.description["columns"]) - len(empty)
    results = [f"{metrics['DriftedColumnsCount']['count']:.0f} of {columns} columns drifted"]
    results += [
        f"{name} {metrics[metric]:.4g}"
        for metric, name in QUALITY_METRICS.items()
        if isinstance(metrics.get(metric), float)
    ]
    print_notes([(summary["library"], "; ".join(results)), ("written to", f"{out}; it opens without a network")])


def alibi(
    out: Annotated[Path, typer.Argument(metavar="OUT.json|.html", help="The file to write.")],
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
    """Run Alibi Detect's drift tests: Kolmogorov-Smirnov or chi-square per column, MMD for all numeric columns.

    Example: modeltrace report alibi week.json --since 7d --reference train.parquet
    """
    check_suffix(out, ".json", ".html")
    request = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(request, out, force=force) as (comparison, folder):
        summary = run_library(ALIBI, "alibi_tests", comparison, folder, python, folder)
        file = folder / "report"
        if out.suffix == ".html":
            title = f"{comparison.description['title']}: drift tests"
            file.write_text(render_tests(title, comparison.notes, summary), encoding="utf-8")
        else:
            _write_json(file, {"notes": comparison.notes, **summary})
        move_to_output(file, out)
    drifted = sum(test["drift"] for test in summary["tests"])
    result = f"{drifted} of {len(summary['tests'])} columns drifted (level {summary['level']}, Bonferroni)"
    if summary["mmd"] is not None:
        result += f"; all numeric columns, by MMD: p {format_p_value(summary['mmd'])}"
    print_notes([(summary["library"], result), ("written to", str(out))])


def whylogs(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write: two profiles and summary.json.")],
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
    """Write whylogs profiles of the predictions and of the reference data. whylogs can merge them with others.

    Example: modeltrace report whylogs profiles --since 1d --reference train.parquet
    """
    request = ReportRequest(
        bundle, since, until, version, reference, target, reference_since, reference_until, rows, include_synthetic
    )  # fmt: skip
    with prepare_comparison(request, out, force=force) as (comparison, folder):
        profiles = folder / "profiles"
        profiles.mkdir()
        summary = run_library(WHYLOGS, "whylogs_profiles", comparison, folder, python, profiles)
        _write_json(profiles / "summary.json", {"notes": comparison.notes, **summary})
        move_to_output(profiles, out)
    columns = len(comparison.description["columns"])
    print_notes(
        [
            (summary["library"], f"profiles of {columns} columns"),
            ("written to", f"{out}: window.bin, reference.bin, summary.json"),
        ]
    )


def fiddler(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT.parquet|.jsonl", help="The file to write. OUT.model.json is written next to it."),
    ],
    bundle: Bundle = None,
    since: Since = None,
    until: Until = None,
    version: Version = None,
    include_synthetic: Synthetic = False,  # noqa: FBT002  a flag
    force: Force = False,  # noqa: FBT002  a flag
) -> None:
    """Write predictions as events for Fiddler, with the schema and specification of their model.

    Example: modeltrace report fiddler yesterday.parquet --since 1d
    """
    check_suffix(out, ".parquet", ".jsonl", ".ndjson")
    file_format = format_from_suffix(out)
    model_file = out.with_suffix(".model.json")
    for path in (out, model_file):
        check_not_exists(path, force=force)
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
            write_events(chain([first], rows), events, out, file_format)
    _write_json(model_file, events.model_description())
    print_notes(
        [
            *selection_notes(predictions, manifest.name, predictions.selected),
            *exclusion_notes(events.layout),
            ("written to", f"{out}: the events; {model_file}: their model"),
        ]
    )


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
