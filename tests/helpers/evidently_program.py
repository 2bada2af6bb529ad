"""Compute metrics with Evidently in its virtual environment; each request and each response is a line of JSON."""

import json
import sys

import numpy as np
import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, MulticlassClassification, Regression, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.calculations.stattests.utils import get_binned_data
from evidently.legacy.core import ColumnType
from evidently.metrics import (
    MAE,
    RMSE,
    Accuracy,
    F1ByLabel,
    F1Score,
    Precision,
    PrecisionByLabel,
    R2Score,
    Recall,
    RecallByLabel,
)

BY_LABEL = {"precision": PrecisionByLabel, "recall": RecallByLabel, "f1": F1ByLabel}
MEANS = {"accuracy": Accuracy, "precision": Precision, "recall": Recall, "f1": F1Score}


def drift(method: str, reference: list, window: list, kind: str) -> float:
    column = ColumnType(kind)
    expected, actual = pd.Series(reference), pd.Series(window)
    test = get_stattest(expected, actual, column, method)
    return float(test(expected, actual, column, test.default_threshold).drift_score)


def many(questions: list) -> list:
    return [drift(**{"kind": "cat", **question}) for question in questions]


def shares(reference: list, window: list) -> list:
    return [
        np.asarray(side).tolist()
        for side in get_binned_data(pd.Series(reference), pd.Series(window), ColumnType.Numerical, 30)
    ]


def classification(true: list, predicted: list, positive: str | None) -> dict:
    columns = {"target": "true", "prediction_labels": "predicted"}
    kind = (
        MulticlassClassification(**columns) if positive is None else BinaryClassification(**columns, pos_label=positive)
    )
    definition = DataDefinition(categorical_columns=["true", "predicted"], classification=[kind])
    data = Dataset.from_pandas(pd.DataFrame({"true": true, "predicted": predicted}), data_definition=definition)
    results = values(
        Report([*(metric() for metric in MEANS.values()), *(metric() for metric in BY_LABEL.values())]), data
    )
    return {
        **dict(zip(MEANS, results[: len(MEANS)], strict=True)),
        "by_label": dict(zip(BY_LABEL, results[len(MEANS) :], strict=True)),
    }


def regression(true: list, predicted: list) -> dict:
    definition = DataDefinition(
        numerical_columns=["true", "predicted"], regression=[Regression(target="true", prediction="predicted")]
    )
    data = Dataset.from_pandas(pd.DataFrame({"true": true, "predicted": predicted}), data_definition=definition)
    mae, rmse, r2 = values(Report([MAE(), RMSE(), R2Score()]), data)
    return {"mae": mae["mean"] if isinstance(mae, dict) else mae, "rmse": rmse, "r2": r2}


def values(report: Report, data: Dataset) -> list:
    return [metric["value"] for metric in json.loads(report.run(data, None).json())["metrics"]]


if __name__ == "__main__":
    functions = {function.__name__: function for function in (drift, many, shares, classification, regression)}
    out, sys.stdout = sys.stdout, sys.stderr  # keep the library's output out of the responses
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(functions[request.pop("question")](**request)), file=out, flush=True)
