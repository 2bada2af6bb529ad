"""Evidently's report of a window against a reference, as one HTML file.

Runs in Evidently's environment. Its argument is a JSON file that says what the two Parquet files hold and where the
report goes (`modeltrace.report.description`); its last line of output is a summary, in JSON.
"""

import html
import json
import sys
from pathlib import Path

import evidently
import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, MulticlassClassification, Regression, Report
from evidently.core.metric_types import render_widgets
from evidently.legacy.renderers.html_widgets import group_widget
from evidently.presets import ClassificationPreset, DataDriftPreset, DataSummaryPreset, RegressionPreset

HALF = 0.5
STYLE = "font:15px/1.5 system-ui,sans-serif;margin:2rem auto 0;max-width:1200px;padding:0 1.5rem"


def tame(value):
    """Text that cannot end the script element that Evidently writes it into: anyone may have sent it."""
    return value.replace("<", "\u2039") if isinstance(value, str) else value


def table(path, columns):
    """The Parquet file with these columns as Evidently takes them."""
    frame = pd.read_parquet(path, columns=list(columns))
    for name, kind in columns.items():
        frame[name] = frame[name].astype("float64") if kind == "number" else frame[name].astype(object).map(tame)
    return frame.rename(columns=tame)


def definition(said, columns, roles):
    """Which columns are numbers, which are categories, and which are answers and true labels."""
    kinds = {kind: [tame(name) for name, its in columns.items() if its == kind] for kind in ("number", "category")}
    names = {role: tame(said[role]) for role in ("target", "prediction", "score") if said[role]}
    task = {}
    if roles and said["task"] == "regressor":
        task["regression"] = [Regression(target=names["target"], prediction=names["prediction"])]
    elif roles and said["positive"] is not None:
        task["classification"] = [
            BinaryClassification(
                target=names["target"],
                prediction_labels=names["prediction"],
                prediction_probas=names.get("score"),
                pos_label=tame(said["positive"]),
            )
        ]
    elif roles:
        task["classification"] = [
            MulticlassClassification(target=names["target"], prediction_labels=names["prediction"])
        ]
    return DataDefinition(numerical_columns=kinds["number"], categorical_columns=kinds["category"], **task)


def drift(said):
    """Drift and statistics of every column that both sides have something of."""
    columns = said["columns"]
    window, reference = (table(said[side], columns) for side in ("window", "reference"))
    empty = [name for name in window.columns if window[name].isna().all() or reference[name].isna().all()]
    columns = {name: kind for name, kind in columns.items() if tame(name) not in empty}
    shape = definition(said, columns, roles=False)
    one, other = (
        Dataset.from_pandas(frame.drop(columns=empty), data_definition=shape) for frame in (window, reference)
    )
    return Report([DataDriftPreset(), DataSummaryPreset()]).run(one, other), empty


def follow(said, side):
    """Whether probabilities can be given beside the answers: Evidently would make answers of them, at one half.

    A model may decide at another threshold. And a curve needs both classes.
    """
    likely = side[tame(said["score"])] >= HALF
    answered = side[tame(said["prediction"])] == tame(said["positive"])
    return bool((likely == answered).all()) and side[tame(said["target"])].nunique() > 1


def quality(said):
    """How right the answers are that have a true label; beside those of the reference where it has some."""
    kind = "number" if said["task"] == "regressor" else "category"
    columns = {said["target"]: kind, said["prediction"]: kind}
    if said["score"]:
        columns[said["score"]] = "number"
    window = table(said["window"], columns).dropna()
    sides = [window]
    if said["reference_labelled"]:
        reference = table(said["reference"], columns).dropna()
        sides += [reference] if len(reference) else []
    if said["score"] and not all(follow(said, side) for side in sides):
        return quality({**said, "score": None})
    shape = definition(said, columns, roles=True)
    preset = RegressionPreset() if said["task"] == "regressor" else ClassificationPreset()
    return Report([preset]).run(*(Dataset.from_pandas(side, data_definition=shape) for side in sides))


def figures(snapshot):
    """Each metric with its value, as JSON has it."""
    return [{"metric": one["metric_name"], "value": one["value"]} for one in json.loads(snapshot.json())["metrics"]]


def page(said, snapshots):
    """Evidently's page of both parts, below what was compared with what."""
    # Evidently has no other way to put two snapshots on one page.
    parts = [group_widget(title=title, widgets=one._widgets) for title, one in snapshots.items()]  # noqa: SLF001  see above
    text = render_widgets(parts, as_iframe=False)
    rows = "".join(
        f'<tr><th style="text-align:left;padding-right:1.5rem;font-weight:normal;color:#666;vertical-align:top">'
        f"{html.escape(name)}</th><td>{html.escape(what)}</td></tr>"
        for name, what in said["notes"]
    )
    title = html.escape(said["title"])
    head = f'<header style="{STYLE}"><h1 style="font-size:1.4rem">{title}</h1><table>{rows}</table></header>'
    named = text.lstrip().replace("</head>", f"<title>{title}</title></head>", 1)
    return named.replace("<body>", f"<body>{head}", 1)


def main():
    """Write the report; print what it says in a few figures."""
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, sys.stdout = sys.stdout, sys.stderr  # what the library prints is no summary
    compared, empty = drift(said)
    parts = {"Drift and data quality": compared}
    found = figures(compared)
    if said["target"] and said["labelled"]:
        parts["Answers against true labels"] = quality(said)
        found += figures(parts["Answers against true labels"])
    Path(said["output"]).write_text(page(said, parts), encoding="utf-8")
    summary = {"library": f"Evidently {evidently.__version__}", "empty": empty, "figures": found}
    print(json.dumps(summary), file=out)


if __name__ == "__main__":
    main()
