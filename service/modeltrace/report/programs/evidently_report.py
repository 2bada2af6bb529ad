"""Write Evidently's report of a window against a reference as one HTML file.

Runs in Evidently's virtual environment. The argument is a JSON file with the description of two Parquet files
(`modeltrace.report.comparison`) and the path of the report; the last line of the output is a summary as JSON.
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

DEFAULT_THRESHOLD = 0.5
STYLE = "font:15px/1.5 system-ui,sans-serif;margin:2rem auto 0;max-width:1200px;padding:0 1.5rem"


def neutralize(value):
    """Replace `<` in text. Clients control the text, and Evidently writes it unescaped into a script element."""
    return value.replace("<", "\u2039") if isinstance(value, str) else value


def read_table(path, columns):
    """Read columns of a Parquet file with the types that Evidently expects."""
    frame = pd.read_parquet(path, columns=list(columns))
    for name, kind in columns.items():
        frame[name] = frame[name].astype("float64") if kind == "number" else frame[name].astype(object).map(neutralize)
    return frame.rename(columns=neutralize)


def data_definition(description, columns, roles):
    """Define numeric and categorical columns. With `roles`, also define the columns of predictions and true labels."""
    kinds = {
        kind: [neutralize(name) for name, of_column in columns.items() if of_column == kind]
        for kind in ("number", "category")
    }
    names = {role: neutralize(description[role]) for role in ("target", "prediction", "score") if description[role]}
    task = {}
    if roles and description["task"] == "regressor":
        task["regression"] = [Regression(target=names["target"], prediction=names["prediction"])]
    elif roles and description["positive"] is not None:
        task["classification"] = [
            BinaryClassification(
                target=names["target"],
                prediction_labels=names["prediction"],
                prediction_probas=names.get("score"),
                pos_label=neutralize(description["positive"]),
            )
        ]
    elif roles:
        task["classification"] = [
            MulticlassClassification(target=names["target"], prediction_labels=names["prediction"])
        ]
    return DataDefinition(numerical_columns=kinds["number"], categorical_columns=kinds["category"], **task)


def drift_report(description):
    """Report drift and statistics of each column with values in both tables. Also return the other columns."""
    columns = description["columns"]
    window, reference = (read_table(description[side], columns) for side in ("window", "reference"))
    empty = [name for name in window.columns if window[name].isna().all() or reference[name].isna().all()]
    columns = {name: kind for name, kind in columns.items() if neutralize(name) not in empty}
    definition = data_definition(description, columns, roles=False)
    sides = (
        Dataset.from_pandas(frame.drop(columns=empty), data_definition=definition) for frame in (window, reference)
    )
    return Report([DataDriftPreset(), DataSummaryPreset()]).run(*sides), empty


def can_use_scores(description, side):
    """Return whether Evidently can use the probabilities.

    Evidently applies the default threshold to the probabilities, so all predictions must agree with this threshold. An
    ROC curve also needs labels of both classes.
    """
    above = side[neutralize(description["score"])] >= DEFAULT_THRESHOLD
    predicted = side[neutralize(description["prediction"])] == neutralize(description["positive"])
    return bool((above == predicted).all()) and side[neutralize(description["target"])].nunique() > 1


def quality_report(description):
    """Report the quality of labelled predictions. Compare them with those of the reference, if there are any."""
    kind = "number" if description["task"] == "regressor" else "category"
    columns = {description["target"]: kind, description["prediction"]: kind}
    if description["score"]:
        columns[description["score"]] = "number"
    sides = [read_table(description["window"], columns).dropna()]
    if description["reference_labelled"]:
        reference = read_table(description["reference"], columns).dropna()
        sides += [reference] if len(reference) else []
    if description["score"] and not all(can_use_scores(description, side) for side in sides):
        return quality_report({**description, "score": None})
    definition = data_definition(description, columns, roles=True)
    preset = RegressionPreset() if description["task"] == "regressor" else ClassificationPreset()
    return Report([preset]).run(*(Dataset.from_pandas(side, data_definition=definition) for side in sides))


def metric_values(snapshot):
    """Return each metric with its value."""
    return [
        {"metric": metric["metric_name"], "value": metric["value"]} for metric in json.loads(snapshot.json())["metrics"]
    ]


def render_page(description, snapshots):
    """Return Evidently's page of several snapshots, with notes on the comparison as a header."""
    # Evidently has no public way to put two snapshots on one page.
    parts = [group_widget(title=title, widgets=part._widgets) for title, part in snapshots.items()]  # noqa: SLF001  see above
    text = render_widgets(parts, as_iframe=False)
    rows = "".join(
        f'<tr><th style="text-align:left;padding-right:1.5rem;font-weight:normal;color:#666;vertical-align:top">'
        f"{html.escape(term)}</th><td>{html.escape(note)}</td></tr>"
        for term, note in description["notes"]
    )
    title = html.escape(description["title"])
    header = f'<header style="{STYLE}"><h1 style="font-size:1.4rem">{title}</h1><table>{rows}</table></header>'
    with_title = text.lstrip().replace("</head>", f"<title>{title}</title></head>", 1)
    return with_title.replace("<body>", f"<body>{header}", 1)


def main():
    """Write the report and print a summary."""
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, sys.stdout = sys.stdout, sys.stderr  # keep the library's output out of the summary
    drift, empty = drift_report(description)
    snapshots = {"Drift and data quality": drift}
    metrics = metric_values(drift)
    if description["target"] and description["labelled"]:
        quality = quality_report(description)
        snapshots["Predictions against true labels"] = quality
        metrics += metric_values(quality)
    Path(description["output"]).write_text(render_page(description, snapshots), encoding="utf-8")
    summary = {"library": f"Evidently {evidently.__version__}", "empty": empty, "metrics": metrics}
    print(json.dumps(summary), file=out)


if __name__ == "__main__":
    main()
