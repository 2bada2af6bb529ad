"""`modeltrace report`: compare stored predictions with a reference by established libraries."""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from modeltrace.cli.mlflow_results import log_report
from modeltrace.cli.options import expand_options
from modeltrace.cli.report_common import (
    ComparisonOptions,
    ReportOptions,
    check_not_exists,
    check_suffix,
    open_bundle,
    print_notes,
    run_library,
    select_predictions,
)
from modeltrace.cli.store import open_configured_store
from modeltrace.report.comparison import exclusion_notes, selection_notes
from modeltrace.report.fiddler import event_schema, write_events
from modeltrace.report.html import format_p_value, render_tests
from modeltrace.report.venvs import ALIBI, EVIDENTLY, WHYLOGS
from modeltrace.store.export import format_from_suffix

# Names of Evidently's quality metrics in the output.
QUALITY_METRICS: Final = {"Accuracy": "accuracy", "F1Score": "F1", "RMSE": "RMSE", "R2Score": "R²"}


@expand_options
def evidently(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The file to write.")],
    options: ComparisonOptions,
) -> None:
    """Write Evidently's report: drift, data quality and model quality, as one HTML file.

    Example: modeltrace report evidently week.html --since 7d --reference train.csv --target churned
    """
    check_suffix(out, ".html")
    with run_library(EVIDENTLY, "evidently_report", options, out) as (comparison, summary, _):
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


@expand_options
def alibi(
    out: Annotated[Path, typer.Argument(metavar="OUT.json|.html", help="The file to write.")],
    options: ComparisonOptions,
) -> None:
    """Run Alibi Detect's drift tests: Kolmogorov-Smirnov or chi-square per column, MMD for all numeric columns.

    Example: modeltrace report alibi week.json --since 7d --reference train.parquet
    """
    check_suffix(out, ".json", ".html")
    with run_library(ALIBI, "alibi_tests", options, out) as (comparison, summary, output):
        if out.suffix == ".html":
            title = f"{comparison.description['title']}: drift tests"
            output.write_text(render_tests(title, comparison.notes, summary), encoding="utf-8")
        else:
            _write_json(output, {"notes": comparison.notes, **summary})
    drifted = sum(test["drift"] for test in summary["tests"])
    result = f"{drifted} of {len(summary['tests'])} columns drifted (level {summary['level']}, Bonferroni)"
    if summary["mmd"] is not None:
        result += f"; all numeric columns, by MMD: p {format_p_value(summary['mmd'])}"
    print_notes([(summary["library"], result), ("written to", str(out))])


@expand_options
def whylogs(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write: two profiles and summary.json.")],
    options: ComparisonOptions,
) -> None:
    """Write whylogs profiles of the predictions and of the reference data. whylogs can merge them with others.

    Example: modeltrace report whylogs profiles --since 1d --reference train.parquet
    """
    with run_library(WHYLOGS, "whylogs_profiles", options, out) as (comparison, summary, profiles):
        _write_json(profiles / "summary.json", {"notes": comparison.notes, **summary})
    columns = len(comparison.description["columns"])
    print_notes(
        [
            (summary["library"], f"profiles of {columns} columns"),
            ("written to", f"{out}: window.bin, reference.bin, summary.json"),
        ]
    )


@expand_options
def fiddler(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT.parquet|.jsonl", help="The file to write. OUT.model.json is written next to it."),
    ],
    options: ReportOptions,
) -> None:
    """Write predictions as events for Fiddler, with the schema and specification of their model.

    Example: modeltrace report fiddler yesterday.parquet --since 1d
    """
    check_suffix(out, ".parquet", ".jsonl", ".ndjson")
    file_format = format_from_suffix(out)
    model_file = out.with_suffix(".model.json")
    for path in (out, model_file):
        check_not_exists(path, force=options.force)
    with open_configured_store() as store:
        _, _, manifest = open_bundle(store, options.bundle)
        with select_predictions(store, manifest, options, options.since, options.until) as predictions:
            rows = iter(predictions)
            first = next(rows, None)
            if first is None:
                predictions.require_any()
                return
            events = event_schema(manifest, has_probabilities=first.confidence is not None)
            write_events(chain([first], rows), events, out, file_format)
    _write_json(model_file, events.model_description())
    if options.mlflow:
        log_report(options.mlflow, options.version or manifest.version, out, model_file)
    print_notes(
        [
            *selection_notes(predictions, manifest.name, predictions.selected),
            *exclusion_notes(events.layout),
            ("written to", f"{out}: the events; {model_file}: their model"),
        ]
    )


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
